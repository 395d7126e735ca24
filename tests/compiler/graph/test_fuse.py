"""Which operators become one kernel."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.errors import GraphError
from compiler.graph.fuse import PATTERN, Kernel, Pattern, fuse
from compiler.graph.ir import Graph, Node
from compiler.graph.kernels import Array
from compiler.graph.ops import OPS
from compiler.graph.reference import evaluate
from tests.compiler.graph.nets import NetBuilder

IMAGE = (1, 8, 8, 4)


def groups(graph: Graph) -> list[list[str]]:
    return [[node.op for node in kernel.nodes] for kernel in fuse(graph)]


def test_every_core_operator_has_a_class() -> None:
    assert set(PATTERN) == {name for name in OPS if not name.startswith("qnn.")}
    assert {p.value for p in Pattern} == {
        "injective", "reduction", "complex-out-fusable", "opaque",
    }  # fmt: skip


def test_convolution_takes_its_requantisation_and_clip(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    net.clip(net.conv(net.input("x", IMAGE), "c", 4), "y")
    (kernel,) = fuse(net.graph("y"))
    assert [n.op for n in kernel.nodes] == ["conv2d", "requantize", "clip"]
    assert (kernel.name, kernel.inputs, kernel.outputs) == ("y", ("x",), ("y",))
    assert kernel.anchor.op == "conv2d"
    assert kernel.pattern is Pattern.COMPLEX


def test_residual_addition_is_a_kernel_of_its_own(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    x = net.input("x", IMAGE)
    net.clip(net.add(net.conv(x, "a", 4), net.conv(x, "b", 4), "s"), "y")
    assert groups(net.graph("y")) == [
        ["conv2d", "requantize"], ["conv2d", "requantize"], ["add", "clip"],
    ]  # fmt: skip
    assert fuse(net.graph("y"))[2].inputs == ("a", "b")


def test_residual_addition_joins_the_longer_sums_where_it_is_accepted(
    rng: np.random.Generator,
) -> None:
    net = NetBuilder(rng)
    x = net.input("x", IMAGE)
    total = net.add(net.conv(x, "short", 4, kernel=1), net.conv(x, "long", 4), "s")
    graph = net.graph(net.clip(total, "y"))
    short, long = fuse(graph, lambda kernel: True)
    assert [n.op for n in short.nodes] == ["conv2d", "requantize"]
    assert [n.op for n in long.nodes] == ["conv2d", "requantize", "add", "clip"]
    assert (long.inputs, long.outputs, long.anchor.name) == (("x", "short"), ("y",), "long:acc")


def test_an_addition_is_offered_with_its_convolution(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    x = net.input("x", IMAGE)
    graph = net.graph(net.add(net.conv(x, "a", 4), net.conv(x, "b", 4), "s"))
    offered: list[list[str]] = []

    def refuse(kernel: Kernel) -> bool:
        offered.append([node.name for node in kernel.nodes])
        return False

    assert len(fuse(graph, refuse)) == 3
    assert offered == [["a:acc", "a", "s"], ["b:acc", "b", "s"]]


def test_sums_read_twice_or_returned_keep_their_addition_out(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    x = net.input("x", IMAGE)
    a, b = net.conv(x, "a", 4), net.conv(x, "b", 4)
    net.add(net.add(a, a, "twice"), b, "s")
    ops = [[n.op for n in k.nodes] for k in fuse(net.graph("s", "b"), lambda kernel: True)]
    assert ops == [["conv2d", "requantize"], ["conv2d", "requantize"], ["add", "add"]]


def test_reduction_takes_what_follows(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    net.clip(net.pool(net.input("x", IMAGE), "p"), "y")
    (kernel,) = fuse(net.graph("y"))
    assert [n.op for n in kernel.nodes] == ["max_pool2d", "clip"]
    assert kernel.pattern is Pattern.REDUCTION


def test_injective_chain_fuses(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    net.clip(net.clip(net.add(net.input("a", IMAGE), net.input("b", IMAGE), "s"), "c"), "y")
    assert groups(net.graph("y")) == [["add", "clip", "clip"]]


def test_several_readers_end_a_kernel(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    c = net.conv(net.input("x", IMAGE), "c", 4)
    net.add(net.clip(c, "l"), c, "y")
    assert groups(net.graph("y")) == [["conv2d", "requantize"], ["clip", "add"]]


def test_graph_output_ends_a_kernel(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    net.clip(net.conv(net.input("x", IMAGE), "c", 4), "y")
    assert groups(net.graph("c", "y")) == [["conv2d", "requantize"], ["clip"]]


def test_views_stand_alone(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    r = net.reshape(net.conv(net.input("x", (1, 1, 1, 4)), "c", 6, 1), "r", (1, 6))
    net.clip(r, "y")
    assert groups(net.graph("y")) == [["conv2d", "requantize"], ["reshape"], ["clip"]]


def test_kernels_run_in_an_order_that_respects_their_inputs(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    x = net.input("x", IMAGE)
    a = net.add(x, x, "a")
    b = net.conv(x, "b", 4)
    # Joins the kernel of `a`, which therefore has to wait for `b`.
    net.add(a, b, "y")
    graph = net.graph("y")
    kernels = fuse(graph)
    ready = set(graph.inputs)
    for kernel in kernels:
        assert set(kernel.inputs) <= ready
        ready.update(kernel.outputs)
    assert [n.name for k in kernels for n in k.nodes] == ["b:acc", "b", "a", "y"]


def random_net(rng: np.random.Generator) -> Graph:
    net = NetBuilder(rng)
    live = [net.input("x0", IMAGE), net.input("x1", IMAGE)]
    for index in range(int(rng.integers(4, 14))):
        a, b = (live[int(i)] for i in rng.integers(max(0, len(live) - 4), len(live), 2))
        name = f"t{index}"
        match int(rng.integers(3)):
            case 0:
                live.append(net.conv(a, name, 4))
            case 1:
                live.append(net.add(a, b, name))
            case _:
                live.append(net.clip(a, name))
    outputs = {live[-1], live[int(rng.integers(2, len(live)))]}
    return net.graph(*sorted(outputs))


def run_kernels(
    graph: Graph, kernels: tuple[Kernel, ...], inputs: dict[str, Array]
) -> dict[str, Array]:
    """Run kernel by kernel, passing on nothing but their declared outputs."""
    values = dict(inputs)
    for kernel in kernels:
        part = Graph(kernel.name, kernel.inputs, kernel.outputs, graph.tensors, kernel.nodes)
        found = evaluate(part, {name: values[name] for name in kernel.inputs})
        values.update({name: found[name] for name in kernel.outputs})
    return values


def test_kernels_of_random_graphs_compute_the_graph(rng: np.random.Generator) -> None:
    for _ in range(30):
        graph = random_net(rng)
        kernels = fuse(graph)
        names = [node.name for kernel in kernels for node in kernel.nodes]
        assert sorted(names) == sorted(node.name for node in graph.nodes)
        inputs = {n: rng.integers(-128, 128, IMAGE).astype(np.int8) for n in graph.inputs}
        whole, parts = evaluate(graph, inputs), run_kernels(graph, kernels, inputs)
        for output in graph.outputs:
            np.testing.assert_array_equal(parts[output], whole[output])


def test_quantised_operators_must_be_lowered_first(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    net.clip(net.input("x", IMAGE), "y")
    graph = net.graph("y")
    node = Node("n", "qnn.clip", ("x",), ("y",))
    with pytest.raises(GraphError, match=r"^node 'n' \(qnn.clip\) has no fusion class; lower"):
        fuse(graph.with_nodes([node]))


def test_a_change_of_scale_joins_sums_but_no_layer(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    x = net.input("x", (1, 4, 4, 2))
    layer = net.rescale(net.conv(x, "c", 2), "r")
    pooled = net.rescale(net.pool(net.add(layer, x, "a"), "p"), "s")
    kernels = [[n.op for n in kernel.nodes] for kernel in fuse(net.graph(pooled))]
    assert kernels == [["conv2d", "requantize"], ["rescale", "add"], ["max_pool2d"], ["rescale"]]
