"""The rounding functions against exact arithmetic on Python integers and fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from compiler.graph import numerics
from compiler.graph.lowering import least_misses
from compiler.graph.softmax import exp_table, reciprocal, softmax_real

EDGES = [-(2**31), -(2**31) + 1, -(2**30), -3, -2, -1, 0, 1, 2, 3, 2**30, 2**31 - 2, 2**31 - 1]


def words(rng: np.random.Generator, count: int = 2000) -> list[int]:
    """int32 values of every magnitude, edges included."""
    wide = rng.integers(-(2**31), 2**31, count) >> rng.integers(0, 31, count)
    return [*EDGES, *wide.tolist()]


def half_away(value: Fraction) -> int:
    magnitude = math.floor(abs(value) + Fraction(1, 2))
    return magnitude if value >= 0 else -magnitude


def half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def test_rdhm(rng: np.random.Generator) -> None:
    a, b = words(rng), words(rng)[::-1]
    expected = [min(half_up(Fraction(x * y, 2**31)), 2**31 - 1) for x, y in zip(a, b, strict=True)]
    assert numerics.rdhm(np.array(a), np.array(b)).tolist() == expected
    assert int(numerics.rdhm(np.array(-(2**31)), -(2**31))) == 2**31 - 1


@pytest.mark.parametrize("shift", [0, 1, 2, 7, 16, 30, 31])
def test_rsr(shift: int, rng: np.random.Generator) -> None:
    x = words(rng)
    expected = [half_away(Fraction(v, 2**shift)) for v in x]
    assert numerics.rsr(np.array(x), shift).tolist() == expected


@pytest.mark.parametrize(("left", "right"), [(0, 0), (0, 1), (0, 9), (0, 31), (1, 0), (5, 0)])
def test_single_rounding(left: int, right: int, rng: np.random.Generator) -> None:
    x = [v >> (left + 1) for v in words(rng)]
    m = [int(v) for v in rng.integers(2**30, 2**31, len(x))]
    expected = [
        half_up(Fraction(v * k * 2**left, 2 ** (31 + right))) for v, k in zip(x, m, strict=True)
    ]
    assert numerics.scale_single(np.array(x), np.array(m), left, right).tolist() == expected


def test_double_rounding_differs_from_single_where_both_round() -> None:
    # 0.5 - 2^-31 is below half once, but is rounded up to 1/2 and then to 1.
    x, m = np.array([2**30 - 1]), np.array([2**30 + 1])
    double = numerics.scale_double(x, m, 0, 29)
    single = numerics.scale_single(x, m, 0, 30)
    assert double.tolist() == [1]
    assert single.tolist() == [0]


def test_left_shift_wraps_like_the_machine() -> None:
    assert numerics.scale_double(np.array([2**30]), 2**30, 2, 0).tolist() == [0]
    assert numerics.wrap_int32(np.array([2**31, -(2**31) - 1])).tolist() == [-(2**31), 2**31 - 1]


def test_float_scaling_rounds_ties_to_even() -> None:
    x = np.array([1, 3, 5, -1, -3, 2**24 + 1])
    result = numerics.scale_float(x, np.array([0.5], np.float32))
    # The last one loses its lowest bit when it becomes a float32.
    assert result.tolist() == [0, 2, 2, 0, -2, 2**23]


def test_float_scaling_is_the_product_rounded_to_float32(rng: np.random.Generator) -> None:
    x = rng.integers(-(2**22), 2**22, 4000)
    scale = rng.uniform(1e-5, 1e-2, 4000).astype(np.float32)
    exact = [Fraction(int(v)) * Fraction(float(s)) for v, s in zip(x, scale, strict=True)]
    expected = [round(Fraction(float(np.float32(float(e))))) for e in exact]
    assert numerics.scale_float(x, scale).tolist() == expected


def test_quantised_multipliers_are_within_half_a_unit(rng: np.random.Generator) -> None:
    for exponent in rng.uniform(-30, 28, 500):
        factor = float(2.0**exponent)
        m = numerics.quantize_multiplier(factor)
        assert 2**30 <= m.multiplier < 2**31
        assert 0 in (m.left, m.right)
        back = Fraction(m.multiplier, 2**31) * Fraction(2) ** (m.left - m.right)
        assert abs(back / Fraction(factor) - 1) <= Fraction(1, 2**31)


def test_quantised_multipliers_at_the_ends() -> None:
    assert numerics.quantize_multiplier(0.0) == (0, 0, 0)
    assert numerics.quantize_multiplier(1.0) == (2**30, 1, 0)
    assert numerics.quantize_multiplier(0.5) == (2**30, 0, 0)
    # Rounds up to the next power of two.
    assert numerics.quantize_multiplier(1 - 2.0**-40) == (2**30, 1, 0)
    assert numerics.quantize_multiplier(2.0**-40) == (0, 0, 0)
    with pytest.raises(ValueError, match="must be below 2\\^30"):
        numerics.quantize_multiplier(2.0**31)


def test_quantising_saturates_and_breaks_ties_as_asked() -> None:
    x = np.array([0.5, 1.5, -0.5, -1.5, 1e9, -1e9, np.nan], np.float32)
    scale, zero = np.ones(1, np.float32), np.zeros(1, np.int8)
    even = numerics.quantize_to(x, scale, zero)
    away = numerics.quantize_to(x, scale, zero, rounding="away")
    assert even.tolist() == [0, 2, 0, -2, 127, -128, -128]
    assert away.tolist() == [1, 2, -1, -2, 127, -128, -128]


@pytest.mark.parametrize("scale", [1e-3, 0.02, 0.17, 1.0])
def test_exponential_table_is_close_to_exp(scale: float) -> None:
    table = exp_table(np.float32(scale), 1.0).astype(np.float64) / 2**31
    expected = np.exp(-np.float64(np.float32(scale)) * np.arange(256))
    kept = table > 0
    assert np.abs(table - expected)[kept].max() < 1e-6
    # The kernel leaves out what its left shift could overflow on: at worst from e^-15.5 on.
    assert (expected[~kept] < math.exp(-15.5)).all()


def test_exponential_table_refuses_a_vanishing_scale() -> None:
    with pytest.raises(ValueError, match="at least 2\\^-26"):
        exp_table(np.float32(1e-9), 1.0)


def test_reciprocal_is_close(rng: np.random.Generator) -> None:
    total = rng.integers(1 << 19, 1 << 27, 500)
    fraction, shift = reciprocal(total)
    value = fraction / 2.0**31 * 2.0 ** -shift.astype(np.float64)
    np.testing.assert_allclose(value, (1 << 19) / total, rtol=1e-7)


def test_multiplying_by_the_reciprocal_is_no_division() -> None:
    scale, zero = np.full(1, 0.037, np.float32), np.zeros(1, np.int8)
    x = (np.arange(-120, 120) + 0.5).astype(np.float32) * scale
    product = np.clip(np.rint(x * (np.float32(1) / scale)), -128, 127)
    found = numerics.quantize_to(x, scale, zero, rounding="reciprocal")
    np.testing.assert_array_equal(found, product)
    assert (found != numerics.quantize_to(x, scale, zero)).any()


def test_bounds_of_a_tie() -> None:
    assert numerics.quantize_real(6.0, np.float32(12), 3) == 4
    assert numerics.quantize_real(6.0, np.float32(12), 3, "even") == 3
    assert numerics.quantize_real(-6.0, np.float32(12), 3) == 2
    assert numerics.quantize_real(3e38, np.float32(1e-38), 0) == 2**31 - 1


def test_linear_rounds_the_whole_to_even() -> None:
    # 0.5 + 3 is a tie between 3 and 4; rounded before the 3 it would be a tie between 0 and 1.
    found = numerics.linear(np.array([1, 3, -1]), np.float32(0.5), np.float32(3))
    assert found.tolist() == [4, 4, 2]


def test_the_nearest_scale_without_misses() -> None:
    start = np.float32(0.1)
    far = start
    for _ in range(5):
        far = np.nextafter(far, np.float32(1))
    assert least_misses(start, lambda s: 0) == start
    assert least_misses(start, lambda s: int(s != far)) == far
    assert least_misses(start, lambda s: int(s != far), reach=4) == start
    assert least_misses(start, lambda s: 2 - int(s == far)) == far


@pytest.mark.parametrize("spread", [0.1, 3.0, 80.0])
def test_float_softmax_is_close(spread: float, rng: np.random.Generator) -> None:
    x = rng.normal(0, spread, (50, 300)).astype(np.float32)
    exact = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    exact /= exact.sum(axis=1, keepdims=True)
    found = softmax_real(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-37)
