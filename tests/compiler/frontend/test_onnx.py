"""Quantised ONNX models, written by the test, against ONNX Runtime."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compiler.errors import FrontendError, GraphError
from compiler.frontend.onnx import IMPORTERS
from compiler.frontend.onnx_file import read_tensor
from compiler.graph.canonicalise import canonicalise
from compiler.graph.lower_qnn import lower_qnn
from tests.compiler.frontend.onnx_builder import OnnxBuilder
from tests.compiler.frontend.onnx_checks import (
    check,
    check_within_one,
    has_vnni,
    load,
    needs_vnni,
    refuse,
)

# -- QDQ -----------------------------------------------------------------------------------------


def qdq_network(rng: np.random.Generator, act: str) -> onnx.ModelProto:
    """conv + relu, max pool, strided conv, flatten, gemm."""
    b = OnnxBuilder(rng, act)
    least = 0 if act == "uint8" else -128
    x_scale, y_scale, z_scale = (float(s) for s in rng.uniform(0.02, 0.2, 3))
    _, scale = b.weights("w1", (8, 3, 3, 3), 0)
    x = b.quantise("x", b.params("x", x_scale))
    bias = b.bias("b1", np.float32(x_scale) * scale)
    b.node("Conv", [x, b.dequantised("w1"), b.dequantised(bias)], "c1", pads=[1, 0, 1, 2])
    b.node("Relu", ["c1"], "r1")
    r1 = b.params("r1", y_scale, least)
    b.node(
        "MaxPool",
        [b.quantise("r1", r1)],
        "p1",
        kernel_shape=[3, 2],
        strides=[2, 2],
        pads=[1, 1, 0, 0],
    )
    _, scale = b.weights("w2", (6, 8, 3, 2), 0)
    bias = b.bias("b2", np.float32(y_scale) * scale)
    p1 = b.quantise("p1", r1)
    b.node(
        "Conv",
        [p1, b.dequantised("w2"), b.dequantised(bias)],
        "c2",
        strides=[2, 1],
        auto_pad="SAME_UPPER",
    )
    c2 = b.params("c2", z_scale)
    b.node("Flatten", [b.quantise("c2", c2)], "f")
    _, scale = b.weights("w3", (11, 90), 0)
    bias = b.bias("b3", np.float32(z_scale) * scale)
    f = b.quantise("f", c2)
    b.node("Gemm", [f, b.dequantised("w3"), b.dequantised(bias)], "g", transB=1)
    output = b.quantise("g", b.params("g", 3.0))
    return b.model({"x": (1, 3, 11, 10)}, [output], "float32")


@needs_vnni
@pytest.mark.parametrize("act", ["uint8", "int8"])
def test_qdq_network(act: str, rng: np.random.Generator) -> None:
    for _ in range(4):
        check(qdq_network(rng, act), rng)


@needs_vnni
def test_flattening_becomes_part_of_a_convolution(rng: np.random.Generator) -> None:
    lowered = lower_qnn(load(qdq_network(rng, "uint8")))
    assert [n.op for n in lowered.nodes if n.op in ("reshape", "dense")] == ["reshape", "dense"]
    canonical = canonicalise(lowered)
    dense = canonical.producer("g_q:acc")
    assert dense is not None and dense.op == "conv2d"
    assert canonical.tensors[dense.inputs[1]].type.shape == (11, 6, 3, 5)


@needs_vnni
def test_matmul_without_bias(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    b.weights("w", (30, 7), 1)
    x = b.quantise("x", b.params("x", 0.05))
    b.node("MatMul", [x, b.dequantised("w", axis=1)], "y")
    output = b.quantise("y", b.params("y", 0.2))
    lowered = check(b.model({"x": (4, 30)}, [output], "float32"), rng)
    assert lowered.tensors["w"].type.shape == (7, 30)


@needs_vnni
def test_grouped_dilated_convolution(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    _, scale = b.weights("w", (6, 2, 3, 3), 0)
    x = b.quantise("x", b.params("x", 0.05))
    bias = b.bias("b", np.float32(0.05) * scale)
    b.node("Conv", [x, b.dequantised("w"), b.dequantised(bias)], "y", group=2, dilations=[2, 1])
    output = b.quantise("y", b.params("y", 0.2))
    check(b.model({"x": (2, 4, 9, 8)}, [output], "float32"), rng)


def test_clip_that_the_quantised_range_implies(rng: np.random.Generator) -> None:
    def model(scale: float) -> onnx.ModelProto:
        b = OnnxBuilder(rng)
        _, w = b.weights("w", (4, 2, 1, 1), 0)
        x = b.quantise("x", b.params("x", 0.05))
        bias = b.bias("b", np.float32(0.05) * w)
        b.node("Conv", [x, b.dequantised("w"), b.dequantised(bias)], "c")
        limits = [b.const("low", np.float32(0)), b.const("high", np.float32(6))]
        b.node("Clip", ["c", *limits], "y")
        output = b.quantise("y", b.params("y", scale, 0))
        return b.model({"x": (1, 2, 5, 5)}, [output], "float32")

    if has_vnni():
        check(model(6 / 255), rng)
    assert load(model(6 / 255)).nodes[-2].attrs.get("range") is None
    assert load(model(7 / 255)).nodes[-2].attrs["range"] == (-math.inf, 6.0)


def test_weights_in_float_are_quantised_by_the_importer(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    values = rng.normal(0, 1, (3, 5)).astype(np.float32)
    scales = np.array([0.01, 0.02, 0.03], np.float32)
    b.const("wf", values)
    b.const("ws", scales)
    b.const("wz", np.zeros(3, np.int8))
    b.node("QuantizeLinear", ["wf", "ws", "wz"], "wq", axis=0)
    b.node("DequantizeLinear", ["wq", "ws", "wz"], "w", axis=0)
    x = b.quantise("x", b.params("x", 0.05))
    b.node("Gemm", [x, "w"], "y", transB=1)
    output = b.quantise("y", b.params("y", 0.1))
    graph = load(b.model({"x": (1, 5)}, [output], "float32"))
    expected = np.clip(np.rint(values / scales[:, None]), -128, 127)
    np.testing.assert_array_equal(graph.tensors["wq"].data, expected.astype(np.int8))


# -- QLinear -------------------------------------------------------------------------------------


def qlinear_network(rng: np.random.Generator, act: str, *, gemm: bool) -> onnx.ModelProto:
    """QLinearConv, MaxPool, Flatten and a dense layer, on integers all the way."""
    b = OnnxBuilder(rng, act)
    x, y, z = b.params("x", 0.05), b.params("y", 0.3), b.params("z", 2.0)
    w1 = ["w1", "w1_scale", "w1_zero"]
    w2 = ["w2", "w2_scale", "w2_zero"]
    _, scale = b.weights("w1", (5, 3, 3, 3), 0)
    bias = b.bias("b1", np.float32(0.05) * scale)
    b.node("QLinearConv", ["x", *x, *w1, *y, bias], "c", strides=[1, 2], pads=[1, 1, 1, 1])
    b.node("MaxPool", ["c"], "p", kernel_shape=[2, 2], strides=[2, 2])
    b.node("Flatten", ["p"], "f")
    _, scale = b.weights("w2", (60, 9), 1)
    if gemm:
        bias = b.bias("b2", np.float32(0.3) * scale)
        b.node("com.microsoft.QGemm", ["f", *y, *w2, bias, *z], "out")
    else:
        b.node("QLinearMatMul", ["f", *y, *w2, *z], "out")
    return b.model({"x": (1, 3, 8, 11)}, ["out"], act)


@needs_vnni
@pytest.mark.parametrize("act", ["uint8", "int8"])
@pytest.mark.parametrize("gemm", [False, True])
def test_qlinear_network(act: str, gemm: bool, rng: np.random.Generator) -> None:
    for _ in range(4):
        check(qlinear_network(rng, act, gemm=gemm), rng)


def test_addition_is_within_one_unit(rng: np.random.Generator) -> None:
    for _ in range(5):
        b = OnnxBuilder(rng)
        p = [b.params(n, s) for n, s in zip("aby", rng.uniform(0.05, 0.4, 3), strict=True)]
        b.node("com.microsoft.QLinearAdd", ["a", *p[0], "b", *p[1], *p[2]], "y")
        check_within_one(b.model({"a": (1, 800), "b": (1, 800)}, ["y"], "uint8"), rng, 1e-3)


def test_quantised_softmax_has_no_exact_form(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    p = b.params("x", 0.1, 5)
    x = b.quantise("x", p)
    for name in ("s", "t"):
        b.node("Softmax", [x], name, axis=-1)
    output = [b.quantise(name, b.params(name, 1 / 256, 0)) for name in ("s", "t")]
    graph = load(b.model({"x": (1, 8)}, output, "float32"))
    with pytest.raises(GraphError, match="^node 's_q': .* softmax .* also, node 't_q': .* softmax"):
        lower_qnn(graph)


# -- what is refused -----------------------------------------------------------------------------


def test_all_missing_operators_are_listed_at_once(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    x = b.quantise("x", b.params("x", 0.1))
    b.node("Tanh", [x], "t")
    b.node("Relu", ["t"], "r")
    b.node("com.microsoft.Mystery", ["r"], "m")
    refuse(
        b.model({"x": (1, 4)}, ["m"], "float32"),
        r"2 operators cannot be imported - Tanh #2 -> 't': no importer for it; "
        r"com.microsoft.Mystery #4 -> 'm': no importer",
    )


@pytest.mark.parametrize("shape", [("N", 4), (1, "?")])
def test_dynamic_shapes_are_refused(shape: tuple[int | str, ...], rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    output = b.quantise("x", b.params("x", 0.1))
    refuse(b.model({"x": shape}, [output], "float32"), "input 'x' has the dynamic shape")


def test_float_operators_are_refused(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    b.const("w", np.ones((2, 4), np.float32))
    b.node("Gemm", ["x", "w"], "y", transB=1)
    refuse(b.model({"x": (1, 4)}, ["y"], "float32"), "operand 'x' is not quantised")


def test_asymmetric_weights_are_refused(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    b.const("w", np.ones((2, 4), np.uint8))
    b.const("w_scale", np.float32(0.1))
    b.const("w_zero", np.uint8(7))
    x = b.quantise("x", b.params("x", 0.1))
    b.node("Gemm", [x, b.dequantised("w")], "y", transB=1)
    output = b.quantise("y", b.params("y", 0.1))
    refuse(b.model({"x": (1, 4)}, [output], "float32"), "weights must have zero point 0, not 121")


def test_result_that_is_not_quantised_is_refused(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    b.weights("w", (3, 4), 0)
    x = b.quantise("x", b.params("x", 0.1))
    b.node("Gemm", [x, b.dequantised("w")], "y", transB=1)
    refuse(b.model({"x": (1, 4)}, ["y"], "float32"), "its result 'y' is returned without being")


def test_result_with_two_float_readers_is_refused(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    b.weights("w", (3, 4), 0)
    x = b.quantise("x", b.params("x", 0.1))
    b.node("Gemm", [x, b.dequantised("w")], "y", transB=1)
    b.node("Relu", ["y"], "r")
    outputs = [b.quantise("y", b.params("y", 0.1)), b.quantise("r", b.params("r", 0.1))]
    refuse(b.model({"x": (1, 4)}, outputs, "float32"), "reads 'y', a float32 of 2 readers")


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"alpha": 2.0}, "alpha and beta must be 1"),
        ({"transA": 1}, "transA must be 0"),
        ({"transB": 1.0}, "attribute transB must be an integer"),
    ],
)
def test_gemm_attributes(attrs: dict[str, Any], message: str, rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    b.weights("w", (4, 4), 0)
    x = b.quantise("x", b.params("x", 0.1))
    b.node("Gemm", [x, b.dequantised("w")], "y", **{"transB": 1, **attrs})
    output = b.quantise("y", b.params("y", 0.1))
    refuse(b.model({"x": (1, 4)}, [output], "float32"), message)


def test_sixteen_bit_quantisation_is_refused(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    b.const("s", np.float32(0.1))
    b.const("z", np.uint16(0))
    output = b.quantise("x", ["s", "z"])
    refuse(
        b.model({"x": (1, 4)}, [output], "float32"), "constant 'z' has the unsupported type UINT16"
    )


def test_constants_in_other_files_are_refused(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    output = b.quantise("x", b.params("x", 0.1))
    model = b.model({"x": (1, 4)}, [output], "float32")
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    refuse(model, "constant 'x_scale' lies in another file")


@pytest.mark.parametrize("act", ["int8", "uint8"])
@pytest.mark.parametrize("op", ["MaxPool", "Pad", "GlobalAveragePool", "Concat", "Relu", "Clip"])
def test_integers_that_nothing_quantises_are_refused(
    op: str, act: str, rng: np.random.Generator
) -> None:
    b = OnnxBuilder(rng, act)
    others = [b.const("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1]))] if op == "Pad" else []
    known: dict[str, dict[str, Any]] = {"MaxPool": {"kernel_shape": [2, 2]}, "Concat": {"axis": 1}}
    attrs = known.get(op, {})
    b.node(op, ["x", *others], "y", **attrs)
    with pytest.raises(FrontendError) as caught:
        load(b.model({"x": (1, 4, 4, 4)}, ["y"], act))
    assert str(caught.value) == (
        f"model 'net.onnx': 1 operator cannot be imported - {op} #0 -> 'y': its operand 'x' is not "
        "quantised; quantise the model in full - change the network or how it is exported"
    )


@pytest.mark.parametrize("stated", ["before", "after"])
@pytest.mark.parametrize("op", ["MaxPool", "Pad"])
def test_integers_quantised_by_another_reader(
    op: str, stated: str, rng: np.random.Generator
) -> None:
    """What is known of an operand holds for the result too, and the other way round."""
    b = OnnxBuilder(rng)
    params = b.params("x", 0.1)
    others = [b.const("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1]))] if op == "Pad" else []
    attrs = {"MaxPool": {"kernel_shape": [2, 2]}}.get(op, {})
    b.node(op, ["x", *others], "moved", **attrs)
    read = b.node("DequantizeLinear", ["x" if stated == "before" else "moved", *params], "real")
    b.node("QuantizeLinear", [b.node("Relu", [read], "bounded"), *params], "y")
    graph = check(b.model({"x": (1, 4, 4, 4)}, ["moved", "y"], "uint8"), rng)
    assert str(graph.type_of("x").quant) == str(graph.type_of("moved").quant) != "None"


def test_node_that_reads_nothing_known_is_refused(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    b.node("Relu", ["ghost"], "y")
    refuse(
        b.model({"x": (1, 4)}, ["y"], "float32"), "reads 'ghost', which nothing before it writes"
    )


def test_typed_fields_and_raw_bytes_give_the_same_constant(rng: np.random.Generator) -> None:
    values = rng.integers(-128, 128, 12)
    for kind, dtype in ((TensorProto.INT8, np.int8), (TensorProto.INT32, np.int32)):
        typed = helper.make_tensor("t", kind, [3, 4], values)
        raw = helper.make_tensor("t", kind, [3, 4], values.astype(dtype).tobytes(), raw=True)
        np.testing.assert_array_equal(read_tensor(typed), values.reshape(3, 4))
        np.testing.assert_array_equal(read_tensor(raw), values.reshape(3, 4))
        assert read_tensor(typed).dtype == dtype


def test_the_networks_operators_have_importers() -> None:
    assert {"Conv", "Relu", "MaxPool", "Gemm", "Flatten", "QLinearConv"} <= IMPORTERS.keys()
