"""What the ALU computes, on plain Python numbers: written from the tables of docs/isa.md alone."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable, Mapping, Sequence

from vta_hw.spec.isa import AluOp, Rounding

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
CORNERS = (
    0, 1, -1, 2, -2, 3, -3, 127, 128, -128, -129, 1 << 23, (1 << 24) - 1, 1 << 24, (1 << 24) + 1,
    (1 << 24) + 2, (1 << 25) + 2, (1 << 25) + 6, 1 << 30, -(1 << 30), (1 << 30) + 1,
    INT32_MAX, INT32_MAX - 1, INT32_MAX - 63, INT32_MAX - 64, INT32_MIN, INT32_MIN + 1,
    INT32_MIN + 64, 0x55555555, -0x55555556,
)  # fmt: skip
AMOUNTS = (
    *range(-66, 67), 127, 128, -127, -128, 255, 256, -256, 1 << 20, -(1 << 20), INT32_MAX,
    INT32_MIN, INT32_MIN + 1,
)  # fmt: skip
FLOATS = (
    0x00000000, 0x80000000, 0x00000001, 0x807FFFFF, 0x00800000, 0x7F800000, 0xFF800000, 0x7FC00000,
    0xFF800001, 0x7F7FFFFF, 0xFF7FFFFF, 0x3F800000, 0xBF800000, 0x3F000000, 0x3F7FFFFF, 0x3EFFFFFF,
    0x34000000, 0x30000000, 0x2F000000, 0x43000000, 0x44000000, 0xC3800000,
)  # fmt: skip


def wrap(value: int) -> int:
    """The low 32 bits, signed."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def _float32(value: float) -> float:
    try:
        number: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        number = math.copysign(math.inf, value)
    return number


def shift_left(a: int, amount: int) -> int:
    """Wrapping; by 32 or more: zero."""
    return wrap(a << min(amount, 32))


def shr(a: int, b: int) -> int:
    """Arithmetic shift right, or left."""
    return a >> min(b, 32) if b >= 0 else shift_left(a, -b)


def rdhm(a: int, b: int) -> int:
    """Half the high word of twice the product."""
    return min((a * b + (1 << 30)) >> 31, INT32_MAX)


def rsr(a: int, b: int) -> int:
    """Over 2^b to nearest, ties away from zero; or left."""
    if b < 0:
        return shift_left(a, -b)
    if b > 40:
        return 0
    whole, rest = divmod(abs(a), 1 << b)
    whole += 2 * rest >= 1 << b
    return -whole if a < 0 else whole


def _scaled_float(x: int, bits: int) -> int:
    scale = struct.unpack("<f", struct.pack("<I", bits))[0]
    product = _float32(x) * scale
    if math.isnan(product):
        return 0
    product = _float32(product)
    if math.isinf(product):
        return (1 << 200) if product > 0 else -(1 << 200)
    return round(product)


def req(x: int, sources: Sequence[int], imm: int) -> int:
    """Requantise x by bias, multiplier, and word of shifts and bounds."""
    bias, multiplier, word = sources

    def byte(value: int, low: int) -> int:
        number = value >> low & 0xFF
        return number - 256 if number > 127 else number

    right, left = word & 63, word >> 8 & 31
    x = wrap((x + bias) << left)
    mode = imm >> 8 & 3
    if mode == Rounding.DOUBLE:
        y = rsr(rdhm(x, multiplier), right)
    elif mode == Rounding.SINGLE:
        y = (x * multiplier + (1 << 30 + right)) >> (31 + right)
    else:
        y = _scaled_float(x, multiplier & 0xFFFFFFFF)
    return min(max(y + byte(imm, 0), byte(word, 16)), byte(word, 24))


TWO: Mapping[AluOp, Callable[[int, int], int]] = {
    AluOp.MIN: min,
    AluOp.MAX: max,
    AluOp.ADD: lambda a, b: wrap(a + b),
    AluOp.SHR: shr,
    AluOp.MUL: lambda a, b: wrap(a * b),
    AluOp.RDHM: rdhm,
    AluOp.RSR: rsr,
}
"""Operations of two numbers."""


def apply(operation: AluOp, a: int, second: Sequence[int], imm: int) -> int:
    """One lane: a := op(a, second), for REQ with its three sources and the immediate."""
    return req(a, second, imm) if operation == AluOp.REQ else TWO[operation](a, second[0])


# -- random numbers -------------------------------------------------------------------------------


def number(rng: random.Random) -> int:
    """32 bits, signed, of any magnitude, or a corner."""
    if rng.random() < 0.2:
        return rng.choice(CORNERS)
    return wrap(rng.getrandbits(32)) >> rng.randrange(32)


def amount(rng: random.Random) -> int:
    """A shift, or any number."""
    return rng.choice(AMOUNTS) if rng.random() < 0.9 else number(rng)


def scale(rng: random.Random, x: int) -> int:
    """Bits of a float32, mostly one that takes `x` near a number of 8 bits, or near half of one."""
    draw = rng.random()
    if draw < 0.1:
        return wrap(rng.choice(FLOATS))
    if draw < 0.2:
        return wrap(rng.getrandbits(32))
    goal = rng.randrange(-600, 600) / 2 if draw < 0.8 else rng.choice((0.25, 0.5, 1.0, 0.75, 1.5))
    value = goal / x if x else goal
    bits = struct.unpack("<i", struct.pack("<f", _float32(value)))[0]
    return wrap(bits + rng.choice((0, 0, 0, 1, -1, 2, -2)))


def second(rng: random.Random, operation: AluOp, imm: int, a: int) -> tuple[int, ...]:
    """The second operand of `operation`; made for a first one of `a` where that matters."""
    if operation in (AluOp.SHR, AluOp.RSR):
        return (amount(rng),)
    if operation != AluOp.REQ:
        return (number(rng),)
    bias = 0 if rng.random() < 0.3 else number(rng)
    left = 0 if rng.random() < 0.5 else rng.randrange(32)
    right = rng.randrange(64) if rng.random() < 0.3 else rng.randrange(40)
    bounds = rng.choice((0x7F80, 0x7F80, 0x7F80, 0x0600, 0x807F, 0x2010, rng.getrandbits(16)))
    ignored = rng.getrandbits(32) & 0xE0C0
    word = right | left << 8 | bounds << 16 | ignored
    x = wrap((a + bias) << left)
    if imm >> 8 & 3 == Rounding.FLOAT:
        return bias, scale(rng, x), wrap(word)
    multiplier = number(rng)
    if rng.random() < 0.5 and x:
        multiplier = wrap((rng.randrange(-300, 300) << 30 + min(right, 31)) // x)
    return bias, multiplier, wrap(word)
