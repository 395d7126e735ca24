"""What the commands do, as functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from runtime.device import Device, Engine, Waves
from runtime.executor import Executor
from runtime.host import HostChoice
from runtime.package import Package, is_package
from vta.devices import open_device
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.errors import ConfigError, VtaKitError
from vta_hw.spec.program import Program, Symbol
from vta_hw.spec.result import RunResult

if TYPE_CHECKING:
    # The compiler is not needed to run a package.
    from compiler import te
    from compiler.driver import CompileResult
    from compiler.loop.nodes import Func
    from compiler.topi.conv2d_tiling import ConvTiling
    from compiler.tune.session import Progress, TuneResult
    from vta.profiling.measure import Profile
    from vta_sim.hazards import Report

ConfigLike = VtaConfig | str | Path


class UsageError(VtaKitError):
    """Arguments that do not fit together, or a file that cannot be read or written."""


@dataclass(frozen=True)
class Execution:
    """What a raw instruction stream did: the verdict, and DRAM afterwards (uint8)."""

    result: RunResult
    dram: np.ndarray


def config(source: ConfigLike = "default", settings: Iterable[str] = ()) -> VtaConfig:
    """A configuration by name or JSON file, with ``KEY=VALUE`` settings applied."""
    loaded = source if isinstance(source, VtaConfig) else VtaConfig.load(source)
    return loaded.override(settings)


def compile(
    model: str | Path,
    config: ConfigLike = "default",
    *,
    numerics: str | None = None,
    settings: Iterable[str] = (),
    dump_dir: str | Path | None = None,
    host_triple: str | None = None,
    batch: int | None = None,
    tuned: str | Path | Mapping[str, ConvTiling] | None = None,
) -> CompileResult:
    """Compile a .tflite or .onnx network; ``.package`` of the result is the compiled network.

    `numerics` names the runtime whose results are wanted (by default the format's own). `dump_dir`
    gets every intermediate form. `host_triple` is the LLVM triple of the machine that will do the
    host operators (by default this one). `batch` is the number of images at once (by default the
    model's own). `tuned` is a log of `tune`, or what `tuned_choices` read of one: its schedules are
    taken, and the analytical choice for layers that it does not have.
    """
    from compiler.driver import compile_model

    chosen = config_of(config, settings)
    if isinstance(tuned, str | Path):
        tuned, _ = tuned_choices(tuned, chosen)
    folder = None if dump_dir is None else make_folder(dump_dir)
    return compile_model(
        Path(model),
        chosen,
        numerics=numerics,
        dump_dir=folder,
        host_triple=host_triple,
        batch=batch,
        tilings=tuned,
    )


def tune(
    model: str | Path,
    log: str | Path,
    config: ConfigLike = "default",
    *,
    tuner: str = "xgb",
    trials: int = 64,
    patience: int = 24,
    seed: int = 0,
    jobs: int | None = None,
    cold: bool = False,
    numerics: str | None = None,
    settings: Iterable[str] = (),
    batch: int | None = None,
    progress: Progress | None = None,
) -> TuneResult:
    """Search schedules for a network's convolutions on the cycle simulator, into a log.

    Each distinct layer gets up to `trials` trials of the `tuner` ("xgb", "genetic", "random" or
    "exhaustive"), fewer if `patience` trials have found nothing faster; then the choices are made
    for the network as a whole. A log that is there is gone on with: nothing in it is measured
    again. `jobs` is the number of processes (by default that of the cores). A `cold` search does
    not know the analytical choice.
    """
    from compiler.context import CompileContext
    from compiler.driver import place_graph
    from compiler.frontend.model import import_model
    from compiler.tune import session
    from vta.tuning import program_cycles, usable_cores

    chosen = config_of(config, settings)
    jobs = usable_cores() if jobs is None else jobs
    options = session.Options(tuner, trials, patience, seed, jobs, cold)
    network = place_graph(import_model(Path(model)), CompileContext(chosen), numerics, batch)
    shown = session.SILENT if progress is None else progress
    return session.tune(network, chosen, Path(log), options, program_cycles, shown)


def tuned_choices(
    log: str | Path, config: ConfigLike = "default", settings: Iterable[str] = ()
) -> tuple[Mapping[str, ConvTiling], int]:
    """The tilings that a log of `tune` says to compile with, and how many lines were broken.

    A log of another configuration, or of another version of the templates, is refused.
    """
    from compiler.tune.session import tilings_of

    return tilings_of(Path(log), config_of(config, settings))


# `compile` and others have a parameter of this name.
config_of = config


def lower(schedule: te.Schedule, params: Sequence[te.Tensor], name: str = "kernel") -> Func:
    """The loop nest of a schedule, before any pass; ``compiler.loop.printer.to_text`` shows it."""
    from compiler import build as builder

    return builder.lower(schedule, params, name)


def build(
    schedule: te.Schedule,
    params: Sequence[te.Tensor],
    config: ConfigLike = "default",
    name: str = "kernel",
    dump_dir: str | Path | None = None,
) -> Program:
    """A program with one DRAM symbol per parameter, named like the tensor; see `run_program`.

    `dump_dir` gets every intermediate form.
    """
    from compiler import build as builder

    chosen = config_of(config)
    folder = None if dump_dir is None else make_folder(dump_dir)
    return builder.build(schedule, params, chosen, name, folder)


def load(
    package: str | Path | Package,
    device: str = "functional",
    *,
    config: ConfigLike | None = None,
    settings: Iterable[str] = (),
    host: HostChoice = "auto",
    report_uninitialised: bool = False,
    timeline: bool = False,
    waves: Waves | None = None,
    engine: Engine | None = None,
    record: str | Path | None = None,
) -> Executor:
    """A compiled network ready to ``run``.

    `device` may be a board, as in ``ulx3s:/dev/ttyUSB0``; `record` is a file for the session with
    it. `config` is of the device, if it differs from the package's in timing; ``KEY=VALUE``
    settings are applied to it, or to the package's. `host` says who does the host operators:
    "native" (the package's object code), "numpy", or "auto": the first that can.
    With `report_uninitialised` the result's notes name reads of SRAM that nothing wrote, with
    `timeline` the results of the runs of programs say what happened when. `waves` records the
    signals of device "rtl". `engine` chooses a simulator's "compiled" form (the default) or its
    "plain" one, the readable definition.
    """
    whole = package if isinstance(package, Package) else Package.load(package)
    chosen = config_of(whole.config if config is None else config, settings)
    opened = open_device(
        device,
        chosen,
        report_uninitialised=report_uninitialised,
        timeline=timeline,
        waves=waves,
        engine=engine,
        record=record,
    )
    try:
        return Executor(whole, opened, host=host)
    except BaseException:
        opened.close()
        raise


def profile(
    package: str | Path | Package,
    *,
    config: ConfigLike | None = None,
    settings: Iterable[str] = (),
) -> Profile:
    """Count the cycles of one inference layer by layer, and say what each cycle went into.

    `config` is of the machine, if it differs from the package's in timing; ``KEY=VALUE`` settings
    are applied to it, or to the package's. No input is needed.
    """
    from vta.profiling import measure

    whole = package if isinstance(package, Package) else Package.load(package)
    return measure.profile(whole, config_of(whole.config if config is None else config, settings))


def execute(
    insns: bytes,
    dram: np.ndarray | bytes,
    config: ConfigLike = "default",
    device: str = "functional",
    *,
    report_uninitialised: bool = False,
    timeline: bool = False,
    waves: Waves | None = None,
    engine: Engine | None = None,
) -> Execution:
    """Run a raw stream of 16-byte instructions on a DRAM image that starts at address 0.

    `dram` itself is not changed. A fault is a result here, no exception. With `timeline` the result
    says what happened when; `waves` records the signals of device "rtl". `engine` is as for
    `load`.
    """
    image = _image(dram).copy()
    chosen = open_device(
        device,
        config_of(config),
        report_uninitialised=report_uninitialised,
        timeline=timeline,
        waves=waves,
        engine=engine,
    )
    return Execution(chosen.run_stream(bytes(insns), image), image)


def _image(dram: np.ndarray | bytes) -> np.ndarray:
    source = np.frombuffer(dram, np.uint8) if isinstance(dram, bytes) else np.asarray(dram)
    if source.dtype != np.uint8 or source.ndim != 1:
        raise UsageError(
            f"a DRAM image must be bytes or a uint8 array with one axis, not {source.dtype} of "
            f"shape {source.shape}"
        )
    return source


def disassemble(
    source: str | Path | Package | Program | bytes, config: ConfigLike | None = None
) -> str:
    """A listing of a package, a program, or a raw stream (bytes or a file).

    A raw stream is read as `config` (default: ``default``) says. A package knows its own config;
    one given besides must be equal in everything but timing.
    """
    from vta_hw.spec import asm

    if isinstance(source, Package | Program):
        return _listing(source, config)
    data = source if isinstance(source, bytes) else read_bytes(source)
    if not is_package(data):
        return asm.disassemble(data, config_of("default" if config is None else config))
    origin = "package" if isinstance(source, bytes) else str(source)
    return _listing(Package.from_bytes(data, origin), config)


def _listing(source: Package | Program, config: ConfigLike | None) -> str:
    from vta_hw.spec import asm

    _check_config(source, config)
    if isinstance(source, Program):
        return asm.disassemble_program(source)
    count = len(source.programs)
    return "\n".join(
        f"; program {index} of {count}, {len(program.instructions)} instructions\n"
        + asm.disassemble_program(program)
        for index, program in enumerate(source.programs)
    )


def _check_config(source: Package | Program, config: ConfigLike | None) -> None:
    if config is not None:
        given = config_of(config)
        if given.program_hash != source.config.program_hash:
            raise ConfigError(
                f"config {given.name!r} does not match what was compiled for config "
                f"{source.config.name!r}; leave --config out"
            )


def check(
    source: str | Path | Package | Program | bytes,
    config: ConfigLike | None = None,
    *,
    dram: np.ndarray | bytes | None = None,
    pairs_max: int | None = None,
) -> tuple[Report, ...]:
    """Look for hazards, faults and stuck tokens without running anything: a report per program.

    A raw stream (bytes or a file) needs `dram`, the image it would run on from address 0, because
    its micro-ops come from there; it is read as `config` says. At most `pairs_max` hazards are
    listed per program.
    """
    from vta_sim import hazards

    limit = hazards.PAIRS_MAX if pairs_max is None else pairs_max
    if limit < 1:
        raise UsageError(f"the number of listed hazards must be at least 1, not {limit}")
    if isinstance(source, str | Path):
        data = read_bytes(source)
        source = Package.from_bytes(data, str(source)) if is_package(data) else data
    if isinstance(source, bytes):
        return (
            _check_stream(source, config_of("default" if config is None else config), dram, limit),
        )
    _check_config(source, config)
    if dram is not None:
        raise UsageError(
            "a DRAM image belongs to a raw stream, a package has its own; leave it out"
        )
    if isinstance(source, Program):
        return (hazards.check_program(source, pairs_max=limit),)
    placed = zip(source.programs, source.placements, strict=True)
    return tuple(hazards.check_program(p, places, pairs_max=limit) for p, places in placed)


def _check_stream(
    stream: bytes, config: VtaConfig, dram: np.ndarray | bytes | None, limit: int
) -> Report:
    from vta_sim import hazards

    if dram is None:
        raise UsageError("a raw stream is checked with the DRAM image it would run on; give --dram")
    return hazards.check_stream(config, stream, _image(dram), pairs_max=limit)


def random_inputs(package: Package, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays for all inputs: integers over their whole range, floats normally distributed."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for name in package.inputs:
        tensor = package.tensors[name]
        dtype = np.dtype(tensor.face_dtype)
        if dtype.kind == "f":
            inputs[name] = rng.standard_normal(tensor.shape).astype(dtype)
        elif dtype.kind == "b":
            inputs[name] = rng.integers(0, 2, tensor.shape).astype(dtype)
        else:
            info = np.iinfo(dtype)
            inputs[name] = rng.integers(info.min, info.max, tensor.shape, dtype, endpoint=True)
    return inputs


def read_bytes(path: str | Path) -> bytes:
    """A file's contents; `UsageError` if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(
            f"file {str(path)!r} cannot be read: {error.strerror or error}; name a file that exists"
        ) from error


def make_folder(path: str | Path) -> Path:
    """The folder, made with its parents if it is not there; `UsageError` if it cannot be."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"folder {str(path)!r} cannot be made: {error.strerror or error}; name another one"
        ) from error
    return folder


@dataclass(frozen=True)
class KernelRun:
    """What a single program did: the verdict, and every parameter's array afterwards."""

    result: RunResult
    arrays: Mapping[str, np.ndarray]


def run_program(
    program: Program, arrays: Mapping[str, np.ndarray], device: str | Device = "functional"
) -> KernelRun:
    """Run a program built by `build`, with an array for each of its parameters.

    Each array has the parameter's type and shape, also where the program only writes. A fault is a
    result, no exception.
    """
    if not isinstance(arrays, Mapping):
        raise UsageError(
            f"arrays must be a dict from the names of parameters to arrays, not a "
            f"{type(arrays).__name__}; name each array"
        )
    params = {s.name: s for s in program.symbols.values() if s.contents is None}
    for name in arrays:
        if name not in params:
            raise UsageError(
                f"the program has no parameter {name!r}; its parameters are "
                f"{', '.join(map(repr, params))}"
            )
    given = {name: _argument(symbol, arrays) for name, symbol in params.items()}
    target = open_device(device, program.config) if isinstance(device, str) else device
    addresses = {}
    for symbol in program.symbols.values():
        addresses[symbol.name] = target.alloc(symbol.size_bytes)
        data = given[symbol.name] if symbol.contents is None else symbol.contents
        target.write(addresses[symbol.name], data)
    result = target.run(program, addresses)
    after = {
        name: target.read(addresses[name], array.nbytes).view(array.dtype).reshape(array.shape)
        for name, array in given.items()
    }
    return KernelRun(result, after)


def _argument(symbol: Symbol, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The array for a parameter; a symbol of unknown type takes any array of its size."""
    wanted = f"an array of {symbol.size_bytes} bytes"
    if symbol.dtype:
        wanted = f"{symbol.dtype} of shape {_shape(symbol.shape)}"
    if symbol.name not in arrays:
        raise UsageError(f"parameter {symbol.name!r} is missing; give {wanted}")
    try:
        array = np.asarray(arrays[symbol.name])
    except ValueError as error:
        raise UsageError(
            f"parameter {symbol.name!r} must be {wanted}, not rows of different lengths; "
            f"give a numpy array"
        ) from error
    fits = array.nbytes == symbol.size_bytes and not array.dtype.hasobject
    if symbol.dtype:
        fits = array.dtype == np.dtype(symbol.dtype) and array.shape == symbol.shape
    if not fits:
        raise UsageError(
            f"parameter {symbol.name!r} must be {wanted}, not {array.dtype} of shape "
            f"{_shape(array.shape)}; convert it first"
        )
    return array


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
