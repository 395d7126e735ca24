"""Numbers on which arithmetic goes wrong first, and DRAM contents made of them."""

from __future__ import annotations

import struct
from random import Random

EDGES = (0, 1, -1, 31, 32, 33, -31, -32, -33, 2**31 - 1, -(2**31), 2**30, -(2**30), 127, -128)
_SCALES = (0x3A83126F, 0x3C000000, 0x3F7FFFFF, 0x38D1B717, 0x3F000000, 0x3B9A0275)
_ODD_SCALES = (0, 0x80000000, 1, 0x7FFFFF, 0x7F7FFFFF, 0xFF7FFFFF, 0xBC000000, 0x4B000000)
_NO_NUMBERS = (0x7F800000, 0xFF800000, 0x7FC00000, 0xFF800001)
_INT_MIN = -(1 << 31)


def req_lane(rng: Random, mode: int, old: int) -> tuple[int, int, int]:
    """Bias, multiplier and shifts of one lane of REQ that holds `old`.

    Ordinary values, extreme ones, or values for which the result lies on or just beside a tie.
    """
    low, high = sorted(rng.choices((-128, 127, 0, rng.randint(-128, 127)), k=2))
    if rng.random() < 0.1:
        low, high = high, low
    left, right = rng.choice((0, 0, 0, 4, 20)), rng.randint(0, 14)
    match rng.randrange(3):
        case 0:
            bias, scale = rng.randint(-(2**16), 2**16), rng.choice(_SCALES)
            multiplier = rng.randint(2**30, 2**31 - 1)
        case 1:
            bias = rng.choice((_INT_MIN, *EDGES)) - rng.choice((old, 0))
            scale = rng.choice((*_ODD_SCALES, *_NO_NUMBERS))
            multiplier = rng.choice((_INT_MIN, *EDGES))
            left = rng.choice((0, rng.randint(0, 31)))
            right = rng.choice((0, 1, 31, 32, 33, 62, 63))
        case _:
            left, low, high, multiplier = 0, -128, 127, 1 << 30
            twice = 2 * rng.randint(-60, 60) + 1
            x = (twice << right) + rng.choice((0, 0, -1, 1))
            scale = 0x33800000  # 2^-24
            if mode == 2 and rng.random() < 0.5:
                x = (twice << 23) + rng.choice((0, 0, -1, 1))
            elif mode == 2:
                x = rng.randint(1 << 20, (1 << 31) - 1)
                scale = struct.unpack("<I", struct.pack("<f", twice / 2 / x))[0]
            bias = x - old
    junk = rng.getrandbits(32) & 0xE0C0
    shape = right | left << 8 | (low & 255) << 16 | (high & 255) << 24 | junk
    return bias, scale if mode == 2 else multiplier, shape


def random_image(rng: Random, size: int) -> bytes:
    """Random bytes, small 32-bit numbers and edge values, in patches of 64 bytes."""
    out = bytearray()
    while len(out) < size:
        match rng.randrange(3):
            case 0:
                out += rng.randbytes(64)
            case 1:
                for _ in range(16):
                    out += (rng.randint(-64, 64) & 0xFFFFFFFF).to_bytes(4, "little")
            case _:
                for _ in range(16):
                    out += (rng.choice(EDGES) & 0xFFFFFFFF).to_bytes(4, "little")
    return bytes(out[:size])
