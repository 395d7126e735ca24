"""Convolutions and dense layers of ONNX models, in QDQ and in QLinear form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compiler.frontend.builder import Array, Unsupported, check_bias_scale, same_padding
from compiler.frontend.onnx_file import OnnxNode
from compiler.frontend.onnx_values import (
    Constant,
    Dequantised,
    Pending,
    QuantConstant,
    Quantised,
    Scope,
    Value,
    held_data,
    held_quant,
)
from compiler.graph.ir import Quant

# -- operands ------------------------------------------------------------------------------------


def activation(scope: Scope, node: OnnxNode, position: int) -> str:
    """Name of the int8 tensor behind a dequantised operand."""
    value = scope.value(node, position)
    if not isinstance(value, Dequantised):
        raise Unsupported(
            f"its operand {node.inputs[position]!r} is not quantised; quantise the model in full"
        )
    return value.name


def either(scope: Scope, node: OnnxNode) -> str:
    """Name of the first operand, an int8 tensor or its float view."""
    value = scope.value(node, 0)
    return value.name if isinstance(value, Quantised) else activation(scope, node, 0)


def _quant(scope: Scope, name: str) -> Quant:
    quant = scope.builder.type_of(name).quant
    assert quant is not None
    return quant


def _dequantised_weights(scope: Scope, node: OnnxNode) -> QuantConstant:
    value = scope.value(node, 1)
    if not isinstance(value, QuantConstant):
        raise Unsupported(f"its weights {node.inputs[1]!r} must be constant and quantised")
    return value


def _weights(scope: Scope, value: QuantConstant, rank: int, channel: int) -> tuple[str, Quant]:
    """Add symmetric int8 weights with the output channel first."""
    data, quant = value.data, value.quant
    if data.dtype != np.int8 or data.ndim != rank:
        raise Unsupported(
            f"its weights must be int8 with {rank} axes, not {data.dtype} of shape {data.shape}"
        )
    if np.any(quant.zero_point):
        raise Unsupported(
            f"its weights must have zero point 0, not {int(np.abs(quant.zero_point).max())} (128 "
            "for uint8); use symmetric weight quantisation"
        )
    if not quant.is_per_tensor:
        if quant.axis != channel or quant.scale.size != data.shape[channel]:
            raise Unsupported(f"its weight scales must run along the output channel, {channel}")
        quant = Quant(quant.scale, quant.zero_point, 0)
    data = np.ascontiguousarray(np.moveaxis(data, channel, 0))
    layout = "OIHW" if rank == 4 else ""
    return scope.builder.constant(value.name, data, quant, layout), quant


def _bias(scope: Scope, node: OnnxNode, position: int, weights: str, x: Quant, w: Quant) -> str:
    """Add the int32 bias, zeros where there is none."""
    channels = scope.builder.type_of(weights).shape[0]
    if not node.has(position):
        return scope.builder.constant(f"{node.outputs[0]}:bias", np.zeros(channels, np.int32))
    value = scope.value(node, position)
    quant = None
    if isinstance(value, QuantConstant):
        quant = value.quant
        check_bias_scale(quant, x, w)
    elif not isinstance(value, Constant):
        raise Unsupported(f"its bias {node.inputs[position]!r} must be constant")
    if value.data.dtype == np.float32:
        data, quant = as_bias(value.data.reshape(-1), x, w)
        return scope.builder.constant(value.name, data, quant)
    if value.data.dtype != np.int32:
        raise Unsupported(
            f"its bias {node.inputs[position]!r} must be quantised to int32, not {value.data.dtype}"
        )
    return scope.builder.constant(value.name, value.data.reshape(-1), quant)


def as_bias(real: Array, x: Quant, weights: Quant) -> tuple[Array, Quant]:
    """A float bias as int32, with the scale of the products."""
    info = np.iinfo(np.int32)
    with np.errstate(all="ignore"):
        scale = x.scale[0] * weights.scale
        steps = np.rint(real.astype(np.float64) / scale)
    if not (np.isfinite(steps).all() and np.isfinite(scale).all()):
        raise Unsupported("its bias and the product of its scales must be finite")
    zero = np.zeros(scale.size, np.int64)
    data = np.clip(steps, info.min, info.max).astype(np.int32)
    return data, Quant(scale, zero, None if scale.size == 1 else 0)


# -- convolution and dense -----------------------------------------------------------------------


def window_attrs(
    node: OnnxNode, shape: Sequence[int], kernel: tuple[int, int]
) -> dict[str, tuple[int, ...]]:
    """strides, pads and dilation of a 2-D window over an NCHW operand."""
    if len(shape) != 4:
        raise Unsupported(f"its operand must have 4 axes, not the shape {tuple(shape)}")
    strides = node.integers("strides", (1, 1))
    dilation = node.integers("dilations", (1, 1))
    match node.text("auto_pad", "NOTSET"):
        case "NOTSET":
            top, left, bottom, right = node.integers("pads", (0, 0, 0, 0))
        case "VALID":
            top = left = bottom = right = 0
        case ("SAME_UPPER" | "SAME_LOWER") as mode:
            top, bottom = same_padding(shape[2], kernel[0], strides[0], dilation[0])
            left, right = same_padding(shape[3], kernel[1], strides[1], dilation[1])
            if mode == "SAME_LOWER":
                top, bottom, left, right = bottom, top, right, left
        case mode:
            raise Unsupported(f"auto_pad must be one of ONNX's, not {mode!r}")
    return {"strides": strides, "pads": (top, left, bottom, right), "dilation": dilation}


def _conv_attrs(scope: Scope, node: OnnxNode, x: str, weights: str) -> dict[str, Any]:
    kernel = scope.builder.type_of(weights).shape[2:]
    if node.integers("kernel_shape", (kernel[0], kernel[1])) != kernel:
        raise Unsupported(f"kernel_shape must be that of the weights, {kernel}")
    window = window_attrs(node, scope.builder.type_of(x).shape, (kernel[0], kernel[1]))
    return {
        **window,
        "groups": node.integer("group", 1),
        "layout": "NCHW",
        "activation": "none",
    }


def conv(scope: Scope, node: OnnxNode) -> Value:
    """Conv between DequantizeLinear and QuantizeLinear."""
    x = activation(scope, node, 0)
    weights, quant = _weights(scope, _dequantised_weights(scope, node), 4, 0)
    attrs = _conv_attrs(scope, node, x, weights)
    bias = _bias(scope, node, 2, weights, _quant(scope, x), quant)
    return Pending("qnn.conv2d", (x, weights, bias), attrs, node.source)


def _gemm_channel(node: OnnxNode) -> int:
    """The output channel's axis in the weights of a Gemm."""
    if (node.real("alpha", 1.0), node.real("beta", 1.0)) != (1.0, 1.0):
        raise Unsupported("alpha and beta must be 1")
    if node.integer("transA", 0):
        raise Unsupported("transA must be 0")
    return 0 if node.integer("transB", 0) else 1


def _dense(scope: Scope, node: OnnxNode, channel: int) -> Value:
    x = activation(scope, node, 0)
    weights, quant = _weights(scope, _dequantised_weights(scope, node), 2, channel)
    bias = _bias(scope, node, 2, weights, _quant(scope, x), quant)
    return Pending("qnn.dense", (x, weights, bias), {"activation": "none"}, node.source)


def gemm(scope: Scope, node: OnnxNode) -> Value:
    """Gemm between DequantizeLinear and QuantizeLinear."""
    return _dense(scope, node, _gemm_channel(node))


def matmul(scope: Scope, node: OnnxNode) -> Value:
    """MatMul with constant weights, between DequantizeLinear and QuantizeLinear."""
    return _dense(scope, node, 1)


# -- QLinear form --------------------------------------------------------------------------------


def quantised_operand(scope: Scope, node: OnnxNode, position: int) -> tuple[str, Quant]:
    """(name, quantisation) of inputs position .. position + 2: value, scale, zero point."""
    quant, _ = scope.per_tensor(node, position + 1, "operand")
    value = scope.value(node, position)
    return scope.bind(value, quant, "operand"), quant


def _quantised_weights(scope: Scope, node: OnnxNode, channel: int) -> QuantConstant:
    data = scope.constant(node, 3, "weights")
    scale = scope.constant(node, 4, "weight scale")
    zero = scope.constant(node, 5, "weight zero point") if node.has(5) else np.zeros(1, data.dtype)
    if data.dtype not in (np.int8, np.uint8) or zero.dtype != data.dtype:
        raise Unsupported(f"its weights must be int8 or uint8, not {data.dtype}")
    return QuantConstant(node.inputs[3], held_data(data), held_quant(scale, zero, channel))


def qlinear_conv(scope: Scope, node: OnnxNode) -> Value:
    """QLinearConv."""
    x, x_quant = quantised_operand(scope, node, 0)
    weights, quant = _weights(scope, _quantised_weights(scope, node, 0), 4, 0)
    attrs = _conv_attrs(scope, node, x, weights)
    bias = _bias(scope, node, 8, weights, x_quant, quant)
    pending = Pending("qnn.conv2d", (x, weights, bias), attrs, node.source)
    return scope.emit(pending, node.outputs[0], *scope.per_tensor(node, 6, "result"))


def _qlinear_dense(
    scope: Scope, node: OnnxNode, channel: int, bias_at: int, result_at: int
) -> Value:
    x, x_quant = quantised_operand(scope, node, 0)
    weights, quant = _weights(scope, _quantised_weights(scope, node, channel), 2, channel)
    bias = _bias(scope, node, bias_at, weights, x_quant, quant)
    pending = Pending("qnn.dense", (x, weights, bias), {"activation": "none"}, node.source)
    return scope.emit(pending, node.outputs[0], *scope.per_tensor(node, result_at, "result"))


def qlinear_matmul(scope: Scope, node: OnnxNode) -> Value:
    """QLinearMatMul with constant weights."""
    return _qlinear_dense(scope, node, 1, bias_at=8, result_at=6)


def qgemm(scope: Scope, node: OnnxNode) -> Value:
    """QGemm, ONNX Runtime's own integer Gemm."""
    return _qlinear_dense(scope, node, _gemm_channel(node), bias_at=6, result_at=7)


def qlinear_add(scope: Scope, node: OnnxNode) -> Value:
    """QLinearAdd, ONNX Runtime's own addition of integers."""
    a, _ = quantised_operand(scope, node, 0)
    b, _ = quantised_operand(scope, node, 3)
    pending = Pending("qnn.add", (a, b), {"activation": "none"}, node.source)
    return scope.emit(pending, node.outputs[0], *scope.per_tensor(node, 6, "result"))
