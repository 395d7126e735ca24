"""Reshapes before dense layers and pads: what joins a convolution and what stays."""

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


# -- pads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "remains"), [(3, False), (0, True)])
def test_pads_of_zeros_join_all_convolutions(
    value: int, remains: bool, rng: np.random.Generator
) -> None:
    net = NetBuilder(rng)
    padded = net.pad(net.input("x", (1, 5, 6, 2)), "p", (0, 1, 1, 0), value)
    before = net.graph(net.conv(padded, "c", 3), net.conv(padded, "d", 4))
    after = canonicalise(before)
    assert any(node.op == "pad" for node in after.nodes) == remains
    if not remains:
        pads = [n.attrs["pads"] for n in after.nodes if n.op == "conv2d"]
        assert pads == [(1, 2, 2, 1)] * 2
    equal(before, after, rng)


def test_pads_that_something_else_reads_stay(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    padded = net.pad(net.input("x", (1, 5, 6, 2)), "p", (0, 1, 1, 0), 3)
    net.conv(padded, "c", 3)
    net.clip(padded, "l")
    for outputs in (("c", "l"), ("c", "p")):
        after = canonicalise(net.graph(*outputs))
        assert [n.op for n in after.nodes if n.op == "pad"] == ["pad"]


@pytest.mark.parametrize(
    ("value", "pads", "remains"),
    [(-128, (1, 0, 1, 1), False), (3, (1, 0, 1, 1), True), (-128, (2, 0, 0, 0), True)],
)
def test_pads_of_the_least_value_join_a_maximum(
    value: int, pads: tuple[int, ...], remains: bool, rng: np.random.Generator
) -> None:
    net = NetBuilder(rng)
    padded = net.pad(net.input("x", (1, 5, 6, 2)), "p", pads, value)
    before = net.graph(net.pool(padded, "y"))
    after = canonicalise(before)
    assert [n.op for n in after.nodes] == (["pad"] if remains else []) + ["max_pool2d"]
    equal(before, after, rng)
