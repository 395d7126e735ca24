"""Scratchpad offsets: peers apart, siblings together, overflow with its sum."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.errors import CapacityError
from compiler.loop.expr import Const, Var, compare
from compiler.loop.nodes import Alloc, Buffer, For, Func, If, Seq, Stmt
from compiler.loop.scopes import MEMORY, Place, elements
from compiler.passes.allocate_sram import allocate_sram
from tests.compiler.kernels import KERNELS, before, random_kernel
from tests.compiler.passes.shorthand import TINY, refused

EMPTY = Seq(())


def inp(name: str, count: int) -> Buffer:
    return Buffer(name, (count, 1, 4), "int8", "inp")


def func(body: Stmt) -> Func:
    return Func("f", (), body)


def test_peers_follow_each_other_and_siblings_share() -> None:
    a, b, c, d = (inp(name, count) for name, count in zip("abcd", (10, 20, 30, 5), strict=True))
    body = Alloc(a, Seq((Alloc(b, Alloc(d, EMPTY)), Alloc(c, EMPTY))))
    places = allocate_sram(func(body), TINY)
    assert {buffer.name: place.first for buffer, place in places.items()} == {
        "a": 0,
        "b": 10,
        "d": 30,
        "c": 10,
    }


def test_memories_are_independent() -> None:
    a, b = inp("a", 200), Buffer("b", (200, 1, 4), "int32", "acc")
    places = allocate_sram(func(Alloc(a, Alloc(b, EMPTY))), TINY)
    assert (places[a], places[b]) == (Place(0), Place(0))


def test_allocations_inside_loops_and_conditions_are_found() -> None:
    a, b = inp("a", 100), inp("b", 100)
    i = Var("i")
    body = Alloc(a, For(i, 2, If(compare("<", i, Const(1)), Alloc(b, EMPTY))))
    assert allocate_sram(func(body), TINY)[b] == Place(100)


def test_a_memory_may_be_filled_to_the_last_element() -> None:
    a, b = inp("a", 100), inp("b", 156)
    assert allocate_sram(func(Alloc(a, Alloc(b, EMPTY))), TINY)[b] == Place(100)


def test_overflow_names_the_sum() -> None:
    a, b, c = inp("a", 100), inp("b", 100), inp("c", 57)
    w = Buffer("w", (60, 4, 4), "int8", "wgt")
    with refused(
        "memory 'inp' of config 'tiny' has 256 elements, but 100 (a) + 100 (b) + 57 (c) = 257 "
        "must be in it at once; use smaller tiles or fewer threads",
        CapacityError,
    ):
        allocate_sram(func(Alloc(a, Alloc(w, Alloc(b, Alloc(c, EMPTY))))), TINY)


def test_a_kernel_keeps_away_from_the_one_before() -> None:
    before = allocate_sram(func(Alloc(inp("a", 100), EMPTY)), TINY)
    b, c = inp("b", 50), inp("c", 20)
    body = Alloc(b, Alloc(c, EMPTY))
    assert allocate_sram(func(body), TINY, before) == {b: Place(206), c: Place(186)}
    after = allocate_sram(func(body), TINY, allocate_sram(func(body), TINY, before))
    assert after == {b: Place(0), c: Place(50)}


def test_of_two_ends_the_one_where_the_first_half_is_free() -> None:
    a = Buffer("a", (2, 60, 1, 4), "int8", "inp", is_double=True)
    b = Buffer("b", (2, 90, 1, 4), "int8", "inp", is_double=True)
    before = allocate_sram(func(Alloc(a, EMPTY)), TINY)
    places = allocate_sram(func(Alloc(b, EMPTY)), TINY, before)
    assert places[b].spans(b) == [range(166, 256), range(76, 166)]
    whole = Buffer("c", (2, 128, 1, 4), "int8", "inp", is_double=True)
    full = allocate_sram(func(Alloc(whole, EMPTY)), TINY)
    assert allocate_sram(func(Alloc(whole, EMPTY)), TINY, full) == full


def acc(name: str, count: int, is_double: bool = False) -> Buffer:
    halves = (2,) if is_double else ()
    return Buffer(name, (*halves, count, 1, 4), "int32", "acc", is_double)


def test_halves_of_accumulators_go_to_different_halves_of_the_memory() -> None:
    room = TINY.depth(MEMORY["acc"]) // 2
    a, b, c, d = acc("a", 40), acc("b", 30, True), acc("c", 20), acc("d", 10, True)
    places = allocate_sram(func(Alloc(a, Alloc(b, Alloc(c, Alloc(d, EMPTY))))), TINY)
    assert [places[buffer] for buffer in (a, b, c, d)] == [
        Place(0),
        Place(40, room),
        Place(room + 30),
        Place(70, room + 50),
    ]
    assert places[b].steps(b) == [room - 40, 1]


def test_halves_that_only_fit_one_after_the_other_do_so() -> None:
    room = TINY.depth(MEMORY["acc"]) // 2
    a, b = acc("a", 40), acc("b", room - 20, True)
    places = allocate_sram(func(Alloc(a, Alloc(b, EMPTY))), TINY)
    assert places == {a: Place(0), b: Place(40, room + 20)}
    assert places[b].steps(b) == [room - 20, 1]


@pytest.mark.parametrize("name", KERNELS)
def test_live_buffers_of_kernels_never_overlap(name: str, seed: int) -> None:
    kernel = random_kernel(name, seed)
    lowered = before(kernel, "emit_tasks")
    places = allocate_sram(lowered, kernel.config)
    used = {scope: np.zeros(kernel.config.depth(MEMORY[scope]), int) for scope in MEMORY}

    def visit(stmt: Stmt) -> None:
        match stmt:
            case Alloc(buffer, body):
                spans = places[buffer].spans(buffer)
                assert sum(map(len, spans)) == elements(buffer)
                for span in spans:
                    assert span.start >= 0 and span.stop <= len(used[buffer.scope])
                    used[buffer.scope][span.start : span.stop] += 1
                assert used[buffer.scope].max() == 1, f"{buffer.name} shares elements"
                visit(body)
                for span in spans:
                    used[buffer.scope][span.start : span.stop] -= 1
            case Seq(stmts):
                for part in stmts:
                    visit(part)
            case For(_, _, body) | If(_, body):
                visit(body)

    visit(lowered.body)
    assert places
