"""Accumulators overwritten in place, where nothing else reads them."""

from __future__ import annotations

import numpy as np
import pytest

from compiler import te
from compiler.loop.interp import run
from compiler.loop.nodes import Alloc, Func, walk
from compiler.loop.verify import verify
from compiler.passes.lower_schedule import lower_schedule
from compiler.passes.reuse_in_place import reuse_in_place
from tests.compiler.kernels import KERNELS
from tests.compiler.passes.checks import check_equal, check_golden
from tests.compiler.passes.shorthand import on_accumulator
from tests.conftest import Golden


@pytest.mark.parametrize("kind", ["conv", "average_pool", "add"])
def test_text(kind: str, golden: Golden) -> None:
    check_golden("reuse_in_place", kind, golden)


@pytest.mark.parametrize("name", KERNELS)
def test_same_result(name: str, seed: int) -> None:
    check_equal("reuse_in_place", name, seed)


def on_chip(func: Func) -> list[str]:
    return [stmt.buffer.name for stmt in walk(func.body) if isinstance(stmt, Alloc)]


def outcome(schedule: te.Schedule, params: tuple[te.Tensor, ...]) -> list[str]:
    """On-chip buffers that are left; the function computes what it did before."""
    before = lower_schedule(schedule, params, "f")
    after = reuse_in_place(before)
    verify(after)
    rng = np.random.default_rng(3)
    given = {p.name: rng.integers(-50, 50, p.shape).astype(p.dtype) for p in params[:-1]}
    results = []
    for func in (before, after):
        arrays = {**given, "out": np.zeros(params[-1].shape, np.int8)}
        run(func, arrays)
        results.append(arrays["out"])
    np.testing.assert_array_equal(results[1], results[0])
    return on_chip(after)


def test_a_chain_needs_one_buffer() -> None:
    def double(a: te.Tensor) -> te.Tensor:
        return te.compute(a.shape, lambda *at: a(*at) * 2, "double")

    def clip(a: te.Tensor, double: te.Tensor) -> te.Tensor:
        return te.compute(a.shape, lambda *at: te.minimum(double(*at), 90), "clip")

    assert outcome(*on_accumulator({"a": (6,)}, double, clip)) == ["a.acc"]


def test_an_operand_with_two_readers_is_kept() -> None:
    def double(a: te.Tensor) -> te.Tensor:
        return te.compute(a.shape, lambda *at: a(*at) * 2, "double")

    def total(a: te.Tensor, double: te.Tensor) -> te.Tensor:
        return te.compute(a.shape, lambda *at: double(*at) + a(*at), "total")

    assert outcome(*on_accumulator({"a": (6,)}, double, total)) == ["a.acc", "double"]


def test_an_operand_read_elsewhere_in_the_same_stage_is_kept() -> None:
    """In place, the second half would add what the first half has overwritten."""

    def mirrored(a: te.Tensor) -> te.Tensor:
        return te.compute(a.shape, lambda i, b, o: a(i, b, o) + a(5 - i, b, o), "mirrored")

    assert outcome(*on_accumulator({"a": (6,)}, mirrored)) == ["a.acc", "mirrored"]


def test_an_operand_that_is_not_aligned_is_kept() -> None:
    def shifted(a: te.Tensor) -> te.Tensor:
        return te.compute(a.shape, lambda i, b, o: a((i + 1) % 6, b, o) + 1, "shifted")

    assert outcome(*on_accumulator({"a": (6,)}, shifted)) == ["a.acc", "shifted"]


def test_an_operand_of_every_round_of_a_loop_is_kept() -> None:
    """The first round would leave a sum where the second expects the operand."""
    a, p = (te.placeholder((rows, 4, 1, 4), "int32", n) for rows, n in ((1, "a"), (3, "p")))
    load_a, load_p = (
        te.compute(t.shape, lambda *at, t=t: t(*at).astype("int32"), f"{t.name}.acc")
        for t in (a, p)
    )
    total = te.compute(p.shape, lambda r, i, b, o: load_a(0, i, b, o) + load_p(r, i, b, o), "total")
    out = te.compute(p.shape, lambda *at: total(*at).astype("int8"), "out")
    s = te.Schedule(out)
    for tensor in (load_a, load_p, total):
        s[tensor].set_scope("acc")
    s[total].compute_at(s[out], s[out].axes[0])
    s[load_p].compute_at(s[out], s[out].axes[0])
    assert "total" in outcome(s, (a, p, out))


def test_a_loop_inside_the_operands_own_does_no_harm() -> None:
    def double(a: te.Tensor) -> te.Tensor:
        return te.compute(a.shape, lambda *at: a(*at) * 2, "double")

    s, params = on_accumulator({"a": (6,)}, double)
    out = s[params[-1]]
    for stage in s.stages[:-1]:
        stage.compute_at(out, out.axes[0])
    assert outcome(s, params) == ["a.acc"]
