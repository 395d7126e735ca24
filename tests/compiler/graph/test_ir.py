"""The graph data structure: its invariants, its parts, its text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiler.errors import GraphError
from compiler.graph.ir import Graph, Node, Quant, Tensor, TensorType
from tests.compiler.graph.nets import NetBuilder


def small(rng: np.random.Generator) -> Graph:
    net = NetBuilder(rng)
    x = net.input("x", (1, 4, 4, 2))
    net.add(net.clip(x, "l"), net.conv(x, "c", 2), "y")
    return net.graph("y")


def test_text_shows_every_node(rng: np.random.Generator) -> None:
    lines = str(small(rng)).splitlines()
    assert lines[0] == "graph net(x) -> (y)"
    assert lines[1] == "  %l: int8[1x4x4x2] q(0.100000001, 3) = clip(%x) {min=0, max=100}"
    assert lines[2].startswith("  %c:acc: int32[1x4x4x2] = conv2d(%x, const int8[2x2x3x3], const ")
    assert len(lines) == 5


def test_order_is_checked(rng: np.random.Generator) -> None:
    graph = small(rng)
    with pytest.raises(GraphError, match="^node 'y' reads tensor 'c' before anything writes it$"):
        replace(graph, nodes=(graph.nodes[0], graph.nodes[3], *graph.nodes[1:3]))
    with pytest.raises(GraphError, match="^graph output 'z' is written by no node$"):
        replace(graph, outputs=("z",))
    stray = Node("n", "clip", ("x",), ("nowhere",))
    with pytest.raises(GraphError, match="^node 'n' writes undeclared tensor 'nowhere'$"):
        replace(graph, nodes=(*graph.nodes, stray))


def test_producers_and_consumers(rng: np.random.Generator) -> None:
    graph = small(rng)
    producer = graph.producer("c")
    assert producer is not None and producer.op == "requantize"
    assert graph.producer("x") is None
    assert [n.name for n in graph.consumers("x")] == ["l", "c:acc"]


def test_parts_read_and_write_what_crosses_their_border(rng: np.random.Generator) -> None:
    graph = small(rng)
    part = graph.subgraph(graph.nodes[1:3], "part")
    assert (part.name, part.inputs, part.outputs) == ("part", ("x",), ("c",))
    assert set(part.tensors) == {"x", "c_w", "c_b", "c:acc", "c"}


def test_unused_tensors_are_dropped(rng: np.random.Generator) -> None:
    graph = small(rng)
    extra = Tensor("extra", TensorType((3,), "int8"))
    assert "extra" not in graph.with_nodes(graph.nodes, [extra]).tensors


def test_attributes_cannot_be_changed() -> None:
    node = Node("n", "clip", ("x",), ("y",), {"min": 0})
    with pytest.raises(TypeError):
        node.attrs["min"] = 1  # type: ignore[index]


def test_quantisation_text() -> None:
    assert str(Quant.per_tensor(0.5, -3)) == "q(0.5, -3)"
    many = Quant(np.ones(4, np.float32), np.zeros(4, np.int64), 0)
    assert str(many) == "q(4 scales, axis 0)"
    assert not many.is_per_tensor
    assert TensorType((2, 3), "int32").size_bytes == 24
