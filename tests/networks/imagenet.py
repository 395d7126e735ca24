"""Networks of examples/imagenet compiled and held to ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from compiler.context import CompileContext
from compiler.driver import compile_graph
from compiler.graph.fuse import fuse
from compiler.graph.ir import Graph
from examples.digits import judge
from runtime.executor import Executor
from vta_hw.spec.config import VtaConfig

needs_exact_judge = pytest.mark.skipif(
    bool(judge.inexact_because()), reason=f"ONNX Runtime: {judge.inexact_because()}"
)
EXACT = frozenset({"conv2d", "dense", "max_pool2d", "quantize", "reshape", "clip"})
"""Operators whose results are ONNX Runtime's to the bit; of the others they are within one unit."""
WEIGHTED = ("conv2d", "dense")
MOVES = ("reshape",)


@dataclass
class Tally:
    """How one tensor compares: values seen, values that differ, greatest difference in units."""

    op: str
    values: int = 0
    differing: int = 0
    greatest: int = 0

    def add(self, found: np.ndarray, expected: np.ndarray) -> None:
        """Compare one more pair of arrays."""
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        distance = np.abs(found.astype(np.int32) - expected.astype(np.int32))
        self.values += distance.size
        self.differing += int(np.count_nonzero(distance))
        self.greatest = max(self.greatest, int(distance.max()))


def compare_layers(
    graph: Graph, model: Path, images: Iterable[np.ndarray], config: VtaConfig
) -> Mapping[str, Tally]:
    """Every kernel compiled alone and fed ONNX Runtime's own tensors, by its result's name."""
    layers = []
    for kernel in fuse(graph):
        part = graph.subgraph(kernel.nodes, kernel.anchor.name)
        if all(part.type_of(name).dtype == "int8" for name in part.outputs):
            executor = Executor(compile_graph(part, CompileContext(config)).package)
            layers.append((kernel.anchor.op, executor))
    runtime = judge.Judge(model, intermediates=True)
    tallies: dict[str, Tally] = {}
    inner: dict[str, str] = {}  # tensors within what the runtime does at once, and their operators
    seen: set[str] = set()  # those of them that a compared result was made from
    for image in images:
        inputs = {"image": image[None]}
        truth = inputs | runtime.run(inputs)
        for op, layer in layers:
            given = {name: truth[name] for name in layer.package.inputs}
            hidden = [name for name in given if name in inner]
            judged = judged_by(op, [inner[name] for name in hidden])
            for name, value in layer.run(given).outputs.items():
                if name in truth:
                    tallies.setdefault(name, Tally(judged)).add(value, truth[name])
                    seen.update(hidden)
                else:
                    truth[name], inner[name] = value, judged
    for op, layer in layers:
        for name in layer.package.outputs if op in WEIGHTED else ():
            compared = name in tallies and tallies[name].op in EXACT
            assert compared or name in seen, f"{op} {name!r} was not compared exactly"
    return tallies


def judged_by(op: str, hidden: Sequence[str]) -> str:
    """The operator whose tolerance a result of `op` gets that reads results of `hidden` ones.

    Those were not compared themselves. The strictest counts; an operator that only moves values
    is as exact as what it moves.
    """
    makers = [op, *hidden] if op not in MOVES or not hidden else list(hidden)
    return min(makers, key=lambda maker: maker not in EXACT)


def print_by_operator(tallies: Mapping[str, Tally]) -> None:
    """One line per operator, for `pytest -s`."""
    for op in sorted({tally.op for tally in tallies.values()}):
        group = [tally for tally in tallies.values() if tally.op == op]
        print(
            f"{op}: {len(group)} layers, {sum(t.differing for t in group)} of "
            f"{sum(t.values for t in group)} values differ, by {max(t.greatest for t in group)} "
            "at most"
        )


def check_tallies(tallies: Mapping[str, Tally]) -> None:
    """Convolutions and dense layers to the bit, all else within one unit."""
    for name, tally in tallies.items():
        assert tally.greatest <= (0 if tally.op in EXACT else 1), (name, tally)
