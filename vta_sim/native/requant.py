"""REQ: requantisation of accumulators with parameters per lane."""

from __future__ import annotations

from vta_hw.spec.arith import INT32_MAX, INT32_MIN
from vta_hw.spec.isa import REQ_IMMEDIATE, REQ_SHIFTS, Rounding
from vta_sim.lang.kinds import Array, Vec, f32, i8, i32, i64, inline, u32, u64
from vta_sim.lang.ops import at, bits_as, convert, load, rint, select, splat, store
from vta_sim.native.engine import ACC_LANES, REQ_LANES, Engine
from vta_sim.native.table import Insn

_ZERO_LOW = REQ_IMMEDIATE["zero_point"].low
_RIGHT_LOW, _RIGHT_MASK = REQ_SHIFTS["right"].low, REQ_SHIFTS["right"].mask
_LEFT_LOW, _LEFT_MASK = REQ_SHIFTS["left"].low, REQ_SHIFTS["left"].mask
_CLAMP_MIN_LOW, _CLAMP_MAX_LOW = REQ_SHIFTS["clamp_min"].low, REQ_SHIFTS["clamp_max"].low
_FAR = 65536.0
"""Beyond this a scaled value runs into the clamp whatever the zero point is."""


@inline
def requantise(e: Engine, insn: Insn, mode: int) -> None:
    """All micro-ops of a REQ instruction; parameters are held while src repeats.

    Lanes know nothing of each other. So it is done for a few lanes after the other, whose
    parameters stay in registers.
    """
    for first in range(0, ACC_LANES, REQ_LANES):
        requantise_lanes(e, insn, mode, at(e.acc, first))


@inline
def requantise_lanes(e: Engine, insn: Insn, mode: int, acc: Array[i32]) -> None:
    """All micro-ops, for the REQ_LANES lanes of every element that `acc` begins with."""
    # Locals: for all that LLVM knows, what is stored to ACC might change a structure.
    dsts, count = at(e.uops, e.patterns[insn.plan].first), e.patterns[insn.plan].count
    inner_count, dst_outer, dst_inner = insn.iter_in, insn.dst_factor_out, insn.dst_factor_in
    src_outer, src_inner = insn.src_factor_out, insn.src_factor_in
    zero_point = convert(i32, convert(i8, insn.imm >> _ZERO_LOW))
    held = -1
    bias = splat(i32, REQ_LANES, 0)
    multiplier = splat(i32, REQ_LANES, 0)
    left = splat(i32, REQ_LANES, 0)
    right = splat(i32, REQ_LANES, 0)
    low = splat(i32, REQ_LANES, 0)
    high = splat(i32, REQ_LANES, 0)
    for outer in range(insn.iter_out):
        for inner in range(inner_count):
            to = outer * dst_outer + inner * dst_inner
            by = outer * src_outer + inner * src_inner
            for number in range(count):
                src = (by + dsts[count + number]) * ACC_LANES
                if src != held:
                    held = src
                    bias = load(acc, src, REQ_LANES)
                    multiplier = load(acc, src + ACC_LANES, REQ_LANES)
                    packed = load(acc, src + 2 * ACC_LANES, REQ_LANES)
                    left = packed >> _LEFT_LOW & _LEFT_MASK
                    right = packed >> _RIGHT_LOW & _RIGHT_MASK
                    low = convert(i32, convert(i8, packed >> _CLAMP_MIN_LOW))
                    high = convert(i32, convert(i8, packed >> _CLAMP_MAX_LOW))
                dst = (to + dsts[number]) * ACC_LANES
                x = load(acc, dst, REQ_LANES) + bias << left
                scaled = scale(mode, x, multiplier, right) + zero_point
                # The upper bound decides last.
                store(acc, dst, min(max(scaled, low), high))


@inline
def scale(mode: int, x: Vec, multiplier: Vec, right: Vec) -> Vec:
    """Scaled by a rounding mode, kept so small that the zero point can be added."""
    if mode == Rounding.DOUBLE:
        rounded = rounding_shift(double_high(x, multiplier), right, REQ_LANES)
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
def rounding_shift(value: Vec, right: Vec, lanes: int) -> Vec:
    """Shift right by 0 to 63 (int32 lanes), rounded to nearest, ties away from zero.

    The sum of a magnitude and one half fits into 32 bits without a sign, as long as the shift does.
    """
    by = bits_as(u32, min(right, 31))
    size = bits_as(u32, abs(value))
    rounded = bits_as(i32, size + (splat(u32, lanes, 1) << by >> 1) >> by)
    small = select(value < 0, 0 - rounded, rounded)
    # Of the longer shifts only one leaves anything: -2^31 by 32, which is minus one half.
    lost = select((right == 32) & (value == INT32_MIN), splat(i32, lanes, -1), 0)
    return select(right < 32, small, lost)
