"""Classifies every held-out digit on the functional simulator, beside ONNX Runtime.

`python -m examples.digits.demo` exits with status 1 when a single prediction differs.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import vta
from examples.digits import data, judge

MODEL = Path(__file__).with_name("digits_int8.onnx")
_LISTING_LINES = 16


def _predict(package: vta.Package, images: np.ndarray, console: Console) -> np.ndarray:
    """The class that the simulated accelerator gives each image."""
    executor = vta.load(package, device="functional")
    (name,), (output,) = package.inputs, package.outputs
    classes = np.empty(len(images), np.int64)
    with Progress(console=console, transient=True) as progress:
        for index in progress.track(range(len(images)), description="simulating"):
            outcome = executor.run({name: images[index : index + 1]})
            classes[index] = outcome.outputs[output].argmax()
    return classes


def _predict_by_judge(images: np.ndarray) -> np.ndarray:
    runtime = judge.Judge(MODEL)
    return np.array([runtime.run({"image": image[None]})["logits"].argmax() for image in images])


def _layers(package: vta.Package) -> Table:
    table = Table(title="What became of each operator")
    for heading in ("layer", "operator", "where"):
        table.add_column(heading, overflow="fold")
    for heading in ("MACs", "instructions", "bytes loaded", "bytes stored"):
        table.add_column(heading, justify="right")
    for row in package.layers:
        where = f"{row.where}: {row.reason}" if row.reason else row.where
        counts = (row.macs, row.instructions, row.bytes_loaded, row.bytes_stored)
        table.add_row(row.name, row.op, where, *(f"{count:,}" if count else "" for count in counts))
    return table


def _listing(package: vta.Package, console: Console) -> None:
    program = package.programs[0]
    console.print(
        f"\nThe first {_LISTING_LINES} of {len(program.instructions)} instructions:", style="bold"
    )
    for line in vta.disassemble(program).splitlines()[:_LISTING_LINES]:
        console.print(line, markup=False, highlight=False, overflow="crop", no_wrap=True)


def main() -> int:
    """Run the demo; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="default", help="named configuration or JSON file")
    arguments = parser.parse_args()
    console = Console()

    digits = data.load()
    start = time.perf_counter()
    package = vta.compile(MODEL, config=arguments.config).package
    console.print(
        f"compiled {MODEL.name} for config {package.config.name!r} with the numerics of "
        f"{package.numerics!r} in {time.perf_counter() - start:.2f} s",
        highlight=False,
    )
    console.print(_layers(package))
    _listing(package, console)

    start = time.perf_counter()
    ours = _predict(package, digits.test_images, console)
    seconds = time.perf_counter() - start
    theirs = _predict_by_judge(digits.test_images)
    results = Table(title=f"{len(ours)} held-out images, {seconds:.1f} s of simulation")
    results.add_column("device")
    results.add_column("accuracy", justify="right")
    results.add_row("VTA, functional simulator", f"{np.mean(ours == digits.test_labels):.2%}")
    results.add_row("ONNX Runtime", f"{np.mean(theirs == digits.test_labels):.2%}")
    console.print(results)

    differing = np.flatnonzero(ours != theirs)
    if differing.size and (reason := judge.inexact_because()):
        console.print(
            f"{differing.size} predictions differ; ONNX Runtime is no judge here: {reason}"
        )
        return 0
    if differing.size:
        console.print(f"the predictions differ for images {differing.tolist()}", style="red")
        return 1
    console.print(f"all {len(ours)} predictions are the same, image by image", style="green")
    return 0


if __name__ == "__main__":
    sys.exit(main())
