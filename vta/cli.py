"""The command ``vta``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from runtime.device import device_names
from runtime.executor import Executor, ProgramFaultError
from runtime.package import Package, write_atomically
from vta import api, bench_machine, files, hardware, show, traces
from vta_hw.spec.config import named_configs
from vta_hw.spec.errors import VtaKitError
from vta_sim import hazards, trace_diff

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Compile int8 networks for the VTA accelerator, run them, look inside.",
)


bench = typer.Typer(help="Measure; every figure comes with its bound.", rich_markup_mode=None)
app.add_typer(bench, name="bench")


class Which(StrEnum):
    """Which tensors `vta run` gives."""

    MODEL = "model"
    ALL = "all"


class HostCodeChoice(StrEnum):
    """What does the host operators of `vta run`."""

    AUTO = "auto"
    NATIVE = "native"
    NUMPY = "numpy"


ConfigOption = Annotated[str, typer.Option(help="named configuration or JSON file")]
MaybeConfig = Annotated[str | None, typer.Option(help="named configuration or JSON file")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="override one key of the configuration"),
]
DeviceOption = Annotated[
    str, typer.Option(help=f"what runs the programs: {', '.join(device_names())}")
]
JsonOption = Annotated[bool, typer.Option("--json", help="end with one line of JSON")]
UninitialisedOption = Annotated[
    bool, typer.Option(help="note every read of SRAM that the run has not written")
]
TraceOption = Annotated[
    Path | None,
    typer.Option(metavar="T.json", help="write what happened when, for ui.perfetto.dev"),
]
WavesOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="record the signals of device rtl, .vcd or .fst"),
]
WindowOption = Annotated[
    str | None,
    typer.Option("--wave-window", metavar="FIRST:LAST", help="cycles of a run to record"),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0 fine, 1 different, 2 usage, 3 fault, 4 deadlock."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        status = app(args=given or ["--help"], prog_name="vta", standalone_mode=False)
    except VtaKitError as error:
        return _complain(str(error))
    except typer.TyperException as error:
        return _complain(f"{error.format_message().rstrip('.')}; see vta --help")
    except OSError as error:
        # Files that vanish or disks that fill up while they are used.
        return _complain(f"{error.filename or 'a file'}: {error.strerror or error}; try again")
    except typer.Abort:
        return _complain("interrupted")
    return int(status or show.EXIT_OK)


def _complain(text: str) -> int:
    show.note("vta: " + " ".join(text.split()))
    return show.EXIT_USAGE


@app.command("compile")
def compile_command(
    model: Annotated[Path, typer.Argument(help=".tflite or .onnx file")],
    output: Annotated[Path, typer.Option("-o", "--output", help="the package to write")],
    config: ConfigOption = "default",
    settings: SetOption = None,
    numerics: Annotated[
        str | None,
        typer.Option(help="runtime to be equal to: litert-ref, xnnpack, ort"),
    ] = None,
    dump: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="folder for every intermediate form"),
    ] = None,
    timing: Annotated[bool, typer.Option(help="print the time of every pass")] = False,
    host: Annotated[
        str | None,
        typer.Option(metavar="TRIPLE", help="machine for the host operators"),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(metavar="N", help="images at once, where the model's batch is not wanted"),
    ] = None,
) -> None:
    """Compile a network to one package file."""
    with show.progress(f"compiling {model.name}"):
        compiled = api.compile(
            model,
            config,
            numerics=numerics,
            settings=settings or (),
            dump_dir=dump,
            host_triple=host,
            batch=batch,
        )
        package = compiled.package
        package.save(output)
    if timing:
        total = sum(seconds for _, seconds in compiled.timings)
        rows = [(name, seconds * 1e3) for name, seconds in (*compiled.timings, ("total", total))]
        show.write_table(show.table("time per pass", ("pass", "ms"), rows))
    for row in package.layers:
        if row.where == "host":
            show.write(f"on the host: {row.name} ({row.op}): {row.reason}")
    for text in package.notes:
        show.write(f"note: {text}")
    instructions = sum(len(program.instructions) for program in package.programs)
    show.write(
        f"wrote {output}: {package.model} for config {package.config.name}, numerics "
        f"{package.numerics}, {instructions:,} instructions"
    )


@app.command("run")
def run_command(
    package: Annotated[Path, typer.Argument(help="file that `vta compile` wrote")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=X.npy", help="value of one input"),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--inputs", metavar="DIR", help="folder with NAME.npy for every input"),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="write NAME.npy for every output"),
    ] = None,
    outputs: Annotated[Which, typer.Option(help="the model's outputs, or every tensor")] = (
        Which.MODEL
    ),
    seed: Annotated[int, typer.Option(help="of the random input when none is given")] = 0,
    device: DeviceOption = "functional",
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
    as_json: JsonOption = False,
) -> int:
    """Run a compiled network.

    `--config` and `--set` describe a device that differs from the package's config in timing.
    """
    loaded = Package.load(package)
    values, origin = _inputs(loaded, inputs or [], folder, seed)
    chosen = api.config(loaded.config if config is None else config, settings or ())
    executor = api.load(
        loaded,
        device,
        config=chosen,
        host=host_code.value,
        report_uninitialised=report_uninitialised,
        timeline=trace is not None,
        waves=hardware.waves(waves, wave_window),
    )
    if executor.host_reason:
        show.note(f"host operators run in numpy: the {executor.host_reason}")
    return _run(executor, values, outputs, output_dir, trace, origin if as_json else None)


def _inputs(
    package: Package, settings: Sequence[str], folder: Path | None, seed: int
) -> tuple[dict[str, np.ndarray], str]:
    """Input arrays, and where they come from."""
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
    outputs: Which,
    output_dir: Path | None,
    trace: Path | None,
    json_origin: str | None,
) -> int:
    package = executor.package
    more = {
        "host_macs": package.host_macs,
        "host_operators": list(package.host_operators),
        "host_code": executor.host_code,
        "device": executor.device.name,
        "config": executor.device.config.name,
        "exact": package.exact,
        "input": json_origin,
    }
    start = time.perf_counter()
    try:
        with show.progress(f"running {package.model}"):
            outcome = executor.run(values, "all" if outputs is Which.ALL else "model")
    except ProgramFaultError as error:
        show.note(f"vta: {error}")
        if trace is not None:
            traces.write_package(trace, package, executor.device.config, error.runs)
        if json_origin is not None:
            wall_s = time.perf_counter() - start
            show.write_json(show.run_record(error.result, wall_s, **more))
        return show.exit_status(error.result.status)
    if output_dir is not None:
        files.write_folder(output_dir, outcome.outputs)
    if trace is not None:
        traces.write_package(trace, package, executor.device.config, outcome.runs)
    show.write_arrays(outcome.outputs)
    show.write_result(outcome.result, outcome.wall_s)
    if json_origin is not None:
        show.write_json(show.run_record(outcome.result, outcome.wall_s, **more))
    return show.EXIT_OK


@app.command("exec")
def exec_command(
    insns: Annotated[Path, typer.Option(help="16-byte little-endian instructions")],
    dram: Annotated[Path, typer.Option(help="DRAM image from address 0")],
    out: Annotated[Path, typer.Option(help="the image afterwards, of the same size")],
    config: ConfigOption = "default",
    settings: SetOption = None,
    device: DeviceOption = "functional",
    report_uninitialised: UninitialisedOption = False,
    trace: TraceOption = None,
    waves: WavesOption = None,
    wave_window: WindowOption = None,
    as_json: JsonOption = False,
) -> int:
    """Run a raw instruction stream on a DRAM image.

    The image is written for faulting programs too: it holds the effect of all completed stores.
    """
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
        )
    wall_s = time.perf_counter() - start
    result = execution.result
    write_atomically(out, execution.dram.tobytes())
    if trace is not None:
        traces.write_stream(trace, insns.name, chosen, stream, result)
    if result.fault is not None:
        show.note(f"vta: {insns}: {result.status}: {result.fault.text}")
    show.write_result(result, wall_s)
    if as_json:
        show.write_json(show.run_record(result, wall_s, device=device, config=chosen.name))
    return show.exit_status(result.status)


@app.command("diff")
def diff_command(
    first: Annotated[Path, typer.Argument(help="file that --trace wrote")],
    second: Annotated[Path, typer.Argument(help="another one of the same program")],
) -> int:
    """Say where two traces first differ; the exit status is 1 if they do."""
    found = trace_diff.first_difference(first, second)
    show.write("equal" if found is None else found)
    return show.EXIT_OK if found is None else show.EXIT_DIFFERENT


@app.command("verilog")
def verilog_command(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="folder for the files")
    ],
    config: ConfigOption = "default",
    settings: SetOption = None,
) -> None:
    """Write the hardware as Verilog: the core, its shell for an FPGA, and its register map."""
    chosen = api.config(config, settings or ())
    with show.progress(f"writing the Verilog of {chosen.name}"):
        names = hardware.verilog(chosen, output)
    show.write(f"wrote {', '.join(names)} to {output} for config {chosen.name} ({chosen.hash})")


@bench.command("machine")
def bench_machine_command(
    config: ConfigOption = "default",
    settings: SetOption = None,
    device: DeviceOption = "cycle",
    as_json: JsonOption = False,
) -> int:
    """Count the cycles of the machine's basic jobs; the exit status is 1 if a bound is broken."""
    chosen = api.config(config, settings or ())
    with show.progress(f"measuring {chosen.name}"):
        figures = bench_machine.measure(chosen, device)
    show.write_table(
        show.table(
            f"{chosen.name} on {device}",
            ("what", "measured", "bound", "unit", "verdict"),
            [
                (f.name, round(f.value, 4), f.bound, f.unit, "kept" if f.good else "broken")
                for f in figures
            ],
        )
    )
    if as_json:
        records = [{**asdict(figure), "good": figure.good} for figure in figures]
        show.write_json({"config": chosen.name, "device": device, "figures": records})
    return show.EXIT_OK if all(figure.good for figure in figures) else show.EXIT_DIFFERENT


@app.command("disasm")
def disasm_command(
    file: Annotated[Path, typer.Argument(help="package, or raw instructions")],
    config: MaybeConfig = None,
    settings: SetOption = None,
) -> None:
    """List the instructions of a package or of a raw stream.

    A raw stream is read with `--config` (default: default); a package knows its own.
    """
    chosen = None
    if config is not None or settings:
        chosen = api.config(config or "default", settings or ())
    show.write(api.disassemble(file, chosen))


@app.command("check")
def check_command(
    file: Annotated[Path, typer.Argument(help="package, or raw instructions")],
    dram: Annotated[
        Path | None, typer.Option(help="DRAM image from address 0 for raw instructions")
    ] = None,
    config: MaybeConfig = None,
    settings: SetOption = None,
    max_pairs: Annotated[int, typer.Option(help="hazards to list per program")] = hazards.PAIRS_MAX,
    as_json: JsonOption = False,
) -> int:
    """Prove that a program has no hazards, faults or deadlocks, without running it.

    A hazard is a pair of instructions that touch the same SRAM entries or DRAM bytes, one of them
    writing, in an order that no token fixes. A raw stream is read with `--config` (default:
    default) and needs `--dram`.
    """
    chosen = None
    if config is not None or settings:
        chosen = api.config(config or "default", settings or ())
    image = None if dram is None else api.read_bytes(dram)
    start = time.perf_counter()
    with show.progress(f"checking {file.name}"):
        reports = api.check(file, chosen, dram=image, pairs_max=max_pairs)
    wall_s = time.perf_counter() - start
    show.write_reports(reports, wall_s)
    if as_json:
        show.write_json(show.check_record(reports, wall_s))
    return show.check_status(reports)


@app.command("info")
def info_command(
    subject: Annotated[
        str | None,
        typer.Argument(help="package, named configuration or JSON file of one"),
    ] = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a package holds or what a configuration means; alone, list the configurations."""
    if subject is None:
        rows = [_config_row(name, settings or ()) for name in named_configs()]
        show.write_table(show.table("configurations", ("name", "GEMM", "extensions"), rows))
        return
    path = Path(subject)
    if subject not in named_configs() and path.is_file() and path.suffix != ".json":
        package = Package.load(path)
        if settings:
            raise api.UsageError("--set changes a configuration, not a package; leave it out")
        if as_json:
            show.write_json(show.package_record(package))
        else:
            show.write_package(package)
        return
    config = api.config(subject, settings or ())
    if as_json:
        show.write_json({"name": config.name, "hash": config.hash, **config.to_dict()})
    else:
        show.write_config(config)


def _config_row(name: str, settings: Sequence[str]) -> tuple[str, str, str]:
    config = api.config(name, settings)
    gemm = f"{config.batch}x{config.block_in}x{config.block_out}"
    return name, gemm, ", ".join(sorted(config.extensions)) or "none"


if __name__ == "__main__":
    sys.exit(main())
