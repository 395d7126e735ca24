"""Statements of compiled functions do what Python does with the same source."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.vta_sim.lang.compiled import compiled
from vta_sim.lang.build import Library
from vta_sim.lang.kinds import Array, i8, i32, i64, inline, kernel, parameter, u8
from vta_sim.lang.ops import several, unroll

WIDTH = parameter("WIDTH")
SEVEN = 7


@kernel
def branches(n: i64) -> i64:
    if n < 0:
        return -1
    elif n == 0:
        found = 10
    else:
        found = 20
        if n > 5:
            found += n
            if n > 9:
                return found * 2
    return found


@kernel
def loops(n: i64, out: Array[i64]) -> i64:
    steps = 0
    for a in range(n):
        for b in range(a, n):
            if b == 3:
                continue
            if a * b > 12:
                break
            out[0] += b
            steps += 1
        if a == 6:
            break
    while True:
        steps += 100
        if steps > 500:
            break
        if steps % 2:
            continue
        steps += 1
    while steps > 510:
        steps -= 3
    return steps


@kernel
def ranges(n: i64, out: Array[i64]) -> i64:
    count = 0
    for i in range(n, 0, -2):
        out[count] = i
        count += 1
    for i in range(2, n, 3):
        i += 100
        out[count] = i
        count += 1
    for _ in range(-4):
        count += 1000
    for i in range(3):
        n = 0  # what it counts to has been worked out before
        out[count] = i + n
        count += 1
    return count


@kernel
def bounds(n: i64) -> i64:
    total = 0
    for i in range(n):
        n -= 1
        total += i
    return total * 100 + n


@kernel
def cut_to_their_type(n: i64) -> i64:
    small: i8 = n
    byte: u8 = n
    small += 1
    byte += 1
    return small * 1000 + byte


@kernel
def clipped(n: i64) -> i64:
    if n > 3:
        n = 3
    return n


@kernel
def swapped(a: i64, b: i64) -> i64:
    a, b = b, a - b
    a, b = b + 1, a
    return a * 1000 + b


@kernel
def chosen(a: i64, b: i64) -> i64:
    return a if a > b else b if b > 10 else a + b


@kernel
def chained(a: i64, b: i64, c: i64) -> bool:
    return a < b <= c != a


@kernel
def factorial(n: i64) -> i64:
    if n < 2:
        return 1
    return n * factorial(n - 1)


@kernel
def is_even(n: i64) -> bool:
    return n == 0 or is_odd(n - 1)


@kernel
def is_odd(n: i64) -> bool:
    return n != 0 and is_even(n - 1)


@pytest.mark.parametrize("function", [branches, factorial, is_even, clipped])
def test_of_one_number(function):
    for n in range(0 if function in (is_even, factorial) else -5, 15):
        assert compiled(function)(n) == function(n)


@pytest.mark.parametrize("function", [loops, ranges])
def test_of_a_number_and_an_array(function):
    for n in range(-2, 14):
        mine, theirs = np.zeros(40, np.int64), np.zeros(40, np.int64)
        assert compiled(function)(n, mine) == function(n, theirs)
        assert mine.tolist() == theirs.tolist()


@pytest.mark.parametrize("function", [swapped, chosen])
def test_of_two_numbers(function):
    for a in (-3, 0, 7, 20):
        for b in (-3, 0, 7, 20):
            assert compiled(function)(a, b) == function(a, b)


def test_a_range_is_worked_out_once():
    for n in range(9):
        assert compiled(bounds)(n) == bounds(n)


def test_comparisons_in_a_chain(rng):
    for a, b, c in rng.integers(0, 3, (40, 3)).tolist():
        assert compiled(chained)(a, b, c) == chained(a, b, c)


def test_variables_of_a_narrow_type():
    for n in (0, 126, 127, 128, 254, 255, 256, -1, -129):
        small = ((n + 1 + 128) & 255) - 128
        assert compiled(cut_to_their_type)(n) == small * 1000 + (n + 1 & 255)


# -- side effects ---------------------------------------------------------------------------------


@kernel
def noted(out: Array[i64], value: i64) -> i64:
    out[out[0] + 1] = value
    out[0] += 1
    return value


@kernel
def short_circuits(out: Array[i64], a: i64, b: i64, c: i64) -> i64:
    found = 0
    if noted(out, a) and noted(out, b) or noted(out, c):
        found = 1
    if not (noted(out, b) or noted(out, c)) and noted(out, a):
        found += 2
    if noted(out, c) if noted(out, a) else noted(out, b):
        found += 4
    return found


@kernel
def places(out: Array[i64], n: i64) -> None:
    out[noted(out, 9)] += n
    out[noted(out, 8)] = noted(out, 7) + noted(out, 6)


def test_conditions_are_evaluated_as_far_as_needed():
    for bits in range(8):
        values = [bits >> i & 1 for i in range(3)]
        mine: Any = np.zeros(30, np.int64)
        theirs = mine.copy()
        assert compiled(short_circuits)(mine, *values) == short_circuits(theirs, *values)
        assert mine.tolist() == theirs.tolist()


def test_the_place_of_an_assignment_with_an_operator_is_worked_out_once():
    mine = np.zeros(30, np.int64)
    compiled(places)(mine, 5)
    assert mine[0] == 4
    assert mine[9] == 5
    assert mine[8] == 13
    assert sorted(mine[1:5].tolist()) == [6, 7, 8, 9]


# -- written out ----------------------------------------------------------------------------------


@inline
def larger(a, b):
    result = b
    if a > b:
        result = a
    return result


@inline
def largest(a, b, c):
    first = larger(a, b)
    return larger(first, c)


@inline
def doubled(values, count):
    for i in range(count):
        values[i] *= 2


@inline
def by_constant(n, kind):
    if kind == 0:
        result = n
    elif kind == 1:
        result = n * n
    else:
        result = -n
    return result


@kernel
def nested(a: i64, b: i64, c: i64, values: Array[i64]) -> i64:
    doubled(values, 3)
    first = largest(a, b, c)
    result = 1  # not the one of the functions written out
    return first * 100 + largest(first, c, 5) + by_constant(a, 1) - by_constant(b, SEVEN) + result


@kernel
def written_out(n: i64, out: Array[i64]) -> i64:
    total = 0
    for i in unroll(WIDTH):
        for j in unroll(i):
            out[i] += j * n
        last = i * i
        total += last
    for i in unroll(0):
        total += 1000 * i
    return total


@kernel
def of_several(n: i64, out: Array[i64]) -> None:
    parts = several(4)
    for i in unroll(4):
        parts[i] = n + i
    for _ in range(3):
        for i in unroll(4):
            parts[i] += parts[(i + 1) % 4]
    for i in unroll(4):
        out[i] = parts[i]
    others = several(2)
    others[0] = n
    others[1] = parts[3]
    parts = others
    out[4] = parts[0] - parts[1]


@kernel
def folded(n: i64) -> i64:
    if WIDTH == 4:
        return n
    elif WIDTH > 4 and SEVEN:
        return n * 2
    return unknown_name(n)  # type: ignore[name-defined]  # noqa: F821


def test_functions_that_are_written_out():
    for a, b, c in ((1, 2, 3), (3, 2, 1), (-5, 9, 0), (4, 4, 4)):
        mine: Any = np.arange(5)
        theirs = mine.copy()
        assert compiled(nested)(a, b, c, mine) == nested(a, b, c, theirs)
        assert mine.tolist() == theirs.tolist()


@pytest.mark.parametrize("width", [0, 1, 4])
def test_loops_that_are_written_out(width):
    library = Library("tests", [written_out], {"WIDTH": width})
    out = np.zeros(8, np.int64)
    assert library["written_out"](3, out.ctypes.data) == sum(i * i for i in range(width))
    expected = [3 * sum(range(i)) for i in range(width)]
    assert out.tolist() == expected + [0] * (8 - width)


def test_several_locals():
    for n in (0, 5, -9):
        out = np.zeros(5, np.int64)
        compiled(of_several)(n, out)
        parts = [n + i for i in range(4)]
        for _ in range(3):
            for i in range(4):
                parts[i] += parts[(i + 1) % 4]
        assert out.tolist() == [*parts, n - parts[3]]


@pytest.mark.parametrize(("width", "factor"), [(4, 1), (9, 2)])
def test_what_a_constant_condition_excludes_is_not_looked_at(width, factor):
    library = Library("tests", [folded], {"WIDTH": width})
    assert library["folded"](21) == 21 * factor


# -- whole programs -------------------------------------------------------------------------------


@kernel
def sorted_in_place(values: Array[i32], count: i64) -> i64:
    """Insertion sort; how often something moved."""
    moves = 0
    for i in range(1, count):
        value = values[i]
        place = i
        while place > 0 and values[place - 1] > value:
            values[place] = values[place - 1]
            place -= 1
            moves += 1
        values[place] = value
    return moves


@kernel
def sieve(flags: Array[u8], count: i64) -> i64:
    found = 0
    for i in range(2, count):
        if flags[i]:
            continue
        found += 1
        for j in range(i * i, count, 1):
            if j % i == 0:
                flags[j] = 1
    return found


def test_programs(rng):
    values: Any = rng.integers(-1000, 1000, 40).astype(np.int32)
    mine, theirs = values.copy(), values.copy()
    assert compiled(sorted_in_place)(mine, 40) == sorted_in_place(theirs, 40)
    assert mine.tolist() == theirs.tolist() == sorted(values.tolist())
    flags: Any = np.zeros(200, np.uint8)
    assert compiled(sieve)(flags.copy(), 200) == sieve(flags, 200) == 46
