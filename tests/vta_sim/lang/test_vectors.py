"""Vectors of compiled functions, against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.vta_sim.lang.compiled import compiled
from vta_sim.lang.build import Library
from vta_sim.lang.cpu import CPU_VARIABLE, detected
from vta_sim.lang.kinds import Array, f32, i8, i16, i32, i64, kernel, u8, u32, u64
from vta_sim.lang.ops import (
    bits_as,
    convert,
    dot2,
    dot4,
    interleave,
    load,
    part,
    repeat,
    rint,
    select,
    splat,
    store,
)

LEVELS = ("generic", "avx2", "vnni")


@kernel
def lanes_i32(a: Array[i32], b: Array[i32], n: i64, out: Array[i32]) -> None:
    x = load(a, 0, 8)
    y = load(b, 0, 8)
    store(out, 0, x + y)
    store(out, 8, x * y - n)
    store(out, 16, -x)
    store(out, 24, x & y | 3)
    store(out, 32, x ^ ~y)
    store(out, 40, min(x, y))
    store(out, 48, max(x, 5))
    store(out, 56, abs(x))
    store(out, 64, x << (y & 31))
    store(out, 72, x >> (y & 31))
    store(out, 80, select(x < y, x, y - 1))
    store(out, 88, select((x == y) | (y > 0), splat(i32, 8, 1), 0))
    store(out, 96, splat(i32, 8, n))
    store(out, 104, select(~(x >= y), x, -7))


def test_lane_by_lane(rng):
    call = compiled(lanes_i32)
    out = np.zeros(112, np.int32)
    for _ in range(50):
        a, b = rng.integers(-(1 << 31), 1 << 31, (2, 8)).astype(np.int32)
        a[:3] = (-(1 << 31), (1 << 31) - 1, b[2])
        n = int(rng.integers(-100, 100))
        call(a, b, n, out)
        x, y = a.astype(np.int64), b.astype(np.int64)
        shift = y & 31
        expected = [
            *(x + y, x * y - n, -x, x & y | 3, x ^ ~y, np.minimum(x, y), np.maximum(x, 5)),
            *(abs(x), x << shift, x >> shift, np.where(x < y, x, y - 1)),
            *((x == y) | (y > 0), np.full(8, n), np.where(x < y, x, -7)),
        ]
        wrapped = np.concatenate([np.asarray(v, np.int64) for v in expected]).astype(np.int32)
        assert out.tolist() == wrapped.tolist()


@kernel
def unsigned(a: Array[u32], wide: Array[u64], out: Array[u64], flags: Array[u8]) -> None:
    x = load(a, 0, 4)
    y = load(wide, 0, 4)
    store(out, 0, convert(u64, x))
    store(out, 4, y >> 1)
    store(out, 8, y // 3)
    store(out, 12, min(y, convert(u64, x)))
    store(out, 16, y << convert(u64, x & 63))
    store(flags, 0, convert(u8, select(x > 5, splat(i32, 4, 1), 0)))


def test_unsigned_lanes(rng):
    out, flags = np.zeros(20, np.uint64), np.zeros(4, np.uint8)
    for _ in range(20):
        a = rng.integers(0, 1 << 32, 4).astype(np.uint32)
        wide = rng.integers(0, 1 << 64, 4, np.uint64)
        a[0], wide[0] = 0xFFFFFFFF, (1 << 64) - 1
        compiled(unsigned)(a, wide, out, flags)
        x = a.astype(np.uint64)
        one, three, last = np.uint64(1), np.uint64(3), np.uint64(63)
        parts = [x, wide >> one, wide // three, np.minimum(wide, x), wide << (x & last)]
        assert out.tolist() == np.concatenate(parts).tolist()
        assert flags.tolist() == (a > 5).tolist()


@kernel
def widths(a: Array[i8], out: Array[i32], words: Array[i16], bytes_out: Array[u8]) -> None:
    x = load(a, 1, 16)
    store(out, 0, convert(i32, x))
    store(words, 0, x)
    store(bytes_out, 0, bits_as(u8, x) ^ 128)
    store(bytes_out, 16, convert(u8, convert(i32, x) * 3))
    store(out, 16, convert(i32, convert(u8, x)))
    store(out, 32, bits_as(i32, x))


def test_widths_and_signs(rng):
    a = rng.integers(-128, 128, 17).astype(np.int8)
    out, words, found = np.zeros(36, np.int32), np.zeros(16, np.int16), np.zeros(32, np.uint8)
    compiled(widths)(a, out, words, found)
    x = a[1:]
    assert out[:16].tolist() == words.tolist() == x.tolist()
    assert out[16:32].tolist() == x.view(np.uint8).tolist()
    assert out[32:].tobytes() == x.tobytes()
    assert found[:16].tolist() == (x.view(np.uint8) ^ 128).tolist()
    assert found[16:].tolist() == (x.astype(np.int32) * 3 & 255).tolist()


@kernel
def shuffled(a: Array[i16], out: Array[i16]) -> None:
    x = load(a, 0, 8)
    store(out, 0, part(x, 2, 4))
    store(out, 4, part(x, 1, 4, 2))
    store(out, 8, repeat(part(x, 0, 2), 4))
    store(out, 16, interleave(part(x, 0, 4), part(x, 4, 4)))
    store(out, 24, repeat(a[3], 4))
    store(out, 28, interleave(part(x, 0, 1), part(x, 7, 1)))


def test_lanes_change_places(rng):
    a, out = rng.integers(-99, 99, 8).astype(np.int16), np.zeros(30, np.int16)
    compiled(shuffled)(a, out)
    expected = [*a[2:6], *a[1::2], *np.tile(a[:2], 4), *np.stack((a[:4], a[4:]), 1).reshape(-1)]
    assert out.tolist() == [*expected, *[a[3]] * 4, a[0], a[7]]


@kernel
def real_lanes(a: Array[f32], n: Array[i32], out: Array[f32], whole: Array[i32]) -> None:
    x = load(a, 0, 8)
    y = convert(f32, load(n, 0, 8))
    store(out, 0, x * y)
    store(out, 8, rint(x))
    store(out, 16, select(x == x, x, 0.0))
    store(out, 24, select(x > 100.0, 100.0, x))
    store(out, 32, -x + 0.5)
    store(whole, 0, select(x != x, splat(i32, 8, 1), 0))
    store(whole, 8, convert(i32, select(abs(load(n, 0, 8)) < 9, y, 0.0)))


def test_real_lanes(rng):
    a = np.array([0.5, 1.5, -2.5, math.nan, math.inf, -0.0, 1e9, 3.25], np.float32)
    out, whole = np.zeros(40, np.float32), np.zeros(16, np.int32)
    n = np.array([1 << 24, (1 << 24) + 1, -(1 << 31), 7, 0, -8, 5, 9], np.int32)
    compiled(real_lanes)(a, n, out, whole)
    y = n.astype(np.float32)
    with np.errstate(invalid="ignore"):
        parts = [
            *(a * y, np.round(a), np.where(a == a, a, np.float32(0))),
            *(np.where(a > 100, np.float32(100), a), -a + np.float32(0.5)),
        ]
    assert np.array_equal(out, np.concatenate(parts), equal_nan=True)
    assert whole.tolist() == [*(a != a), *np.where(np.abs(n) < 9, n, 0)]  # the least wraps


@kernel
def pairs(total: Array[i32], weights: Array[i16], inputs: Array[i16], out: Array[i32]) -> None:
    store(out, 0, dot2(load(total, 0, 16), load(weights, 0, 32), load(inputs, 0, 32)))
    store(out, 16, dot2(load(total, 0, 4), load(weights, 0, 8), load(inputs, 0, 8)))
    store(out, 20, dot2(load(total, 0, 2), load(weights, 0, 4), load(inputs, 0, 4)))
    store(out, 22, dot2(load(total, 0, 1), load(weights, 0, 2), load(inputs, 0, 2)))


@kernel
def fours(total: Array[i32], weights: Array[i8], inputs: Array[u8], out: Array[i32]) -> None:
    store(out, 0, dot4(load(total, 0, 32), load(weights, 0, 128), load(inputs, 0, 128)))
    store(out, 32, dot4(load(total, 0, 8), load(weights, 0, 32), load(inputs, 0, 32)))
    store(out, 40, dot4(load(total, 0, 2), load(weights, 0, 8), load(inputs, 0, 8)))


def _dots(total, weights, inputs, group, sizes):
    products = (weights.astype(np.int64) * inputs.astype(np.int64)).reshape(-1, group).sum(1)
    sums = (total.astype(np.int64) + products).astype(np.int32)
    return [value for size in sizes for value in sums[:size].tolist()]


@pytest.mark.parametrize("level", LEVELS)
def test_dot_products_at_all_levels(level, rng, monkeypatch):
    if LEVELS.index(level) > LEVELS.index(detected()):
        pytest.skip(f"this CPU has no more than {detected()}")
    monkeypatch.setenv(CPU_VARIABLE, level)
    library = Library("tests", [pairs, fours], {})
    for trial in range(20):
        total = rng.integers(-(1 << 31), 1 << 31, 32).astype(np.int32)
        words = rng.integers(-128, 128, (2, 32)).astype(np.int16)
        weights = rng.integers(-128, 128, 128).astype(np.int8)
        inputs = rng.integers(0, 256, 128).astype(np.uint8)
        if trial == 0:
            words[:], weights[:], inputs[:] = -128, -128, 255
        out = np.zeros(42, np.int32)
        arrays = (total, words[0], words[1], out)
        library["pairs"](*(array.ctypes.data for array in arrays))
        expected = _dots(total[:16], words[0], words[1], 2, (16, 4, 2, 1))
        assert out[:23].tolist() == expected
        arrays = (total, weights, inputs, out)
        library["fours"](*(array.ctypes.data for array in arrays))
        assert out.tolist() == _dots(total, weights, inputs, 4, (32, 8, 2))
