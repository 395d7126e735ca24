"""Single TFLite operators, written by the test, against LiteRT's reference kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tflite

from compiler.errors import FrontendError, GraphError
from compiler.frontend.tflite import IMPORTERS, import_tflite
from compiler.graph.lower_qnn import lower_qnn
from tests.compiler.frontend.tflite_builder import OpSpec, TensorSpec, build_tflite
from tests.compiler.runtimes import LiteRT, differences

Op = tflite.BuiltinOperator
ACTIVATIONS = (0, 1, 2, 3)


def tensor(name: str, shape: tuple[int, ...], scale: float, zero: int) -> TensorSpec:
    return TensorSpec(name, shape, "int8", [scale], [zero])


def check(data: bytes, rng: np.random.Generator, count: int = 5) -> None:
    """The model's operators give what LiteRT gives on random inputs, in both of its ways."""
    for numerics in ("litert-ref", "xnnpack"):
        graph = lower_qnn(import_tflite(data, "net.tflite"), numerics)
        litert = LiteRT(data, xnnpack=numerics == "xnnpack")
        for _ in range(count):
            inputs = {}
            for name in graph.inputs:
                type_ = graph.type_of(name)
                inputs[name] = rng.integers(-128, 128, type_.shape).astype(np.int8)
            found = differences(graph, litert.run(inputs))
            assert set(found) >= set(graph.outputs)
            assert not any(found.values()), (numerics, found)


def convolution(
    rng: np.random.Generator,
    *,
    size: tuple[int, int],
    channels: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
    padding: int = tflite.Padding.SAME,
    activation: int = 0,
    per_channel: bool = True,
) -> bytes:
    (h, w), (c, o), (kh, kw) = size, channels, kernel
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if padding == tflite.Padding.SAME:
        out = [-(-n // s) for n, s in zip(size, strides, strict=True)]
    else:
        out = [(n - k) // s + 1 for n, k, s in zip(size, spans, strides, strict=True)]
    x_scale = float(rng.uniform(0.01, 1))
    w_scale = rng.uniform(1e-4, 0.02, o if per_channel else 1).astype(np.float32)
    bias_scale = np.float32(x_scale) * w_scale
    tensors = [
        tensor("x", (1, h, w, c), x_scale, int(rng.integers(-128, 128))),
        TensorSpec(
            "w",
            (o, kh, kw, c),
            "int8",
            w_scale,
            [0] * w_scale.size,
            data=rng.integers(-127, 128, (o, kh, kw, c)).astype(np.int8),
        ),
        TensorSpec(
            "b",
            (o,),
            "int32",
            bias_scale,
            [0] * bias_scale.size,
            data=rng.integers(-20000, 20000, o).astype(np.int32),
        ),
        tensor(
            "y", (1, *out, o), x_scale * float(rng.uniform(0.02, 5)), int(rng.integers(-128, 128))
        ),
    ]
    fields = {
        "Padding": padding,
        "StrideH": strides[0],
        "StrideW": strides[1],
        "DilationHFactor": dilation[0],
        "DilationWFactor": dilation[1],
        "FusedActivationFunction": activation,
    }
    op = OpSpec(Op.CONV_2D, [0, 1, 2], [3], "Conv2DOptions", fields)
    return build_tflite(tensors, [op], [0], [3])


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 2), (7, 7)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 1)])
def test_conv_2d(
    kernel: tuple[int, int], strides: tuple[int, int], rng: np.random.Generator
) -> None:
    for padding in (tflite.Padding.SAME, tflite.Padding.VALID):
        data = convolution(
            rng,
            size=(9, 11),
            channels=(5, 6),
            kernel=kernel,
            strides=strides,
            padding=padding,
            activation=int(rng.choice(ACTIVATIONS)),
            per_channel=bool(rng.integers(2)),
        )
        check(data, rng)


def test_conv_2d_with_dilation(rng: np.random.Generator) -> None:
    data = convolution(
        rng, size=(12, 10), channels=(3, 4), kernel=(3, 3), strides=(1, 1), dilation=(2, 3)
    )
    check(data, rng)


def depthwise(rng: np.random.Generator, channels: int, each: int, **fields: int) -> bytes:
    """A depthwise convolution 3x3 over 9x8 pixels; `each` output channels per input channel."""
    strides, padding = (fields["StrideH"], fields["StrideW"]), fields["Padding"]
    same = padding == tflite.Padding.SAME
    out = [-(-(n if same else n - 2) // s) for n, s in zip((9, 8), strides, strict=True)]
    outputs = channels * each
    x_scale = float(rng.uniform(0.01, 1))
    scale = rng.uniform(1e-3, 0.02, outputs).astype(np.float32)
    weights = rng.integers(-127, 128, (1, 3, 3, outputs)).astype(np.int8)
    bias = rng.integers(-5000, 5000, outputs).astype(np.int32)
    zeros = [0] * outputs
    tensors = [
        tensor("x", (1, 9, 8, channels), x_scale, int(rng.integers(-128, 128))),
        TensorSpec("w", weights.shape, "int8", scale, zeros, axis=3, data=weights),
        TensorSpec("b", (outputs,), "int32", np.float32(x_scale) * scale, zeros, data=bias),
        tensor("y", (1, *out, outputs), x_scale * 3, int(rng.integers(-128, 128))),
    ]
    fields = {"DilationHFactor": 1, "DilationWFactor": 1, "DepthMultiplier": each, **fields}
    op = OpSpec(Op.DEPTHWISE_CONV_2D, [0, 1, 2], [3], "DepthwiseConv2DOptions", fields)
    return build_tflite(tensors, [op], [0], [3])


@pytest.mark.parametrize(("channels", "each"), [(5, 1), (16, 1), (3, 2), (1, 7)])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_conv_2d(channels: int, each: int, stride: int, rng: np.random.Generator) -> None:
    for padding in (tflite.Padding.SAME, tflite.Padding.VALID):
        fields = {"Padding": padding, "StrideH": stride, "StrideW": stride}
        activation = int(rng.choice(ACTIVATIONS))
        check(depthwise(rng, channels, each, FusedActivationFunction=activation, **fields), rng)


def dense(rng: np.random.Generator, x_shape: tuple[int, ...], depth: int, width: int) -> bytes:
    rows = int(np.prod(x_shape)) // depth
    x_scale, w_scale = float(rng.uniform(0.01, 1)), float(rng.uniform(1e-4, 0.02))
    tensors = [
        tensor("x", x_shape, x_scale, int(rng.integers(-128, 128))),
        TensorSpec(
            "w",
            (width, depth),
            "int8",
            [w_scale],
            [0],
            data=rng.integers(-127, 128, (width, depth)).astype(np.int8),
        ),
        TensorSpec(
            "b",
            (width,),
            "int32",
            [x_scale * w_scale],
            [0],
            data=rng.integers(-20000, 20000, width).astype(np.int32),
        ),
        tensor("y", (rows, width), float(rng.uniform(0.001, 0.5)), int(rng.integers(-128, 128))),
    ]
    fields = {"FusedActivationFunction": int(rng.choice(ACTIVATIONS))}
    op = OpSpec(Op.FULLY_CONNECTED, [0, 1, 2], [3], "FullyConnectedOptions", fields)
    return build_tflite(tensors, [op], [0], [3])


@pytest.mark.parametrize("x_shape", [(1, 40), (3, 40), (1, 2, 4, 5), (2, 2, 2, 10)])
def test_fully_connected(x_shape: tuple[int, ...], rng: np.random.Generator) -> None:
    for _ in range(5):
        check(dense(rng, x_shape, 40, 12), rng)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_add(activation: int, rng: np.random.Generator) -> None:
    for _ in range(5):
        scales = rng.uniform(0.005, 0.5, 3)
        zeros = rng.integers(-128, 128, 3)
        tensors = [
            tensor(name, (1, 8, 8, 16), float(s), int(z))
            for name, s, z in zip("aby", scales, zeros, strict=True)
        ]
        op = OpSpec(Op.ADD, [0, 1], [2], "AddOptions", {"FusedActivationFunction": activation})
        check(build_tflite(tensors, [op], [0, 1], [2]), rng)


@pytest.mark.parametrize("code", [Op.MAX_POOL_2D, Op.AVERAGE_POOL_2D])
@pytest.mark.parametrize("padding", [tflite.Padding.SAME, tflite.Padding.VALID])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_pooling(code: int, padding: int, activation: int, rng: np.random.Generator) -> None:
    for kernel, strides in (((2, 2), (2, 2)), ((3, 3), (2, 1)), ((5, 4), (3, 3)), ((9, 9), (1, 1))):
        size = (9, 9)
        if padding == tflite.Padding.SAME:
            out = [-(-n // s) for n, s in zip(size, strides, strict=True)]
        else:
            out = [(n - k) // s + 1 for n, k, s in zip(size, kernel, strides, strict=True)]
        tensors = [tensor("x", (1, *size, 7), 0.03, 5), tensor("y", (1, *out, 7), 0.03, 5)]
        fields = {
            "Padding": padding,
            "StrideH": strides[0],
            "StrideW": strides[1],
            "FilterHeight": kernel[0],
            "FilterWidth": kernel[1],
            "FusedActivationFunction": activation,
        }
        op = OpSpec(code, [0], [1], "Pool2DOptions", fields)
        check(build_tflite(tensors, [op], [0], [1]), rng)


@pytest.mark.parametrize("code", [Op.RELU, Op.RELU6])
def test_separate_activation(code: int, rng: np.random.Generator) -> None:
    tensors = [tensor("x", (2, 50), 0.07, -20), tensor("y", (2, 50), 0.07, -20)]
    check(build_tflite(tensors, [OpSpec(code, [0], [1])], [0], [1]), rng)
    for _ in range(20):
        tensors = [some("x", (1, 600), rng), some("y", (1, 600), rng)]
        check(build_tflite(tensors, [OpSpec(code, [0], [1])], [0], [1]), rng, 1)


def some(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> TensorSpec:
    """A tensor of some quantisation."""
    return tensor(name, shape, float(rng.uniform(0.01, 0.2)), int(rng.integers(-128, 128)))


def test_quantize_of_integers(rng: np.random.Generator) -> None:
    for _ in range(30):
        tensors = [some("x", (1, 600), rng), some("y", (1, 600), rng)]
        if rng.random() < 0.3:  # so far apart that XNNPACK does not take it
            tensors[1] = tensor("y", (1, 600), tensors[0].scale[0] / 150, 3)
        op = OpSpec(Op.QUANTIZE, [0], [1], "QuantizeOptions")
        check(build_tflite(tensors, [op], [0], [1]), rng, 1)


@pytest.mark.parametrize("keep", [0, 1])
def test_mean(keep: int, rng: np.random.Generator) -> None:
    for h, w in ((7, 7), (4, 4), (1, 1), (3, 5), (14, 9)):
        for same in (True, False):
            x = some("x", (2, h, w, 40), rng)
            shape = (2, 1, 1, 40) if keep else (2, 40)
            y = some("y", shape, rng)
            if same:
                y.scale, y.zero_point = x.scale, x.zero_point
            axes = TensorSpec("axes", (2,), "int32", data=np.array([2, -3], np.int32))
            op = OpSpec(Op.MEAN, [0, 1], [2], "ReducerOptions", {"KeepDims": keep})
            check(build_tflite([x, axes, y], [op], [0], [2]), rng)


def test_pad(rng: np.random.Generator) -> None:
    for pads in ([[0, 0], [1, 2], [0, 3], [0, 0]], [[0, 0], [0, 0], [4, 0], [0, 0]]):
        shape = tuple(n + sum(p) for n, p in zip((2, 5, 4, 3), pads, strict=True))
        amounts = TensorSpec("pads", (4, 2), "int32", data=np.array(pads, np.int32))
        tensors = [tensor("x", (2, 5, 4, 3), 0.1, 9), amounts, tensor("y", shape, 0.1, 9)]
        op = OpSpec(Op.PAD, [0, 1], [2], "PadOptions")
        check(build_tflite(tensors, [op], [0], [2]), rng)


@pytest.mark.parametrize("axis", [1, 3, -2])
def test_concatenation(axis: int, rng: np.random.Generator) -> None:
    shapes = [[2, 5, 4, 3] for _ in range(3)]
    for shape in shapes:
        shape[axis] = int(rng.integers(1, 5))
    total = [2, 5, 4, 3]
    total[axis] = sum(shape[axis] for shape in shapes)
    tensors = [tensor(f"x{i}", tuple(shape), 0.1, 9) for i, shape in enumerate(shapes)]
    tensors.append(tensor("y", tuple(total), 0.1, 9))
    op = OpSpec(Op.CONCATENATION, [0, 1, 2], [3], "ConcatenationOptions", {"Axis": axis})
    check(build_tflite(tensors, [op], [0, 1, 2], [3]), rng)


def test_relu6_where_six_is_a_tie(rng: np.random.Generator) -> None:
    # 6 / 12 is one half: LiteRT's own kernels round it up, XNNPACK to even.
    tensors = [tensor(n, (1, 4, 4, 8), s, 0) for n, s in (("a", 9.0), ("b", 5.0), ("y", 12.0))]
    op = OpSpec(Op.ADD, [0, 1], [2], "AddOptions", {"FusedActivationFunction": 3})
    data = build_tflite(tensors, [op], [0, 1], [2])
    check(data, rng)
    (reference,), (vector,) = (
        lower_qnn(import_tflite(data, "n"), n).nodes for n in ("litert-ref", "xnnpack")
    )
    assert (reference.attrs["clamp_max"], vector.attrs["clamp_max"]) == (1, 0)


@pytest.mark.parametrize("ratio", [2.0**-10, 1 / 1030, 255.9, 256.0])
def test_additions_of_scales_far_apart(ratio: float, rng: np.random.Generator) -> None:
    scales = (("a", ratio / 4), ("b", 0.25), ("y", 0.25))
    tensors = [tensor(name, (1, 4, 4, 32), scale, 5) for name, scale in scales]
    data = build_tflite(tensors, [OpSpec(Op.ADD, [0, 1], [2], "AddOptions")], [0, 1], [2])
    if 2.0**-10 <= ratio < 256:
        check(data, rng)
    else:
        assert not LiteRT(data, xnnpack=True).delegated
        with pytest.raises(GraphError, match="^node 'y': XNNPACK does not add with the ratio"):
            lower_qnn(import_tflite(data, "net.tflite"), "xnnpack")


@pytest.mark.parametrize("numerics", ["litert-ref", "xnnpack"])
def test_quantize_and_dequantize(numerics: str, rng: np.random.Generator) -> None:
    tensors = [
        TensorSpec("x", (1, 4000), "float32"),
        tensor("q", (1, 4000), 0.037, -11),
        TensorSpec("y", (1, 4000), "float32"),
    ]
    ops = [
        OpSpec(Op.QUANTIZE, [0], [1], "QuantizeOptions"),
        OpSpec(Op.DEQUANTIZE, [1], [2], "DequantizeOptions"),
    ]
    data = build_tflite(tensors, ops, [0], [2])
    graph = lower_qnn(import_tflite(data, "net.tflite"), numerics)
    litert = LiteRT(data, xnnpack=numerics == "xnnpack")
    ties = (np.arange(-300, 300) + 0.5) * np.float32(0.037)
    value = rng.normal(0, 3, (1, 4000)).astype(np.float32)
    value[0, :600] = ties
    # Beyond int32 the kernel's conversion is undefined; here such values saturate.
    value[0, 600:604] = [1e6, -1e6, 0.0, -0.0]
    found = differences(graph, litert.run({"x": value}))
    assert found == {"q": 0, "y": 0}


# -- what is refused ------------------------------------------------------------------------------


def refuse(data: bytes, message: str) -> None:
    with pytest.raises(FrontendError, match=message) as caught:
        import_tflite(data, "net.tflite")
    assert str(caught.value).startswith("model 'net.tflite': ")
    assert "\n" not in str(caught.value)


def test_all_missing_operators_are_listed_at_once() -> None:
    tensors = [tensor(name, (1, 4), 0.1, 0) for name in ("a", "b", "c", "d")]
    ops = [
        OpSpec(Op.TANH, [0], [1]),
        OpSpec(Op.RELU, [1], [2]),
        OpSpec(Op.CUSTOM, [2], [3], custom="Mystery"),
    ]
    refuse(
        build_tflite(tensors, ops, [0], [3]),
        r"2 operators cannot be imported - TANH #0 -> 'b': no importer for it; "
        r"CUSTOM Mystery #2 -> 'd': no importer for it - change the network or how it is exported; "
        r"what could be imported would run as 1 rescale on VTA$",
    )


def test_what_would_run_where_is_told() -> None:
    shape = (1, 4, 4, 2)
    names = ("a", "b", "c", "d", "e")
    tensors = [tensor(name, shape, 1 / 256, -128) for name in names]
    ops = [
        OpSpec(Op.ADD, [0, 0], [1], "AddOptions"),
        OpSpec(Op.ADD, [0, 1], [2], "AddOptions"),
        OpSpec(Op.TANH, [2], [3]),
        OpSpec(Op.SOFTMAX, [3], [4], "SoftmaxOptions", {"Beta": 1.0}),
    ]
    refuse(
        build_tflite(tensors, ops, [0], [4]),
        "1 operator cannot .* would run as 2 add on VTA and 1 softmax on the host$",
    )


def test_float_networks_are_refused() -> None:
    tensors = [TensorSpec("x", (1, 4), "float32"), TensorSpec("y", (1, 4), "float32")]
    refuse(
        build_tflite(tensors, [OpSpec(Op.RELU, [0], [1])], [0], [1]),
        "tensor 'x' must be int8 or uint8, not float32; quantise",
    )


def test_dynamic_shapes_are_refused_but_a_free_batch_is_the_stated_one() -> None:
    x, y = tensor("x", (1, 4), 0.1, 0), tensor("y", (1, 4), 0.1, 0)
    op = OpSpec(Op.RELU, [0], [1])
    x.signature = (-1, 4)
    assert import_tflite(build_tflite([x, y], [op], [0], [1]), "n").type_of("x").shape == (1, 4)
    x.signature = (1, -1)
    refuse(build_tflite([x, y], [op], [0], [1]), r"tensor 'x' has the dynamic shape \(1, -1\)")
    x.signature, x.shape = (), (1, 0)
    refuse(build_tflite([x, y], [op], [0], [1]), r"tensor 'x' has the dynamic shape \(1, 0\)")


def test_asymmetric_weights_are_refused(rng: np.random.Generator) -> None:
    tensors = [
        tensor("x", (1, 4), 0.1, 0),
        TensorSpec("w", (2, 4), "int8", [0.1], [3], data=np.ones((2, 4), np.int8)),
        tensor("y", (1, 2), 0.1, 0),
    ]
    op = OpSpec(Op.FULLY_CONNECTED, [0, 1], [2], "FullyConnectedOptions")
    refuse(build_tflite(tensors, [op], [0], [2]), "weights must have zero point 0, not 3")


def test_wrong_bias_scale_is_refused() -> None:
    tensors = [
        tensor("x", (1, 4), 0.5, 0),
        TensorSpec("w", (2, 4), "int8", [0.5], [0], data=np.ones((2, 4), np.int8)),
        TensorSpec("b", (2,), "int32", [0.5], [0], data=np.ones(2, np.int32)),
        tensor("y", (1, 2), 0.1, 0),
    ]
    op = OpSpec(Op.FULLY_CONNECTED, [0, 1, 2], [3], "FullyConnectedOptions")
    refuse(
        build_tflite(tensors, [op], [0], [3]),
        "bias scale 0.5 of channel 0 is not input scale x weight scale, 0.25",
    )


def test_what_is_refused_of_moving_operators() -> None:
    def refuse_one(op: OpSpec, message: str, *inputs: TensorSpec) -> None:
        tensors = [*inputs, tensor("y", (1, 4, 4, 2), 0.2, 0)]
        op.outputs = [len(inputs)]
        refuse(build_tflite(tensors, [op], [0], [len(inputs)]), message)

    x = tensor("x", (1, 4, 4, 2), 0.1, 0)
    op = OpSpec(Op.CONCATENATION, [0, 0], [], "ConcatenationOptions", {"Axis": 4})
    refuse_one(op, r"axis 4 does not fit the shape \(1, 4, 4, 2\)", x)
    op.fields = {"Axis": 1}
    refuse_one(op, r"a concatenation must keep the quantisation q\(0.1\d*, 0\), not change it", x)
    op.fields = {"Axis": 1, "FusedActivationFunction": 1}
    refuse_one(op, "it must have no fused activation", x)
    pads = TensorSpec("p", (4, 2), "int32", data=np.eye(4, 2, dtype=np.int32))
    op = OpSpec(Op.PAD, [0, 1], [], "PadOptions")
    refuse_one(op, "it must pad height and width of an image", x, pads)
    refuse_one(op, "its input 'p' must be constant int32", x, TensorSpec("p", (4, 2), "int32"))
    axes = TensorSpec("a", (1,), "int32", data=np.array([1], np.int32))
    op = OpSpec(Op.MEAN, [0, 1], [], "ReducerOptions")
    refuse_one(op, r"it must average axes 1 and 2 of 4, not \[1\] of 4", x, axes)


def test_declared_shape_must_follow_from_the_operator() -> None:
    tensors = [tensor("x", (1, 4), 0.1, 0), tensor("y", (1, 5), 0.1, 0)]
    refuse(
        build_tflite(tensors, [OpSpec(Op.RELU, [0], [1])], [0], [1]),
        r"gives int8 of shape \(1, 4\), but the file declares int8 of shape \(1, 5\) for 'y'",
    )


def test_missing_options_are_refused() -> None:
    tensors = [tensor("x", (1, 4, 4, 2), 0.1, 0), tensor("y", (1, 2, 2, 2), 0.1, 0)]
    refuse(
        build_tflite(tensors, [OpSpec(Op.MAX_POOL_2D, [0], [1])], [0], [1]),
        "options must be Pool2DOptions, not NONE",
    )


def test_schema_version_is_checked() -> None:
    tensors = [tensor("x", (1, 4), 0.1, 0), tensor("y", (1, 4), 0.1, 0)]
    refuse(
        build_tflite(tensors, [OpSpec(Op.RELU, [0], [1])], [0], [1], version=2),
        "schema version must be 3, not 2",
    )


@pytest.mark.parametrize(
    ("scale", "zero", "message"),
    [
        ([0.1], [200], "tensor 'x' has a zero point outside of int8"),
        ([0.0], [0], "tensor 'x' must have positive finite scales"),
        ([np.inf], [0], "tensor 'x' must have positive finite scales"),
        ([0.1, 0.2, 0.3], [0, 0], "tensor 'x' has 2 zero points, 3 scales"),
        ([0.1, 0.2], [0, 0], "tensor 'x' must have one scale and zero point"),
        ([], [], "tensor 'x' must have one scale and zero point"),
    ],
)
def test_impossible_quantisation_is_refused(
    scale: list[float], zero: list[int], message: str
) -> None:
    tensors = [TensorSpec("x", (1, 4), "int8", scale, zero), tensor("y", (1, 4), 0.1, 0)]
    refuse(build_tflite(tensors, [OpSpec(Op.RELU, [0], [1])], [0], [1]), message)


def test_equal_names_are_told_apart() -> None:
    tensors = [tensor("t", (1, 4), 0.1, 0), tensor("t", (1, 4), 0.1, 0)]
    data = build_tflite(tensors, [OpSpec(Op.RELU, [0], [1])], [0], [1])
    graph = import_tflite(data, "net.tflite")
    assert (graph.inputs, graph.outputs) == (("t",), ("t#1",))


def test_uint8_tensors_are_held_as_int8(tmp_path: Path) -> None:
    tensors = [
        TensorSpec("x", (1, 4), "uint8", [0.1], [100]),
        TensorSpec("y", (1, 4), "int8", [0.1], [-28]),
    ]
    op = OpSpec(Op.QUANTIZE, [0], [1], "QuantizeOptions")
    graph = import_tflite(build_tflite(tensors, [op], [0], [1]), "net.tflite")
    type_ = graph.type_of("x")
    assert (type_.dtype, type_.source_dtype) == ("int8", "uint8")
    assert type_.quant is not None and type_.quant.zero_point[0] == -28


def test_the_networks_operators_have_importers() -> None:
    assert {
        "ADD",
        "AVERAGE_POOL_2D",
        "CONV_2D",
        "FULLY_CONNECTED",
        "MAX_POOL_2D",
        "RESHAPE",
        "SOFTMAX",
    } <= IMPORTERS.keys()
