"""Tensor units that a user declares: their meaning, their rules, and what the compiler says."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pytest

from compiler import te
from compiler.build import lower
from compiler.errors import LoweringError, ScheduleError, VtaKitError
from compiler.loop.interp import run
from compiler.loop.nodes import Access, Alloc, Apply, Buffer, Func, Stmt, walk
from compiler.passes.allocate_sram import allocate_sram
from compiler.passes.emit_tasks import emit_tasks
from compiler.passes.tensorize import tensorize
from compiler.te.units import behaviour
from compiler.topi.gemm_intrin import gemm_intrin
from vta_hw.spec.config import VtaConfig

TINY = VtaConfig.load("tiny")


def dot_meaning(size: int, kind: str = "sum") -> tuple[tuple[te.Tensor, te.Tensor], te.Tensor]:
    """c (a number) = the sum, or the maximum, of a[k] * b[k]."""
    a, b = (te.placeholder((size,), "int32", n) for n in "ab")
    k = te.reduce_axis(size, "k")
    product = a(k.var) * b(k.var)
    whole = te.sum(product, [k]) if kind == "sum" else te.max(product, [k], init=-100)
    return (a, b), te.compute((), lambda: whole, "c")


def outer_meaning() -> tuple[tuple[te.Tensor, te.Tensor], te.Tensor]:
    """c[i, j] = a[i] * b[j], accumulating."""
    a, b = te.placeholder((3,), "int32", "a"), te.placeholder((2,), "int32", "b")
    k = te.reduce_axis(1, "k")
    return (a, b), te.compute((3, 2), lambda i, j: te.sum(a(i) * b(j), [k]), "c")


def blocks(shapes: list[tuple[int, ...]], rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.integers(-9, 9, shape).astype(np.int32) for shape in shapes]


@pytest.mark.parametrize("kind", ["sum", "max"])
def test_behaviour_from_a_meaning(kind: str, rng: np.random.Generator) -> None:
    inputs, meaning = dot_meaning(4, kind)
    a, b = blocks([(4,), (4,)], rng)
    old = np.array(7, np.int32)
    start = {"sum": 0, "max": -100}[kind]
    combine = {"sum": lambda v: int((a * b).sum()) + v, "max": lambda v: max(v, int((a * b).max()))}
    assert behaviour(inputs, meaning, "reset")(old, (), {}) == start
    assert behaviour(inputs, meaning, "update")(old, (a, b), {}) == combine[kind](7)
    assert behaviour(inputs, meaning, "compute")(old, (a, b), {}) == combine[kind](start)
    assert old == 7


def test_behaviour_wraps_at_the_width_of_its_type() -> None:
    inputs, meaning = dot_meaning(1)
    large = np.array([1 << 30], np.int32)
    assert behaviour(inputs, meaning, "compute")(np.array(1, np.int32), (large, large), {}) == 0


def test_behaviour_reads_only_the_inputs() -> None:
    (a, b), meaning = dot_meaning(4)
    with pytest.raises(
        ScheduleError,
        match=r"^the meaning 'c' reads 'b', which is not among the inputs of its unit; add it$",
    ):
        behaviour((a,), meaning, "update")


def test_a_scalar_destination_is_a_step(rng: np.random.Generator) -> None:
    """A dot product: the step has no data loops, its destination is one number."""
    p, q = te.placeholder((3, 8), "int32", "p"), te.placeholder((2, 8), "int32", "q")
    k = te.reduce_axis(8, "k")
    r = te.compute((3, 2), lambda i, j: te.sum(p(i, k.var) * q(j, k.var), [k]), "r")
    s = te.Schedule(r)
    s[r].tensorize(k, te.declare_unit("dot", *dot_meaning(8)))
    func = tensorize(lower(s, (p, q, r)))
    arrays: dict[str, np.ndarray] = {"p": blocks([(3, 8)], rng)[0], "q": blocks([(2, 8)], rng)[0]}
    arrays["r"] = np.zeros((3, 2), np.int32)
    run(func, arrays)
    assert np.array_equal(arrays["r"], arrays["p"] @ arrays["q"].T)
    s = te.Schedule(r)
    s[r].tensorize(k, te.declare_unit("dot", *dot_meaning(4)))
    refused = "tensorize stage 'r' with 'dot': expected loop 'k' of extent 4, found 'k' of extent 8"
    with pytest.raises(LoweringError, match=f"^{re.escape(refused)}$"):
        tensorize(lower(s, (p, q, r)))


@pytest.mark.parametrize(("depth", "ops"), [(1, ["compute"]), (5, ["reset", "update"])])
def test_a_whole_reduction_is_computed(
    depth: int, ops: list[str], rng: np.random.Generator
) -> None:
    p, q = te.placeholder((2, depth, 3), "int32", "p"), te.placeholder((depth, 2), "int32", "q")
    k = te.reduce_axis(depth, "k")
    r = te.compute((2, 3, 2), lambda m, i, j: te.sum(p(m, k.var, i) * q(k.var, j), [k]), "r")
    s = te.Schedule(r)
    m, i, j = s[r].axes
    k_o, k_i = s[r].split(k, 1)
    s[r].reorder(m, k_o, i, j, k_i)
    s[r].tensorize(i, te.declare_unit("outer", *outer_meaning()))
    func = tensorize(lower(s, (p, q, r)))
    assert [x.op for x in walk(func.body) if isinstance(x, Apply)] == [f"outer.{op}" for op in ops]
    arrays: dict[str, np.ndarray] = {"p": blocks([p.shape], rng)[0], "q": blocks([q.shape], rng)[0]}
    arrays["r"] = np.zeros(r.shape, np.int32)
    run(func, arrays)
    assert np.array_equal(arrays["r"], np.einsum("mki,kj->mij", arrays["p"], arrays["q"]))


def test_the_declaration_of_gemm_is_true(rng: np.random.Generator) -> None:
    for config in map(VtaConfig.load, ("tiny", "batch4")):
        te.check_intrin(gemm_intrin(config), rng, scopes=("acc", "inp", "wgt"), rounds=2)


def test_a_rule_that_does_something_else_is_refused(rng: np.random.Generator) -> None:
    inputs, meaning = outer_meaning()

    def unit(dst: np.ndarray, srcs: tuple[np.ndarray, ...], attrs: Mapping[str, int]) -> np.ndarray:
        out = dst + np.outer(*srcs)
        out[2, 1] += 1
        return out

    def update(dst: Access, srcs: tuple[Access, ...]) -> Stmt:
        return Apply("outer.update", dst, srcs, unit=unit)

    good = te.declare_unit("outer", inputs, meaning)
    te.check_intrin(good, rng)
    bad = te.TensorIntrin("outer", inputs, meaning, reset=good.reset, update=update)
    with pytest.raises(
        ScheduleError,
        match=r"^intrinsic 'outer': its update rule gives -?\d+ at \[2, 1\] of the destination, "
        r"but its meaning is -?\d+; one of them is wrong$",
    ):
        te.check_intrin(bad, rng)


def foreign(unit: te.TensorIntrin | None) -> Func:
    """One step of a unit that VTA lacks, with or without its behaviour."""
    buffer = Buffer("acc", (2, 1, 4), "int32", "acc")
    rule = None if unit is None else unit.compute
    dst = Access(buffer, (te.Const(0),))
    step = Apply("twice", dst, loc="here") if rule is None else rule(dst, (dst,))
    return Func("f", (), Alloc(buffer, step))


def test_the_interpreter_must_know_a_unit() -> None:
    wanted = "^stage 'here' uses the unit 'twice', which is none of VTA's .*; give its Apply a unit"
    with pytest.raises(LoweringError, match=wanted):
        run(foreign(None), {})


def test_vta_has_only_its_own_units() -> None:
    x = te.placeholder((1, 4), "int32", "x")
    meaning = te.compute((1, 4), lambda b, o: x(b, o) * 2, "y")
    func = foreign(te.declare_unit("twice", [x], meaning))
    run(func, {})
    with pytest.raises(VtaKitError, match="uses the unit 'twice.compute', which VTA does not have"):
        emit_tasks(func, allocate_sram(func, TINY), TINY)
