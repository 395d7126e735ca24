"""Nests whose indices choose by position, cut where the choice changes."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.errors import LoweringError
from compiler.loop.arith import evaluate
from compiler.loop.expr import Compare, Const, Expr, Select, Var, both, compare, select, walk
from compiler.loop.nodes import Access, Apply, Buffer, For
from compiler.loop.units import ALU
from compiler.passes.split_pieces import is_piecewise, split_pieces
from tests.compiler.passes.shorthand import refused

OUTER, ROW, COLUMN = Var("outer"), Var("row"), Var("column")
DST, SRC = Buffer("dst", (99, 1, 4), "int32", "acc"), Buffer("src", (99, 1, 4), "int32", "acc")
SETTINGS = settings(max_examples=150, deadline=None, derandomize=True)


def nest(src: Expr, rows: int, columns: int) -> tuple[list[For], Apply]:
    core = Apply(ALU, Access(DST, (ROW * columns + COLUMN,)), (Access(SRC, (src,)),), loc="stage")
    inner = For(COLUMN, columns, core)
    return [For(ROW, rows, inner), inner], core


def steps(loops: list[For], core: Apply, outer: int) -> list[tuple[int, int]]:
    """(dst, src) of every step."""
    found = []
    for where in product(*(range(loop.extent) for loop in loops)):
        values = {loop.var: n for loop, n in zip(loops, where, strict=True)} | {OUTER: outer}
        dst, src = core.dst.indices[0], core.srcs[0].indices[0]
        found.append((evaluate(dst, values), evaluate(src, values)))
    return found


@st.composite
def thresholds(draw: st.DrawFn) -> Expr:
    """A condition on one loop, shifted by the outer variable, as border classes make them."""
    var = draw(st.sampled_from([ROW, COLUMN]))
    scale = draw(st.integers(1, 3))
    shift = draw(st.sampled_from([0, 1, 2])) * OUTER + draw(st.integers(-3, 3))
    return compare(
        draw(st.sampled_from(["<", ">="])), var * scale + shift, draw(st.integers(-2, 9))
    )


@st.composite
def indices(draw: st.DrawFn) -> Expr:
    out: Expr = ROW * draw(st.integers(0, 2)) + COLUMN * draw(st.integers(0, 2)) + 20
    for _ in range(draw(st.integers(1, 3))):
        condition = draw(st.one_of(thresholds(), st.builds(both, thresholds(), thresholds())))
        out = out + select(
            condition, Const(draw(st.integers(0, 5))), Const(draw(st.integers(0, 5)))
        )
    return out


@SETTINGS
@given(indices(), st.integers(1, 5), st.integers(1, 5), st.integers(0, 3))
def test_the_same_steps(src: Expr, rows: int, columns: int, outer: int) -> None:
    loops, core = nest(src, rows, columns)
    wanted = steps(loops, core, outer)
    found = []
    for part_loops, part in split_pieces(loops, core, {OUTER: outer}):
        for access in (part.dst, *part.srcs):
            for index in access.indices:
                assert not any(isinstance(e, Select | Compare) for e in walk(index)), str(index)
        found += steps(part_loops, part, outer)
    assert sorted(found) == sorted(wanted)


def test_pieces_are_as_few_as_the_classes() -> None:
    src = select(compare(">=", ROW, 1), Const(1), Const(0)) + select(
        compare(">=", ROW, 4), Const(1), Const(0)
    )
    loops, core = nest(src, 5, 3)
    parts = list(split_pieces(loops, core, {}))
    assert [[loop.extent for loop in part] for part, _ in parts] == [[3], [3, 3], [3]]
    assert [str(part.srcs[0].indices[0]) for _, part in parts] == ["0", "1", "2"]


def test_linear_nests_are_left_alone() -> None:
    _, core = nest(ROW * 2, 3, 3)
    assert not is_piecewise(core)
    _, core = nest(select(compare("<", ROW, 1), Const(0), Const(1)), 3, 3)
    assert is_piecewise(core)


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (compare(">=", ROW + COLUMN, 2), "row + column >= 2"),
        (compare(">=", 3 - ROW, 2), "3 - row >= 2"),
    ],
)
def test_a_choice_grows_with_one_loop(condition: Expr, text: str) -> None:
    loops, core = nest(select(condition, Const(1), Const(0)), 3, 3)
    with refused(
        f"stage 'stage' chooses by {text}; a choice must grow with one loop of its nest",
        LoweringError,
    ):
        list(split_pieces(loops, core, {}))
