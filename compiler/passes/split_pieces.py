"""Nests whose indices choose by position -> nests with linear indices, one per piece.

``for i in 6: A[i] <- op(P[select(i >= 1, 1, 0)])`` ->
``for i in 1: A[i] <- op(P[0]); for i in 5: A[i + 1] <- op(P[1])``
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

from compiler.errors import LoweringError
from compiler.loop.arith import affine, simplify
from compiler.loop.expr import (
    Compare,
    Const,
    Expr,
    Select,
    Var,
    free_vars,
    substitute,
    walk,
)
from compiler.loop.nodes import Access, Apply, For

Piece = tuple[list[For], Apply]
"""Loops, outermost first, and the step inside."""


def is_piecewise(core: Apply) -> bool:
    """Whether an operand's index contains a choice."""
    return any(_chooses(index) for access in (core.dst, *core.srcs) for index in access.indices)


def _chooses(index: Expr) -> bool:
    return any(isinstance(part, Select) for part in walk(index))


def deciding_vars(core: Apply) -> frozenset[Var]:
    """The variables that the choices in its operands' indices depend on."""
    return frozenset(
        var
        for access in (core.dst, *core.srcs)
        for index in access.indices
        for part in walk(index)
        if isinstance(part, Compare)
        for var in free_vars(part)
    )


def split_pieces(loops: Sequence[For], core: Apply, values: Mapping[Var, int]) -> Iterator[Piece]:
    """The nest's pieces, in which every choice is decided.

    `values` fixes outer variables, those at least that choices depend on.
    """
    fixed: dict[Var, Expr] = {v: Const(n) for v, n in values.items()}
    accesses = (core.dst, *core.srcs)
    indices = [substitute(i, fixed) for a in accesses for i in a.indices if _chooses(i)]
    cuts = {loop.var: {0, loop.extent} for loop in loops}
    for index in indices:
        for part in walk(index):
            if isinstance(part, Compare):
                _cut(part, cuts, core.loc)
    segments = []
    for loop in loops:
        marks = sorted(cuts[loop.var])
        segments.append(list(zip(marks, marks[1:], strict=False)))
    for choice in product(*segments):
        yield _piece(loops, core, fixed, choice)


def _cut(condition: Compare, cuts: dict[Var, set[int]], loc: str) -> None:
    """Note where a condition changes along the one loop that it depends on."""
    form = affine(simplify(condition.a - condition.b))
    moving = form.terms
    if not moving:
        return
    if len(moving) > 1 or moving[0][0] not in cuts or moving[0][1] <= 0:
        raise LoweringError(
            f"stage {loc!r} chooses by {condition}; a choice must grow with one loop of its nest"
        )
    var, coefficient = moving[0]
    assert isinstance(var, Var)
    at = -(form.constant // coefficient)  # least v with coefficient * v + constant >= 0
    if 0 < at < max(cuts[var]):
        cuts[var].add(at)


def _piece(
    loops: Sequence[For], core: Apply, fixed: Mapping[Var, Expr], choice: Sequence[tuple[int, int]]
) -> Piece:
    table: dict[Var, Expr] = {}
    ranges, inner = {}, []
    for loop, (begin, end) in zip(loops, choice, strict=True):
        if end - begin == loop.extent:
            ranges[loop.var] = loop.extent
            inner.append(loop)
            continue
        if end - begin == 1:
            table[loop.var] = Const(begin)
            continue
        var = Var(loop.var.name)
        table[loop.var] = var + begin
        ranges[var] = end - begin
        inner.append(replace(loop, var=var, extent=end - begin, body=core))

    known = {**fixed, **table}

    def decided(index: Expr) -> Expr:
        if _chooses(index):
            return simplify(substitute(index, known), ranges)
        changed = substitute(index, table)
        return index if changed is index else simplify(changed, ranges)

    def moved(access: Access) -> Access:
        indices = tuple(map(decided, access.indices))
        same = all(new is old for new, old in zip(indices, access.indices, strict=True))
        return access if same else Access(access.buffer, indices)

    part = replace(core, dst=moved(core.dst), srcs=tuple(map(moved, core.srcs)))
    return inner, part
