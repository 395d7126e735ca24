"""REQ: requantisation of accumulators with parameters per lane."""

from __future__ import annotations

from vta_hw.spec.arith import INT32_MAX, INT32_MIN
from vta_hw.spec.isa import REQ_IMMEDIATE, REQ_SHIFTS, Rounding
from vta_sim.lang.kinds import Vec, f32, i8, i32, i64, inline, u32, u64
from vta_sim.lang.ops import bits_as, convert, load, rint, select, splat, store
from vta_sim.native.engine import ACC_LANES, Engine
from vta_sim.native.table import Insn

_ZERO_LOW = REQ_IMMEDIATE["zero_point"].low
_RIGHT_LOW, _RIGHT_MASK = REQ_SHIFTS["right"].low, REQ_SHIFTS["right"].mask
_LEFT_LOW, _LEFT_MASK = REQ_SHIFTS["left"].low, REQ_SHIFTS["left"].mask
_CLAMP_MIN_LOW, _CLAMP_MAX_LOW = REQ_SHIFTS["clamp_min"].low, REQ_SHIFTS["clamp_max"].low
_FAR = 65536.0
"""Beyond this a scaled value runs into the clamp whatever the zero point is."""


@inline
def requantise(e: Engine, insn: Insn, mode: int) -> None:
    """All micro-ops of a REQ instruction; parameters are held while src repeats."""
    uops = e.patterns[insn.plan]
    zero_point = convert(i32, convert(i8, insn.imm >> _ZERO_LOW))
    held = -1
    bias = splat(i32, ACC_LANES, 0)
    multiplier = splat(i32, ACC_LANES, 0)
    packed = splat(i32, ACC_LANES, 0)
    for outer in range(insn.iter_out):
        for inner in range(insn.iter_in):
            to = outer * insn.dst_factor_out + inner * insn.dst_factor_in
            by = outer * insn.src_factor_out + inner * insn.src_factor_in
            for number in range(uops.count):
                src = (by + e.uops[uops.first + uops.count + number]) * ACC_LANES
                if src != held:
                    held = src
                    bias = load(e.acc, src, ACC_LANES)
                    multiplier = load(e.acc, src + ACC_LANES, ACC_LANES)
                    packed = load(e.acc, src + 2 * ACC_LANES, ACC_LANES)
                dst = (to + e.uops[uops.first + number]) * ACC_LANES
                x = load(e.acc, dst, ACC_LANES) + bias << (packed >> _LEFT_LOW & _LEFT_MASK)
                scaled = scale(mode, x, multiplier, packed >> _RIGHT_LOW & _RIGHT_MASK)
                store(e.acc, dst, clamp(scaled + zero_point, packed))


@inline
def clamp(value: Vec, packed: Vec) -> Vec:
    """Between the bounds in the third parameter; the upper one decides last."""
    low = convert(i32, convert(i8, packed >> _CLAMP_MIN_LOW))
    high = convert(i32, convert(i8, packed >> _CLAMP_MAX_LOW))
    return convert(i32, min(max(value, low), high))


@inline
def scale(mode: int, x: Vec, multiplier: Vec, right: Vec) -> Vec:
    """Scaled by a rounding mode, with room for the zero point (int32 in mode float, else int64)."""
    if mode == Rounding.DOUBLE:
        rounded = rounding_shift(double_high(x, multiplier), right)
        # Far beyond the clamp the sum with the zero point must not wrap.
        scaled = min(max(rounded, -(1 << 30)), 1 << 30)
    elif mode == Rounding.SINGLE:
        short = convert(i64, min(right + 30, 63))
        shifted = (convert(i64, x) * convert(i64, multiplier) >> short) + 1 >> 1
        scaled = convert(i32, min(max(shifted, -(1 << 30)), 1 << 30))
    else:
        product = convert(f32, x) * bits_as(f32, multiplier)
        finite = select(product == product, product, 0.0)
        near = select(finite > _FAR, _FAR, select(finite < -_FAR, -_FAR, finite))
        scaled = convert(i32, rint(near))
    return scaled


@inline
def double_high(a: Vec, b: Vec) -> Vec:
    """(a * b + 2^30) >> 31, saturated: the operation RDHM."""
    product = convert(i64, a) * convert(i64, b) + (1 << 30)
    high = convert(i32, bits_as(u64, product) >> 31)
    both_least = (a == INT32_MIN) & (b == INT32_MIN)
    return select(both_least, INT32_MAX, high)


@inline
def rounding_shift(value: Vec, right: Vec) -> Vec:
    """Shift right by 0 to 63 (int32 lanes), rounded to nearest, ties away from zero.

    The sum of a magnitude and one half fits into 32 bits without a sign, as long as the shift does.
    """
    by = bits_as(u32, min(right, 31))
    size = bits_as(u32, abs(value))
    rounded = bits_as(i32, size + (splat(u32, ACC_LANES, 1) << by >> 1) >> by)
    small = select(value < 0, 0 - rounded, rounded)
    # Of the longer shifts only one leaves anything: -2^31 by 32, which is minus one half.
    lost = select((right == 32) & (value == INT32_MIN), splat(i32, ACC_LANES, -1), 0)
    return select(right < 32, small, lost)
