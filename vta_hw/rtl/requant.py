"""The arithmetic of REQ's mode *float*, and its clamp: what takes more than an integer adder.

All of it is combinational; the lane of the ALU puts the registers between.

No number is ever normalised. The result is clamped to 8 bits, so only scaled values z with
abs(z) < 2^9 need care. They are held in fixed point with 26 bits of fraction and a *sticky* bit for
what lies below. Of the rounding of the product to 24 significant bits nothing else can be seen in
the integer than this: a z no farther from j + 1/2 than half a unit of its 24th bit becomes j + 1/2,
and so goes to the even one of j and j + 1.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data

SIGNIFICAND = 24
FRACTION = 26
"""Enough for z from 1/4 on, below which all goes to 0: half a unit of its 24th bit is 2^-26."""
WHOLE = 10
HALF_BITS = WHOLE + 1
"""Bits of a number that counts halves."""

Z_BITS = WHOLE + FRACTION
"""Bits of z in fixed point."""
BELOW_BITS = 31
"""Bits that the shift to fixed point may drop."""

_FLOAT32 = data.StructLayout({"fraction": SIGNIFICAND - 1, "exponent": 8, "negative": 1})
# The exponent field of a float32 whose significand, read as an integer, has the weight 1.
_UNIT = 150
_COARSE = 11  # bits by which the product is first shifted left for a large scale
_TINY = _UNIT - 56  # below this exponent field, abs(z) <= 2^(31 + 24 - 57): it rounds to 0
_FINE_END = _UNIT - 31  # from here on the product is shifted left first
_HUGE = _UNIT - 14  # from here on abs(z) is 2^(23 - 14) at least, if it is not 0

_LEAST = FRACTION - 2  # the bit of z with the weight 1/4
_SMEARED = 4  # Before its register, the magnitude is smeared over distances below this one.

LIMITS = data.StructLayout(
    {"low": signed(HALF_BITS), "high": signed(HALF_BITS), "least": signed(8), "most": signed(8)}
)
"""A clamp, made for comparing early: halves below `low` become `least`, from `high` on `most`."""

SCALE = data.StructLayout(
    {
        "shift": 5,  # right, to the fixed-point form
        "coarse": 1,  # left by _COARSE before
        "huge": 1,  # anything but 0 runs into a clamp
        "negative": 1,
    }
)
"""How a product with a float32's significand becomes z."""

FIXED = data.StructLayout(
    {
        "z": signed(Z_BITS),
        "negate": 1,
        "sticky": 1,
        "beyond": 1,
        "smeared": HALF_BITS,
    }
)
"""z rounded down, whether it is to be negated, whether it was not exact, whether it has more bits
(then its sign alone counts); and what rounding begins with: how long its magnitude is.
"""


def unpack_scale(word: Value) -> tuple[Value, Value]:
    """Significand (as an integer of 32 bits) and `SCALE` of a float32.

    The significand is 0 for all that cannot take a product away from 0: what is not a number, and
    scales so small that every product rounds to 0. An infinite one has that of 1 and is huge.
    """
    scale = _FLOAT32(word)
    exponent = scale.exponent
    not_a_number = (exponent == 0xFF) & (scale.fraction != 0)
    zero = not_a_number | (exponent < _TINY)
    significand = Mux(zero, 0, Cat(scale.fraction, Const(1, 1)))
    coarse = exponent >= _FINE_END
    shift = Mux(coarse, _HUGE - 1 - exponent, _UNIT - FRACTION - exponent)[:5]
    return significand, Cat(shift, coarse, exponent >= _HUGE, scale.negative)


def round_significand(m: Module, x: Value, enable: Value) -> tuple[Value, Value]:
    """With `enable`, `x` (signed, 32 bits) rounded to 24 significant bits, ties to even; else `x`.

    Also whether 2^31 came out, which is given as -2^31.
    """
    top = 32 - SIGNIFICAND
    sign = x[-1]
    # Seven bits tell how many are to be dropped: those from the 25th up, below the sign.
    above = Signal(top - 1)
    dropped = Signal(top - 1)
    rounded = Signal(32)
    m.d.comb += [
        above.eq(Mux(enable, x[SIGNIFICAND:31] ^ all_equal(sign, top - 1), 0)),
        dropped.eq(_smear(above)),
    ]
    highest = dropped & ~(dropped >> 1)
    odd = (x[1:top] & highest) != 0
    kept = Cat(~dropped, Const(-1, 33 - top))
    m.d.comb += rounded.eq((x + (dropped >> 1) + odd) & kept)
    return rounded, ~sign & rounded[-1]


def align_product(product: Value, scale: Value) -> Value:
    """The product (signed, 64 bits), for a large `SCALE` shifted to the left, still of 64 bits."""
    return Mux(SCALE(scale).coarse, Cat(Const(0, _COARSE), product[: 64 - _COARSE]), product[:])


def bits_below(scale: Value) -> Value:
    """A bit for each of the `BELOW_BITS` lowest of an aligned product: the shift drops it."""
    return Const((1 << BELOW_BITS) - 1, BELOW_BITS) >> ~SCALE(scale).shift


def fix_product(
    product: Value, aligned: Value, shifted: Value, scale: Value, below: Value, flip: Value
) -> Value:
    """`FIXED` of a signed 64-bit product; `flip` negates it besides the scale's sign.

    The product has at most 57 bits. `aligned` is `align_product`, `shifted` has the `Z_BITS` from
    bit `SCALE.shift` of that on, `below` is `bits_below`.
    """
    how = SCALE(scale)
    sign = product[-1]
    sticky = (aligned[:BELOW_BITS] & below).any()
    above = aligned[Z_BITS - 1 : -1]
    beyond = Mux(
        how.huge,
        product.any(),
        ((above ^ all_equal(sign, len(above))) & ~below[: len(above)]).any()
        | (how.coarse & ~_same(product[64 - _COARSE - 1 :])),
    )
    # Rounding down made a negative z its complement, whose highest bit differs only for exact
    # powers of two. The bits that can be highest in abs(z) go from 1/4 to 2^8.
    magnitude = shifted[_LEAST : _LEAST + HALF_BITS] ^ all_equal(sign, HALF_BITS)
    return Cat(
        shifted[: Z_BITS - 1],
        sign,
        how.negative ^ flip,
        sticky,
        beyond,
        _smear(magnitude, up_to=_SMEARED),
    )


def round_fixed(m: Module, fixed: Value) -> Value:
    """Halves (signed, `HALF_BITS`) that, plus one half and rounded down, give what REQ adds to.

    That is z rounded as the head of this file says, negated where it is to be. Without a meaning
    if z is `beyond`.
    """
    number = FIXED(fixed)
    z = number.z
    half = z[FRACTION - 1]
    below = Signal(FRACTION - 1)  # the fraction's bits below that of one half
    smeared = Signal(HALF_BITS)
    compared = Signal(HALF_BITS)
    tie = Signal()
    m.d.comb += [
        below.eq(z[: FRACTION - 1]),
        smeared.eq(_smear(number.smeared, first=_SMEARED)),
        # Half a unit of the 24th bit is bit c of `below` where bit c of the magnitude is highest:
        # from c on the bits of a z nearer than that to one half are all 1 below it, all 0 above.
        compared.eq(~(smeared >> 1)),
        tie.eq(
            (below[HALF_BITS:] == all_equal(~half, FRACTION - 1 - HALF_BITS))
            & (((below[:HALF_BITS] ^ all_equal(~half, HALF_BITS)) & compared) == 0)
            | (half & ~number.sticky & (below == (smeared & compared)))
        ),
    ]
    whole = z[FRACTION:]
    up = Mux(tie, whole[0], half)
    return Cat(up, whole) ^ all_equal(number.negate, HALF_BITS)


def halves_in_reach(halves: Value) -> tuple[Value, Value]:
    """The low `HALF_BITS` of a longer signed number of halves, and whether it has more."""
    return halves[:HALF_BITS], ~_same(halves[HALF_BITS - 1 :])


def clamp_limits(zero_point: Value, least: Value, most: Value) -> Value:
    """`LIMITS` for the bounds of a clamp, all of them signed and of 8 bits."""
    offset = Cat(Const(1, 1), zero_point).as_signed()
    return Cat(
        (2 * least - offset)[:HALF_BITS],
        (2 * most + 2 - offset)[:HALF_BITS],
        Mux(most < least, most, least)[:8],
        most[:8],
    )


def clamp_halves(
    m: Module, halves: Value, beyond: Value, negative: Value, zero_point: Value, limits: Value
) -> Value:
    """(halves + 1) / 2 rounded down, plus the zero point, clamped: signed, 8 bits.

    `halves` are signed, of `HALF_BITS`; if the number is `beyond` that, it is `negative` or not,
    which in a clamp to 8 bits is all that counts. Where the bounds are crossed, the upper one does.
    """
    number = halves.as_signed()
    limit = LIMITS(limits)
    total = Signal(signed(HALF_BITS + 1))
    low, high = Signal(), Signal()
    m.d.comb += [
        total.eq(number + Cat(Const(1, 1), zero_point).as_signed()),
        low.eq(Mux(beyond, negative, number < limit.low)),
        high.eq(Mux(beyond, ~negative, number >= limit.high)),
    ]
    return Mux(low, limit.least, Mux(high, limit.most, total[1:9].as_signed()))


def all_equal(bit: Value, width: int) -> Value:
    """`bit`, `width` times.

    Simulators spell out what a concatenation repeats, bit by bit; this is one choice.
    """
    return Mux(bit, Const((1 << width) - 1, width), Const(0, width))


def _smear(bits: Value, *, first: int = 1, up_to: int | None = None) -> Value:
    """Every bit that is high or has a high one above it.

    Distances double from step to step; those from `first` on and below `up_to` are done.
    """
    distance = first
    while distance < (len(bits) if up_to is None else up_to):
        bits = bits | bits >> distance
        distance *= 2
    return bits


def _same(bits: Value) -> Value:
    """Whether all bits are equal."""
    return bits.all() | ~bits.any()
