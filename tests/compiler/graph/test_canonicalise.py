"""Reshapes before dense layers: what becomes a convolution and what stays a view."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.graph.canonicalise import canonicalise, is_view
from compiler.graph.ir import Graph
from compiler.graph.reference import evaluate
from tests.compiler.graph.nets import NetBuilder


def equal(before: Graph, after: Graph, rng: np.random.Generator) -> None:
    """Both graphs give the same outputs, and the same value of every tensor they share."""
    for _ in range(3):
        inputs = {
            n: rng.integers(-128, 128, before.type_of(n).shape).astype(np.int8)
            for n in before.inputs
        }
        old, new = evaluate(before, inputs), evaluate(after, inputs)
        assert set(before.outputs) <= new.keys()
        for name in old.keys() & new.keys():
            np.testing.assert_array_equal(new[name].ravel(), old[name].ravel(), err_msg=name)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("rows", [1, 3])
def test_flattened_image_becomes_a_convolution(
    layout: str, rows: int, rng: np.random.Generator
) -> None:
    net = NetBuilder(rng)
    image = (rows, 4, 5, 6) if layout == "NHWC" else (rows, 6, 4, 5)
    net.dense(net.reshape(net.input("x", image, layout), "f", (rows, 120)), "y", 7)
    before = net.graph("y")
    after = canonicalise(before)
    assert [n.op for n in after.nodes] == ["conv2d", "requantize", "reshape"]
    assert after.tensors[after.nodes[0].inputs[1]].type.shape == (7, 6, 4, 5)
    assert is_view(after, after.nodes[-1])
    assert "f" not in after.tensors
    equal(before, after, rng)


def test_flattened_tensor_that_is_returned_stays(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    net.dense(net.reshape(net.input("x", (1, 2, 3, 4)), "f", (1, 24)), "y", 5)
    before = net.graph("f", "y")
    after = canonicalise(before)
    assert sorted(n.op for n in after.nodes) == ["conv2d", "requantize", "reshape", "reshape"]
    equal(before, after, rng)


def test_one_pixel_stays_a_dense_layer(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    net.dense(net.reshape(net.input("x", (2, 1, 1, 24)), "f", (2, 24)), "y", 5)
    before = net.graph("y")
    after = canonicalise(before)
    assert [n.op for n in after.nodes] == ["reshape", "dense", "requantize"]
    assert is_view(after, after.nodes[0])
    equal(before, after, rng)


def test_reshape_that_mixes_rows_stays(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    net.dense(net.reshape(net.input("x", (2, 2, 3, 4)), "f", (4, 12)), "y", 5)
    before = net.graph("y")
    after = canonicalise(before)
    assert [n.op for n in after.nodes] == ["reshape", "dense", "requantize"]
    assert not is_view(after, after.nodes[0])
    equal(before, after, rng)


def test_nodes_that_nothing_reads_are_dropped(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    x = net.input("x", (1, 4))
    net.clip(x, "dead")
    net.clip(x, "y")
    assert [n.name for n in canonicalise(net.graph("y")).nodes] == ["y"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((1, 1, 1, 8), (1, 8), True),
        ((3, 1, 1, 8), (3, 8), True),
        ((1, 8), (1, 8), True),
        ((1, 2, 1, 8), (1, 16), False),
        ((2, 8), (1, 16), False),
    ],
)
def test_views(
    before: tuple[int, ...], after: tuple[int, ...], expected: bool, rng: np.random.Generator
) -> None:
    net = NetBuilder(rng)
    net.reshape(net.input("x", before), "y", after)
    graph = net.graph("y")
    assert is_view(graph, graph.nodes[0]) is expected
