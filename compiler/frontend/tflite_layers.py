"""Layers with weights or windows of TFLite models: convolutions, dense layers, pooling, padding."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import tflite

from compiler.frontend.builder import Array, Unsupported, check_same_quant, same_padding
from compiler.frontend.tflite_context import ImportContext, activation_name
from compiler.frontend.tflite_file import Operator, TfTensor, read_options
from compiler.graph.ir import Quant


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


def conv_2d(ctx: ImportContext, op: Operator) -> None:
    """CONV_2D; fewer weight channels than input channels make groups."""
    options = read_options(op, tflite.Conv2DOptions)
    w = ctx.operand(op, 1)
    quant = ctx.weights(w, 4)
    _convolution(ctx, op, options, w.held.transpose(0, 3, 1, 2), quant)


def depthwise_conv_2d(ctx: ImportContext, op: Operator) -> None:
    """DEPTHWISE_CONV_2D: weights [1, KH, KW, C * multiplier], a group per input channel."""
    options = read_options(op, tflite.DepthwiseConv2DOptions)
    w = ctx.operand(op, 1)
    quant = ctx.weights(w, 4, channel=3)
    if w.shape[0] != 1:
        raise Unsupported(f"its weights must have 1 as first extent, not the shape {w.shape}")
    _convolution(ctx, op, options, w.held.transpose(3, 0, 1, 2), quant)


def _convolution(
    ctx: ImportContext, op: Operator, options: Any, weights: Array, quant: Quant
) -> None:
    """A convolution with weights in the order OIHW."""
    x, out, name = ctx.operand(op, 0), ctx.result(op), ctx.operand(op, 1).name
    source = ctx.activation(x)
    strides = options.StrideH(), options.StrideW()
    dilation = options.DilationHFactor(), options.DilationWFactor()
    channels, group_channels, *kernel = weights.shape
    pads = _pads(options.Padding(), x, (kernel[0], kernel[1]), strides, dilation)
    held = ctx.builder.constant(name, weights, quant, "OIHW")
    attrs = {
        "strides": strides,
        "pads": pads,
        "dilation": dilation,
        "groups": x.shape[3] // group_channels,
        "layout": "NHWC",
        "activation": activation_name(options.FusedActivationFunction()),
    }
    names = [source, held, ctx.bias(op, x, quant, channels)]
    ctx.builder.emit("qnn.conv2d", names, ctx.activation(out), attrs, op.source)


def fully_connected(ctx: ImportContext, op: Operator) -> None:
    """FULLY_CONNECTED, over rows of as many values as the weights have."""
    options = read_options(op, tflite.FullyConnectedOptions)
    if options.WeightsFormat() != tflite.FullyConnectedOptionsWeightsFormat.DEFAULT:
        raise Unsupported(f"weights format {options.WeightsFormat()} must be the default one")
    x, out = ctx.operand(op, 0), ctx.result(op)
    w = ctx.operand(op, 1)
    quant = ctx.weights(w, 2)
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
    weights = ctx.builder.constant(w.name, w.held, quant)
    names = [source, weights, ctx.bias(op, x, quant, channels)]
    attrs = {"activation": activation_name(options.FusedActivationFunction())}
    ctx.builder.emit("qnn.dense", names, target, attrs, op.source)
    if target != result:
        ctx.builder.emit("reshape", [target], result, {"shape": out.shape}, op.source)


def _pool(ctx: ImportContext, op: Operator, name: str) -> None:
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
        "activation": activation_name(options.FusedActivationFunction()),
    }
    if name == "qnn.avg_pool2d":
        attrs["count_include_pad"] = False
    ctx.builder.emit(name, [source], result, attrs, op.source)


def average_pool_2d(ctx: ImportContext, op: Operator) -> None:
    """AVERAGE_POOL_2D; padding does not count."""
    _pool(ctx, op, "qnn.avg_pool2d")


def max_pool_2d(ctx: ImportContext, op: Operator) -> None:
    """MAX_POOL_2D."""
    _pool(ctx, op, "qnn.max_pool2d")


def mean(ctx: ImportContext, op: Operator) -> None:
    """MEAN over height and width, with or without keeping these axes."""
    options = read_options(op, tflite.ReducerOptions)
    x, out = ctx.operand(op, 0), ctx.result(op)
    axes = [int(axis) for axis in ctx.integers(op, 1).reshape(-1)]
    if len(x.shape) != 4 or sorted(axis % 4 for axis in axes if -4 <= axis < 4) != [1, 2]:
        raise Unsupported(f"it must average axes 1 and 2 of 4, not {axes} of {len(x.shape)}")
    source, result = ctx.activation(x), ctx.activation(out)
    attrs = {
        "kernel": x.shape[1:3],
        "strides": (1, 1),
        "pads": (0, 0, 0, 0),
        "layout": "NHWC",
        "activation": "none",
    }
    target = result
    if not options.KeepDims():
        shape = (x.shape[0], 1, 1, x.shape[3])
        image = replace(ctx.builder.type_of(result), shape=shape, layout="NHWC")
        target = ctx.builder.declare(f"{out.name}:image", image)
    ctx.builder.emit("qnn.mean", [source], target, attrs, op.source)
    if target != result:
        ctx.builder.emit("reshape", [target], result, {"shape": out.shape}, op.source)


def pad(ctx: ImportContext, op: Operator) -> None:
    """PAD of height and width with real zeros."""
    x, out = ctx.operand(op, 0), ctx.result(op)
    pads = ctx.integers(op, 1)
    if pads.shape != (4, 2) or len(x.shape) != 4 or pads[0].any() or pads[3].any():
        raise Unsupported(f"it must pad height and width of an image, not {pads.tolist()}")
    source, result = ctx.activation(x), ctx.activation(out)
    check_same_quant(x.held_quant, out.held_quant, "padding")
    (top, bottom), (left, right) = pads[1:3].tolist()
    attrs = {"pads": (top, left, bottom, right), "layout": "NHWC"}
    ctx.builder.emit("qnn.pad", [source], result, attrs, op.source)


def concatenation(ctx: ImportContext, op: Operator) -> None:
    """CONCATENATION of tensors with the quantisation of the result."""
    options = read_options(op, tflite.ConcatenationOptions)
    if activation_name(options.FusedActivationFunction()) != "none":
        raise Unsupported("it must have no fused activation")
    out, axis = ctx.result(op), options.Axis()
    if not -len(out.shape) <= axis < len(out.shape):
        raise Unsupported(f"axis {axis} does not fit the shape {out.shape}")
    parts = [ctx.operand(op, position) for position in range(len(op.inputs))]
    names = [ctx.activation(part) for part in parts]
    for part in parts:
        check_same_quant(part.held_quant, out.held_quant, "a concatenation")
    if not names:
        raise Unsupported("it must have operands")
    attrs = {"axis": axis % len(out.shape)}
    ctx.builder.emit("qnn.concat", names, ctx.activation(out), attrs, op.source)
