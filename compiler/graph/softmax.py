"""LiteRT's two int8 softmaxes: fixed point (reference kernels) and float32 (default kernels).

Exponentials are functions of differences to the row's maximum. There are only 256 such differences,
so they are a table, in Q0.31 or in float32; what is left per row is a sum, one reciprocal and a
product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from compiler.graph.numerics import Array, rdhm, rsr

DIFF_INTEGER_BITS = 5
SUM_INTEGER_BITS = 12
_DIFF_FRACTION_BITS = 31 - DIFF_INTEGER_BITS
_ONE = (1 << 31) - 1


def _q31(value: float) -> int:
    return round(value * (1 << 31))


# exp(-2^k) for k = -2 .. 4: the factors of the bits of a difference above its last quarter.
_BIT_FACTORS = tuple((k, _q31(math.exp(-(2.0**k)))) for k in range(-2, DIFF_INTEGER_BITS))
_EXP_EIGHTH = _q31(math.exp(-1 / 8))
_THIRD = _q31(1 / 3)
# 48/17 and 32/17 in Q2.29: the linear start of Newton's iteration for a reciprocal.
_START = round(48 / 17 * (1 << 29))
_SLOPE = -round(32 / 17 * (1 << 29))


def _exp_quarter(a: Array) -> Array:
    """exp(a) in Q0.31 for a in [-1/4, 0): a Taylor polynomial of degree 4 around -1/8."""
    x = a + (1 << 28)
    x2 = rdhm(x, x)
    x3, x4 = rdhm(x2, x), rdhm(x2, x2)
    higher = rsr(rdhm(rsr(x4, 2) + x3, _THIRD) + x2, 1)
    return _EXP_EIGHTH + rdhm(np.asarray(_EXP_EIGHTH), x + higher)


def _exp_negative(a: Array) -> Array:
    """exp(a) in Q0.31 for a <= 0 in Q5.26."""
    quarter = 1 << (_DIFF_FRACTION_BITS - 2)
    low = (a & (quarter - 1)) - quarter
    result = _exp_quarter(low << DIFF_INTEGER_BITS)
    remainder = low - a
    for exponent, factor in _BIT_FACTORS:
        chosen = remainder & (1 << (_DIFF_FRACTION_BITS + exponent))
        result = np.where(chosen != 0, rdhm(result, factor), result)
    return np.where(a == 0, _ONE, result)


def exp_table(scale: np.float32, beta: float) -> Array:
    """int32[256]: entry d is exp(-scale * beta * d) in Q0.31, 0 where the kernel skips it."""
    factor = min(float(np.float32(beta)) * float(scale) * (1 << _DIFF_FRACTION_BITS), float(_ONE))
    if factor < 1:
        raise ValueError(f"softmax input scale x beta must be at least 2^-26, not {scale * beta!r}")
    mantissa, left = math.frexp(factor)
    multiplier = math.floor(mantissa * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, left = multiplier // 2, left + 1
    reach = ((1 << DIFF_INTEGER_BITS) - 1) * (1 << _DIFF_FRACTION_BITS) >> left
    differences = np.arange(256, dtype=np.int64)
    raised = np.minimum(differences, reach) << left
    exps = _exp_negative(rdhm(-raised, multiplier))
    return np.where(differences <= reach, exps, 0).astype(np.int32)


def _bit_lengths(x: Array) -> Iterator[int]:
    return (int(v).bit_length() for v in x.ravel())


def reciprocal(total: Array) -> tuple[Array, Array]:
    """1 / total as (Q0.31 fraction, right shift beside it), for sums of exponentials in Q12.19."""
    lengths = np.fromiter(_bit_lengths(total), np.int64, total.size).reshape(total.shape)
    headroom = 32 - lengths
    above_one = (total << headroom) - (1 << 31)
    half = (above_one + _ONE + 1) >> 1
    x = _START + rdhm(half, _SLOPE)
    for _ in range(3):
        error = (1 << 29) - rdhm(half, x)
        x = x + (rdhm(x, error) << 2)
    return np.minimum(x << 1, _ONE), SUM_INTEGER_BITS - headroom


def softmax_int8(x: Array, table: Array) -> Array:
    """The kernel along the last axis; the result has scale 1/256 and zero point -128."""
    wide = x.astype(np.int64)
    exps = table.astype(np.int64)[wide.max(axis=-1, keepdims=True) - wide]
    total = rsr(exps, SUM_INTEGER_BITS).sum(axis=-1, keepdims=True)
    fraction, shift = reciprocal(total)
    scaled = rsr(rdhm(exps, fraction), shift + 31 - 8)
    return np.clip(scaled - 128, -128, 127).astype(np.int8)


def float_exp_table(scale: np.float32, beta: float) -> Array:
    """float32[256]: entry d is exp(-scale * beta * d)."""
    factor = -np.float32(scale) * np.float32(beta)
    powers = factor * np.arange(256, dtype=np.float32)
    return np.exp(powers.astype(np.float64)).astype(np.float32)


def softmax_table(x: Array, table: Array) -> Array:
    """The float32 form along the last axis; the result has scale 1/256 and zero point -128."""
    wide = x.astype(np.int64)
    exps = table[wide.max(axis=-1, keepdims=True) - wide]
    # `cumsum` adds one after the other, as the kernel does; `sum` would add in pairs.
    total = np.cumsum(exps, axis=-1, dtype=np.float32)[..., -1:]
    shares = exps * (np.float32(1) / (total * np.float32(1 / 256)))
    return np.clip((shares + np.float32(0.5)).astype(np.int64) - 128, -128, 127).astype(np.int8)


LOG2_E = np.float32(math.log2(math.e))
# ln 2 in two parts, the first of few bits: k * LN2_HIGH is exact for the k that occur.
LN2_HIGH = np.float32(0.693359375)
LN2_LOW = np.float32(math.log(2) - 0.693359375)
# Taylor coefficients 1/7! .. 1/0!: beyond float32 for |x| <= ln(2) / 2.
EXP_COEFFICIENTS = tuple(np.float32(1 / math.factorial(n)) for n in range(7, -1, -1))
LEAST_POWER = 126
POWERS_OF_TWO = np.ldexp(np.float32(1), -np.arange(LEAST_POWER + 1))
"""Entry k is 2^-k."""


def softmax_real(x: Array) -> Array:
    """Softmax of float32 along the last axis, every operation in float32 and in a fixed order.

    Within some 1e-6 of the true one. Values that are 87 below the greatest count as if they were
    at 87; so do those that are no numbers.
    """
    limit = np.float32(LEAST_POWER) * LN2_HIGH
    below = x.max(axis=-1, keepdims=True) - x
    below = np.where(below <= limit, below, limit)
    powers = np.rint(below * LOG2_E)
    rest = powers * LN2_HIGH - below + powers * LN2_LOW
    value: Array = np.full(x.shape, EXP_COEFFICIENTS[0], np.float32)
    for coefficient in EXP_COEFFICIENTS[1:]:
        value = value * rest + coefficient
    exps = value * POWERS_OF_TWO[powers.astype(np.int64)]
    total = np.cumsum(exps, axis=-1, dtype=np.float32)[..., -1:]
    return exps / total
