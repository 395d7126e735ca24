"""What the ALU does to integers: the definition every implementation is compared with.

Functions take arrays (or single numbers) that hold 32-bit two's complement values and return int32
arrays. They compute in 64 bits, so nothing overflows on the way; where a result does not fit, the
text says whether it wraps or saturates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vta_hw.spec.errors import EncodingError
from vta_hw.spec.isa import REQ_IMMEDIATE, REQ_SHIFTS, AluOp, Rounding, Slot

IntArray = npt.NDArray[Any]

INT32_MIN = -(1 << 31)
INT32_MAX = (1 << 31) - 1
INT8_MIN, INT8_MAX = -128, 127

REQ_RIGHT_MAX = REQ_SHIFTS["right"].greatest
"""Greatest right shift that the parameter word of REQ can hold."""
REQ_LEFT_MAX = REQ_SHIFTS["left"].greatest
"""Greatest left shift that the parameter word of REQ can hold."""


def wrap32(value: npt.ArrayLike) -> IntArray:
    """The low 32 bits of an integer, read as two's complement."""
    return np.asarray(value, np.int64).astype(np.int32)


def _wide(value: npt.ArrayLike) -> IntArray:
    return np.asarray(value).astype(np.int64)


def add(a: npt.ArrayLike, b: npt.ArrayLike) -> IntArray:
    """a + b, wrapping."""
    return wrap32(_wide(a) + _wide(b))


def mul(a: npt.ArrayLike, b: npt.ArrayLike) -> IntArray:
    """The low 32 bits of the product."""
    return wrap32(_wide(a) * _wide(b))


def minimum(a: npt.ArrayLike, b: npt.ArrayLike) -> IntArray:
    """The lesser one."""
    return wrap32(np.minimum(a, b))


def maximum(a: npt.ArrayLike, b: npt.ArrayLike) -> IntArray:
    """The greater one."""
    return wrap32(np.maximum(a, b))


def shr(a: npt.ArrayLike, amount: npt.ArrayLike) -> IntArray:
    """Arithmetic shift right; left by the magnitude if `amount` is negative.

    A magnitude of 32 or more leaves only the sign (right) or zero (left).
    """
    value, by = _wide(a), _wide(amount)
    right = value >> np.clip(by, 0, 32)
    left = value << np.clip(-by, 0, 32)
    return wrap32(np.where(by >= 0, right, left))


def rdhm(a: npt.ArrayLike, b: npt.ArrayLike) -> IntArray:
    """Rounding doubling high multiply: (a*b + 2^30) >> 31, saturated when both are -2^31."""
    high = (_wide(a) * _wide(b) + (1 << 30)) >> 31
    return np.minimum(high, INT32_MAX).astype(np.int32)


def rsr(a: npt.ArrayLike, amount: npt.ArrayLike) -> IntArray:
    """Shift right, rounded to nearest, ties away from zero; by any amount.

    A negative amount shifts left and wraps, as in `shr`.
    """
    value, by = _wide(a), _wide(amount)
    right = np.clip(by, 0, 33)  # |a| is at most 2^31: from 33 on everything rounds to zero
    half = (np.int64(1) << right) >> 1
    rounded = np.sign(value) * ((np.abs(value) + half) >> right)
    left = value << np.clip(-by, 0, 32)
    return wrap32(np.where(by >= 0, rounded, left))


# -- REQ ------------------------------------------------------------------------------------------


def pack_req_shift(
    right: npt.ArrayLike,
    left: npt.ArrayLike = 0,
    clamp_min: npt.ArrayLike = INT8_MIN,
    clamp_max: npt.ArrayLike = INT8_MAX,
) -> IntArray:
    """The third parameter of REQ as int32: shifts and int8 clamp bounds, lane by lane."""
    word = np.zeros((), np.int64)
    for name, value, part in (
        ("right shift", right, "right"),
        ("left shift", left, "left"),
        ("clamp minimum", clamp_min, "clamp_min"),
        ("clamp maximum", clamp_max, "clamp_max"),
    ):
        numbers, slot = _wide(value), REQ_SHIFTS[part]
        bad = numbers[(numbers < slot.least) | (numbers > slot.greatest)]
        if bad.size:
            raise EncodingError(
                f"the {name} of REQ must be within {slot.least}..{slot.greatest}, not {bad.flat[0]}"
            )
        word = word | (numbers & slot.mask) << slot.low
    return wrap32(word)


def unpack_req_shift(packed: npt.ArrayLike) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Right and left shift, clamp minimum and maximum in the third parameter of REQ, as int64."""
    word = _wide(packed)
    right, left, low, high = (
        _part(word, REQ_SHIFTS[name]) for name in ("right", "left", "clamp_min", "clamp_max")
    )
    return right, left, low, high


def _part(word: Any, slot: Slot) -> Any:
    """What a slot of `word`, an integer or an array of them, holds."""
    value = word >> slot.low & slot.mask
    return (value ^ -slot.least) + slot.least if slot.signed else value


def req_imm(zero_point: int, rounding: Rounding) -> int:
    """The immediate of REQ, as the signed value of the instruction's `imm` field."""
    slot = REQ_IMMEDIATE["zero_point"]
    if not slot.least <= zero_point <= slot.greatest:
        raise EncodingError(
            f"the zero point of REQ must be within {slot.least}..{slot.greatest}, not {zero_point}"
        )
    return (zero_point & slot.mask) << slot.low | int(rounding) << REQ_IMMEDIATE["mode"].low


def req_mode(imm: int) -> int:
    """Rounding mode in the immediate of REQ; 3 is reserved."""
    return int(_part(imm, REQ_IMMEDIATE["mode"]))


def req_sub_operation(imm: int) -> int:
    """Sub-operation in the immediate of REQ; only 0 exists."""
    return int(_part(imm, REQ_IMMEDIATE["sub_operation"]))


def _double(x: IntArray, multiplier: IntArray, right: IntArray) -> IntArray:
    return rsr(rdhm(x, multiplier), right).astype(np.int64)


def _single(x: IntArray, multiplier: IntArray, right: IntArray) -> IntArray:
    # floor((product + half) / 2^total) without a sum that could leave 64 bits.
    short_of_one = np.minimum(right + 30, 63)
    return ((x.astype(np.int64) * multiplier >> short_of_one) + 1) >> 1


def _float(x: IntArray, multiplier: IntArray, right: IntArray) -> IntArray:
    scale = multiplier.astype(np.int32).view(np.float32)
    with np.errstate(all="ignore"):
        rounded = np.rint(x.astype(np.float32) * scale)
    # Beyond 2^40 only the clamp bound that is hit matters; the cast needs a finite number.
    return np.clip(np.nan_to_num(rounded, nan=0.0), -(2.0**40), 2.0**40).astype(np.int64)


SCALE: Mapping[Rounding, Callable[[IntArray, IntArray, IntArray], IntArray]] = {
    Rounding.DOUBLE: _double,
    Rounding.SINGLE: _single,
    Rounding.FLOAT: _float,
}
"""REQ's scaling by rounding mode: (x, multiplier, right shift), exact in 64 bits.

double: `rdhm`, then `rsr`. single: the 64-bit product with a Q31 multiplier over 2^(31 + right),
rounded, ties up. float: float32(x) times the float32 whose bits the multiplier holds, rounded to
float32, then to an integer, ties to even; the right shift has no effect. An infinite product runs
into the clamp, a product that is not a number counts as 0.
"""


def req(
    x: npt.ArrayLike,
    bias: npt.ArrayLike,
    multiplier: npt.ArrayLike,
    packed: npt.ArrayLike,
    imm: int,
) -> IntArray:
    """Requantise: (x + bias) << left, wrapping; scaled; plus the zero point; clamped.

    `packed` is made by `pack_req_shift`, `imm` by `req_imm`. The scaled value and the zero point
    are added without wrapping. The clamp takes the maximum with its lower bound first, then the
    minimum with its upper one (which decides when the bounds are crossed).
    """
    right, left, low, high = unpack_req_shift(packed)
    shifted = wrap32(_wide(add(x, bias)) << left)
    scaled = SCALE[Rounding(req_mode(imm))](shifted, _wide(multiplier), right)
    zero_point = _part(imm, REQ_IMMEDIATE["zero_point"])
    return np.minimum(np.maximum(scaled + zero_point, low), high).astype(np.int32)


# -- the table ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AluRule:
    """One ALU operation: acc[dst] := apply(acc[dst], second operand).

    The second operand is acc[src] or the immediate. REQ reads `sources` consecutive vectors from
    acc[src] on and takes the immediate as its last argument. `fold` is the numpy ufunc of an
    operation that may be applied in any order (on int32 it wraps as the ALU does), else None.
    """

    apply: Callable[..., IntArray]
    meaning: str
    sources: int = 1
    fold: np.ufunc | None = None


ALU: Mapping[AluOp, AluRule] = {
    AluOp.MIN: AluRule(minimum, "min(a, b)", fold=np.minimum),
    AluOp.MAX: AluRule(maximum, "max(a, b)", fold=np.maximum),
    AluOp.ADD: AluRule(add, "a + b, wrapping", fold=np.add),
    AluOp.SHR: AluRule(
        shr, "a >> b arithmetic if b >= 0, a << -b if b < 0; magnitudes of 32 or more: sign or zero"
    ),
    AluOp.MUL: AluRule(mul, "low 32 bits of a * b", fold=np.multiply),
    AluOp.RDHM: AluRule(rdhm, "(a * b + 2^30) >> 31 in 64 bits; 2^31 - 1 if both are -2^31"),
    AluOp.RSR: AluRule(
        rsr, "a / 2^b to nearest, ties away from zero, if b >= 0; a << -b, wrapping, if b < 0"
    ),
    AluOp.REQ: AluRule(req, "requantise with acc[src], acc[src+1], acc[src+2]", sources=3),
}
"""Every ALU operation."""

if missing := set(AluOp) - ALU.keys():
    raise ImportError(f"ALU operations without a meaning: {sorted(missing)}")
