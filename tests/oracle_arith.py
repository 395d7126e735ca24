"""Integer and float32 arithmetic of the oracle's ALU, in Python integers of any size."""

from __future__ import annotations

from tests import oracle_words as w


def signed(value: int, bits: int) -> int:
    """The low `bits` of `value` as a two's complement number."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def alu(op: int, a: int, b: int) -> int:
    """op(a, b) for every ALU operation but REQ."""
    match op:
        case w.MIN:
            return min(a, b)
        case w.MAX:
            return max(a, b)
        case w.ADD:
            return signed(a + b, 32)
        case w.SHR:
            return a >> b if b >= 0 else _left(a, -b)
        case w.MUL:
            return signed(a * b, 32)
        case w.RDHM:
            return doubling_high(a, b)
        case w.RSR:
            return rounding_right(a, b) if b >= 0 else _left(a, -b)
        case _:
            raise ValueError(f"no plain ALU operation {op}")


def _left(a: int, amount: int) -> int:
    return 0 if amount >= 32 else signed(a << amount, 32)


def doubling_high(a: int, b: int) -> int:
    """(2ab) / 2^32 rounded with ties up, saturated."""
    return min((a * b + (1 << 30)) >> 31, (1 << 31) - 1)


def rounding_right(a: int, amount: int) -> int:
    """a / 2^amount rounded to nearest, ties away from zero."""
    if amount > 64:
        return 0
    half = (1 << amount) >> 1
    magnitude = (abs(a) + half) >> amount
    return -magnitude if a < 0 else magnitude


def requantise(lane: int, bias: int, multiplier: int, shape: int, imm: int) -> int:
    """One lane of REQ; `shape` is the third parameter word."""
    right, left = shape & 0x3F, shape >> 8 & 0x1F
    least, greatest = signed(shape >> 16, 8), signed(shape >> 24, 8)
    x = signed((lane + bias) << left, 32)
    mode = imm >> 8 & 3
    if mode == 0:
        scaled = rounding_right(doubling_high(x, multiplier), right)
    elif mode == 1:
        scaled = (x * multiplier + (1 << (30 + right))) >> (31 + right)
    else:
        scaled = float_scaled(x, multiplier)
    return min(max(scaled + signed(imm, 8), least), greatest)


# -- binary32, on (mantissa, exponent) pairs ------------------------------------------------

_HUGE = 1 << 200
"""Stands for infinity: every clamp turns it into a bound."""


def _half_even(magnitude: int, shift: int) -> int:
    quotient, rest = magnitude >> shift, magnitude & ((1 << shift) - 1)
    half = 1 << (shift - 1)
    return quotient + (rest > half or (rest == half and quotient & 1 == 1))


def _round32(mantissa: int, exponent: int) -> tuple[int, int]:
    """The float32 nearest to mantissa * 2^exponent, ties to even, subnormals included."""
    excess = max(mantissa.bit_length() - 24, -149 - exponent)
    if excess > 0:
        mantissa, exponent = _half_even(mantissa, excess), exponent + excess
    if mantissa.bit_length() + exponent > 128:
        return _HUGE, 0
    return mantissa, exponent


def float_scaled(x: int, bits: int) -> int:
    """round(float32(x) * scale), roundings to nearest even; `bits` (signed) encode the scale.

    What is not a number counts as 0.
    """
    field, fraction = bits >> 23 & 0xFF, bits & 0x7FFFFF
    mantissa, power = _round32(abs(x), 0)
    if field == 0xFF:
        magnitude = _HUGE if mantissa and not fraction else 0
    else:
        scale, exponent = (fraction | 1 << 23, field - 150) if field else (fraction, -149)
        mantissa, power = _round32(mantissa * scale, power + exponent)
        magnitude = mantissa << power if power >= 0 else _half_even(mantissa, -power)
    return -magnitude if (x < 0) != (bits < 0) else magnitude
