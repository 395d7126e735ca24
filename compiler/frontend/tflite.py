"""Import int8 TFLite models: one function per operator, in `IMPORTERS`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import tflite

from compiler.errors import FrontendError
from compiler.frontend.builder import (
    GraphBuilder,
    Unsupported,
    check_bias_scale,
    check_same_quant,
    image_layout,
    same_padding,
)
from compiler.frontend.flatcheck import check_model
from compiler.frontend.tflite_file import Operator, TfliteFile, TfTensor, read_options
from compiler.graph.ir import Graph, Quant, TensorType

_ACTIVATIONS = {
    tflite.ActivationFunctionType.NONE: "none",
    tflite.ActivationFunctionType.RELU: "relu",
    tflite.ActivationFunctionType.RELU_N1_TO_1: "relu_n1_to_1",
    tflite.ActivationFunctionType.RELU6: "relu6",
}


class _Import:
    """One file under import: its tables and the graph that grows from them."""

    def __init__(self, file: TfliteFile, builder: GraphBuilder) -> None:
        self.file = file
        self.builder = builder

    def operand(self, op: Operator, position: int) -> TfTensor:
        """An input tensor of an operator that must be there."""
        if position >= len(op.inputs) or op.inputs[position] < 0:
            raise Unsupported(f"it lacks input {position}")
        return self.file.tensors[op.inputs[position]]

    def result(self, op: Operator) -> TfTensor:
        """The one output tensor of an operator."""
        if len(op.outputs) != 1:
            raise Unsupported(f"it must have 1 output, not {len(op.outputs)}")
        return self.file.tensors[op.outputs[0]]

    def activation(self, tensor: TfTensor) -> str:
        """Declare an int8 or uint8 tensor that is quantised as a whole; returns its name."""
        if tensor.dtype not in ("int8", "uint8"):
            raise Unsupported(
                f"tensor {tensor.name!r} must be int8 or uint8, not {tensor.dtype}; quantise the "
                "model in full"
            )
        if tensor.quant is None or not tensor.quant.is_per_tensor:
            raise Unsupported(f"tensor {tensor.name!r} must have one scale and zero point")
        if tensor.data is not None:
            return self.builder.constant(tensor.name, tensor.held, tensor.held_quant)
        return self.declare(tensor)

    def declare(self, tensor: TfTensor) -> str:
        """Declare a tensor under the name and type that the graph holds it in."""
        if tensor.dtype not in ("int8", "uint8", "float32"):
            raise Unsupported(
                f"tensor {tensor.name!r} must be int8, uint8 or float32, not {tensor.dtype}"
            )
        shifted = tensor.dtype == "uint8"
        type_ = TensorType(
            tensor.shape,
            "int8" if shifted else tensor.dtype,
            tensor.held_quant,
            image_layout(tensor.shape, "NHWC"),
            "uint8" if shifted else "",
        )
        return self.builder.declare(tensor.name, type_)

    def weights(self, tensor: TfTensor, rank: int) -> TfTensor:
        """Check constant symmetric weights with the output channel first."""
        if tensor.data is None:
            raise Unsupported(f"its weights {tensor.name!r} must be constant")
        quant = tensor.held_quant
        if tensor.dtype not in ("int8", "uint8") or quant is None or len(tensor.shape) != rank:
            raise Unsupported(
                f"its weights must be quantised int8 with {rank} axes, not {tensor.dtype} of "
                f"shape {tensor.shape}"
            )
        if np.any(quant.zero_point):
            raise Unsupported(
                f"its weights must have zero point 0, not {int(quant.zero_point.max())}; use "
                "symmetric weight quantisation"
            )
        if not quant.is_per_tensor and (quant.axis, quant.scale.size) != (0, tensor.shape[0]):
            raise Unsupported(
                f"its {quant.scale.size} weight scales along axis {quant.axis} must be one per "
                f"output channel ({tensor.shape[0]} along axis 0)"
            )
        return tensor

    def bias(self, op: Operator, out: TfTensor, x: Quant | None, w: TfTensor) -> str:
        """The int32 bias constant, zeros where the model has none."""
        channels = w.shape[0]
        if len(op.inputs) < 3 or op.inputs[2] < 0:
            return self.builder.constant(f"{out.name}:bias", np.zeros(channels, np.int32))
        tensor = self.file.tensors[op.inputs[2]]
        if tensor.data is None or tensor.dtype != "int32":
            raise Unsupported(f"its bias {tensor.name!r} must be constant int32")
        assert x is not None and w.held_quant is not None
        check_bias_scale(tensor.quant, x, w.held_quant)
        return self.builder.constant(tensor.name, tensor.data, tensor.quant)


def _activation_name(code: int) -> str:
    if code not in _ACTIVATIONS:
        raise Unsupported(f"fused activation {code} must be none, relu, relu6 or relu_n1_to_1")
    return _ACTIVATIONS[code]


def _pads(
    padding: int,
    x: TfTensor,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> tuple[int, int, int, int]:
    if len(x.shape) != 4:
        raise Unsupported(f"its input must have 4 axes, not the shape {x.shape}")
    if padding == tflite.Padding.VALID:
        return 0, 0, 0, 0
    if padding != tflite.Padding.SAME:
        raise Unsupported(f"padding {padding} must be SAME or VALID")
    top, bottom = same_padding(x.shape[1], kernel[0], strides[0], dilation[0])
    left, right = same_padding(x.shape[2], kernel[1], strides[1], dilation[1])
    return top, left, bottom, right


def _conv_2d(ctx: _Import, op: Operator) -> None:
    options = read_options(op, tflite.Conv2DOptions)
    x, out = ctx.operand(op, 0), ctx.result(op)
    w = ctx.weights(ctx.operand(op, 1), 4)
    names = [ctx.activation(x)]
    strides = options.StrideH(), options.StrideW()
    dilation = options.DilationHFactor(), options.DilationWFactor()
    kernel = w.shape[1], w.shape[2]
    pads = _pads(options.Padding(), x, kernel, strides, dilation)
    names.append(ctx.builder.constant(w.name, w.held.transpose(0, 3, 1, 2), w.held_quant, "OIHW"))
    names.append(ctx.bias(op, out, x.held_quant, w))
    attrs = {
        "strides": strides,
        "pads": pads,
        "dilation": dilation,
        "groups": x.shape[3] // w.shape[3],
        "layout": "NHWC",
        "activation": _activation_name(options.FusedActivationFunction()),
    }
    ctx.builder.emit("qnn.conv2d", names, ctx.activation(out), attrs, op.source)


def _fully_connected(ctx: _Import, op: Operator) -> None:
    options = read_options(op, tflite.FullyConnectedOptions)
    if options.WeightsFormat() != tflite.FullyConnectedOptionsWeightsFormat.DEFAULT:
        raise Unsupported(f"weights format {options.WeightsFormat()} must be the default one")
    x, out = ctx.operand(op, 0), ctx.result(op)
    w = ctx.weights(ctx.operand(op, 1), 2)
    channels, depth = w.shape
    rows = math.prod(x.shape) // depth
    source, result = ctx.activation(x), ctx.activation(out)
    if x.shape != (rows, depth):
        flat = replace(ctx.builder.type_of(source), shape=(rows, depth), layout="NC")
        name = ctx.builder.declare(f"{out.name}:flat", flat)
        ctx.builder.emit("reshape", [source], name, {"shape": flat.shape}, op.source)
        source = name
    target = result
    if out.shape != (rows, channels):
        flat = replace(ctx.builder.type_of(result), shape=(rows, channels), layout="NC")
        target = ctx.builder.declare(f"{out.name}:rows", flat)
    weights = ctx.builder.constant(w.name, w.held, w.held_quant)
    names = [source, weights, ctx.bias(op, out, x.held_quant, w)]
    attrs = {"activation": _activation_name(options.FusedActivationFunction())}
    ctx.builder.emit("qnn.dense", names, target, attrs, op.source)
    if target != result:
        ctx.builder.emit("reshape", [target], result, {"shape": out.shape}, op.source)


def _add(ctx: _Import, op: Operator) -> None:
    options = read_options(op, tflite.AddOptions)
    names = [ctx.activation(ctx.operand(op, position)) for position in (0, 1)]
    attrs = {"activation": _activation_name(options.FusedActivationFunction())}
    ctx.builder.emit("qnn.add", names, ctx.activation(ctx.result(op)), attrs, op.source)


def _pool(ctx: _Import, op: Operator, name: str) -> None:
    options = read_options(op, tflite.Pool2DOptions)
    x, out = ctx.operand(op, 0), ctx.result(op)
    source, result = ctx.activation(x), ctx.activation(out)
    check_same_quant(x.held_quant, out.held_quant, "pooling")
    kernel = options.FilterHeight(), options.FilterWidth()
    strides = options.StrideH(), options.StrideW()
    attrs: dict[str, Any] = {
        "kernel": kernel,
        "strides": strides,
        "pads": _pads(options.Padding(), x, kernel, strides),
        "layout": "NHWC",
        "activation": _activation_name(options.FusedActivationFunction()),
    }
    if name == "qnn.avg_pool2d":
        attrs["count_include_pad"] = False
    ctx.builder.emit(name, [source], result, attrs, op.source)


def _average_pool_2d(ctx: _Import, op: Operator) -> None:
    _pool(ctx, op, "qnn.avg_pool2d")


def _max_pool_2d(ctx: _Import, op: Operator) -> None:
    _pool(ctx, op, "qnn.max_pool2d")


def _reshape(ctx: _Import, op: Operator) -> None:
    x, out = ctx.operand(op, 0), ctx.result(op)
    source, result = ctx.activation(x), ctx.activation(out)
    check_same_quant(x.held_quant, out.held_quant, "a reshape")
    ctx.builder.emit("reshape", [source], result, {"shape": out.shape}, op.source)


def _softmax(ctx: _Import, op: Operator) -> None:
    options = read_options(op, tflite.SoftmaxOptions)
    x, out = ctx.operand(op, 0), ctx.result(op)
    source, result = ctx.activation(x), ctx.activation(out)
    expected = Quant.per_tensor(1 / 256, -128)
    if str(out.held_quant) != str(expected):
        raise Unsupported(f"its output must have the quantisation {expected}, not {out.held_quant}")
    beta = float(options.Beta())
    if not 0 < beta < math.inf:
        raise Unsupported(f"beta must be positive, not {beta}")
    ctx.builder.emit("qnn.softmax", [source], result, {"beta": beta}, op.source)


def _clip(ctx: _Import, op: Operator, activation: str) -> None:
    x, out = ctx.operand(op, 0), ctx.result(op)
    source, result = ctx.activation(x), ctx.activation(out)
    check_same_quant(x.held_quant, out.held_quant, "a separate activation")
    ctx.builder.emit("qnn.clip", [source], result, {"activation": activation}, op.source)


def _relu(ctx: _Import, op: Operator) -> None:
    _clip(ctx, op, "relu")


def _relu6(ctx: _Import, op: Operator) -> None:
    _clip(ctx, op, "relu6")


def _quantize(ctx: _Import, op: Operator) -> None:
    x, out = ctx.operand(op, 0), ctx.result(op)
    result = ctx.activation(out)
    if x.dtype == "float32":
        source = ctx.declare(x)
        ctx.builder.emit("quantize", [source], result, {"rounding": "away"}, op.source)
        return
    # int8 <-> uint8 with zero points 128 apart: the same values as the graph holds them.
    source = ctx.activation(x)
    check_same_quant(x.held_quant, out.held_quant, "a quantize of integers")
    ctx.builder.emit("reshape", [source], result, {"shape": out.shape}, op.source)


def _dequantize(ctx: _Import, op: Operator) -> None:
    x, out = ctx.operand(op, 0), ctx.result(op)
    source = ctx.activation(x)
    ctx.builder.emit("dequantize", [source], ctx.declare(out), {}, op.source)


Importer = Callable[[_Import, Operator], None]

IMPORTERS: Mapping[str, Importer] = {
    "ADD": _add,
    "AVERAGE_POOL_2D": _average_pool_2d,
    "CONV_2D": _conv_2d,
    "DEQUANTIZE": _dequantize,
    "FULLY_CONNECTED": _fully_connected,
    "MAX_POOL_2D": _max_pool_2d,
    "QUANTIZE": _quantize,
    "RELU": _relu,
    "RELU6": _relu6,
    "RESHAPE": _reshape,
    "SOFTMAX": _softmax,
}


def import_tflite(data: bytes, name: str) -> Graph:
    """The graph of a TFLite file's contents; `name` is its path, for messages."""
    builder = GraphBuilder(name, "tflite")
    try:
        check_model(data)
        file = TfliteFile.read(data)
    except FrontendError as error:
        raise builder.error(f"no readable TFLite file, {error}; fetch or export it again") from None
    ctx = _Import(file, builder)
    inputs = [_boundary(ctx, index) for index in file.inputs]
    for op in file.operators:
        importer = IMPORTERS.get(op.code)
        if importer is None:
            builder.miss(op.source, "no importer for it")
            continue
        try:
            importer(ctx, op)
        except Unsupported as error:
            builder.miss(op.source, str(error))
    outputs = [_boundary(ctx, index) for index in file.outputs]
    return builder.finish(inputs, outputs)


def _boundary(ctx: _Import, index: int) -> str:
    """Name of a graph input or output, declared."""
    tensor = ctx.file.tensors[index]
    if tensor.data is not None:
        raise ctx.builder.error(
            f"tensor {tensor.name!r} is constant and a graph input or output; export it again"
        )
    try:
        return ctx.declare(tensor)
    except Unsupported as error:
        raise ctx.builder.error(f"{error}; convert the graph's inputs and outputs") from None
