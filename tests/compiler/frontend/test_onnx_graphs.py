"""ONNX operators as exporters of image networks combine them, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from compiler.graph.canonicalise import canonicalise
from compiler.graph.lower_qnn import lower_qnn
from compiler.graph.reference import evaluate
from tests.compiler.frontend.onnx_builder import OnnxBuilder
from tests.compiler.frontend.onnx_checks import (
    check,
    check_within_one,
    load,
    needs_vnni,
    refuse,
)
from tests.compiler.runtimes import OnnxRuntime

IMAGE = (1, 6, 9, 8)


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op for node in load(model).nodes]


def zero_of(act: str) -> int:
    return 0 if act == "uint8" else -128


# -- convolutions and what follows them ----------------------------------------------------------


@needs_vnni
@pytest.mark.parametrize("act", ["uint8", "int8"])
def test_depthwise_block_with_relu6(act: str, rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng, act)
    x = b.quantise("x", b.params("x", 0.05))
    b.const("low", np.float32(0))
    b.const("high", np.float32(6))
    six = 6 / 255
    b.conv(x, 0.05, "c", (12, 1, 3, 3), group=6, strides=[2, 1], pads=[0, 1, 1, 0])
    c = b.quantise(b.node("Clip", ["c", "low", "high"], "r"), b.params("r", six, zero_of(act)))
    b.conv(c, six, "d", (5, 12, 1, 1))
    output = b.quantise("d", b.params("d", 0.2))
    check(b.model({"x": IMAGE}, [output], "float32"), rng)


@needs_vnni
@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_automatic_padding(mode: str, rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    x = b.quantise("x", b.params("x", 0.05))
    b.conv(x, 0.05, "c", (4, 6, 4, 3), auto_pad=mode, strides=[2, 2])
    output = b.quantise("c", b.params("c", 0.3))
    check(b.model({"x": IMAGE}, [output], "float32"), rng)


@pytest.mark.parametrize("bounds", [(0.0, 6.0), (-1.0, 1.0), (0.0, None)])
def test_activation_that_the_range_does_not_imply(
    bounds: tuple[float, float | None], rng: np.random.Generator
) -> None:
    # ONNX Runtime computes such a layer in float.
    b = OnnxBuilder(rng)
    x = b.quantise("x", b.params("x", 0.05))
    b.conv(x, 0.05, "c", (4, 6, 3, 3))
    if bounds[1] is None:
        b.node("Relu", ["c"], "r")
    else:
        limits = [b.const(n, np.float32(v)) for n, v in zip("lh", bounds, strict=True)]
        b.node("Clip", ["c", *limits], "r")
    output = b.quantise("r", b.params("r", 0.3, 100))
    model = b.model({"x": IMAGE}, [output], "float32")
    check_within_one(model, rng, 1e-2)
    clamps = [n.attrs for n in lower_qnn(load(model)).nodes if n.op == "requantize"]
    assert clamps[0]["clamp_min"] == max(-128, -28 + round(bounds[0] / 0.3))


@needs_vnni
@pytest.mark.parametrize("act", ["uint8", "int8"])
def test_activation_and_scale_of_its_own(act: str, rng: np.random.Generator) -> None:
    for scale in rng.uniform(0.02, 0.4, 12):
        b = OnnxBuilder(rng, act)
        x = b.quantise("x", b.params("x", 0.11))
        r = b.quantise(b.node("Relu", [x], "r"), b.params("r", float(scale)))
        limits = [b.const("l", np.float32(-1)), b.const("h", np.float32(3))]
        c = b.quantise(b.node("Clip", [r, *limits], "c"), b.params("c", float(scale) * 0.7))
        model = b.model({"x": (1, 400)}, [c], "float32")
        assert ops(model)[1:-1] == ["qnn.rescale", "qnn.rescale"]
        check(model, rng)


@needs_vnni
def test_max_pool_and_reshape_that_change_the_scale(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    x = b.quantise("x", b.params("x", 0.1, 3))
    b.node("MaxPool", [x], "y", kernel_shape=[2, 2])
    y = b.quantise("y", b.params("y", 0.23, 200))
    output = b.quantise(b.node("Flatten", [y], "f"), b.params("f", 0.3))
    model = b.model({"x": IMAGE}, [output], "float32")
    assert ops(model)[1:-1] == ["qnn.max_pool2d", "qnn.rescale", "reshape", "qnn.rescale"]
    check(model, rng)


# -- folded constants ----------------------------------------------------------------------------


@needs_vnni
def test_float_bias(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    x = b.quantise("x", b.params("x", 0.05))
    b.weights("w", (5, 6, 3, 3), 0)
    b.const("bias", rng.normal(0, 3, 5).astype(np.float32))
    b.node("Conv", [x, b.dequantised("w"), "bias"], "c")
    output = b.quantise("c", b.params("c", 0.3))
    check_within_one(b.model({"x": IMAGE}, [output], "float32"), rng, 1e-2)


@needs_vnni
def test_matmul_and_bias(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    x = b.quantise("x", b.params("x", 0.05))
    b.weights("w", (30, 7), 1)
    b.const("bias", rng.normal(0, 3, 7).astype(np.float32))
    b.node("MatMul", [x, b.dequantised("w", axis=1)], "m")
    output = b.quantise(b.node("Add", ["bias", "m"], "y"), b.params("y", 0.2))
    model = b.model({"x": (4, 30)}, [output], "float32")
    assert ops(model) == ["quantize", "qnn.dense", "dequantize"]
    check_within_one(model, rng, 1e-2)


def test_what_is_no_bias(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    x = b.quantise("x", b.params("x", 0.05))
    b.conv(x, 0.05, "c", (5, 6, 3, 3))
    b.const("image", np.zeros((1, 5, 7, 6), np.float32))
    output = b.quantise(b.node("Add", ["c", "image"], "y"), b.params("y", 0.2))
    refuse(
        b.model({"x": IMAGE}, [output], "float32"),
        r"a constant of shape \(1, 5, 7, 6\) is no bias of 5 channels",
    )


@needs_vnni
def test_batch_normalisation_is_folded(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    x = b.quantise("x", b.params("x", 0.05))
    b.conv(x, 0.05, "c", (5, 6, 3, 3), pads=[1, 1, 1, 1])
    gain = rng.uniform(0.2, 2, 5) * rng.choice([-1, 1], 5)
    parameters = (gain, rng.normal(0, 2, 5), rng.normal(0, 2, 5), rng.uniform(0.1, 3, 5))
    names = [b.const(f"p{i}", p.astype(np.float32)) for i, p in enumerate(parameters)]
    b.node("BatchNormalization", ["c", *names], "n", epsilon=1e-3)
    b.node("Relu", ["n"], "r")
    output = b.quantise("r", b.params("r", 0.2, 0))
    model = b.model({"x": IMAGE}, [output], "float32")
    assert ops(model) == ["quantize", "qnn.conv2d", "dequantize"]
    check_within_one(model, rng, 1e-2)


def test_batch_normalisation_alone_is_refused(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    x = b.quantise("x", b.params("x", 0.05))
    names = [b.const(f"p{i}", np.ones(6, np.float32)) for i in range(4)]
    output = b.quantise(b.node("BatchNormalization", [x, *names], "n"), b.params("n", 0.2))
    refuse(b.model({"x": IMAGE}, [output], "float32"), "it must follow a convolution or dense")


# -- padding and joining -------------------------------------------------------------------------


def padded(rng: np.random.Generator, value: float, **conv: Any) -> onnx.ModelProto:
    b = OnnxBuilder(rng)
    p = b.params("x", 0.05)
    x = b.quantise("x", p)
    b.const("pads", np.array([0, 0, 1, 2, 0, 0, 2, 0], np.int64))
    b.const("value", np.float32(value))
    y = b.quantise(b.node("Pad", [x, "pads", "value"], "y"), p)
    b.conv(y, 0.05, "c", (4, 6, 3, 3), **conv)
    return b.model({"x": IMAGE}, [b.quantise("c", b.params("c", 0.3))], "float32")


@needs_vnni
@pytest.mark.parametrize("value", [0.0, 0.7, -1e9])
def test_pad(value: float, rng: np.random.Generator) -> None:
    model = padded(rng, value)
    check(model, rng)
    remaining = [n.op for n in canonicalise(lower_qnn(load(model))).nodes]
    # Zeros are what a convolution pads with itself.
    assert ("pad" in remaining) == (value != 0.0)


def test_pads_that_are_as_large_as_the_kernel_stay(rng: np.random.Generator) -> None:
    graph = canonicalise(lower_qnn(load(padded(rng, 0.0, pads=[0, 1, 0, 0]))))
    assert [n.op for n in graph.nodes if n.op == "pad"] == ["pad"]


def test_pads_on_other_axes_are_refused(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    x = b.quantise("x", b.params("x", 0.05))
    b.const("pads", np.array([0, 1, 0, 0, 0, 0, 0, 0], np.int64))
    output = b.quantise(b.node("Pad", [x, "pads"], "y"), b.params("y", 0.05))
    refuse(b.model({"x": IMAGE}, [output], "float32"), "it must pad height and width of an image")


@needs_vnni
@pytest.mark.parametrize("act", ["uint8", "int8"])
@pytest.mark.parametrize("axis", [1, -1])
def test_concat(act: str, axis: int, rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng, act)
    p = b.params("a", 0.1)
    parts = [b.quantise("a", p), b.quantise("b", b.params("b", 0.17))]
    output = b.quantise(b.node("Concat", [*parts, parts[0]], "y", axis=axis), p)
    model = b.model({"a": IMAGE, "b": IMAGE}, [output], "float32")
    check(model, rng)
    lowered = [n.op for n in lower_qnn(load(model)).nodes]
    assert lowered == ["quantize", "quantize", "rescale", "concat", "dequantize"]


# -- averages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("GlobalAveragePool", {}),
        ("AveragePool", {"kernel_shape": [3, 2], "strides": [2, 2]}),
        ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 0], "count_include_pad": 1}),
        ("AveragePool", {"kernel_shape": [2, 3], "strides": [2, 3], "ceil_mode": 1}),
        ("ReduceMean", {"axes": [2, 3]}),
        ("ReduceMean", {"axes": [-1, -2], "keepdims": 0}),
    ],
)
def test_averages(op: str, attrs: dict[str, Any], rng: np.random.Generator) -> None:
    for act in ("uint8", "int8"):
        b = OnnxBuilder(rng, act)
        x = b.quantise("x", b.params("x", 0.1))
        b.node(op, [x], "y", **attrs)
        output = b.quantise("y", b.params("y", 0.0617))
        check_within_one(b.model({"x": IMAGE}, [output], "float32"), rng, 1e-2)


@needs_vnni
@pytest.mark.parametrize("size", [7, 8, 9])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]])
def test_max_pool_rounded_up(size: int, pads: list[int], rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    p = b.params("x", 0.1)
    b.node(
        "MaxPool", [b.quantise("x", p)], "y",
        kernel_shape=[2, 3], strides=[3, 2], ceil_mode=1, pads=pads,
    )  # fmt: skip
    check(b.model({"x": (1, 3, size, size + 1)}, [b.quantise("y", p)], "float32"), rng)


def test_other_means_are_refused(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    x = b.quantise("x", b.params("x", 0.1))
    output = b.quantise(b.node("ReduceMean", [x], "y", axes=[1]), b.params("y", 0.0617))
    refuse(b.model({"x": IMAGE}, [output], "float32"), r"must average axes 2 and 3 of 4, not \[1\]")


@pytest.mark.parametrize("act", ["uint8", "int8"])
def test_qlinear_averages_and_concat(act: str, rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng, act)
    x, y, z, c = (b.params(n, s) for n, s in zip("xyzc", (0.1, 0.053, 0.07, 0.083), strict=True))
    pool = {"kernel_shape": [3, 3], "strides": [2, 2]}
    b.node("com.microsoft.QLinearAveragePool", ["x", *x, *y], "y", **pool)
    b.node("com.microsoft.QLinearConcat", [*c, "y", *y, "y", *y], "c", axis=1)
    b.node("com.microsoft.QLinearGlobalAveragePool", ["c", *c, *z], "z")
    check_within_one(b.model({"x": IMAGE}, ["z"], act), rng, 1e-2)


# -- operators that do nothing, and shapes -------------------------------------------------------


@needs_vnni
def test_operators_that_change_no_value(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    p = b.params("x", 0.05)
    b.node("Dropout", [b.quantise("x", p)], "d")
    b.node("Identity", ["d"], "i")
    b.node("Cast", ["i"], "f", to=TensorProto.FLOAT)
    b.conv("f", 0.05, "c", (4, 6, 1, 1))
    output = b.quantise(b.node("Identity", ["c"], "e"), b.params("e", 0.2))
    model = b.model({"x": IMAGE}, [output], "float32")
    assert ops(model) == ["quantize", "qnn.conv2d", "dequantize"]
    check(model, rng)


@needs_vnni
def test_flattening_by_computed_shapes(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    p = b.params("x", 0.05)
    x = b.quantise("x", p)
    b.node("Shape", [x], "shape")
    b.const("first", np.int64(0))
    b.node("Gather", ["shape", "first"], "rows")
    b.const("axes", np.array([0], np.int64))
    b.node("Unsqueeze", ["rows", "axes"], "row_list")
    b.const("rest", np.array([-1], np.int64))
    b.node("Concat", ["row_list", "rest"], "wanted", axis=0)
    f = b.quantise(b.node("Reshape", [x, "wanted"], "flat"), p)
    b.weights("w", (5, 432), 0)
    b.node("Gemm", [f, b.dequantised("w")], "y", transB=1)
    output = b.quantise("y", b.params("y", 2.0))
    model = b.model({"x": IMAGE}, [output], "float32")
    assert ops(model) == ["quantize", "reshape", "qnn.dense", "dequantize"]
    check(model, rng)


@needs_vnni
def test_squeezing_a_pooled_image(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    x, p = b.quantise("x", b.params("x", 0.1)), b.params("y", 0.1)
    y = b.quantise(b.node("GlobalAveragePool", [x], "y"), p)
    b.const("axes", np.array([2, 3], np.int64))
    b.node("Squeeze", [y, "axes"], "s")
    graph = load(b.model({"x": IMAGE}, ["s"], "float32"))
    assert graph.type_of("s").shape == (1, 6)
    assert [n.op for n in graph.nodes] == ["quantize", "qnn.avg_pool2d", "reshape", "dequantize"]


def test_softmax_of_dequantised_logits(rng: np.random.Generator) -> None:
    b = OnnxBuilder(rng)
    x = b.quantise("x", b.params("x", 0.3))
    b.node("Softmax", [x], "y", axis=1)
    model = b.model({"x": (3, 50)}, ["y"], "float32")
    graph = load(model)
    lowered, runtime = lower_qnn(graph), OnnxRuntime(model, graph)
    value = rng.normal(0, 30, (3, 50)).astype(np.float32)
    found = evaluate(lowered, {"x": value})["y"]
    np.testing.assert_allclose(found, runtime.run({"x": value})["y"], rtol=2e-6, atol=1e-30)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
