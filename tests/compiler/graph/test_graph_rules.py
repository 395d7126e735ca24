"""Constant folding, evaluation, shape rules and lowering: contracts and messages."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from compiler.errors import GraphError
from compiler.graph.fold import fold_constants
from compiler.graph.ir import Graph, Node, Quant, Tensor, TensorType
from compiler.graph.lower_qnn import lower_qnn
from compiler.graph.lowering import activation_range
from compiler.graph.ops import OPS, check_graph, infer_type
from compiler.graph.reference import evaluate
from tests.compiler.graph.nets import BOUNDS, QUANT, NetBuilder

IMAGE = TensorType((1, 8, 8, 4), "int8", QUANT, "NHWC")
POOL = {"kernel": (2, 2), "strides": (2, 2), "pads": (0, 0, 0, 0)}
CONV = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}


# -- folding ------------------------------------------------------------------------------------


def test_nodes_over_constants_become_constants(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    x = net.input("x", (2, 6))
    c = net.const("c", rng.integers(-128, 128, (3, 4)).astype(np.int8), QUANT)
    r = net.clip(net.reshape(c, "r", (2, 6)), "l")
    net.add(x, r, "y")
    before = net.graph("y")
    after = fold_constants(before)
    assert [n.op for n in after.nodes] == ["add"]
    value = rng.integers(-128, 128, (2, 6)).astype(np.int8)
    np.testing.assert_array_equal(
        evaluate(after, {"x": value})["y"], evaluate(before, {"x": value})["y"]
    )


def test_constant_outputs_keep_their_node(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    net.input("x", (2, 6))
    net.clip(net.const("c", np.zeros((2, 6), np.int8), QUANT), "y")
    assert [n.op for n in fold_constants(net.graph("y")).nodes] == ["clip"]


# -- evaluation ---------------------------------------------------------------------------------


def test_inputs_are_checked(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    net.clip(net.input("x", (2, 6)), "y")
    graph = net.graph("y")
    with pytest.raises(GraphError, match=r"^graph input 'x' has no value; give int8\[2x6\]"):
        evaluate(graph, {})
    with pytest.raises(GraphError, match=r"must be int8 of shape \(2, 6\), not int8 of shape \(6,"):
        evaluate(graph, {"x": np.zeros((6, 2), np.int8)})
    with pytest.raises(GraphError, match=r"not float64 of shape"):
        evaluate(graph, {"x": np.zeros((2, 6))})


def test_evaluation_returns_every_tensor(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    net.clip(net.conv(net.input("x", (1, 5, 5, 2)), "c", 3), "y")
    values = evaluate(net.graph("y"), {"x": np.zeros((1, 5, 5, 2), np.int8)})
    assert set(values) == {"x", "c:acc", "c", "y"}
    assert values["c:acc"].dtype == np.int32


def test_convolution_by_the_definition(rng: np.random.Generator) -> None:
    x = rng.integers(-128, 128, (2, 4, 7, 6)).astype(np.int8)
    w = rng.integers(-127, 128, (6, 2, 3, 2)).astype(np.int8)
    b = rng.integers(-(2**20), 2**20, 6).astype(np.int32)
    x_type = TensorType(x.shape, "int8", QUANT, "NCHW")
    types = [x_type, TensorType(w.shape, "int8"), TensorType(b.shape, "int32")]
    attrs = {"strides": (2, 1), "pads": (1, 0, 2, 1), "dilation": (1, 2), "groups": 2}
    shape, _ = OPS["conv2d"].infer(types, attrs)
    reference = OPS["conv2d"].reference
    assert reference is not None
    got = reference([x, w, b], types, TensorType(shape, "int32", None, "NCHW"), attrs)
    assert got.shape == shape
    for index in np.ndindex(*shape):
        n, o, i, j = (int(v) for v in index)
        total = int(b[o])
        for c, p, q in np.ndindex(2, 3, 2):
            row, column = 2 * i + p - 1, j + 2 * q
            if 0 <= row < 7 and 0 <= column < 6:
                total += int(w[o, c, p, q]) * (int(x[n, 2 * (o // 3) + c, row, column]) - 3)
        assert got[index] == total


def test_average_of_negative_ties_rounds_away_from_zero() -> None:
    reference = OPS["avg_pool2d"].reference
    assert reference is not None
    x = np.array([-1, 0, 0, -1, 1, 2, 0, 3], np.int8).reshape(1, 2, 4, 1)
    type_ = TensorType(x.shape, "int8", QUANT, "NHWC")
    attrs = {**POOL, **BOUNDS, "mode": "litert", "count_include_pad": False}
    assert reference([x], [type_], type_, attrs).ravel().tolist() == [1, 1]
    attrs = {**attrs, "kernel": (1, 2), "strides": (1, 2)}
    assert reference([x], [type_], type_, attrs).ravel().tolist() == [-1, -1, 2, 2]


def test_average_with_padding_counts_what_it_is_told() -> None:
    reference = OPS["avg_pool2d"].reference
    assert reference is not None
    x = np.full((1, 1, 2, 2), 8, np.int8)
    type_ = TensorType(x.shape, "int8", QUANT, "NCHW")
    attrs = {"kernel": (2, 2), "strides": (1, 1), "pads": (1, 1, 0, 0), **BOUNDS, "mode": "litert"}
    without = reference([x], [type_], type_, {**attrs, "count_include_pad": False})
    within = reference([x], [type_], type_, {**attrs, "count_include_pad": True})
    assert without.ravel().tolist() == [8, 8, 8, 8]
    assert within.ravel().tolist() == [2, 4, 4, 8]


# -- shape rules --------------------------------------------------------------------------------


def weights(*shape: int) -> TensorType:
    return TensorType(shape, "int8")


@pytest.mark.parametrize(
    ("op", "types", "attrs", "message"),
    [
        ("conv2d", [IMAGE, weights(8, 3, 3, 3), TensorType((8,), "int32")], CONV,
         r"conv2d weights \(8, 3, 3, 3\) in 1 groups do not match 4 input channels"),
        ("conv2d", [IMAGE, weights(8, 4, 3, 3), TensorType((7,), "int32")], CONV,
         r"conv2d bias must have 8 values, not the shape \(7,\)"),
        ("conv2d", [IMAGE, weights(8, 4, 9, 3), TensorType((8,), "int32")], CONV,
         r"a window of 9 does not fit an axis of 8 \+ 0 \+ 0"),
        ("conv2d", [IMAGE, weights(8, 4, 3, 3), TensorType((8,), "int32")],
         {**CONV, "strides": (0, 1)}, "window must have positive kernel, stride and dilation"),
        ("conv2d", [replace(IMAGE, layout=""), weights(8, 4, 3, 3), TensorType((8,), "int32")],
         CONV, "image layout must be 'NHWC' or 'NCHW', not ''"),
        ("dense", [weights(2, 5), weights(3, 4), TensorType((3,), "int32")], {},
         r"dense weights \(3, 4\) do not match an input of shape \(2, 5\)"),
        ("dense", [IMAGE, weights(3, 4), TensorType((3,), "int32")], {},
         r"dense input must have 2 axes, not the shape \(1, 8, 8, 4\)"),
        ("max_pool2d", [IMAGE], {**POOL, "pads": (2, 0, 0, 0)},
         r"pooling pads \(2, 0, 0, 0\) must be smaller than the window"),
        ("add", [IMAGE, weights(4)], {}, r"add operands must have one shape, not \(1, 8, 8, 4\)"),
        ("reshape", [IMAGE], {"shape": (3, 3)}, r"shape \(1, 8, 8, 4\) cannot be reshaped to"),
        ("pad", [IMAGE], {"pads": (1, 0, -1, 0)}, r"pads must not be negative, as \(1, 0, -1, 0\)"),
        ("concat", [IMAGE, IMAGE], {"axis": 4}, "concat axis 4 must be one of the shape"),
        ("concat", [IMAGE, replace(IMAGE, shape=(1, 8, 7, 4))], {"axis": 3},
         r"concat operands must be equal but for axis 3, not \(1, 8, 8, 4\) and \(1, 8, 7, 4\)"),
        ("softmax_float", [IMAGE], {}, "softmax input must be float32, not int8"),
        ("quantize", [IMAGE], {}, "quantize input must be float32, not int8"),
        ("clip", [TensorType((3,), "int32")], {}, "operand must be int8, not int32"),
        ("requantize", [TensorType((1, 4), "int32")],
         dict.fromkeys(("multiplier", "left", "right"), np.ones(3)),
         "requantize multiplier must have 1 or 4 values, not 3"),
    ],
)  # fmt: skip
def test_refused_operands(
    op: str, types: list[TensorType], attrs: dict[str, Any], message: str
) -> None:
    with pytest.raises(GraphError, match=f"^{message}"):
        OPS[op].infer(types, attrs)


def test_declared_types_are_checked(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    net.clip(net.input("x", (2, 6)), "y")
    graph = net.graph("y")
    check_graph(graph)
    wrong = Tensor("y", TensorType((2, 7), "int8", QUANT))
    broken = Graph("n", ("x",), ("y",), {**graph.tensors, "y": wrong}, graph.nodes)
    with pytest.raises(GraphError, match=r"^node 'y' \(clip\) gives int8\[2x6\].*is declared int8"):
        check_graph(broken)
    with pytest.raises(GraphError, match="^node 'n' applies the unknown operator 'magic'; known"):
        infer_type(graph, Node("n", "magic", ("x",), ("y",)))


# -- lowering -----------------------------------------------------------------------------------


def test_numerics_are_named(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    net.clip(net.input("x", (2, 6)), "y")
    with pytest.raises(
        GraphError, match="^numerics must be one of litert-ref, xnnpack, ort, ties-up, not 'exact'$"
    ):
        lower_qnn(net.graph("y"), "exact")


def test_quantised_operators_have_no_value_before_lowering() -> None:
    x = Tensor("x", TensorType((1, 4), "int8", QUANT, "NC"))
    y = Tensor("y", TensorType((1, 4), "int8", QUANT, "NC"))
    node = Node("n", "qnn.clip", ("x",), ("y",), {"activation": "relu"})
    graph = Graph("g", ("x",), ("y",), {"x": x, "y": y}, (node,))
    value = np.array([[-5, 0, 3, 9]], np.int8)
    with pytest.raises(GraphError, match=r"^node 'n' \(qnn.clip\) has no arithmetic of its own"):
        evaluate(graph, {"x": value})
    assert evaluate(lower_qnn(graph), {"x": value})["y"].tolist() == [[3, 3, 3, 9]]


@pytest.mark.parametrize(
    ("activation", "zero_point", "expected"),
    [
        ("none", 3, (-128, 127)),
        ("relu", 3, (3, 127)),
        ("relu", -128, (-128, 127)),
        ("relu6", -100, (-100, -40)),
        ("relu6", 120, (120, 127)),
        ("relu_n1_to_1", 0, (-10, 10)),
    ],
)
def test_activation_ranges(activation: str, zero_point: int, expected: tuple[int, int]) -> None:
    type_ = TensorType((1, 4), "int8", Quant.per_tensor(0.1, zero_point))
    assert activation_range(activation, type_) == expected


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((-math.inf, math.inf), (-128, 127)),
        ((0.0, math.inf), (3, 127)),
        ((-0.25, 0.25), (1, 5)),
        ((100.0, math.inf), (127, 127)),
        ((-math.inf, -100.0), (-128, -128)),
    ],
)
def test_real_bounds(limits: tuple[float, float], expected: tuple[int, int]) -> None:
    x, y = (Tensor(name, TensorType((1, 4), "int8", QUANT, "NC")) for name in "xy")
    node = Node("n", "qnn.rescale", ("x",), ("y",), {"range": limits})
    graph = Graph("g", ("x",), ("y",), {"x": x, "y": y}, (node,))
    (clip,) = lower_qnn(graph, "ort").nodes
    assert (clip.op, clip.attrs["min"], clip.attrs["max"]) == ("clip", *expected)


@pytest.mark.parametrize("numerics", ["litert-ref", "xnnpack", "ort", "ties-up"])
@pytest.mark.parametrize("scale", [1e-38, 3e38])
def test_scales_too_far_apart_are_refused(scale: float, numerics: str) -> None:
    x = Tensor("x", TensorType((1, 4), "int8", QUANT, "NC"))
    y = Tensor("y", TensorType((1, 4), "int8", Quant.per_tensor(scale, 3), "NC"))
    node = Node("n", "qnn.rescale", ("x",), ("y",))
    graph = Graph("g", ("x",), ("y",), {"x": x, "y": y}, (node,))
    with pytest.raises(GraphError, match="^node 'n': the scales 0.1 and .* are too far apart; "):
        lower_qnn(graph, numerics)


def test_xnnpack_refuses_layers_of_large_scales(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    x = net.input("x", (1, 2))
    w = net.const("w", np.ones((3, 2), np.int8), Quant.per_tensor(300.0, 0))
    net.node("qnn.dense", [x, w, net.const("b", np.zeros(3, np.int32))], "y")
    with pytest.raises(GraphError, match="^node 'y': XNNPACK does not take the scale 300.0, it"):
        lower_qnn(net.graph("y"), "xnnpack")


@pytest.mark.parametrize("op", ["add", "avg_pool2d", "softmax", "requantize"])
def test_unknown_modes_are_refused(op: str) -> None:
    reference = OPS[op].reference
    assert reference is not None
    one = np.ones(1, np.int32)
    attrs = {**POOL, **BOUNDS, "mode": "best", "count_include_pad": False}
    attrs |= {"multiplier": one, "left": one, "right": one}
    value = np.zeros((1, 8, 8, 4), np.int8)
    with pytest.raises(GraphError, match=f"^{op} mode must be .*, not 'best'$"):
        reference([value, value], [IMAGE, IMAGE], IMAGE, attrs)


def test_unknown_activation_is_refused() -> None:
    with pytest.raises(GraphError, match="^activation must be none, relu, relu6 or .* not 'gelu'"):
        activation_range("gelu", TensorType((1, 4), "int8", QUANT))


def average(out: Quant, pads: tuple[int, ...], counts: bool) -> Graph:
    y = Tensor("y", TensorType((1, 4 + pads[0], 4, 4), "int8", out, "NHWC"))
    attrs = {**POOL, "pads": pads, "count_include_pad": counts}
    node = Node("n", "qnn.avg_pool2d", ("x",), ("y",), attrs)
    return Graph("g", ("x",), ("y",), {"x": Tensor("x", IMAGE), "y": y}, (node,))


def test_averages_that_litert_does_not_have_are_requantised() -> None:
    def lowered(graph: Graph, runtime: str = "litert-ref") -> list[tuple[str, Any]]:
        return [(n.op, n.attrs.get("mode")) for n in lower_qnn(graph, runtime).nodes]

    plain = average(QUANT, (0, 0, 0, 0), True)
    assert lowered(plain) == [("avg_pool2d", "litert")]
    assert lowered(plain, "ort") == [("avg_pool2d", "requant")]
    moved = average(Quant.per_tensor(0.2, 3), (0, 0, 0, 0), False)
    assert lowered(moved) == [("avg_pool2d", "requant")]
    # Padding that counts as zero is not the integer 0 here.
    padded = average(QUANT, (1, 0, 1, 0), True)
    assert lowered(padded) == [("pad", None), ("avg_pool2d", "litert")]
    node = lower_qnn(padded).nodes[1]
    assert (node.attrs["pads"], node.attrs["count_include_pad"]) == ((0, 0, 0, 0), False)
    assert lower_qnn(padded).nodes[0].attrs["value"] == 3


def test_a_requantised_average_by_hand() -> None:
    lowered = lower_qnn(average(Quant.per_tensor(0.2, -7), (0, 0, 0, 0), False), "ort")
    value = np.arange(256).reshape(1, 8, 8, 4).astype(np.uint8).view(np.int8)
    got = evaluate(lowered, {"x": value})["y"]
    means = value.astype(np.float64).reshape(1, 4, 2, 4, 2, 4).mean(axis=(2, 4))
    # (mean - 3) * 0.1 / 0.2 - 7
    np.testing.assert_array_equal(got, np.clip(np.rint((means - 3) / 2) - 7, -128, 127))
