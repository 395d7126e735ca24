"""Shape and type rules of the operators: what an application gives, or why it is none.

A rule takes the operand types and the attributes and returns the shape and element type of the
result. It raises GraphError, in one sentence, for operands that the operator is not defined on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from compiler.errors import GraphError
from compiler.graph.ir import TensorType

Types = Sequence[TensorType]
Attrs = Mapping[str, Any]
Inferred = tuple[tuple[int, ...], str]


def axes_of(layout: str) -> tuple[int, int, int]:
    """Positions of the channel, height and width axes of an image layout."""
    if layout == "NHWC":
        return 3, 1, 2
    if layout == "NCHW":
        return 1, 2, 3
    raise GraphError(f"image layout must be 'NHWC' or 'NCHW', not {layout!r}")


def channel_axis(type_: TensorType) -> int:
    """The axis that per-channel parameters run along."""
    return 1 if len(type_.shape) == 2 or type_.layout == "NCHW" else len(type_.shape) - 1


def window_extent(
    size: int, kernel: int, stride: int, before: int, after: int, dilation: int = 1
) -> int:
    """Positions of a window along one axis; at least one must fit."""
    if min(kernel, stride, dilation) < 1 or min(before, after) < 0:
        raise GraphError(
            f"window must have positive kernel, stride and dilation and no negative padding, not "
            f"{kernel}, {stride}, {dilation} and {before}, {after}"
        )
    span = (kernel - 1) * dilation + 1
    room = size + before + after - span
    if room < 0:
        raise GraphError(f"a window of {span} does not fit an axis of {size} + {before} + {after}")
    return room // stride + 1


def _require(what: str, type_: TensorType, dtype: str, rank: int | None = None) -> None:
    if type_.dtype != dtype:
        raise GraphError(f"{what} must be {dtype}, not {type_.dtype}")
    if rank is not None and len(type_.shape) != rank:
        raise GraphError(f"{what} must have {rank} axes, not the shape {type_.shape}")


def _image_shape(x: TensorType, channels: int, height: int, width: int) -> tuple[int, ...]:
    if x.layout == "NHWC":
        return (x.shape[0], height, width, channels)
    return (x.shape[0], channels, height, width)


def conv2d(types: Types, attrs: Attrs) -> Inferred:
    """int8 image, int8 weights OIHW and int32 bias give an int32 accumulator image."""
    x, w, bias = types
    _require("conv2d input", x, "int8", 4)
    _require("conv2d weights", w, "int8", 4)
    _require("conv2d bias", bias, "int32", 1)
    c_axis, h_axis, w_axis = axes_of(x.layout)
    out_c, in_c, kh, kw = w.shape
    groups = attrs["groups"]
    if groups < 1 or in_c * groups != x.shape[c_axis] or out_c % groups:
        raise GraphError(
            f"conv2d weights {w.shape} in {groups} groups do not match {x.shape[c_axis]} input "
            "channels"
        )
    if bias.shape != (out_c,):
        raise GraphError(f"conv2d bias must have {out_c} values, not the shape {bias.shape}")
    top, left, bottom, right = attrs["pads"]
    (sh, sw), (dh, dw) = attrs["strides"], attrs["dilation"]
    height = window_extent(x.shape[h_axis], kh, sh, top, bottom, dh)
    width = window_extent(x.shape[w_axis], kw, sw, left, right, dw)
    return _image_shape(x, out_c, height, width), "int32"


def dense(types: Types, attrs: Attrs) -> Inferred:
    """int8 [N, K], int8 weights [O, K] and int32 bias [O] give int32 [N, O]."""
    x, w, bias = types
    _require("dense input", x, "int8", 2)
    _require("dense weights", w, "int8", 2)
    _require("dense bias", bias, "int32", 1)
    if x.shape[1] != w.shape[1]:
        raise GraphError(f"dense weights {w.shape} do not match an input of shape {x.shape}")
    if bias.shape != (w.shape[0],):
        raise GraphError(f"dense bias must have {w.shape[0]} values, not the shape {bias.shape}")
    return (x.shape[0], w.shape[0]), "int32"


def pool2d(types: Types, attrs: Attrs) -> Inferred:
    """int8 image to int8 image."""
    (x,) = types
    _require("pooling input", x, "int8", 4)
    c_axis, h_axis, w_axis = axes_of(x.layout)
    top, left, bottom, right = attrs["pads"]
    (kh, kw), (sh, sw) = attrs["kernel"], attrs["strides"]
    if max(top, bottom) >= kh or max(left, right) >= kw:
        raise GraphError(
            f"pooling pads {attrs['pads']} must be smaller than the window {(kh, kw)}, else a "
            "window holds padding only"
        )
    height = window_extent(x.shape[h_axis], kh, sh, top, bottom)
    width = window_extent(x.shape[w_axis], kw, sw, left, right)
    return _image_shape(x, x.shape[c_axis], height, width), "int8"


def requantize(types: Types, attrs: Attrs) -> Inferred:
    """int32 accumulators to int8 of the same shape."""
    (x,) = types
    _require("requantize input", x, "int32")
    channels = x.shape[channel_axis(x)]
    for key in ("multiplier", "left", "right"):
        if attrs[key].size not in (1, channels):
            raise GraphError(
                f"requantize {key} must have 1 or {channels} values, not {attrs[key].size}"
            )
    return x.shape, "int8"


def add(types: Types, attrs: Attrs) -> Inferred:
    """Two int8 tensors of one shape."""
    a, b = types
    _require("add operand", a, "int8")
    _require("add operand", b, "int8")
    if a.shape != b.shape:
        raise GraphError(f"add operands must have one shape, not {a.shape} and {b.shape}")
    return a.shape, "int8"


def same_int8(types: Types, attrs: Attrs) -> Inferred:
    """One int8 tensor to int8 of the same shape."""
    (x,) = types
    _require("operand", x, "int8")
    return x.shape, "int8"


def softmax(types: Types, attrs: Attrs) -> Inferred:
    """int8 to int8, along the last axis."""
    (x,) = types
    _require("softmax input", x, "int8")
    if not x.shape:
        raise GraphError("softmax input must have an axis, not be a scalar")
    return x.shape, "int8"


def reshape(types: Types, attrs: Attrs) -> Inferred:
    """The same elements in the same order under another shape."""
    (x,) = types
    shape = tuple(attrs["shape"])
    if min(shape, default=1) < 1 or math.prod(shape) != math.prod(x.shape):
        raise GraphError(f"shape {x.shape} cannot be reshaped to {shape}")
    return shape, x.dtype


def quantize(types: Types, attrs: Attrs) -> Inferred:
    """float32 to int8."""
    (x,) = types
    _require("quantize input", x, "float32")
    return x.shape, "int8"


def dequantize(types: Types, attrs: Attrs) -> Inferred:
    """int8 to float32."""
    (x,) = types
    _require("dequantize input", x, "int8")
    return x.shape, "float32"


def softmax_float(types: Types, attrs: Attrs) -> Inferred:
    """float32 to float32, along the last axis."""
    (x,) = types
    _require("softmax input", x, "float32")
    if not x.shape:
        raise GraphError("softmax input must have an axis, not be a scalar")
    return x.shape, "float32"


def pad(types: Types, attrs: Attrs) -> Inferred:
    """int8 image with a border."""
    (x,) = types
    _require("pad input", x, "int8", 4)
    c_axis, h_axis, w_axis = axes_of(x.layout)
    top, left, bottom, right = attrs["pads"]
    if min(attrs["pads"]) < 0:
        raise GraphError(f"pads must not be negative, as {tuple(attrs['pads'])} are")
    height, width = x.shape[h_axis] + top + bottom, x.shape[w_axis] + left + right
    return _image_shape(x, x.shape[c_axis], height, width), "int8"


def unfold(types: Types, attrs: Attrs) -> Inferred:
    """int8 image whose channels are the pixels of windows."""
    (x,) = types
    _require("unfold input", x, "int8", 4)
    sizes = (*attrs["kernel"], *attrs["strides"], *attrs["size"])
    if min(sizes) < 1 or min(attrs["before"]) < 0:
        raise GraphError(
            f"unfold must have positive kernel, strides and size and no negative padding, not "
            f"{sizes} and {tuple(attrs['before'])}"
        )
    kh, kw = attrs["kernel"]
    c_axis, _, _ = axes_of(x.layout)
    return _image_shape(x, kh * kw * x.shape[c_axis], *attrs["size"]), "int8"


def concat(types: Types, attrs: Attrs) -> Inferred:
    """int8 tensors, equal but for their extents along `axis`, one after the other."""
    first, axis = types[0], attrs["axis"]
    if not 0 <= axis < len(first.shape):
        raise GraphError(f"concat axis {axis} must be one of the shape {first.shape}")
    for type_ in types:
        _require("concat operand", type_, "int8", len(first.shape))
        rest = [a == b for a, b in zip(type_.shape, first.shape, strict=True)]
        if not all(rest[:axis] + rest[axis + 1 :]):
            raise GraphError(
                f"concat operands must be equal but for axis {axis}, not {first.shape} and "
                f"{type_.shape}"
            )
    extent = sum(type_.shape[axis] for type_ in types)
    return (*first.shape[:axis], extent, *first.shape[axis + 1 :]), "int8"
