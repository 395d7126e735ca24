"""Integer arithmetic of the graph's references, on int64 numpy arrays.

Written apart from the instruction semantics of the hardware on purpose: the two are compared by
tests, so that neither can be wrong alone.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

INT32_MIN = -(1 << 31)
INT32_MAX = (1 << 31) - 1
MAX_LEFT_SHIFT = 31
MAX_RIGHT_SHIFT = 31


class Multiplier(NamedTuple):
    """real factor ~ multiplier / 2^31 * 2^(left - right); at least one shift is 0."""

    multiplier: int
    left: int
    right: int


def wrap_int32(x: Array) -> Array:
    """The low 32 bits as a signed number, in int64."""
    return np.asarray(x, np.int64).astype(np.int32).astype(np.int64)


def rdhm(a: Array, b: Array | int) -> Array:
    """Rounding doubling high multiply: (a * b + 2^30) >> 31, ties up, saturated."""
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    return np.minimum((product + (1 << 30)) >> 31, INT32_MAX)


def rsr(x: Array, shift: Array | int) -> Array:
    """Shift right by `shift` >= 0, to nearest, ties away from zero."""
    x = np.asarray(x, np.int64)
    amount = np.minimum(np.asarray(shift, np.int64), 40)
    half = np.where(amount > 0, np.int64(1) << np.maximum(amount - 1, 0), 0)
    magnitude = (np.abs(x) + half) >> amount
    return np.where(x < 0, -magnitude, magnitude)


def scale_double(x: Array, multiplier: Array | int, left: Array | int, right: Array | int) -> Array:
    """Two roundings: x << left (wrapping), `rdhm`, `rsr`."""
    shifted = wrap_int32(np.asarray(x, np.int64) << np.asarray(left, np.int64))
    return rsr(rdhm(shifted, multiplier), right)


def scale_single(x: Array, multiplier: Array | int, left: Array | int, right: Array | int) -> Array:
    """One rounding, ties up, of the 64-bit product with a Q31 multiplier."""
    shifted = wrap_int32(np.asarray(x, np.int64) << np.asarray(left, np.int64))
    product = shifted * np.asarray(multiplier, np.int64)
    # A product is below 2^62: any total shift of 63 gives what larger ones would.
    amount = np.minimum(np.asarray(right, np.int64) + 31, 62)
    return (product + (np.int64(1) << (amount - 1))) >> amount


def scale_float(x: Array, scale: Array) -> Array:
    """float32 product with a float32 scale, rounded to the nearest integer, ties to even."""
    product = np.asarray(x, np.int64).astype(np.float32) * np.asarray(scale, np.float32)
    bounded = np.clip(np.rint(product), np.float32(INT32_MIN), np.float32(2**31 - 128))
    return bounded.astype(np.int64)


def linear(x: Array, scale: np.float32, offset: np.float32) -> Array:
    """float32 x * scale + offset, each rounded, then rounded to an integer, ties to even."""
    product = np.asarray(x, np.int64).astype(np.float32) * np.float32(scale)
    return np.rint(product + np.float32(offset)).astype(np.int64)


def quantize_multiplier(factor: float) -> Multiplier:
    """A positive real factor as Q31 mantissa and shift, as LiteRT rounds it.

    Factors below 2^-32 become 0, as there; those of 2^31 and more are a ValueError.
    """
    if factor == 0.0:
        return Multiplier(0, 0, 0)
    mantissa, exponent = math.frexp(factor)
    fixed = _round_half_away(mantissa * (1 << 31))
    if fixed == 1 << 31:
        fixed //= 2
        exponent += 1
    if exponent < -MAX_RIGHT_SHIFT:
        return Multiplier(0, 0, 0)
    if exponent > MAX_LEFT_SHIFT - 1:
        raise ValueError(f"scale factor {factor!r} must be below 2^{MAX_LEFT_SHIFT - 1}")
    return Multiplier(fixed, max(exponent, 0), max(-exponent, 0))


def _round_half_away(value: float) -> int:
    magnitude = math.floor(abs(value) + 0.5)
    return magnitude if value >= 0 else -magnitude


def quantize_to(x: Array, scale: Array, zero_point: Array, rounding: str = "even") -> Array:
    """round(x / scale) + zero point, saturated to the zero point's type.

    `rounding`: ties go to "even" or "away" from zero; "reciprocal" multiplies by the float32
    1 / scale in place of dividing, ties to even.
    """
    info = np.iinfo(zero_point.dtype)
    real: Array = x.astype(np.float32)
    real = real * (np.float32(1) / scale) if rounding == "reciprocal" else real / scale
    # A NaN has no quantised value; the runtimes' vector conversions give the least one.
    real = np.nan_to_num(real, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    if rounding == "away":
        rounded = np.copysign(np.floor(np.abs(real).astype(np.float64) + 0.5), real)
    else:
        rounded = np.rint(real)
    moved = rounded + zero_point.astype(np.float32)
    return np.clip(moved, info.min, info.max).astype(zero_point.dtype)


def quantize_real(value: float, scale: np.float32, zero_point: int, rounding: str = "away") -> int:
    """The quantised value of a real number, in float32, ties "away" or to "even".

    It is clamped to the range of int32 only.
    """
    with np.errstate(over="ignore"):
        steps = float(np.float32(value) / np.float32(scale))
    steps = min(max(steps, float(INT32_MIN)), float(INT32_MAX))
    return zero_point + (_round_half_away(steps) if rounding == "away" else round(steps))
