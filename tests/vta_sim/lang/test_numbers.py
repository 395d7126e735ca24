"""Arithmetic of compiled functions, against Python's own integers and numpy's floats."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.vta_sim.lang.compiled import compiled, cut
from vta_sim.lang.kinds import Array, f32, i8, i16, i32, i64, inline, kernel, u8, u32, u64
from vta_sim.lang.ops import bits_as, convert, rint

OPERATORS = 14
COMPARISONS = 6


@inline
def all_operators(a, b, out):
    out[0] = a + b
    out[1] = a - b
    out[2] = a * b
    out[3] = a & b
    out[4] = a | b
    out[5] = a ^ b
    out[6] = -a
    out[7] = ~a
    out[8] = min(a, b)
    out[9] = max(a, b)
    out[10] = a << (b & 31)
    out[11] = a >> (b & 31)
    out[12] = a + b * 3 - (a ^ 5)
    out[13] = min(a, b, 7)


@inline
def comparisons(a, b, out):
    out[0] = a == b
    out[1] = a != b
    out[2] = a < b
    out[3] = a <= b
    out[4] = a > b
    out[5] = a >= b


def _expected(a: int, b: int, computed: np.dtype[Any]) -> list[int]:
    shifted = cut(a, computed)
    return [
        a + b,
        a - b,
        a * b,
        a & b,
        a | b,
        a ^ b,
        -a,
        ~a,
        min(a, b),
        max(a, b),
        a << (b & 31),
        shifted >> (b & 31),
        a + b * 3 - (a ^ 5),
        min(a, b, 7),
    ]


@kernel
def of_i8(a: i8, b: i8, out: Array[i8]) -> None:
    all_operators(a, b, out)


@kernel
def of_u8(a: u8, b: u8, out: Array[u8]) -> None:
    all_operators(a, b, out)


@kernel
def of_i16(a: i16, b: i16, out: Array[i16]) -> None:
    all_operators(a, b, out)


@kernel
def of_i32(a: i32, b: i32, out: Array[i32]) -> None:
    all_operators(a, b, out)


@kernel
def of_u32(a: u32, b: u32, out: Array[u32]) -> None:
    all_operators(a, b, out)


@kernel
def of_i64(a: i64, b: i64, out: Array[i64]) -> None:
    all_operators(a, b, out)


@kernel
def of_u64(a: u64, b: u64, out: Array[u64]) -> None:
    all_operators(a, b, out)


@kernel
def wide_of_i8(a: i8, b: i8, out: Array[i64]) -> None:
    all_operators(a, b, out)


@kernel
def wide_of_u32(a: u32, b: u32, out: Array[i64]) -> None:
    all_operators(a, b, out)


@kernel
def mixed(a: i32, b: u8, out: Array[i64]) -> None:
    all_operators(a, b, out)


def _numbers(kind: np.dtype[Any], rng: np.random.Generator, count: int = 60) -> list[int]:
    info = np.iinfo(kind)
    edges = [0, 1, 2, 3, 7, 31, 32, 33, int(info.max), int(info.max) - 1, int(info.min)]
    if info.min:
        edges += [-1, -2, -32, int(info.min) + 1]
    drawn = rng.integers(info.min, info.max, count, kind, endpoint=True).tolist()
    return [value for value in edges if info.min <= value <= info.max] + drawn


@pytest.mark.parametrize(
    ("function", "left", "right", "stored"),
    [
        (of_i8, "i1", "i1", "i1"),
        (of_u8, "u1", "u1", "u1"),
        (of_i16, "i2", "i2", "i2"),
        (of_i32, "i4", "i4", "i4"),
        (of_u32, "u4", "u4", "u4"),
        (of_i64, "i8", "i8", "i8"),
        (of_u64, "u8", "u8", "u8"),
        (wide_of_i8, "i1", "i1", "i8"),
        (wide_of_u32, "u4", "u4", "i8"),
        (mixed, "i4", "u1", "i8"),
    ],
    ids=lambda item: getattr(item, "__name__", None),
)
def test_integers_are_computed_in_64_bits_and_cut(function, left, right, stored, rng):
    """Whatever their width: results wrap only where they are stored."""
    out = np.zeros(OPERATORS, stored)
    computed = np.dtype("u8" if stored == "u8" else "i8")
    call = compiled(function)
    for a in _numbers(np.dtype(left), rng):
        for b in _numbers(np.dtype(right), rng, 10):
            call(a, b, out)
            expected = [cut(cut(v, computed), out.dtype) for v in _expected(a, b, computed)]
            assert out.tolist() == expected, (a, b)


@kernel
def compared_i8(a: i8, b: i8, out: Array[bool]) -> None:
    comparisons(a, b, out)


@kernel
def compared_u8_i8(a: u8, b: i8, out: Array[bool]) -> None:
    comparisons(a, b, out)


@kernel
def compared_i64(a: i64, b: i64, out: Array[bool]) -> None:
    comparisons(a, b, out)


@kernel
def compared_u64(a: u64, b: u64, out: Array[bool]) -> None:
    comparisons(a, b, out)


@kernel
def compared_f32(a: f32, b: f32, out: Array[bool]) -> None:
    comparisons(a, b, out)


def _order(a: Any, b: Any) -> list[bool]:
    return [a == b, a != b, a < b, a <= b, a > b, a >= b]


@pytest.mark.parametrize(
    ("function", "left", "right"),
    [
        (compared_i8, "i1", "i1"),
        (compared_u8_i8, "u1", "i1"),
        (compared_i64, "i8", "i8"),
        (compared_u64, "u8", "u8"),
    ],
    ids=lambda item: getattr(item, "__name__", None),
)
def test_comparisons_know_signs(function, left, right, rng):
    out = np.zeros(COMPARISONS, np.bool_)
    for a in _numbers(np.dtype(left), rng):
        for b in [a, *_numbers(np.dtype(right), rng, 5)]:
            if np.iinfo(right).min <= b <= np.iinfo(right).max:
                compiled(function)(a, b, out)
                assert out.tolist() == _order(a, b), (a, b)


def test_comparisons_of_floats_that_are_none():
    """As in Python: what is no number differs from everything, itself included."""
    out = np.zeros(COMPARISONS, np.bool_)
    numbers = [0.0, -0.0, 1.5, -2.0, math.inf, -math.inf, math.nan]
    for a in numbers:
        for b in numbers:
            compiled(compared_f32)(a, b, out)
            assert out.tolist() == _order(a, b), (a, b)


@kernel
def divided(a: i64, b: i64, out: Array[i64]) -> None:
    out[0] = a // b
    out[1] = a % b
    a //= b
    out[2] = a


@kernel
def divided_unsigned(a: u64, b: u64, out: Array[u64]) -> None:
    out[0] = a // b
    out[1] = a % b


def _quotient(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def test_division_is_that_of_c(rng):
    out = np.zeros(3, np.int64)
    for a in _numbers(np.dtype("i8"), rng):
        for b in (1, -1, 2, -2, 7, -7, 1 << 40, -(1 << 62)):
            if (a, b) == (-(1 << 63), -1):
                continue
            compiled(divided)(a, b, out)
            quotient = _quotient(a, b)
            assert out.tolist() == [quotient, a - b * quotient, quotient], (a, b)
    found = np.zeros(2, np.uint64)
    for a in _numbers(np.dtype("u8"), rng):
        for b in (1, 3, 1 << 63):
            compiled(divided_unsigned)(a, b, found)
            assert found.tolist() == [a // b, a % b]


@kernel
def divided_constants(out: Array[i64]) -> None:
    out[0] = -7 // 2
    out[1] = -7 % 4
    out[2] = 7 // -2
    out[3] = 7 % -4
    out[4] = -8 // 2
    out[5] = 9 // 4 * 4 + 9 % 4


def test_constants_are_divided_as_numbers_are():
    out = np.zeros(6, np.int64)
    compiled(divided_constants)(out)
    assert out.tolist() == [-3, -3, -3, 3, -4, 9]


@kernel
def sizes(a: i8, b: i64, c: i32, out: Array[i64]) -> None:
    out[0] = abs(a)
    out[1] = abs(b)
    out[2] = abs(c - 1)
    out[3] = abs(-5)


def test_the_size_of_the_least_number():
    out = np.zeros(4, np.int64)
    compiled(sizes)(-128, -(1 << 63), -(1 << 31), out)
    assert out.tolist() == [128, -(1 << 63), (1 << 31) + 1, 5]


@kernel
def booleans(a: i64, b: i64, out: Array[i64]) -> None:
    out[0] = (a > 0) + (b > 0)
    out[1] = (a > 0) * 5 - (b > 0)
    out[2] = (a > 0) & (b > 0)
    out[3] = (a > 0) ^ (b > 0)
    out[4] = ~(a > 0)
    out[5] = not b
    out[6] = (a > 0) << 3
    out[7] = -(a > 0)
    out[8] = (a > 0) == (b > 0)
    out[9] = True


def test_booleans_are_numbers():
    """Sums of them are wider than they are; ~ is `not`, as it is of masks."""
    out = np.zeros(10, np.int64)
    for a in (-1, 1):
        for b in (0, 2):
            compiled(booleans)(a, b, out)
            x, y = a > 0, b > 0
            expected = [x + y, x * 5 - y, x & y, x ^ y, not x, not b, x << 3, -x, x == y, 1]
            assert out.tolist() == [int(value) for value in expected]


# -- floats ---------------------------------------------------------------------------------------


@kernel
def reals(a: f32, b: f32, n: i64, out: Array[f32]) -> None:
    out[0] = a + b
    out[1] = a - b
    out[2] = a * b
    out[3] = -a
    out[4] = rint(a)
    out[5] = n
    out[6] = n * 0.5
    out[7] = 1.5 if n else 2.5
    half = 0.5
    if n > 1:
        half = 0.25
    out[8] = a * half
    out[9] = a + n


def test_floats_are_single(rng):
    out = np.zeros(10, np.float32)
    drawn = rng.standard_normal(40).astype(np.float32) * np.float32(1000)
    for a in [np.float32(v) for v in (0.0, -0.0, 0.5, 1.5, 2.5, -0.5, *drawn)]:
        for b in drawn[:5]:
            for n in (0, 1, 7, (1 << 24) + 1, -3):
                compiled(reals)(a, b, n, out)
                whole = np.float32(n)
                expected = [
                    *(a + b, a - b, a * b, -a, np.round(a)),
                    *(whole, whole * np.float32(0.5), np.float32(1.5 if n else 2.5)),
                    *(a * np.float32(0.25 if n > 1 else 0.5), a + whole),
                ]
                assert out.tobytes() == np.array(expected, np.float32).tobytes(), (a, b, n)


@kernel
def cast(x: f32, a: i64, out: Array[i64]) -> None:
    out[0] = convert(i8, a)
    out[1] = convert(u8, a)
    out[2] = convert(i16, a)
    out[3] = convert(i32, a)
    out[4] = convert(u32, a)
    out[5] = convert(i64, x)
    out[6] = convert(u8, x)
    out[7] = bits_as(i32, x)
    out[8] = bits_as(u32, x)


def test_casts(rng):
    """Cut, extended by their own sign, or rounded towards zero."""
    out = np.zeros(9, np.int64)
    for a in _numbers(np.dtype("i8"), rng):
        for x in (0.0, -0.0, 0.75, 1.0, 200.75, 255.0, math.pi):
            compiled(cast)(x, a, out)
            bits = np.float32(x).view(np.int32)
            expected = [cut(a, np.dtype(kind)) for kind in ("i1", "u1", "i2", "i4", "u4")]
            expected += [int(x), int(x), int(bits), int(bits) & 0xFFFFFFFF]
            assert out.tolist() == expected, (a, x)


@kernel
def truth_of(x: f32, a: i8, out: Array[i64]) -> None:
    out[0] = 1 if x else 0
    out[1] = 1 if a else 0
    out[2] = 1 if not x else 0


def test_what_is_not_zero_is_true():
    out = np.zeros(3, np.int64)
    for x, a in ((0.5, 2), (2.0, -128), (0.0, 0), (-0.0, 1), (math.nan, 1), (1e-45, 1)):
        compiled(truth_of)(x, a, out)
        assert out.tolist() == [bool(x), bool(a), not x]
