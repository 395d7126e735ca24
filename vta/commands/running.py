"""The commands that run programs: ``vta run`` and ``vta exec``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vta import show
from vta.commands.options import (
    ConfigOption,
    DeviceOption,
    EngineOption,
    JobsOption,
    JsonOption,
    MaybeConfig,
    OutputDirOption,
    RecordOption,
    SetOption,
    TraceOption,
    UninitialisedOption,
    WavesOption,
    WindowOption,
    engine_of,
)

if TYPE_CHECKING:
    import numpy as np

    from runtime.executor import Executor, ProgramRun
    from runtime.package import Package


class Which(StrEnum):
    """Which tensors `vta run` gives."""

    MODEL = "model"
    ALL = "all"


class HostCodeChoice(StrEnum):
    """What does the host operators of `vta run`."""

    AUTO = "auto"
    NATIVE = "native"
    NUMPY = "numpy"


def run_command(
    package: Annotated[Path, typer.Argument(help="file that `vta compile` wrote")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=X.npy", help="value of one input"),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--inputs",
            metavar="DIR",
            help="folder with NAME.npy for every input, or a folder of many such inputs",
        ),
    ] = None,
    jobs: JobsOption = 1,
    output_dir: OutputDirOption = None,
    outputs: Annotated[Which, typer.Option(help="the model's outputs, or every tensor")] = (
        Which.MODEL
    ),
    seed: Annotated[int, typer.Option(help="of the random input when none is given")] = 0,
    device: DeviceOption = "functional",
    engine: EngineOption = None,
    config: MaybeConfig = None,
    settings: SetOption = None,
    host_code: Annotated[
        HostCodeChoice,
        typer.Option(help="host operators: the package's object code, or numpy"),
    ] = HostCodeChoice.AUTO,
    report_uninitialised: UninitialisedOption = False,
    trace: TraceOption = None,
    waves: WavesOption = None,
    wave_window: WindowOption = None,
    record: RecordOption = None,
    as_json: JsonOption = False,
) -> int:
    """Run a compiled network.

    `--config` and `--set` describe a device that differs from the package's config in timing.
    """
    from runtime.package import Package
    from vta import api, files, hardware

    loaded = Package.load(package)
    if jobs < 1:
        raise api.UsageError(f"--jobs must be at least 1, not {jobs}")
    items = [] if folder is None or inputs else files.find_items(loaded, folder)
    if items and trace is not None:
        raise api.UsageError(
            f"--trace is of one inference and {str(folder)!r} has input for {len(items)}; give "
            f"the input of one"
        )
    values, origin = ({}, str(folder)) if items else _inputs(loaded, inputs or [], folder, seed)
    chosen = api.config(loaded.config if config is None else config, settings or ())
    executor = api.load(
        loaded,
        device,
        config=chosen,
        host=host_code.value,
        report_uninitialised=report_uninitialised,
        timeline=trace is not None,
        waves=hardware.waves(waves, wave_window),
        engine=engine_of(engine),
        record=record,
    )
    if executor.host_reason:
        show.note(f"host operators run in numpy: the {executor.host_reason}")
    facts = _facts(executor, origin)
    which: Literal["model", "all"] = "all" if outputs is Which.ALL else "model"
    if items:
        from vta.commands.run_stream import run_stream

        return run_stream(executor, items, which, output_dir, jobs, facts if as_json else None)
    return _run(executor, values, which, output_dir, trace, facts if as_json else None)


def _facts(executor: Executor, origin: str) -> dict[str, Any]:
    """What ``--json`` says beside the result: what ran, on what, from where."""
    package = executor.package
    return {
        "host_macs": package.host_macs,
        "host_operators": list(package.host_operators),
        "host_code": executor.host_code,
        "device": executor.device.name,
        "config": executor.device.config.name,
        "exact": package.exact,
        "input": origin,
    }


def _inputs(
    package: Package, settings: Sequence[str], folder: Path | None, seed: int
) -> tuple[dict[str, np.ndarray], str]:
    """Input arrays, and where they come from."""
    from vta import api, files

    if folder is not None:
        if settings:
            raise api.UsageError("give either --input or --inputs, not both")
        return files.read_folder(package, folder), str(folder)
    if settings:
        return files.read_named(package, settings), ", ".join(settings)
    if seed < 0:
        raise api.UsageError(f"--seed must be at least 0, not {seed}")
    origin = f"random (seed {seed})"
    show.note(f"no --input given: the input is {origin}")
    return api.random_inputs(package, seed), origin


def _run(
    executor: Executor,
    values: dict[str, np.ndarray],
    outputs: Literal["model", "all"],
    output_dir: Path | None,
    trace: Path | None,
    facts: Mapping[str, Any] | None,
) -> int:
    """Run the network, print and write what came of it, with `facts` as JSON; the exit status."""
    from runtime.executor import ProgramFaultError

    start = time.perf_counter()
    try:
        with show.progress(f"running {executor.package.model}"):
            outcome = executor.run(values, outputs)
    except ProgramFaultError as error:
        show.note(f"vta: {error}")
        if trace is not None:
            _trace(trace, executor, error.runs)
        if facts is not None:
            wall_s = time.perf_counter() - start
            show.write_json(show.run_record(error.result, wall_s, **facts))
        return show.exit_status(error.result.status)
    if output_dir is not None:
        from vta import files

        files.write_folder(output_dir, outcome.outputs)
    if trace is not None:
        _trace(trace, executor, outcome.runs)
    show.write_arrays(outcome.outputs)
    show.write_result(outcome.result, outcome.wall_s)
    if facts is not None:
        show.write_json(show.run_record(outcome.result, outcome.wall_s, **facts))
    return show.EXIT_OK


def _trace(path: Path, executor: Executor, runs: Sequence[ProgramRun]) -> None:
    from vta import traces

    traces.write_package(path, executor.package, executor.device.config, runs)


def exec_command(
    insns: Annotated[Path, typer.Option(help="16-byte little-endian instructions")],
    dram: Annotated[Path, typer.Option(help="DRAM image from address 0")],
    out: Annotated[Path, typer.Option(help="the image afterwards, of the same size")],
    config: ConfigOption = "default",
    settings: SetOption = None,
    device: DeviceOption = "functional",
    engine: EngineOption = None,
    report_uninitialised: UninitialisedOption = False,
    trace: TraceOption = None,
    waves: WavesOption = None,
    wave_window: WindowOption = None,
    as_json: JsonOption = False,
) -> int:
    """Run a raw instruction stream on a DRAM image.

    The image is written for faulting programs too: it holds the effect of all completed stores.
    """
    from runtime.package import write_atomically
    from vta import api, hardware

    stream, image = api.read_bytes(insns), api.read_bytes(dram)
    if len(stream) % 16:
        raise api.UsageError(
            f"instruction file {str(insns)!r} must be a multiple of 16 bytes long, not "
            f"{len(stream)}; it is cut off or no stream"
        )
    chosen = api.config(config, settings or ())
    recorded = hardware.waves(waves, wave_window)
    start = time.perf_counter()
    with show.progress(f"running {insns.name}"):
        execution = api.execute(
            stream,
            image,
            chosen,
            device,
            report_uninitialised=report_uninitialised,
            timeline=trace is not None,
            waves=recorded,
            engine=engine_of(engine),
        )
    wall_s = time.perf_counter() - start
    result = execution.result
    write_atomically(out, execution.dram.tobytes())
    if trace is not None:
        from vta import traces

        traces.write_stream(trace, insns.name, chosen, stream, result)
    if result.fault is not None:
        show.note(f"vta: {insns}: {result.status}: {result.fault.text}")
    show.write_result(result, wall_s)
    if as_json:
        show.write_json(show.run_record(result, wall_s, device=device, config=chosen.name))
    return show.exit_status(result.status)
