"""How long networks take to compile, to check for races and to run on the functional simulator.

Compiling is measured as a user meets it: a fresh process, imports included. Networks of MLPerf
Tiny are measured where `--models` (or the environment variable VTA_MLPERF_TINY) names a folder with
their files. ResNet-18 is built on the spot, and left out where what builds it is not installed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

import vta
from vta.bench.models import MissingModelError, build_model, find_model

REPO = Path(__file__).resolve().parent.parent
DIGITS = REPO / "examples" / "digits" / "digits_int8.onnx"
_NETWORKS = {"ResNet-8": "ic_resnet8_int8.tflite", "autoencoder": "ad_autoencoder_int8.tflite"}
_COMPILE = """
import sys, time
import vta
start = time.perf_counter()
vta.compile(sys.argv[1], config=sys.argv[2]).package.save(sys.argv[3])
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Measurement:
    """Median seconds of one network on one config."""

    network: str
    config: str
    process_s: float
    compile_s: float
    check_s: float
    run_s: float
    macs: int


def models(folder: Path | None) -> dict[str, Path]:
    """Networks to measure: the digits, and those that `vta.bench.models` finds."""
    found = {"digits": DIGITS}
    for name, file in _NETWORKS.items():
        with suppress(MissingModelError):
            found[name] = find_model(file, folder)
    return found


def resnet18(folder: Path) -> dict[str, Path]:
    """ResNet-18 at its full size, written below `folder`; empty with a word why it is left out."""
    try:
        return {"ResNet-18": build_model("resnet18", folder)}
    except MissingModelError as error:
        print(f"without ResNet-18: {error}", file=sys.stderr)
        return {}


def add_models_option(parser: argparse.ArgumentParser) -> None:
    """Give the parser the option ``--models``, whose value is what `models` takes."""
    parser.add_argument("--models", type=Path, help="folder with MLPerf Tiny's networks")


def _compile(model: Path, config: str, package: Path) -> tuple[float, float]:
    """Seconds of the whole process, and of compiling and saving alone."""
    start = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-c", _COMPILE, str(model), config, str(package)],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPO,
    )
    process_s = time.perf_counter() - start
    return process_s, float(run.stdout)


def measure(network: str, model: Path, config: str, repeats: int) -> Measurement:
    """Compile in `repeats` fresh processes, then run `repeats` times."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.vta"
        compiled = [_compile(model, config, path) for _ in range(repeats)]
        package = vta.Package.load(path)
    start = time.perf_counter()
    vta.check(package)
    check_s = time.perf_counter() - start
    executor = vta.load(package)
    inputs = vta.random_inputs(package)
    # The first run decodes the program and is not counted.
    executor.run(inputs)
    outcomes = [executor.run(inputs) for _ in range(repeats)]
    return Measurement(
        network,
        config,
        process_s=statistics.median(process for process, _ in compiled),
        compile_s=statistics.median(alone for _, alone in compiled),
        check_s=check_s,
        run_s=statistics.median(outcome.wall_s for outcome in outcomes),
        macs=outcomes[0].result.macs,
    )


def _three_digits(value: float) -> str:
    """Three digits that mean something; small values do not become zero."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", nargs="+", default=["default", "mac64"])
    parser.add_argument("--repeats", type=int, default=3)
    add_models_option(parser)
    options = parser.parse_args(arguments)

    table = Table(title=f"medians of {options.repeats}", box=box.SIMPLE)
    for heading in ("network", "config"):
        table.add_column(heading)
    for heading in ("process, s", "compile, s", "check, s", "run, ms", "M MAC", "M MAC/s"):
        table.add_column(heading, justify="right")
    with tempfile.TemporaryDirectory() as built:
        found = models(options.models) | resnet18(Path(built))
        measured = [
            measure(network, model, config, options.repeats)
            for network, model in found.items()
            for config in options.configs
        ]
    for m in measured:
        values = (m.process_s, m.compile_s, m.check_s, 1e3 * m.run_s, m.macs / 1e6)
        rate = m.macs / m.run_s / 1e6
        table.add_row(m.network, m.config, *map(_three_digits, (*values, rate)))
    Console().print(table)


if __name__ == "__main__":
    main()
