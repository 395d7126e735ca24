"""Host operators in numpy: what object code does, for machines that it is not for.

Results equal those of the compiled functions bit for bit. Integer functions are the ones that
define the instruction set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from runtime import buffers
from runtime.device import DeviceError
from runtime.package import HostCall, TensorInfo
from vta_hw.spec import arith
from vta_hw.spec.isa import Rounding

Array = np.ndarray[Any, Any]

# Images with their padding; a manifest that asks for more is nonsense.
_PADDED_ELEMENTS_MAX = 1 << 31
# Reals beyond these saturate whatever the zero point is.
_REAL_LIMIT = 1024.0
_ROUNDINGS = ("even", "away", "reciprocal")


@dataclass(frozen=True)
class HostOperands:
    """Operands of a call: tensors as they are held, then constants; and the types they go by.

    `types` has one entry per tensor among the inputs.
    """

    arrays: Sequence[Array]
    types: Sequence[TensorInfo]
    out: TensorInfo
    attrs: Mapping[str, Any]

    def array(self, index: int, dtype: str = "") -> Array:
        """Operand `index`, which must have this element type."""
        array = self.arrays[index]
        if dtype and array.dtype != dtype:
            raise ValueError(f"operand {index} must be {dtype}, not {array.dtype}")
        return array

    def integers(self, name: str, count: int) -> tuple[int, ...]:
        """An attribute of so many integers."""
        values = self.attrs[name]
        if not (isinstance(values, list) and len(values) == count and all(map(_is_int, values))):
            raise ValueError(f"attribute {name!r} must be {count} integers, not {values!r}")
        return tuple(values)

    def integer(self, name: str) -> int:
        """An attribute of one integer."""
        value = self.attrs[name]
        if not _is_int(value):
            raise ValueError(f"attribute {name!r} must be an integer, not {value!r}")
        return int(value)

    def number(self, name: str) -> float:
        """An attribute of one finite number."""
        value = self.attrs[name]
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not math.isfinite(value)
        ):
            raise ValueError(f"attribute {name!r} must be a finite number, not {value!r}")
        return float(value)

    def layout(self) -> str:
        """The axis order of the first operand, an image."""
        layout = self.types[0].layout
        if layout not in ("NHWC", "NCHW"):
            raise ValueError(f"an image must be NHWC or NCHW, not {layout!r}")
        return layout

    def choice(self, name: str, known: Sequence[str]) -> str:
        """An attribute that is one of some words."""
        value = self.attrs[name]
        if value not in known:
            raise ValueError(f"attribute {name!r} must be one of {', '.join(known)}, not {value!r}")
        return str(value)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 31


class HostNumpy:
    """The host calls of one package, by operator instead of by function."""

    def __init__(self, calls: Sequence[HostCall], tensors: Mapping[str, TensorInfo]) -> None:
        for call in calls:
            if call.op not in FORMS:
                raise DeviceError(
                    f"host function {call.symbol!r} is the operator {call.op!r}, which has no "
                    f"numpy form; compile the model for this machine with --host"
                )
            if len(call.outputs) != 1:
                raise DeviceError(
                    f"host call {call.symbol!r} must have one output, not {len(call.outputs)}; "
                    f"compile the model again"
                )
        self._tensors = tensors

    def call(self, call: HostCall, arrays: Sequence[Array]) -> None:
        """Compute a call from `arrays`, its inputs, into the last of them, its output."""
        *given, made = arrays
        tensors = self._tensors
        operands = HostOperands(
            given,
            [tensors[name] for name in call.inputs if name in tensors],
            tensors[call.outputs[-1]],
            call.attrs,
        )
        try:
            # Out-of-range reals and divisions by zero have defined results further down.
            with np.errstate(all="ignore"):
                result = FORMS[call.op](operands)
        except (
            LookupError, ValueError, TypeError, AttributeError, ArithmeticError, MemoryError,
        ) as error:  # fmt: skip
            raise _malformed(call, str(error)) from error
        if result.shape != made.shape or result.dtype != made.dtype:
            raise _malformed(
                call,
                f"it gives {result.dtype} of shape {result.shape}, not {made.dtype} of shape "
                f"{made.shape}",
            )
        made[...] = result


def _malformed(call: HostCall, text: str) -> DeviceError:
    reason = " ".join(text.split())
    return DeviceError(
        f"host operator {call.op!r} of call {call.symbol!r} is malformed: {reason}; "
        f"compile the model again"
    )


# -- layout and quantisation ----------------------------------------------------------------------


def _pack(call: HostOperands) -> Array:
    return buffers.pack(call.array(0, call.out.dtype), call.out)


def _unpack(call: HostOperands) -> Array:
    return buffers.unpack(call.array(0), call.types[0])


def _reshape(call: HostOperands) -> Array:
    return call.array(0).reshape(call.out.shape)


def _quantize(call: HostOperands) -> Array:
    rounding, scale = call.choice("rounding", _ROUNDINGS), np.float32(call.out.scale[0])
    x = call.array(0, "float32")
    real = x * (np.float32(1) / scale) if rounding == "reciprocal" else x / scale
    # A NaN is held to be less than everything.
    real = np.where(real >= -_REAL_LIMIT, real, np.float32(-_REAL_LIMIT))
    real = np.where(real < _REAL_LIMIT, real, np.float32(_REAL_LIMIT))
    if rounding != "away":
        whole = np.rint(real).astype(np.int32)
    else:
        whole = np.trunc(real).astype(np.int32)
        rest = real - whole.astype(np.float32)
        whole += (rest >= 0.5).astype(np.int32) - (rest <= -0.5).astype(np.int32)
    return _saturate(arith.add(whole, call.out.zero_point[0]))


def _dequantize(call: HostOperands) -> Array:
    source = call.types[0]
    centred = arith.add(call.array(0, "int8"), -source.zero_point[0])
    return centred.astype(np.float32) * np.float32(source.scale[0])


def _saturate(values: Array, least: int = -128, greatest: int = 127) -> Array:
    return np.minimum(np.maximum(values, least), greatest).astype(np.int8)


def _clamp(call: HostOperands, values: Array) -> Array:
    return _saturate(values, call.integer("clamp_min"), call.integer("clamp_max"))


# -- softmax --------------------------------------------------------------------------------------

# Formats of LiteRT's kernel: sums of exponentials Q12.19, reciprocals Q2.29.
_SUM_INTEGER_BITS = 12
_NEWTON_ONE = 1 << 29
_NEWTON_START = round(48 / 17 * _NEWTON_ONE)
_NEWTON_SLOPE = -round(32 / 17 * _NEWTON_ONE)
_NEWTON_STEPS = 3
_OUTPUT_BITS = 8


def _softmax(call: HostOperands) -> Array:
    if call.choice("mode", ("litert", "table")) == "table":
        return _softmax_table(call)
    x, table = call.array(0, "int8").astype(np.int32), call.array(1, "int32")
    exps = table[x.max(axis=-1, keepdims=True) - x]
    parts = arith.rsr(exps, _SUM_INTEGER_BITS)
    total = arith.wrap32(parts.astype(np.int64).sum(axis=-1, keepdims=True))
    bits = (total[..., None] >= np.left_shift(1, np.arange(31))).sum(axis=-1).astype(np.int32)
    fraction = total.astype(np.int64) << (32 - bits) & arith.INT32_MAX
    half = arith.wrap32((fraction >> 1) + (1 << 30))
    inverse = arith.add(arith.rdhm(half, _NEWTON_SLOPE), _NEWTON_START)
    for _ in range(_NEWTON_STEPS):
        error = arith.add(_NEWTON_ONE, -arith.rdhm(half, inverse))
        inverse = arith.add(inverse, arith.shr(arith.rdhm(inverse, error), -2))
    doubled = np.where(inverse >= 1 << 30, arith.INT32_MAX, arith.shr(inverse, -1))
    amount = bits + (_SUM_INTEGER_BITS + 31 - _OUTPUT_BITS - 32)
    return _saturate(arith.add(arith.rsr(arith.rdhm(exps, doubled), amount), -128))


def _softmax_table(call: HostOperands) -> Array:
    x, table = call.array(0, "int8").astype(np.int32), call.array(1, "float32")
    exps = table[x.max(axis=-1, keepdims=True) - x]
    shares = exps * (np.float32(1) / (_row_sum(exps) * np.float32(1 / 256)))
    return _saturate((shares + np.float32(0.5)).astype(np.int32) - 128)


# exp(x) = 2^k * exp(x - k ln 2): ln 2 in two parts, Taylor coefficients 1/7! .. 1/0!.
_LOG2_E = np.float32(math.log2(math.e))
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(math.log(2) - 0.693359375)
_EXP_COEFFICIENTS = tuple(np.float32(1 / math.factorial(n)) for n in range(7, -1, -1))
_LEAST_POWER = 126


def _softmax_float(call: HostOperands) -> Array:
    x, powers_of_two = call.array(0, "float32"), call.array(1, "float32")
    limit = np.float32(_LEAST_POWER) * _LN2_HIGH
    below = x.max(axis=-1, keepdims=True) - x
    below = np.where(below <= limit, below, limit)
    powers = np.rint(below * _LOG2_E)
    rest = powers * _LN2_HIGH - below + powers * _LN2_LOW
    value: Array = np.full(x.shape, _EXP_COEFFICIENTS[0], np.float32)
    for coefficient in _EXP_COEFFICIENTS[1:]:
        value = value * rest + coefficient
    exps = value * powers_of_two[powers.astype(np.int32)]
    return exps / _row_sum(exps)


def _row_sum(values: Array) -> Array:
    # One value after the other: `sum` would add in pairs.
    return np.cumsum(values, axis=-1, dtype=np.float32)[..., -1:]


# -- arithmetic -----------------------------------------------------------------------------------


def _conv2d(call: HostOperands) -> Array:
    x, w, bias = call.array(0, "int8"), call.array(1, "int8"), call.array(2, "int32")
    layout, groups = call.layout(), call.integer("groups")
    strides, dilation = call.integers("strides", 2), call.integers("dilation", 2)
    # Products and sums of these integers are exact in float64 (below 2^53), and run in BLAS.
    image = _to_nchw(x, layout).astype(np.float64) - call.types[0].zero_point[0]
    windows = _Windows(call, image, w.shape[2:], strides, dilation, 0)
    n, channels = image.shape[:2]
    grouped = w.reshape(groups, -1, channels // groups, *w.shape[2:]).astype(np.float64)
    total: Array | float = 0.0
    for (row, column), tap in windows.taps():
        columns = tap.reshape(n, groups, channels // groups, -1)
        total = total + grouped[..., row, column] @ columns
    sums = np.asarray(total).astype(np.int64).reshape(n, w.shape[0], *windows.extents)
    return _from_nchw(arith.wrap32(sums + bias[:, None, None]), layout)


def _dense(call: HostOperands) -> Array:
    x, w, bias = call.array(0, "int8"), call.array(1, "int8"), call.array(2, "int32")
    centred = x.astype(np.float64) - call.types[0].zero_point[0]
    return arith.wrap32((centred @ w.T.astype(np.float64)).astype(np.int64) + bias)


def _requantize(call: HostOperands) -> Array:
    x, source = call.array(0, "int32"), call.types[0]
    imm = _imm(call)
    shape = [1] * x.ndim
    shape[1 if x.ndim == 2 or source.layout == "NCHW" else -1] = -1
    multiplier, shifts = (call.array(i, "int32").reshape(shape) for i in (1, 2))
    return arith.req(x, 0, multiplier, shifts, imm).astype(np.int8)


def _imm(call: HostOperands) -> int:
    mode = call.choice("mode", [m.name.lower() for m in Rounding])
    return arith.req_imm(call.integer("zero_point"), Rounding[mode.upper()])


def _rescale(call: HostOperands) -> Array:
    x = call.array(0, "int8").astype(np.int32)
    multiplier, shifts = call.array(1, "int32")[0], call.array(2, "int32")[0]
    bias = -call.integer("in_zero_point")
    return arith.req(x, bias, multiplier, shifts, _imm(call)).astype(np.int8)


def _add(call: HostOperands) -> Array:
    mode = call.choice("mode", ("double", "linear", "scaled"))
    if mode != "double":
        return _integer_add(call, mode)
    raise_by = call.integer("left_shift")
    parts = []
    for index, key in enumerate(("lhs", "rhs")):
        centred = arith.add(call.array(index, "int8"), -call.types[index].zero_point[0])
        parts.append(_scaled(call, key, arith.shr(centred, -raise_by)))
    result = _scaled(call, "out", arith.add(*parts))
    return _clamp(call, arith.add(result, call.out.zero_point[0]))


def _integer_add(call: HostOperands, mode: str) -> Array:
    total: Array = np.asarray(call.integer("bias"))
    for index, key in enumerate(("lhs_multiplier", "rhs_multiplier")):
        wide = call.array(index, "int8").astype(np.int64)
        total = arith.add(total, arith.wrap32(wide * call.integer(key)))
    if mode == "scaled":
        real = total.astype(np.float32) * np.float32(call.number("scale"))
        shifted = np.rint(real).astype(np.int32)
    else:
        shifted = arith.shr(total, call.integer("shift"))
    return _clamp(call, arith.add(shifted, call.integer("zero_point")))


def _scaled(call: HostOperands, key: str, value: Array) -> Array:
    multiplier, left, right = call.integers(key, 3)
    return arith.rsr(arith.rdhm(arith.shr(value, -left), multiplier), right)


def _clip(call: HostOperands) -> Array:
    return _saturate(
        call.array(0, "int8").astype(np.int32), call.integer("min"), call.integer("max")
    )


def _max_pool2d(call: HostOperands) -> Array:
    windows, layout = _pooled(call, -128)
    best = reduce(np.maximum, (tap for _, tap in windows.taps()))
    return _from_nchw(_clamp(call, best), layout)


def _avg_pool2d(call: HostOperands) -> Array:
    windows, layout = _pooled(call, 0)
    total = reduce(np.add, (tap for _, tap in windows.taps()))
    match call.choice("mode", ("litert", "requant", "double", "linear")):
        case "litert":
            counts = call.array(1, "int32")
            magnitude = (np.abs(total) + counts // 2) // counts
            mean = np.where(total < 0, -magnitude, magnitude)
        case "linear":
            scale, offset = call.array(1, "float32")
            mean = np.rint(total.astype(np.float32) * scale + offset).astype(np.int32)
        case mode:
            rounding = Rounding.DOUBLE if mode == "double" else Rounding.FLOAT
            bias, multiplier, shifts = (call.array(i, "int32") for i in (1, 2, 3))
            imm = arith.req_imm(call.integer("out_zero_point"), rounding)
            mean = arith.req(total, bias, multiplier, shifts, imm)
    return _from_nchw(_clamp(call, mean), layout)


def _pad(call: HostOperands) -> Array:
    top, left, bottom, right = call.integers("pads", 4)
    image, layout = _to_nchw(call.array(0, "int8"), call.layout()), call.layout()
    n, c, height, width = image.shape
    if n * c * (height + top + bottom) * (width + left + right) > _PADDED_ELEMENTS_MAX:
        raise ValueError(f"an image of {height}x{width} is too large with its pads")
    borders = ((0, 0), (0, 0), (top, bottom), (left, right))
    padded = np.pad(image, borders, constant_values=call.integer("value"))
    return np.ascontiguousarray(_from_nchw(padded, layout))


def _unfold(call: HostOperands) -> Array:
    """The pixels of each window as channels [row, column, channel]."""
    layout, image = call.layout(), _to_nchw(call.array(0, "int8"), call.layout())
    (kh, kw), (sh, sw) = call.integers("kernel", 2), call.integers("strides", 2)
    (top, left), (rows, columns) = call.integers("before", 2), call.integers("size", 2)
    n, c, height, width = image.shape
    if min(kh, kw, sh, sw, rows, columns) < 1 or min(top, left) < 0:
        raise ValueError("an unfold needs positive kernel, strides and size, and no negative pads")
    tall, wide = (rows - 1) * sh + kh, (columns - 1) * sw + kw
    if n * c * max(tall * wide, rows * columns * kh * kw) > _PADDED_ELEMENTS_MAX:
        raise ValueError(f"windows of an image of {height}x{width} are too large")
    padded = np.full((n, c, tall, wide), call.integer("value"), np.int8)
    inside = image[:, :, : max(0, tall - top), : max(0, wide - left)]
    padded[:, :, top : top + inside.shape[2], left : left + inside.shape[3]] = inside
    taps = [
        padded[:, :, dy : dy + (rows - 1) * sh + 1 : sh, dx : dx + (columns - 1) * sw + 1 : sw]
        for dy in range(kh)
        for dx in range(kw)
    ]
    return np.ascontiguousarray(_from_nchw(np.concatenate(taps, axis=1), layout))


def _concat(call: HostOperands) -> Array:
    parts = [call.array(index, "int8") for index in range(len(call.arrays))]
    return np.concatenate(parts, axis=call.integer("axis"))


def _pooled(call: HostOperands, fill: int) -> tuple[_Windows, str]:
    layout = call.layout()
    image = _to_nchw(call.array(0, "int8"), layout).astype(np.int32)
    strides, kernel = call.integers("strides", 2), call.integers("kernel", 2)
    return _Windows(call, image, kernel, strides, (1, 1), fill), layout


class _Windows:
    """A padded NCHW image seen through a sliding window; `extents` are the positions per axis."""

    def __init__(
        self,
        call: HostOperands,
        image: Array,
        kernel: Sequence[int],
        strides: Sequence[int],
        dilation: Sequence[int],
        fill: int,
    ) -> None:
        pads = call.integers("pads", 4)
        if min(*kernel, *strides, *dilation) < 1 or min(pads) < 0:
            raise ValueError("kernel, strides and dilation must be positive, pads not negative")
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        height = image.shape[2] + pads[0] + pads[2]
        width = image.shape[3] + pads[1] + pads[3]
        if height < spans[0] or width < spans[1]:
            raise ValueError(f"a window of {spans} does not fit an image of {height}x{width}")
        if image.shape[0] * image.shape[1] * height * width > _PADDED_ELEMENTS_MAX:
            raise ValueError(f"an image of {height}x{width} is too large")
        self.image = np.pad(
            image, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])), constant_values=fill
        )
        self.extents = ((height - spans[0]) // strides[0] + 1, (width - spans[1]) // strides[1] + 1)
        self._kernel, self._strides, self._dilation = kernel, strides, dilation

    def taps(self) -> Iterator[tuple[tuple[int, int], Array]]:
        """Per element of the window: its index, and what it sees at every position."""
        rows, columns = ((e - 1) * s + 1 for e, s in zip(self.extents, self._strides, strict=True))
        for row in range(self._kernel[0]):
            for column in range(self._kernel[1]):
                top, left = row * self._dilation[0], column * self._dilation[1]
                view = self.image[
                    :, :, top : top + rows : self._strides[0],
                    left : left + columns : self._strides[1],
                ]  # fmt: skip
                yield (row, column), view


def _to_nchw(x: Array, layout: str) -> Array:
    return x.transpose(0, 3, 1, 2) if layout == "NHWC" else x


def _from_nchw(x: Array, layout: str) -> Array:
    return x.transpose(0, 2, 3, 1) if layout == "NHWC" else x


FORMS: Mapping[str, Callable[[HostOperands], Array]] = {
    "pack": _pack,
    "unpack": _unpack,
    "reshape": _reshape,
    "quantize": _quantize,
    "dequantize": _dequantize,
    "softmax": _softmax,
    "softmax_float": _softmax_float,
    "rescale": _rescale,
    "pad": _pad,
    "unfold": _unfold,
    "concat": _concat,
    "conv2d": _conv2d,
    "dense": _dense,
    "requantize": _requantize,
    "add": _add,
    "clip": _clip,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
}
"""The numpy form of every host operator."""
