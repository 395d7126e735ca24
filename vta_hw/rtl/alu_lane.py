"""One lane of the ALU: 32 bits of acc[dst] and its second operand, in five stages."""

from __future__ import annotations

import operator

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from vta_hw.rtl.fabric import fabric_of
from vta_hw.rtl.requant import (
    FIXED,
    LIMITS,
    SCALE,
    all_equal,
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
from vta_hw.spec.isa import AluOp, Rounding

STAGES = 5
"""Cycles from the operand to the result."""

FORWARDS = STAGES - 1
"""Micro-ops whose results may be used before they are the lane's result."""

_PRODUCT = 2 * ACC_LANE_BITS
_HALVES = ACC_LANE_BITS + 3  # a product over 2^30, or twice a number of 32 bits, plus or minus two
_FINE_BITS = 3  # of an amount of the last shift: the rest of it is done a stage before

OPERATION = data.StructLayout(
    {
        **{operation.name.lower(): 1 for operation in AluOp},
        **{mode.name.lower(): 1 for mode in Rounding},
        "zero_point": signed(8),
    }
)
"""What the lanes do, decoded: one bit per opcode, and for REQ one per rounding mode."""

TAKE = data.StructLayout({"operand": 1, "multiplier": 1, "shifts": 1, "amount": 1, "immediate": 1})
"""Which registers of the second operand take what `read` holds, or with `immediate` what that does.

operand: b, or REQ's bias. multiplier: b again, for its product, or REQ's second vector. shifts:
REQ's third vector. amount: RSR's amount (already taken) moves on to where it is used, two cycles
after it was taken.
"""


class _Held:
    """The registers of the second operand.

    b: it, or REQ's bias. amount: of stage 0's shift, right with the sign or, with `left`, to the
    left by 32 less it. factor: what is multiplied, as it was read; a cycle later, multiplier: in
    mode *float* its significand, `scale` being the rest. right: of the last shift, and limits:
    REQ's clamp; both a cycle after `next_right` and `bounds`.
    """

    def __init__(self) -> None:
        self.b = Signal(signed(ACC_LANE_BITS))
        self.amount = Signal(6)
        self.left = Signal()
        self.factor = Signal(signed(ACC_LANE_BITS))
        self.multiplier = Signal(signed(ACC_LANE_BITS))
        self.scale = Signal(SCALE)
        self.next_right = Signal(6)
        self.right = Signal(6)
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
    the multiplier's scale changes from g + 5 to g + 6, and is used in stage 3; shifts and bounds
    change from g + 6 to g + 7. The micro-op that needed the slots is granted in g + 1 (REQ: g + 3)
    at the earliest, is in stage 0 from g + 4 (g + 6) on, in stage 2 from g + 6 on, in stage 3 from
    g + 7 on: there all is new. What an immediate brings is taken before its first micro-op is in
    stage 0, RSR's amount before stage 3.
    """

    def __init__(self, *, requant: bool) -> None:
        self._requant = requant
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
        a = Signal(signed(ACC_LANE_BITS))
        first, x = Signal(signed(ACC_LANE_BITS)), Signal(signed(ACC_LANE_BITS))
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
            with m.If(self.stage[1]):
                m.d.sync += x.eq(first)
            with m.If(self.stage[2]):
                m.d.sync += second.eq(Mux(self.operation.mul, product(x, held.multiplier), x))
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
            m.d.sync += [held.b.eq(taken), held.amount.eq(amount), held.left.eq(taken[-1])]
        with m.If(self.take.multiplier | self.take.immediate):
            m.d.sync += held.factor.eq(taken)
        if not self._requant:
            m.d.sync += held.multiplier.eq(held.factor)
            return
        significand, scale = unpack_scale(held.factor)
        m.d.sync += [
            held.multiplier.eq(Mux(self.operation.float, significand, held.factor)),
            held.scale.eq(scale),
        ]
        shifts = REQ_SHIFTS(taken)
        with m.If(self.take.shifts):
            m.d.sync += [
                held.bounds.eq(shifts),
                held.next_right.eq(shifts.right),
                held.amount.eq(ACC_LANE_BITS - shifts.left),
                held.left.eq(1),
            ]
        with m.If(self.take.amount):
            m.d.sync += held.next_right.eq(Mux(held.left, 0, held.amount))
        with m.If(self.take.immediate):
            m.d.sync += held.next_right.eq(0)
        bounds = held.bounds
        m.d.sync += [
            held.right.eq(held.next_right),
            held.limits.eq(
                clamp_limits(self.operation.zero_point, bounds.clamp_min, bounds.clamp_max)
            ),
        ]

    def _begin(self, m: Module, a: Value, held: _Held, first: Value) -> None:
        """Stage 0: MIN, MAX, ADD and SHR whole; RSR to the left; what REQ multiplies."""
        operation = self.operation
        total = Signal(signed(ACC_LANE_BITS))
        # REQ's results are not forwarded: what is shifted after the addition is there sooner.
        biased = Signal(signed(ACC_LANE_BITS))
        low, high = Signal(ACC_LANE_BITS), Signal(ACC_LANE_BITS)
        shifted = Signal(ACC_LANE_BITS)
        shiftable = Mux(operation.req, biased, a) if self._requant else a
        m.d.comb += [
            total.eq(a + held.b),
            biased.eq(self.read + held.b),
            low.eq(Mux(held.left, 0, shiftable[:])),
            high.eq(Mux(held.left, shiftable[:], all_equal(shiftable[-1], ACC_LANE_BITS))),
            shifted.eq(Cat(low, high).as_signed() >> held.amount),
        ]
        shifts = operation.shr
        if self._requant:
            shifts = shifts | operation.req | (operation.rsr & held.left)
        least = Mux((a < held.b) ^ operation.max, a[:], held.b[:])
        with m.If(self.stage[0]):
            m.d.sync += first.eq(
                Mux(
                    operation.min | operation.max,
                    least,
                    Mux(operation.add, total[:], Mux(shifts, shifted, a[:])),
                )
            )

    def _round(self, m: Module, first: Value, x: Value, wrapped: Value) -> None:
        """Stage 1: in mode *float* the number as a float32 holds it."""
        rounded, past_most = round_significand(m, first, self.operation.float)
        with m.If(self.stage[1]):
            m.d.sync += [x.eq(rounded), wrapped.eq(past_most)]

    def _multiply(
        self, m: Module, x: Value, wrapped: Value, held: _Held, product: Value, flip: Value
    ) -> None:
        """Stage 2: the product, or the number itself."""
        operation = self.operation
        with m.If(self.stage[2]):
            m.d.sync += flip.eq(wrapped)
            with m.If(operation.mul | operation.rdhm | operation.req):
                m.d.sync += product.eq(x * held.multiplier)
            with m.Else():
                m.d.sync += product.eq(x)

    def _scale(self, m: Module, product: Value, flip: Value, held: _Held, halves: Value) -> None:
        """Stage 3: halves of a number, yet to be shifted right and rounded up; or `FIXED`.

        RDHM, REQ: the product over 2^30. In mode *double* the sum is rounded as RDHM does, and less
        one if it is negative and to be shifted, so that ties go away from zero; as RSR's is. The
        bit below the halves is the carry of that and goes. The shift's larger part is done here.
        What mode *float* needs is in `requant`.
        """
        operation = self.operation
        twice = Signal(signed(ACC_LANE_BITS + 2))
        high = Signal(signed(ACC_LANE_BITS + 2))
        total = Signal(signed(_HALVES))
        unshifted = Signal(signed(_HALVES))
        fixed = Signal(FIXED.size)
        doubled = operation.rdhm | operation.double
        down = (held.right != 0) & product[-1]
        change = Mux(
            doubled,
            Mux(down, Const(-1, signed(3)), Const(1, signed(3))),
            Mux(operation.rsr & down, Const(-2, signed(3)), Const(0, signed(3))),
        )
        m.d.comb += [
            twice.eq(Cat(Const(0, 1), product[: ACC_LANE_BITS + 1])),
            high.eq(product[ACC_LANE_BITS - 2 :]),
            total.eq(Mux(doubled | operation.single, high, twice) + change),
            fixed.eq(fix_product(m, product, held.scale, flip)),
        ]
        saturated = ~high[-1] & high[-2]  # only (-2^31)^2 gets there
        even = Mux(saturated, Const((1 << ACC_LANE_BITS) - 2, _HALVES), Cat(Const(0, 1), total[1:]))
        coarse = Cat(Const(0, _FINE_BITS), held.right[_FINE_BITS:])
        m.d.comb += unshifted.eq(Mux(doubled, even, total[:]))
        with m.If(self.stage[3]):
            with m.If(operation.float):
                m.d.sync += halves.eq(fixed)
            with m.Else():
                m.d.sync += halves.eq(unshifted >> coarse)

    def _finish(self, m: Module, halves: Value, held: _Held) -> None:
        """Stage 4: the rest of the shift, round up, and for REQ add the zero point and clamp."""
        operation = self.operation
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
