"""Classifies every held-out digit on the functional simulator, beside ONNX Runtime.

`python -m examples.digits.demo` exits with status 1 when a single prediction differs.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import vta
from examples.digits import data, judge

MODEL = Path(__file__).with_name("digits_int8.onnx")
_LISTING_LINES = 16
# What ONNX Runtime's quantiser appends to the names of tensors.
_QUANTISED = "_QuantizeLinear_Output"


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


def _layers(package: vta.Package, console: Console) -> None:
    table = Table(title="What became of each operator", box=box.SIMPLE)
    for heading in ("layer", "operator", "where"):
        table.add_column(heading, no_wrap=True)
    for heading in ("MACs", "insns", "bytes\nloaded", "bytes\nstored"):
        table.add_column(heading, justify="right")
    for row in package.layers:
        counts = (row.macs, row.instructions, row.bytes_loaded, row.bytes_stored)
        cells = (f"{count:,}" if count else "" for count in counts)
        table.add_row(row.name.replace(_QUANTISED, ""), row.op, row.where, *cells)
    console.print(table)
    for row in package.layers:
        if row.where == "host":
            console.print(f"{row.op} is on the host: {row.reason}", highlight=False)


def _listing(package: vta.Package, console: Console) -> None:
    program = package.programs[0]
    console.print(f"\nHow its {len(program.instructions)} instructions begin:", style="bold")
    for line in vta.disassemble(program).splitlines()[:_LISTING_LINES]:
        line = line.replace(_QUANTISED, "")
        console.print(line, markup=False, highlight=False, overflow="ellipsis", no_wrap=True)


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
        f"compiled {MODEL.name} for config {package.config.name!r}, numerics "
        f"{package.numerics!r}, in {time.perf_counter() - start:.2f} s",
        highlight=False,
    )
    _layers(package, console)
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
