"""One lane of the ALU: 32 bits of acc[dst] and its second operand, in five stages."""

from __future__ import annotations

import operator

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from vta_hw.rtl.alu_operation import OPERATION
from vta_hw.rtl.fabric import fabric_of
from vta_hw.rtl.requant import (
    BELOW_BITS,
    FIXED,
    LIMITS,
    SCALE,
    Z_BITS,
    align_product,
    all_equal,
    bits_below,
    clamp_halves,
    clamp_limits,
    fix_product,
    halves_in_reach,
    round_fixed,
    round_significand,
    unpack_scale,
)
from vta_hw.rtl.signatures import REQ_SHIFTS
from vta_hw.spec.config import ACC_LANE_BITS

STAGES = 5
"""Cycles from the operand to the result."""

FORWARDS = STAGES - 1
"""Micro-ops whose results may be used before they are the lane's result."""

_PRODUCT = 2 * ACC_LANE_BITS
_HALVES = ACC_LANE_BITS + 3  # a product over 2^30, or twice a number of 32 bits, plus or minus two
_FINE_BITS = 3  # of an amount of the last shift: the rest of it is done a stage before
_COARSE_BITS = 2  # of it are done together with mode *float*'s shift, the one above alone

TAKE = data.StructLayout({"operand": 1, "multiplier": 1, "shifts": 1, "amount": 1, "immediate": 1})
"""Which registers of the second operand take what `read` holds, or with `immediate` what that does.

operand: b, or REQ's bias. multiplier: b again, for its product, or REQ's second vector. shifts:
REQ's third vector. amount: RSR's amount (already taken) moves on to where it is used, two cycles
after it was taken.
"""


class _Held:
    """The registers of the second operand.

    b: it, or REQ's bias. amount: of stage 0's shift, right with the sign or, with `left`, to the
    left by 32 less it; straight: it is less than 32, or with `left` 32. factor: what is multiplied,
    as it was read; a cycle later, multiplier: in mode *float* its significand, `scale` being the
    rest, and after one more `below` the bits that its shift drops. right: of the last shift, down:
    it is not 0 and negative numbers are to be less before, as RSR and *double* want them, and
    limits: REQ's clamp; all a cycle after `next_right` and `bounds`. coarse: the part of stage 3's
    shift that both kinds of numbers have, in units of 2^_FINE_BITS.
    """

    def __init__(self) -> None:
        self.b = Signal(signed(ACC_LANE_BITS))
        self.amount = Signal(6)
        self.left = Signal()
        self.straight = Signal()
        self.factor = Signal(signed(ACC_LANE_BITS))
        self.multiplier = Signal(signed(ACC_LANE_BITS), reset_less=True)
        self.scale = Signal(SCALE)
        self.below = Signal(BELOW_BITS)
        self.next_right = Signal(6)
        self.right = Signal(6)
        self.down = Signal()
        self.coarse = Signal(_COARSE_BITS)
        self.bounds = Signal(REQ_SHIFTS)
        self.limits = Signal(LIMITS)


class AluLane(wiring.Component):
    """A lane: a := op(a, b).

    Members
    -------
    operation: what to do. Constant while anything is in a stage.
    read: the lane of what is read from ACC: a in a cycle with stage[0], else see `take`.
    immediate: sign-extended.
    take: see `TAKE`. `immediate` clears what RSR and REQ leave behind, so each instruction
        begins with it.
    stage: bit i: a micro-op is in stage i.
    forward: exactly one bit in a cycle with stage[0]. 0: stage 0 takes `read`. i: in its place, the
        result of the micro-op i cycles before. MIN, MAX, ADD and SHR only.
    result: of the micro-op that was in the last stage in the cycle before; keeps its value.

    Why the second operand needs no stages of its own: let g be the cycle in which its slot was
    granted. It is taken in g + 3. A micro-op before it was granted up to g - 1, so it is in stage 0
    up to g + 2, the last cycle but one with the old b, in stage 2 up to g + 4, the last one with
    the old multiplier. RSR's amount changes from g + 6 to g + 7, and that micro-op is in stage 3 up
    to g + 5, in stage 4 up to g + 6. For REQ, g + 1 and g + 2 are the grants of the other vectors:
    the multiplier's scale changes from g + 5 to g + 6, what is made of it a cycle later, and is
    used in stage 3; shifts and bounds change from g + 6 to g + 7. The micro-op that needed the
    slots is granted in g + 1 (REQ: g + 3) at the earliest, is in stage 0 from g + 4 (g + 6) on, in
    stage 2 from g + 6 on, in stage 3 from g + 7 on: there all is new. What an immediate brings is
    taken before its first micro-op is in stage 0, RSR's amount before stage 3.
    """

    def __init__(self, *, requant: bool) -> None:
        self._requant = requant
        self._later = Signal(OPERATION)
        super().__init__(
            {
                "operation": In(OPERATION),
                "read": In(signed(ACC_LANE_BITS)),
                "immediate": In(signed(16)),
                "take": In(TAKE),
                "stage": In(STAGES),
                "forward": In(FORWARDS + 1),
                "result": Out(ACC_LANE_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The stages, each with its register; without `requant` the last two only pass on."""
        m = Module()
        held = _Held()
        # What comes after stage 0 asks a cycle later, and so can ask a register that is near.
        m.d.sync += self._later.eq(self.operation)
        a = Signal(signed(ACC_LANE_BITS))
        first = Signal(signed(ACC_LANE_BITS))
        # What feeds multipliers has neither reset nor enable, so that it can become part of them.
        x = Signal(signed(ACC_LANE_BITS), reset_less=True)
        self._take(m, held)
        self._begin(m, a, held, first)
        # Numbers that are finished, where they lie in the register behind each stage.
        passed: list[Value] = [first, x]
        if self._requant:
            product = Signal(signed(_PRODUCT))
            wrapped, flip = Signal(), Signal()
            halves = Signal(max(FIXED.size, _HALVES))
            self._round(m, first, x, wrapped)
            self._multiply(m, x, wrapped, held, product, flip)
            self._scale(m, product, flip, held, halves)
            self._finish(m, halves, held)
            passed += [product[:ACC_LANE_BITS], halves[1 : 1 + ACC_LANE_BITS]]
        else:
            product = low_product if fabric_of(platform).wide_multipliers else operator.mul
            second, third = Signal(ACC_LANE_BITS), Signal(ACC_LANE_BITS)
            m.d.sync += x.eq(first)
            with m.If(self.stage[2]):
                m.d.sync += second.eq(Mux(self._later.multiplies, product(x, held.multiplier), x))
            with m.If(self.stage[3]):
                m.d.sync += third.eq(second)
            with m.If(self.stage[4]):
                m.d.sync += self.result.eq(third)
            passed += [second, third]
        chosen: Value = Const(0, ACC_LANE_BITS)
        for bit, value in zip(self.forward, [self.read, *passed], strict=True):
            chosen = chosen | (bit.replicate(ACC_LANE_BITS) & value[:])
        m.d.comb += a.eq(chosen)
        return m

    def _take(self, m: Module, held: _Held) -> None:
        """The registers of the second operand."""
        taken = Signal(signed(ACC_LANE_BITS))
        m.d.comb += taken.eq(Mux(self.take.immediate, self.immediate, self.read))
        near = taken[5:].all()  # not below -32
        amount = Mux(taken[-1], Mux(near, taken[:5], 0), Mux(taken[6:].any(), 63, taken[:6]))
        with m.If(self.take.operand | self.take.immediate):
            m.d.sync += [
                held.b.eq(taken),
                held.amount.eq(amount),
                held.left.eq(taken[-1]),
                held.straight.eq(~taken[5:].any()),
            ]
        with m.If(self.take.multiplier | self.take.immediate):
            m.d.sync += held.factor.eq(taken)
        if not self._requant:
            m.d.sync += held.multiplier.eq(held.factor)
            return
        significand, scale = unpack_scale(held.factor)
        m.d.sync += [
            held.multiplier.eq(Mux(self._later.float, significand, held.factor)),
            held.scale.eq(scale),
            held.below.eq(bits_below(held.scale)),
        ]
        shifts = REQ_SHIFTS(taken)
        with m.If(self.take.shifts):
            m.d.sync += [
                held.bounds.eq(shifts),
                held.next_right.eq(shifts.right),
                held.amount.eq(ACC_LANE_BITS - shifts.left),
                held.left.eq(1),
                held.straight.eq(shifts.left == 0),
            ]
        with m.If(self.take.amount):
            m.d.sync += held.next_right.eq(Mux(held.left, 0, held.amount))
        with m.If(self.take.immediate):
            m.d.sync += held.next_right.eq(0)
        bounds = held.bounds
        own = held.next_right[_FINE_BITS:][:_COARSE_BITS]
        shared = SCALE(held.scale.as_value()).shift[_FINE_BITS:]
        m.d.sync += [
            held.right.eq(held.next_right),
            held.down.eq((held.next_right != 0) & (self._later.doubles | self._later.rsr)),
            held.coarse.eq(Mux(self._later.float, shared, own)),
            held.limits.eq(
                clamp_limits(self._later.zero_point, bounds.clamp_min, bounds.clamp_max)
            ),
        ]

    def _begin(self, m: Module, a: Value, held: _Held, first: Value) -> None:
        """Stage 0: MIN, MAX, ADD and SHR whole; RSR to the left; what REQ multiplies."""
        operation = self.operation
        total = Signal(signed(ACC_LANE_BITS))
        # REQ's results are not forwarded: what is shifted after the addition is there sooner.
        biased = Signal(signed(ACC_LANE_BITS))
        least, unshifted = Signal(ACC_LANE_BITS), Signal(ACC_LANE_BITS)
        shiftable = Signal(ACC_LANE_BITS)
        m.d.comb += [
            total.eq(a + held.b),
            biased.eq(self.read + held.b),
            least.eq(Mux((a < held.b) ^ operation.max, a[:], held.b[:])),
            unshifted.eq(Mux(operation.extreme, least, Mux(operation.add, total[:], a[:]))),
            shiftable.eq(Mux(operation.req, biased[:], a[:]) if self._requant else a[:]),
        ]
        shifts = operation.shifts
        if self._requant:
            shifts = shifts | (operation.rsr & held.left)
        # REQ only shifts to the left, so that what comes from the right is never its sum's sign.
        shifted = _shifted_both_ways(m, shiftable, a[-1], held)
        with m.If(self.stage[0]):
            m.d.sync += first.eq(Mux(shifts, shifted, unshifted))

    def _round(self, m: Module, first: Value, x: Value, wrapped: Value) -> None:
        """Stage 1: in mode *float* the number as a float32 holds it."""
        rounded, past_most = round_significand(m, first, self._later.float)
        m.d.sync += [x.eq(rounded), wrapped.eq(past_most)]

    def _multiply(
        self, m: Module, x: Value, wrapped: Value, held: _Held, product: Value, flip: Value
    ) -> None:
        """Stage 2: the product, or the number itself."""
        operation = self._later
        with m.If(self.stage[2]):
            m.d.sync += flip.eq(wrapped)
            with m.If(operation.multiplies):
                m.d.sync += product.eq(x * held.multiplier)
            with m.Else():
                m.d.sync += product.eq(x)

    def _scale(self, m: Module, product: Value, flip: Value, held: _Held, halves: Value) -> None:
        """Stage 3: halves of a number, yet to be shifted right and rounded up; or `FIXED`.

        RDHM, REQ: the product over 2^30. In mode *double* the sum is rounded as RDHM does, and less
        one if it is negative and to be shifted, so that ties go away from zero; as RSR's is. The
        bit below the halves is the carry of that and goes. The shift's larger part is done here,
        by what shifts the product of mode *float*, of which the rest is in `requant`.
        """
        operation = self._later
        twice = Signal(signed(ACC_LANE_BITS + 2))
        high = Signal(signed(ACC_LANE_BITS + 2))
        total = Signal(signed(_HALVES))
        unshifted = Signal(signed(_HALVES))
        aligned = Signal(signed(_PRODUCT))
        shiftable = Signal(signed(Z_BITS + (1 << _FINE_BITS + _COARSE_BITS) - 1))
        fixed = Signal(FIXED.size)
        # With `doubles` 1, and -1 if negative and to be shifted; else 0, and RSR's -2.
        change = Cat(operation.doubles, (held.down & product[-1]).replicate(2)).as_signed()
        m.d.comb += [
            twice.eq(Cat(Const(0, 1), product[: ACC_LANE_BITS + 1])),
            high.eq(product[ACC_LANE_BITS - 2 :]),
            total.eq(Mux(operation.scales, high, twice) + change),
            aligned.eq(align_product(product, held.scale)),
        ]
        saturated = ~high[-1] & high[-2]  # only (-2^31)^2 gets there
        even = Mux(saturated, Const((1 << ACC_LANE_BITS) - 2, _HALVES), Cat(Const(0, 1), total[1:]))
        far = unshifted >> (1 << _FINE_BITS + _COARSE_BITS)
        m.d.comb += [
            unshifted.eq(Mux(operation.doubles, even, total[:])),
            shiftable.eq(Mux(operation.float, aligned, Mux(held.right[-1], far, unshifted))),
        ]
        coarse_bits = Z_BITS + (1 << _FINE_BITS) - 1
        coarse = _shifted_right(m, shiftable, held.coarse, coarse_bits, step=1 << _FINE_BITS)
        z = _shifted_right(m, coarse, held.scale.shift[:_FINE_BITS], Z_BITS)
        m.d.comb += fixed.eq(fix_product(product, aligned, z, held.scale, held.below, flip))
        with m.If(self.stage[3]):
            m.d.sync += halves.eq(Mux(operation.float, fixed, coarse[:_HALVES]))

    def _finish(self, m: Module, halves: Value, held: _Held) -> None:
        """Stage 4: the rest of the shift, round up, and for REQ add the zero point and clamp."""
        operation = self._later
        shifted = Signal(signed(_HALVES))
        rounded = Signal(signed(_HALVES))
        m.d.comb += [
            shifted.eq(halves[:_HALVES].as_signed() >> held.right[:_FINE_BITS]),
            rounded.eq((shifted + 1) >> 1),
        ]
        fixed = FIXED(halves[: FIXED.size])
        low_bits, beyond = halves_in_reach(shifted)
        clamped = clamp_halves(
            m,
            Mux(operation.float, round_fixed(m, fixed.as_value()), low_bits),
            Mux(operation.float, fixed.beyond, beyond),
            Mux(operation.float, fixed.z[-1] ^ fixed.negate, shifted[-1]),
            operation.zero_point,
            held.limits.as_value(),
        )
        with m.If(self.stage[4]):
            m.d.sync += self.result.eq(Mux(operation.req, clamped, rounded))


def _shifted_both_ways(m: Module, value: Value, sign: Value, held: _Held) -> Value:
    """`value` (32 bits) shifted as `_Held.amount` says; `sign` is its top bit, or that of another
    number if it is shifted to the left.

    It is the window of 32 bits that begins at bit `amount` of the number over its sign (to the
    right) or over zeros (to the left). Whether that is at 32 or above is decided first, bit by bit.
    """
    low, high = Signal(ACC_LANE_BITS), Signal(ACC_LANE_BITS - 1)
    m.d.comb += [
        low.eq(Mux(held.straight, value, all_equal(sign & ~held.left, ACC_LANE_BITS))),
        high.eq(Mux(held.left, value, all_equal(sign, ACC_LANE_BITS))),
    ]
    return _shifted_right(m, Cat(low, high), held.amount[:-1], ACC_LANE_BITS)


def _shifted_right(m: Module, value: Value, amount: Value, bits: int, *, step: int = 1) -> Value:
    """`bits` bits of `value` from bit `amount` * `step` on; it must have them all.

    The largest step comes first: what the smaller ones cannot reach is dropped there.
    """
    for level in reversed(range(len(amount))):
        by = step << level
        kept = bits + by - step
        part = Signal(kept)
        m.d.comb += part.eq(Mux(amount[level], value[by : by + kept], value[:kept]))
        value = part
    return value


def low_product(first: Value, second: Value) -> Value:
    """The low 32 bits of a product, from two multipliers of 25 x 18 bits, signed, and LUTs.

    The factors are cut into 24 and 8 bits, 17 and 15. What lies above the 32 bits is never made:
    of the upper parts' product nothing is needed, of the 8 and 17 bits' the lowest 8.
    """
    wide, narrow = 24, 17
    corner = ACC_LANE_BITS - wide
    above = ACC_LANE_BITS - narrow
    # Rows that are added, so that no tool makes a multiplier of it.
    rows = [Mux(second[bit], first[wide : ACC_LANE_BITS - bit], 0) << bit for bit in range(corner)]
    upper = first[:above] * second[narrow:]
    total = (
        first[:wide] * second[:narrow]
        + (upper[:above] << narrow)
        + (sum(rows[1:], rows[0]) << wide)
    )
    return total[:ACC_LANE_BITS]
