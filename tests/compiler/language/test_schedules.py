"""Primitives that concern the machine: halves of a buffer, marked loops, guarded threads."""

from __future__ import annotations

import re

import numpy as np
import pytest

from compiler import te
from compiler.build import build, lower
from compiler.errors import LoweringError, ScheduleError
from compiler.loop.interp import run
from compiler.loop.nodes import Alloc, For, walk
from compiler.topi.gemm_intrin import gemm_intrin
from tests.compiler.language.cases import Array, execute
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Alu, Load, Store
from vta_hw.spec.program import Program

TINY = VtaConfig.load("tiny")
LANES = (TINY.batch, TINY.block_out)


class Addition:
    """out = low byte of x + 5, x cached; loops of `out` split into tiles of 2."""

    def __init__(self, count: int = 8) -> None:
        shape = (count, *LANES)
        self.x = te.placeholder(shape, "int32", "x")
        self.sum = te.compute(shape, lambda i, b, o: self.x(i, b, o) + 5, "sum")
        self.out = te.compute(shape, lambda i, b, o: self.sum(i, b, o).astype("int8"), "out")
        self.s = te.Schedule(self.out)
        self.cached = self.s.cache_read(self.x, "acc", [self.sum])
        self.s[self.sum].set_scope("acc")
        self.tile, self.inner = self.s[self.out].split(self.s[self.out].axes[0], 2)

    def attach(self) -> None:
        for stage in (self.cached, self.sum):
            self.s[stage].compute_at(self.s[self.out], self.tile)

    def build(self) -> Program:
        return build(self.s, (self.x, self.out), TINY, "add")

    def check(self, rng: np.random.Generator) -> Program:
        """Program and loop nest give the sum; back comes the program."""
        x: Array = rng.integers(-128, 128, self.x.shape).astype(np.int32)
        arrays: dict[str, Array] = {"x": x, "out": np.zeros(self.out.shape, np.int8)}
        expected: Array = (x + 5).astype(np.int8)
        program = self.build()
        for interleave in (None, rng, rng):
            assert np.array_equal(execute(program, arrays, interleave)["out"], expected)
        run(lower(self.s, (self.x, self.out)), arrays)
        assert np.array_equal(arrays["out"], expected)
        return program


def loads(program: Program) -> list[int]:
    """SRAM addresses of the loads with a DRAM tensor behind them."""
    named = {r.index for r in program.relocations if r.symbol == "x"}
    return [
        insn.sram_base
        for n, insn in enumerate(program.instructions)
        if n in named and isinstance(insn, Load)
    ]


# -- double_buffer ---------------------------------------------------------------------------------


def test_halves_alternate(rng: np.random.Generator) -> None:
    add = Addition()
    add.attach()
    add.s[add.cached].double_buffer()
    add.s[add.sum].double_buffer()
    second = TINY.depth(MemType.ACC) // 2  # the halves of ACC serve two requests at once
    assert loads(add.check(rng)) == [0, second, 0, second]


def test_halves_outlive_the_loop_that_uses_them_in_turn() -> None:
    add = Addition()
    add.attach()
    add.s[add.cached].double_buffer()
    body = lower(add.s, (add.x, add.out)).body
    assert isinstance(body, Alloc)
    assert body.buffer.shape == (2, 2, *LANES)
    assert isinstance(body.body, For)


def test_a_loop_that_runs_once_needs_one_half(rng: np.random.Generator) -> None:
    add = Addition(2)
    add.attach()
    add.s[add.cached].double_buffer()
    assert loads(add.check(rng)) == [0]


def test_halves_need_a_loop() -> None:
    add = Addition()
    add.s[add.cached].double_buffer()
    with pytest.raises(
        ScheduleError,
        match=r"^stage 'x.acc' is double-buffered but computed once, outside all loops; "
        r"compute_at says in which loop the halves alternate$",
    ):
        add.build()


def test_threads_have_buffers_of_their_own() -> None:
    add = Addition()
    add.attach()
    add.s[add.cached].double_buffer()
    add.s[add.out].vthread(add.tile)
    with pytest.raises(
        ScheduleError,
        match=r"^stage 'x.acc' is double-buffered at loop 'i.o' of 'out', which is marked vthread: "
        r"its threads have buffers of their own already; leave one of the two out$",
    ):
        add.build()


# -- marked loops ----------------------------------------------------------------------------------


def test_an_unrolled_transfer_is_one_transfer_per_round(rng: np.random.Generator) -> None:
    add = Addition()
    add.attach()
    add.s[add.cached].unroll(add.s[add.cached].axes[0])
    assert loads(add.check(rng)) == [0, 1] * 4


def test_threads_of_a_transfer_are_transfers(rng: np.random.Generator) -> None:
    add = Addition()
    add.attach()
    add.s[add.out].vthread(add.inner)
    stores = [i for i in add.check(rng).instructions if isinstance(i, Store)]
    assert [store.x_size for store in stores] == [1] * 8


def test_an_unrolled_computation_is_one_instruction_per_round(rng: np.random.Generator) -> None:
    add = Addition()
    add.attach()
    add.s[add.sum].unroll(add.s[add.sum].axes[0])
    steps = [i for i in add.check(rng).instructions if isinstance(i, Alu)]
    assert len(steps) == 8


def test_the_lanes_of_an_element_are_no_threads() -> None:
    add = Addition()
    add.attach()
    add.s[add.sum].vthread(add.s[add.sum].axes[2])
    with pytest.raises(
        LoweringError,
        match=r"^ALU stage 'sum': vthread loop o runs over the lanes of one ACC element, which are "
        r"computed in one step; mark a loop outside of it$",
    ):
        add.build()


@pytest.mark.parametrize("lane", ["b", "o"])
def test_the_loops_of_a_step_are_no_threads(lane: str) -> None:
    x = te.placeholder((3, TINY.batch, TINY.block_in), "int8", "x")
    w = te.placeholder((TINY.block_out, TINY.block_in), "int8", "w")
    c = te.reduce_axis(TINY.block_in, "c")

    def element(n: te.Var, b: te.Var, o: te.Var) -> te.Expr:
        return te.sum(x(n, b, c.var).astype("int32") * w(o, c.var).astype("int32"), [c])

    acc = te.compute((3, *LANES), element, "acc")
    y = te.compute((3, *LANES), lambda n, b, o: acc(n, b, o).astype("int8"), "y")
    s = te.Schedule(y)
    s.cache_read(x, "inp", [acc])
    s.cache_read(w, "wgt", [acc])
    s[acc].set_scope("acc")
    _, b, o = s[acc].axes
    s[acc].tensorize(b, gemm_intrin(TINY))
    s[acc].vthread({"b": b, "o": o}[lane])
    wanted = (
        f"tensorize stage 'acc' with 'gemm': expected plain loops, found {lane!r} marked vthread"
    )
    with pytest.raises(LoweringError, match=f"^{re.escape(wanted)}$"):
        build(s, (x, w, y), TINY, "step")


# -- threads and remainders ------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_a_computation_whose_threads_leave_a_remainder(
    threads: int, rng: np.random.Generator
) -> None:
    """The guard of the last thread knows which thread it is in."""
    add = Addition(10)
    outer, _ = add.s[add.sum].split(add.s[add.sum].axes[0], nparts=threads)
    add.s[add.sum].vthread(outer)
    add.check(rng)


@pytest.mark.parametrize("axes", [(0, 1), (1, 0)])
def test_threads_on_two_axes_have_buffers_each(
    axes: tuple[int, int], rng: np.random.Generator
) -> None:
    shape = (3, 4, *LANES)
    x = te.placeholder(shape, "int32", "x")
    twice = te.compute(shape, lambda i, j, b, o: x(i, j, b, o) * 2, "twice")
    out = te.compute(shape, lambda i, j, b, o: twice(i, j, b, o).astype("int8"), "out")
    s = te.Schedule(out)
    cached = s.cache_read(x, "acc", [twice])
    s[twice].set_scope("acc")
    loops = [s[out].axes[n] for n in axes]
    s[out].reorder(*loops)
    for axis in loops:
        s[out].vthread(axis)
    for stage in (cached, twice):
        s[stage].compute_at(s[out], loops[-1])
    program = build(s, (x, out), TINY, "twice")
    assert sorted(loads(program)) == list(range(12))
    assert sum(isinstance(stmt, For) for stmt in walk(lower(s, (x, out)).body)) == 5
    arrays: dict[str, Array] = {
        "x": rng.integers(-128, 128, shape).astype(np.int32),
        "out": np.zeros(shape, np.int8),
    }
    for interleave in (None, rng, rng):
        after = execute(program, arrays, interleave)["out"]
        assert np.array_equal(after, (arrays["x"] * 2).astype(np.int8))
