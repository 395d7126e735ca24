"""numpy references of the core operators: integers as the foreign runtimes compute them.

Each takes operand values, operand types, the result type and the attributes. Nothing here has a
tolerance: tests compare with LiteRT and ONNX Runtime for equality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compiler.errors import GraphError
from compiler.graph import numerics
from compiler.graph.ir import Quant, TensorType
from compiler.graph.shapes import channel_axis
from compiler.graph.softmax import softmax_int8, softmax_real, softmax_table

Array = np.ndarray[Any, Any]
Values = Sequence[Array]
Types = Sequence[TensorType]
Attrs = Mapping[str, Any]


ROUNDINGS = ("even", "away", "reciprocal")
"""How a float32 becomes an int8; see `numerics.quantize_to`."""


def quant_of(type_: TensorType) -> Quant:
    """The quantisation of a type that must have one."""
    if type_.quant is None:
        raise GraphError(f"a tensor of type {type_} must be quantised")
    return type_.quant


def zero_point_of(type_: TensorType) -> int:
    """The zero point of a tensor quantised as a whole."""
    return int(quant_of(type_).zero_point[0])


def _to_nchw(x: Array, layout: str) -> Array:
    return x.transpose(0, 3, 1, 2) if layout == "NHWC" else x


def _from_nchw(x: Array, layout: str) -> Array:
    return x.transpose(0, 2, 3, 1) if layout == "NHWC" else x


def _pad(x: Array, pads: Sequence[int], value: int) -> Array:
    top, left, bottom, right = pads
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def _windows(
    x: Array, kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int] = (1, 1)
) -> Array:
    """Views [N, C, OH, OW, KH, KW] of a padded NCHW array."""
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    views = np.lib.stride_tricks.sliding_window_view(x, spans, axis=(2, 3))
    return views[:, :, :: strides[0], :: strides[1], :: dilation[0], :: dilation[1]]


def conv2d(values: Values, types: Types, out: TensorType, attrs: Attrs) -> Array:
    """acc = sum w * (x - zero point) + bias, wrapped to int32; padding contributes nothing."""
    x, w, bias = values
    layout = types[0].layout
    # float64 products and sums of these integers are exact (below 2^53) and run in BLAS.
    image = _to_nchw(x, layout).astype(np.float64) - zero_point_of(types[0])
    groups = attrs["groups"]
    parts = []
    for index in range(groups):
        channels = image.shape[1] // groups
        part = image[:, index * channels : (index + 1) * channels]
        views = _windows(
            _pad(part, attrs["pads"], 0), w.shape[2:], attrs["strides"], attrs["dilation"]
        )
        weights = w[index * (w.shape[0] // groups) : (index + 1) * (w.shape[0] // groups)]
        acc = np.tensordot(views, weights.astype(np.float64), axes=((1, 4, 5), (1, 2, 3)))
        parts.append(acc.transpose(0, 3, 1, 2))
    total = np.concatenate(parts, axis=1).astype(np.int64) + bias[:, None, None]
    return _from_nchw(numerics.wrap_int32(total), layout).astype(np.int32)


def dense(values: Values, types: Types, out: TensorType, attrs: Attrs) -> Array:
    """acc = x' @ w.T + bias with x' = x - zero point, wrapped to int32."""
    x, w, bias = values
    acc = (x.astype(np.float64) - zero_point_of(types[0])) @ w.T.astype(np.float64)
    return numerics.wrap_int32(acc.astype(np.int64) + bias).astype(np.int32)


def requantize(values: Values, types: Types, out: TensorType, attrs: Attrs) -> Array:
    """Accumulators scaled in one of the three rounding modes, moved by the zero point, clamped."""
    shape = [1] * values[0].ndim
    shape[channel_axis(types[0])] = -1
    return _requantized(values[0], shape, attrs)


def _requantized(acc: Array, shape: Sequence[int], attrs: Attrs) -> Array:
    """`shape` lays parameters along the channels; a single parameter fits every shape."""
    wide = acc.astype(np.int64)
    multiplier, left, right = (attrs[k].reshape(shape) for k in ("multiplier", "left", "right"))
    match attrs["mode"]:
        case "double":
            scaled = numerics.scale_double(wide, multiplier, left, right)
        case "single":
            scaled = numerics.scale_single(wide, multiplier, left, right)
        case "float":
            scaled = numerics.scale_float(wide, multiplier)
        case mode:
            raise GraphError(f"requantize mode must be double, single or float, not {mode!r}")
    return _clamp(scaled + attrs["zero_point"], attrs)


def add(values: Values, types: Types, out: TensorType, attrs: Attrs) -> Array:
    """Both operands scaled to a common fine scale, added, scaled to the result's."""
    match attrs["mode"]:
        case "double":
            total: Array | int = 0
            for value, type_, key in zip(values, types, ("lhs", "rhs"), strict=True):
                raised = (value.astype(np.int64) - zero_point_of(type_)) << attrs["left_shift"]
                total = total + numerics.scale_double(raised, *attrs[key])
            scaled = numerics.scale_double(np.asarray(total), *attrs["out"])
            return _clamp(scaled + zero_point_of(out), attrs)
        case "linear":
            a, b = (value.astype(np.int64) for value in values)
            acc = a * attrs["lhs_multiplier"] + b * attrs["rhs_multiplier"] + attrs["bias"]
            return _clamp((acc >> attrs["shift"]) + attrs["zero_point"], attrs)
        case "scaled":
            a, b = (value.astype(np.int64) for value in values)
            acc = a * attrs["lhs_multiplier"] + b * attrs["rhs_multiplier"] + attrs["bias"]
            scaled = numerics.scale_float(acc, np.array(attrs["scale"], np.float32))
            return _clamp(scaled + attrs["zero_point"], attrs)
        case mode:
            raise GraphError(f"add mode must be double, linear or scaled, not {mode!r}")


def max_pool2d(values: Values, types: Types, out: TensorType, attrs: Attrs) -> Array:
    """Greatest value of each window; padding never wins."""
    layout = types[0].layout
    image = _pad(_to_nchw(values[0], layout), attrs["pads"], -128)
    best = _windows(image, attrs["kernel"], attrs["strides"]).max(axis=(4, 5))
    return _from_nchw(_clamp(best.astype(np.int64), attrs), layout)


def avg_pool2d(values: Values, types: Types, out: TensorType, attrs: Attrs) -> Array:
    """Mean of the quantised values of each window; how it is rounded is said by `mode`."""
    layout = types[0].layout
    image = _to_nchw(values[0], layout).astype(np.int64)
    ones = np.ones_like(image[:1, :1])
    pads, kernel, strides = attrs["pads"], attrs["kernel"], attrs["strides"]
    sums = _windows(_pad(image, pads, 0), kernel, strides).sum(axis=(4, 5))
    border = int(attrs["count_include_pad"])
    counts = _windows(_pad(ones, pads, border), kernel, strides).sum(axis=(4, 5))
    return _from_nchw(_clamp(_mean(sums, counts, attrs), attrs), layout)


def _mean(sums: Array, counts: Array, attrs: Attrs) -> Array:
    match attrs["mode"]:
        case "litert":
            magnitude = (np.abs(sums) + counts // 2) // counts
            return np.where(sums < 0, -magnitude, magnitude)
        case "requant":
            scale = (attrs["scale"] / counts).astype(np.float32)
            scaled = numerics.scale_float(sums - counts * attrs["in_zero_point"], scale)
        case "double":
            shifts = attrs["multiplier"], attrs["left"], attrs["right"]
            scaled = numerics.scale_double(sums - counts * attrs["in_zero_point"], *shifts)
        case "linear":
            return numerics.linear(sums, attrs["scale"], attrs["offset"])
        case mode:
            raise GraphError(
                f"avg_pool2d mode must be litert, requant, double or linear, not {mode!r}"
            )
    return scaled + attrs["out_zero_point"]


def rescale(values: Values, types: Types, out: TensorType, attrs: Attrs) -> Array:
    """The same real values in another quantisation."""
    centred = values[0].astype(np.int32) - attrs["in_zero_point"]
    return _requantized(centred, (), attrs)


def pad(values: Values, types: Types, out: TensorType, attrs: Attrs) -> Array:
    """The image with a border of `value`."""
    layout = types[0].layout
    return _from_nchw(_pad(_to_nchw(values[0], layout), attrs["pads"], attrs["value"]), layout)


def unfold(values: Values, types: Types, out: TensorType, attrs: Attrs) -> Array:
    """The pixels of each window as channels [row, column, channel]; `value` outside the image."""
    layout = types[0].layout
    image = _to_nchw(values[0], layout)
    (kh, kw), (sh, sw), (rows, columns) = attrs["kernel"], attrs["strides"], attrs["size"]
    after = [
        max(0, (count - 1) * step + extent - before - size)
        for count, step, extent, before, size in zip(
            (rows, columns), (sh, sw), (kh, kw), attrs["before"], image.shape[2:], strict=True
        )
    ]
    views = _windows(_pad(image, (*attrs["before"], *after), attrs["value"]), (kh, kw), (sh, sw))
    views = views[:, :, :rows, :columns].transpose(0, 4, 5, 1, 2, 3)
    return _from_nchw(views.reshape(image.shape[0], -1, rows, columns), layout)


def concat(values: Values, types: Types, out: TensorType, attrs: Attrs) -> Array:
    """The operands one after the other along `axis`."""
    return np.concatenate(values, axis=attrs["axis"])


def clip(values: Values, types: Types, out: TensorType, attrs: Attrs) -> Array:
    """Values bounded by the quantised limits `min` and `max`."""
    return np.clip(values[0], attrs["min"], attrs["max"]).astype(np.int8)


def reshape(values: Values, types: Types, out: TensorType, attrs: Attrs) -> Array:
    """The same elements, row-major, under another shape."""
    return values[0].reshape(attrs["shape"])


def quantize(values: Values, types: Types, out: TensorType, attrs: Attrs) -> Array:
    """round(x / scale) + zero point, saturated; `rounding` as in `numerics.quantize_to`."""
    quant = quant_of(out)
    rounding = attrs["rounding"]
    if rounding not in ROUNDINGS:
        raise GraphError(
            f"quantize rounding must be one of {', '.join(ROUNDINGS)}, not {rounding!r}"
        )
    zero_point = quant.zero_point.astype(np.int8)[0]
    return numerics.quantize_to(values[0], quant.scale[0], zero_point, rounding)


def dequantize(values: Values, types: Types, out: TensorType, attrs: Attrs) -> Array:
    """(q - zero point) * scale in float32."""
    quant = quant_of(types[0])
    shifted = values[0].astype(np.int32) - int(quant.zero_point[0])
    return shifted.astype(np.float32) * quant.scale[0]


def _clamp(x: Array, attrs: Attrs) -> Array:
    return np.clip(x, attrs["clamp_min"], attrs["clamp_max"]).astype(np.int8)


def softmax(values: Values, types: Types, out: TensorType, attrs: Attrs) -> Array:
    """exp(x - max) / sum along the last axis, quantised; how is said by `mode`."""
    match attrs["mode"]:
        case "litert":
            return softmax_int8(values[0], attrs["table"])
        case "table":
            return softmax_table(values[0], attrs["table"])
        case mode:
            raise GraphError(f"softmax mode must be litert or table, not {mode!r}")


def softmax_float(values: Values, types: Types, out: TensorType, attrs: Attrs) -> Array:
    """exp(x - max) / sum along the last axis, in float32 throughout."""
    return softmax_real(values[0])
