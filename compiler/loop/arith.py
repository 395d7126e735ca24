"""Affine forms of index expressions: simplification, equality and ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compiler.loop.expr import (
    COMPARE,
    INDEX,
    INTEGER_OPS,
    Binary,
    Both,
    Compare,
    Const,
    Expr,
    Select,
    Var,
    children,
    compare,
    rebuild,
    same,
    wrap,
)

_SMALL = 127
"""What every integer type holds."""


@dataclass(frozen=True)
class Affine:
    """sum(coefficient * term) + constant; a term is a variable, or an opaque non-affine part."""

    terms: tuple[tuple[Expr, int], ...]
    constant: int

    def coefficient(self, var: Var) -> int:
        """Coefficient of a variable, 0 if absent."""
        return next((c for t, c in self.terms if t is var), 0)

    def without(self, drop: Mapping[Var, int] | set[Var]) -> Affine:
        """The form with some variables set to zero."""
        return Affine(tuple((t, c) for t, c in self.terms if t not in drop), self.constant)

    def plus(self, other: Affine, scale: int) -> Affine:
        """The sum with `scale` times another form."""
        terms = dict(self.terms)
        for term, coefficient in other.terms:
            terms[term] = terms.get(term, 0) + scale * coefficient
        kept = tuple((t, c) for t, c in terms.items() if c)
        return Affine(kept, self.constant + scale * other.constant)

    def to_expr(self) -> Expr:
        """Back to an expression, terms in order of first appearance."""
        out: Expr = Const(0)
        for term, coefficient in self.terms:
            out = out + term * coefficient if coefficient != -1 else out - term
        return out + self.constant if self.constant >= 0 else out - (-self.constant)


def affine(expr: Expr) -> Affine:
    """The affine form of an index expression; non-affine parts become opaque terms."""
    terms: dict[Expr, int] = {}
    constant = _add(expr, 1, terms)
    return Affine(tuple((t, c) for t, c in terms.items() if c != 0), constant)


def _add(part: Expr, scale: int, terms: dict[Expr, int]) -> int:
    """Add `scale` times an expression to `terms`; what is constant in it is returned."""
    if isinstance(part, Const):
        return int(part.value) * scale
    if isinstance(part, Binary):
        op, a, b = part.op, part.a, part.b
        if op == "+":
            return _add(a, scale, terms) + _add(b, scale, terms)
        if op == "-":
            return _add(a, scale, terms) + _add(b, -scale, terms)
        if op == "*" and isinstance(b, Const):
            return _add(a, scale * int(b.value), terms)
        if op == "*" and isinstance(a, Const):
            return _add(b, scale * int(a.value), terms)
    if not isinstance(part, Var) and part not in terms:
        part = next((t for t in terms if not isinstance(t, Var) and same(t, part)), part)
    terms[part] = terms.get(part, 0) + scale
    return 0


def _is_index(expr: Expr) -> bool:
    """Whether an expression is built from index arithmetic alone."""
    match expr:
        case Var():
            return True
        case Const(_, dtype):
            return dtype == INDEX
        case Binary(op, a, b):
            return op in "+-*//%" and _is_index(a) and _is_index(b)
    return False


def simplify(expr: Expr, ranges: Mapping[Var, int] | None = None) -> Expr:
    """Canonical index arithmetic throughout; `ranges` (extent per variable) decides comparisons."""
    ranges = ranges or {}
    if isinstance(expr, Binary) and expr.op in ("+", "-", "*") and _is_index(expr):
        form = affine(expr)
        if all(isinstance(t, Var) for t, _ in form.terms):
            return form.to_expr()
        parts = tuple(
            (simplify(t, ranges) if not isinstance(t, Var) else t, c) for t, c in form.terms
        )
        return affine(Affine(parts, form.constant).to_expr()).to_expr()
    new = rebuild(expr, [simplify(part, ranges) for part in children(expr)])
    if isinstance(new, Compare):
        return _decide(new, ranges)
    if isinstance(new, Binary) and new.op in ("//", "%") and isinstance(new.b, Const):
        return _divide(new, ranges)
    return new


def _decide(cond: Compare, ranges: Mapping[Var, int]) -> Expr:
    if not (_is_index(cond.a) and _is_index(cond.b)):
        return cond
    difference = affine(cond.a - cond.b)
    bounds = interval(difference, ranges)
    if bounds is not None:
        low, high = bounds
        if cond.op == "<" and high < 0 or cond.op == ">=" and low >= 0:
            return Const(1, "bool")
        if cond.op == "<" and low >= 0 or cond.op == ">=" and high < 0:
            return Const(0, "bool")
        if cond.op == "==" and (low > 0 or high < 0):
            return Const(0, "bool")
    constant = difference.constant
    left = Affine(difference.terms, 0).to_expr()
    return compare(cond.op, left, -constant)


def _divide(expr: Binary, ranges: Mapping[Var, int]) -> Expr:
    """x // n and x % n where x = n*q + r and 0 <= r < n is known."""
    assert isinstance(expr.b, Const)
    n = int(expr.b.value)
    if n <= 0:
        return expr
    form = affine(expr.a)
    whole = Affine(tuple((t, c // n) for t, c in form.terms if c % n == 0), form.constant // n)
    rest = Affine(tuple((t, c) for t, c in form.terms if c % n), form.constant % n)
    bounds = interval(rest, ranges)
    if bounds is not None and bounds[0] >= 0 and bounds[1] < n:
        return whole.to_expr() if expr.op == "//" else rest.to_expr()
    return expr


def interval(form: Affine, ranges: Mapping[Var, int]) -> tuple[int, int] | None:
    """Least and greatest value as the variables run over their extents; None if one has none."""
    low = high = form.constant
    for term, coefficient in form.terms:
        if not isinstance(term, Var) or term not in ranges:
            return None
        reach = coefficient * (ranges[term] - 1)
        low, high = low + min(0, reach), high + max(0, reach)
    return low, high


def equal(a: Expr, b: Expr) -> bool:
    """Whether two index expressions are the same affine form."""
    difference = affine(a - b)
    return not difference.terms and difference.constant == 0


def difference(a: Expr, b: Expr) -> int | None:
    """a - b if it is a known number."""
    form = affine(a - b)
    return None if form.terms else form.constant


def evaluate(expr: Expr, values: Mapping[Var, int]) -> int:
    """The value of an index expression whose variables are all known."""
    # Those that indices are made of first: they are evaluated in every round of every loop.
    if isinstance(expr, Var) and expr in values:
        return values[expr]
    if isinstance(expr, Const):
        return int(expr.value)
    if isinstance(expr, Binary) and expr.op in INTEGER_OPS:
        result = INTEGER_OPS[expr.op](evaluate(expr.a, values), evaluate(expr.b, values))
        # Every integer type holds those, and to find out the type takes longest.
        return result if 0 <= result <= _SMALL else wrap(result, expr.dtype)
    match expr:
        case Compare(op, a, b):
            return int(COMPARE[op](evaluate(a, values), evaluate(b, values)))
        case Both(a, b):
            return evaluate(a, values) and evaluate(b, values)
        case Select(cond, then, other):
            return evaluate(then if evaluate(cond, values) else other, values)
    raise ValueError(f"index {expr} is not known: nothing gives it a value")
