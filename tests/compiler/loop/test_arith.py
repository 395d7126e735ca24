"""Index arithmetic against evaluation of every point of small ranges."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.loop.arith import (
    Affine,
    affine,
    difference,
    equal,
    evaluate,
    interval,
    simplify,
)
from compiler.loop.expr import (
    Binary,
    Compare,
    Const,
    Expr,
    Select,
    Var,
    binary,
    both,
    children,
    compare,
    same,
    select,
)

VARS = tuple(Var(name) for name in "ijk")
SETTINGS = settings(max_examples=200, deadline=None, derandomize=True)


def value(expr: Expr, at: Mapping[Var, int]) -> int:
    """The meaning of an index expression in plain Python integers."""
    match expr:
        case Const(number):
            return int(number)
        case Var():
            return at[expr]
        case Binary(op, a, b):
            x, y = value(a, at), value(b, at)
            return {
                "+": lambda: x + y,
                "-": lambda: x - y,
                "*": lambda: x * y,
                "//": lambda: x // y,
                "%": lambda: x % y,
                "min": lambda: min(x, y),
                "max": lambda: max(x, y),
            }[op]()
        case Compare(op, a, b):
            x, y = value(a, at), value(b, at)
            return int(x < y if op == "<" else x >= y if op == ">=" else x == y)
        case Select(cond, then, other):
            return value(then if value(cond, at) else other, at)
    x, y = (value(part, at) for part in children(expr))
    return int(x and y)  # Both


small = st.integers(-7, 7)
leaves = st.one_of(st.sampled_from(VARS), small.map(Const))


def _grow(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    linear = st.builds(binary, st.sampled_from("+-"), inner, inner)
    scaled = st.builds(binary, st.just("*"), inner, small)
    divided = st.builds(binary, st.sampled_from(["//", "%"]), inner, st.integers(1, 7))
    bounded = st.builds(binary, st.sampled_from(["min", "max"]), inner, inner)
    chosen = st.builds(select, _conditions(inner), inner, inner)
    return st.one_of(linear, scaled, divided, bounded, chosen)


def _conditions(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    one = st.builds(compare, st.sampled_from(["<", ">=", "=="]), inner, inner)
    return st.one_of(one, st.builds(both, one, one))


expressions = st.recursive(leaves, _grow, max_leaves=8)
conditions = _conditions(expressions)
extents = st.fixed_dictionaries({var: st.integers(1, 4) for var in VARS})


def points(ranges: Mapping[Var, int]):
    for at in product(*(range(ranges[var]) for var in VARS)):
        yield dict(zip(VARS, at, strict=True))


@SETTINGS
@given(st.one_of(expressions, conditions), extents)
def test_simplify_keeps_the_value(expr: Expr, ranges: dict[Var, int]) -> None:
    for known in (ranges, {VARS[0]: ranges[VARS[0]]}, None):
        simple = simplify(expr, known)
        assert simple.dtype == expr.dtype
        for at in points(ranges):
            assert value(simple, at) == value(expr, at), f"{expr} became {simple} at {at}"


@SETTINGS
@given(expressions, extents)
def test_simplify_settles(expr: Expr, ranges: dict[Var, int]) -> None:
    """Simplifying twice keeps the value too, also with what the first round left."""
    twice = simplify(simplify(expr, ranges), ranges)
    for at in points(ranges):
        assert value(twice, at) == value(expr, at)


@SETTINGS
@given(expressions, extents)
def test_affine_form_keeps_the_value(expr: Expr, ranges: dict[Var, int]) -> None:
    form = affine(expr)
    for at in points(ranges):
        total = form.constant + sum(c * value(t, at) for t, c in form.terms)
        assert total == value(expr, at) == value(form.to_expr(), at)


linear = st.builds(
    lambda cs, k: Affine(tuple((v, c) for v, c in zip(VARS, cs, strict=True) if c), k),
    st.tuples(small, small, small),
    small,
)


@SETTINGS
@given(linear, extents)
def test_interval_is_tight(form: Affine, ranges: dict[Var, int]) -> None:
    values = [value(form.to_expr(), at) for at in points(ranges)]
    assert interval(form, ranges) == (min(values), max(values))


@SETTINGS
@given(expressions, extents)
def test_interval_holds_or_is_unknown(expr: Expr, ranges: dict[Var, int]) -> None:
    bounds = interval(affine(expr), ranges)
    if bounds is not None:
        values = [value(expr, at) for at in points(ranges)]
        assert bounds[0] <= min(values)
        assert max(values) <= bounds[1]


@SETTINGS
@given(expressions, expressions, extents)
def test_equal_and_difference_are_true_when_they_say_so(
    a: Expr, b: Expr, ranges: dict[Var, int]
) -> None:
    apart = difference(a, b)
    assert equal(a, b) == (apart == 0)
    if apart is not None:
        assert all(value(a, at) - value(b, at) == apart for at in points(ranges))


@SETTINGS
@given(linear, linear)
def test_equal_decides_linear_forms(a: Affine, b: Affine) -> None:
    alike = a.constant == b.constant and all(a.coefficient(v) == b.coefficient(v) for v in VARS)
    assert equal(a.to_expr(), b.to_expr()) == alike


@SETTINGS
@given(st.one_of(expressions, conditions), extents)
def test_evaluate(expr: Expr, ranges: dict[Var, int]) -> None:
    for at in points(ranges):
        assert evaluate(expr, at) == value(expr, at)


@SETTINGS
@given(linear)
def test_evaluate_needs_every_variable(form: Affine) -> None:
    if any(term is VARS[0] for term, _ in form.terms):
        with pytest.raises(ValueError, match=r"^index .* is not known: "):
            evaluate(form.to_expr(), {VARS[1]: 0, VARS[2]: 0})


def test_what_simplify_is_for() -> None:
    """Forms that passes rely on: cancelled begins, decided bounds, divisions of fused loops."""
    i, j, k = VARS
    ranges = {i: 4, j: 8}
    assert same(simplify((i * 8 + j) - i * 8), j)
    assert same(simplify((i * 8 + j) // 8, ranges), i)
    assert same(simplify((i * 8 + j) % 8, ranges), j)
    assert str(simplify(compare("<", i * 8 + j, 32), ranges)) == "bool(1)"
    assert str(simplify(compare(">=", i * 8 + j, 32), ranges)) == "bool(0)"
    assert str(simplify(compare("==", i, 4), ranges)) == "bool(0)"
    assert str(simplify(compare("<", i + 2, j + 3), ranges)) == "i - j < 1"
    assert str(simplify((i * 8 + k) // 8, ranges)) == "(i*8 + k)//8"


@pytest.mark.parametrize("divisor", [0, -3])
def test_a_divisor_that_is_not_positive_stays(divisor: int) -> None:
    i = VARS[0]
    expr = Binary("//", i, Const(divisor))
    assert simplify(expr, {i: 4}) is expr


def test_affine_form_parts() -> None:
    i, j, _ = VARS
    form = affine(i * 3 - j + 5 + (i // 2) * 4)
    assert (form.coefficient(i), form.coefficient(j), form.constant) == (3, -1, 5)
    assert str(form.to_expr()) == "i*3 - j + i//2*4 + 5"
    assert str(form.without({i}).to_expr()) == "0 - j + i//2*4 + 5"
