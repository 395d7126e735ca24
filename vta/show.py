"""What the commands print. The command line always loads it, so it imports what it needs late."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from fpga.driver.selftest_steps import StepReport
    from runtime.package import Package, TensorInfo
    from vta_hw.spec.config import VtaConfig
    from vta_hw.spec.result import RunResult, Status
    from vta_sim.hazards import Report

EXIT_OK, EXIT_DIFFERENT, EXIT_USAGE, EXIT_FAULT, EXIT_DEADLOCK = 0, 1, 2, 3, 4

_PIPED_WIDTH = 200
_SHOWN_VALUES = 10
_STEP_WIDTH = 10


def exit_status(status: Status) -> int:
    """The command's exit status for a run that ended so."""
    from vta_hw.spec.result import Status

    if status is Status.OK:
        return EXIT_OK
    return EXIT_DEADLOCK if status is Status.DEADLOCK else EXIT_FAULT


def write(text: str) -> None:
    """Print to standard output; a reader that stops early (``| head``) is no error."""
    # Names come from files, and not every character of theirs can be printed everywhere.
    encoding = sys.stdout.encoding or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered would be written, and fail, when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(text: str) -> None:
    """Print a remark to standard error."""
    print(text, file=sys.stderr)


@contextmanager
def progress(text: str) -> Iterator[None]:
    """A spinner on standard error while something takes time, if that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


@contextmanager
def changing_progress(text: str) -> Iterator[Callable[[str], None]]:
    """As `progress`; gives a function that changes the text."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status(text) as status:
        yield status.update


def write_table(table: Table) -> None:
    """Print a table; without a terminal it is wide enough to fold nothing."""
    from rich.console import Console

    is_terminal = sys.stdout.isatty()
    console = Console(width=None if is_terminal else _PIPED_WIDTH, highlight=False)
    with console.capture() as capture:
        console.print(table)
    write("\n".join(line.rstrip() for line in capture.get().splitlines()))


def table(title: str, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table; columns of numbers are right-aligned."""
    from rich.table import Table

    cells = [list(row) for row in rows]
    made = Table(title=title, title_justify="left")
    for position, heading in enumerate(headings):
        is_number = bool(cells) and all(isinstance(row[position], int | float) for row in cells)
        made.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for row in cells:
        made.add_row(*(_cell(value) for value in row))
    return made


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value).replace("[", "\\[")


# -- runs -----------------------------------------------------------------------------------------


def run_record(result: RunResult, wall_s: float, **more: Any) -> dict[str, Any]:
    """The object that ``--json`` prints."""
    return {
        "status": str(result.status),
        "fault": None if result.fault is None else result.fault.to_dict(),
        "cycles": result.cycles,
        "instructions": result.instructions,
        "macs": result.macs,
        "wall_s": round(wall_s, 6),
        "counters": dict(result.counters),
        "notes": list(result.notes),
        **more,
    }


def write_json(record: Mapping[str, Any]) -> None:
    """Print one object on one line."""
    write(json.dumps(record))


def write_result(result: RunResult, wall_s: float) -> None:
    """Print a run's verdict and counts."""
    cycles = "" if result.cycles is None else f"{result.cycles:,} cycles, "
    write(
        f"{result.status}: {cycles}{result.instructions:,} instructions, {result.macs:,} MACs "
        f"on VTA, {wall_s:.3f} s"
    )
    for text in result.notes:
        write(f"note: {text}")


def write_step(report: StepReport) -> None:
    """Print one step of a self-test."""
    text = report.text or ", ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}"
        for name, value in report.figures.items()
    )
    write(f"{report.name:{_STEP_WIDTH}} {report.verdict:14} {report.seconds:7.3f} s  {text}")


def write_steps(reports: Sequence[StepReport]) -> int:
    """Print how many steps of a self-test passed; the command's exit status."""
    failed = [report.name for report in reports if report.verdict == "failed"]
    passed = sum(report.verdict == "passed" for report in reports)
    names = f" ({', '.join(failed)})" if failed else ""
    write(f"{passed} of {len(reports)} steps passed, {len(failed)} failed{names}")
    return EXIT_DIFFERENT if failed else EXIT_OK


def write_arrays(arrays: Mapping[str, np.ndarray]) -> None:
    """Print each array's name, type and first values."""
    for name, array in arrays.items():
        head = ", ".join(str(v) for v in array.reshape(-1)[:_SHOWN_VALUES].tolist())
        more = ", ..." if array.size > _SHOWN_VALUES else ""
        write(f"{name}: {array.dtype}[{_dims(array.shape)}] = [{head}{more}]")


# -- checks ---------------------------------------------------------------------------------------


def check_status(reports: Sequence[Report]) -> int:
    """The exit status of `vta check`: a fault outweighs a deadlock, as it does in a run."""
    from vta_hw.spec.result import Status

    found = {report.status for report in reports} - {"clean"}
    if not found:
        return EXIT_OK
    deadlocks = Status.DEADLOCK in found and Status.FAULT not in found
    return EXIT_DEADLOCK if deadlocks else EXIT_FAULT


def check_record(reports: Sequence[Report], wall_s: float) -> dict[str, Any]:
    """The object that ``vta check --json`` prints."""
    worst = min((r.status for r in reports), key=_gravity, default="clean")
    faults = [f for r in reports for f in (*r.faults, r.ending_fault) if f is not None]
    return {
        "status": worst,
        "fault": faults[0].to_dict() if faults else None,
        "instructions": sum(report.instructions for report in reports),
        "hazards": sum(len(report.hazards) for report in reports),
        "wall_s": round(wall_s, 6),
        "programs": [report.to_dict() for report in reports],
    }


def _gravity(status: str) -> int:
    from vta_hw.spec.result import Status

    graver = (Status.FAULT, Status.DEADLOCK, Status.FINISH_NOT_DRAINED, Status.NO_FINISH, "hazard")
    return graver.index(status) if status in graver else len(graver)


def write_reports(reports: Sequence[Report], wall_s: float) -> None:
    """Print what is wrong with each program, then what was checked."""
    for index, report in enumerate(reports):
        where = f"program {index}: " if len(reports) > 1 else ""
        for text in report.findings:
            write(f"{where}{text}")
        for text in report.notes:
            write(f"note: {where}{text}")
    instructions = sum(report.instructions for report in reports)
    findings = sum(len(report.findings) for report in reports)
    verdict = f"{findings:,} found" if findings else "clean"
    write(f"{verdict}: {instructions:,} instructions checked, {wall_s:.3f} s")


# -- packages and configurations ------------------------------------------------------------------


def layer_table(package: Package) -> Table:
    """What became of each operator."""
    headings = ("layer", "operator", "where", "MACs", "instructions", "loaded B", "stored B")
    rows = [
        (
            short_name(row.name),
            row.op,
            f"{row.where}: {row.reason}" if row.reason else row.where,
            row.macs,
            row.instructions,
            row.bytes_loaded,
            row.bytes_stored,
        )
        for row in package.layers
    ]
    return table("layers", headings, rows)


def short_name(name: str) -> str:
    """TFLite joins the names of all fused operators by semicolons; the first one says enough."""
    first, joint, _ = name.partition(";")
    return f"{first};..." if joint else first


def write_package(package: Package) -> None:
    """Print a package's summary and its layers."""
    write(f"model {package.model}, numerics {package.numerics}, {_exactness(package)}")
    write(f"config {package.config.name} ({package.config.hash})")
    for kind, names in (("input", package.inputs), ("output", package.outputs)):
        for name in names:
            write(f"{kind} {name}: {_type(package.tensors[name])}")
    instructions = sum(len(p.words) for p in package.programs)
    constants = sum(
        s.size_bytes for p in package.programs for s in p.symbols.values() if s.contents is not None
    )
    write(
        f"{len(package.programs)} VTA programs, {instructions:,} instructions, "
        f"{sum(p.macs for p in package.programs):,} MACs, {constants:,} bytes of constants, "
        f"{package.arena_bytes:,} bytes of activations"
    )
    calls = Counter(package.host_operators)
    listed = ", ".join(f"{name} x{n}" if n > 1 else name for name, n in calls.items()) or "none"
    write(f"host operators: {listed}; {package.host_macs:,} MACs; code for {package.host_triple}")
    for text in package.notes:
        write(f"note: {text}")
    if package.layers:
        write_table(layer_table(package))


def package_record(package: Package) -> dict[str, Any]:
    """The object that ``vta info --json`` prints for a package."""
    return {
        "model": package.model,
        "numerics": package.numerics,
        "exact": package.exact,
        "config": package.config.to_dict(),
        "config_hash": package.config.hash,
        "inputs": {n: _type_record(package.tensors[n]) for n in package.inputs},
        "outputs": {n: _type_record(package.tensors[n]) for n in package.outputs},
        "instructions": sum(len(p.words) for p in package.programs),
        "macs": sum(p.macs for p in package.programs),
        "host_macs": package.host_macs,
        "host_operators": list(package.host_operators),
        "host_triple": package.host_triple,
        "layers": [vars(row) for row in package.layers],
        "notes": list(package.notes),
    }


def write_config(config: VtaConfig) -> None:
    """Print a configuration's keys and what follows from them."""
    from vta_hw.spec.config import MemType

    write(f"config {config.name} ({config.hash})")
    for key, value in config.to_dict().items():
        write(f"  {key} = {','.join(value) if isinstance(value, list) else value}")
    write(
        f"GEMM {config.batch}x{config.block_in}x{config.block_out}: "
        f"{config.macs_per_cycle} MACs per cycle"
    )
    for memory in (MemType.UOP, MemType.INP, MemType.WGT, MemType.ACC):
        write(
            f"{memory.name}: {config.depth(memory)} elements of {config.elem_bytes(memory)} bytes"
        )


def _exactness(package: Package) -> str:
    return "exact" if package.exact else "not exact (see the notes)"


def _type(tensor: TensorInfo) -> str:
    text = f"{tensor.face_dtype}[{_dims(tensor.shape)}]"
    text += f" {tensor.layout}" if tensor.layout else ""
    if tensor.scale and len(tensor.scale) == 1:
        text += f", scale {tensor.scale[0]:.9g}, zero point {tensor.zero_point[0]}"
    return text


def _type_record(tensor: TensorInfo) -> dict[str, Any]:
    return {
        "dtype": tensor.face_dtype,
        "shape": list(tensor.shape),
        "layout": tensor.layout,
        "scale": list(tensor.scale),
        "zero_point": list(tensor.zero_point),
    }


def _dims(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
