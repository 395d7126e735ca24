"""Copy nests as box copies, and what no transfer can do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compiler import te
from compiler.errors import LoweringError
from compiler.loop.expr import Read, both, compare
from compiler.loop.nodes import Alloc, Buffer, Copy, For, Func, If, Store, walk
from compiler.passes.inject_dma import inject_dma
from compiler.passes.lower_schedule import lower_schedule
from tests.compiler.kernels import KERNELS
from tests.compiler.passes.checks import check_equal, check_golden
from tests.compiler.passes.shorthand import refused
from tests.conftest import Golden


@pytest.mark.parametrize("kind", ["conv", "max_pool", "add"])
def test_text(kind: str, golden: Golden) -> None:
    check_golden("inject_dma", kind, golden)


@pytest.mark.parametrize("name", KERNELS)
def test_same_result(name: str, seed: int) -> None:
    check_equal("inject_dma", name, seed)


def stage_from(shape: tuple[int, ...], element: Callable[..., te.Expr], scope: str = "acc") -> Func:
    """out[...] = stage where the stage of `shape` is computed from x [8, 8, 1, 4] in DRAM."""
    x = te.placeholder((8, 8, 1, 4), "int8", "x")
    stage = te.compute(shape, lambda *at: element(x, *at), "stage")
    out = te.compute(shape, lambda *at: stage(*at).astype("int8"), "out")
    s = te.Schedule(out)
    s[stage].set_scope(scope)
    return lower_schedule(s, (x, out), "f")


def copies(func: Func) -> list[Copy]:
    return [stmt for stmt in walk(inject_dma(func).body) if isinstance(stmt, Copy)]


def test_boxes_extend_types_and_permute_axes() -> None:
    func = stage_from((3, 2, 1, 4), lambda x, i, j, b, o: x(j + 1, i + 2, b, o).astype("int32"))
    load, store = copies(func)
    assert (load.src.extent, load.dst.extent, load.axes) == (
        (2, 3, 1, 4),
        (3, 2, 1, 4),
        (1, 0, None, 3),
    )
    assert (store.src.buffer.name, store.dst.buffer.name, store.pad) == ("stage", "out", None)


def test_a_load_may_pad() -> None:
    def element(x: te.Tensor, i: te.Var, j: te.Var, b: te.Var, o: te.Var) -> te.Expr:
        inside = both(compare(">=", i, 2), compare("<", i, 10), compare("<", j, 8))
        return te.select(inside, x(i - 2, j, b, o).astype("int32"), te.Const(-128))

    load, _ = copies(stage_from((12, 9, 1, 4), element))
    assert (load.pad, [str(begin) for begin in load.src.begin]) == (-128, ["-2", "0", "0", "0"])


def test_a_transfer_computes_nothing() -> None:
    with refused(
        "DMA of 'stage': a transfer between DRAM and a scratchpad copies one element, it cannot "
        "compute int32(x[i0, i1, 0, i3]) + 1; split the stage with cache_read or cache_write"
    ):
        inject_dma(stage_from((8, 8, 1, 4), lambda x, *at: x(*at).astype("int32") + 1))


def test_a_transfer_does_not_narrow_and_widen() -> None:
    """int32 -> int8 -> int32 drops high bits, a copy would keep them."""
    x = te.placeholder((8, 1, 4), "int32", "x")
    stage = te.compute(x.shape, lambda *at: x(*at).astype("int8").astype("int32"), "stage")
    out = te.compute(x.shape, lambda *at: stage(*at).astype("int8"), "out")
    s = te.Schedule(out)
    s[stage].set_scope("acc")
    with pytest.raises(LoweringError, match=r"it cannot compute int8\(x\[i0, 0, i2\]\); split"):
        inject_dma(lower_schedule(s, (x, out), "f"))


def test_one_side_is_in_dram() -> None:
    x = te.placeholder((4, 1, 4), "int8", "x")
    out = te.compute(x.shape, lambda *at: x(*at), "out")
    with refused("DMA of 'out': one side must be in DRAM, not dram -> dram"):
        inject_dma(lower_schedule(te.Schedule(out), (x, out), "f"))


@pytest.mark.parametrize(
    ("index", "text"),
    [
        (lambda i, j: (i * 2, j), "i0*2"),
        (lambda i, j: (i + j, 0), "i0 + i1"),
        (lambda i, j: (3 - i, j), "0 - i0 + 3"),
        (lambda i, j: (i // 2, j), "i0//2"),
    ],
    ids=["strided", "two loops", "backwards", "repeated"],
)
def test_an_index_moves_with_one_loop_one_step_a_time(index, text: str) -> None:
    func = stage_from((4, 4, 1, 4), lambda x, i, j, b, o: x(*index(i, j), b, o).astype("int32"))
    with refused(f"DMA of 'stage': index {text} must move with one loop, one element a step"):
        inject_dma(func)


def test_a_loop_moves_one_axis() -> None:
    func = stage_from((4, 1, 4), lambda x, i, b, o: x(i, i, b, o).astype("int32"))
    with refused("DMA of 'stage': loop 'i0' moves two axes at once"):
        inject_dma(func)


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (lambda i: compare(">=", i, 3), "i0 >= 3"),
        (lambda i: compare("<", i, 9), "i0 < 9"),
        (lambda i: compare("==", i, 2), "i0 == 2"),
    ],
)
def test_padding_is_exactly_what_is_outside(condition, text: str) -> None:
    def element(x: te.Tensor, i: te.Var, j: te.Var, b: te.Var, o: te.Var) -> te.Expr:
        return te.select(condition(i), x(i - 2, j, b, o).astype("int32"), te.Const(0))

    with refused(
        f"DMA of 'stage': a load pads exactly outside 'x'; the condition {text} is no bound of "
        f"x[i0 - 2, i1, 0, i3]"
    ):
        inject_dma(stage_from((12, 8, 1, 4), element))


def test_the_pad_value_is_constant() -> None:
    def element(x: te.Tensor, i: te.Var, j: te.Var, b: te.Var, o: te.Var) -> te.Expr:
        return te.select(compare("<", i, 8), x(i, j, b, o), x(0, j, b, o)).astype("int32")

    with refused("DMA of 'stage': the pad value must be a constant, not x[0, i1, 0, i3]"):
        inject_dma(stage_from((9, 8, 1, 4), element))


def test_a_store_cannot_pad() -> None:
    x = te.placeholder((4, 1, 4), "int8", "x")
    stage = te.compute(x.shape, lambda *at: x(*at).astype("int32"), "stage")

    def element(i: te.Var, b: te.Var, o: te.Var) -> te.Expr:
        return te.select(compare("<", i, 4), stage(i, b, o).astype("int8"), te.Const(0, "int8"))

    out = te.compute((6, 1, 4), element, "out")
    s = te.Schedule(out)
    s[stage].set_scope("acc")
    with refused(
        "DMA of 'out': a store cannot pad, but select(i < 4, int8(stage[i, 0, o]), int8(0)) "
        "chooses; pad when loading"
    ):
        inject_dma(lower_schedule(s, (x, out), "f"))


def test_a_guard_clips_the_box() -> None:
    x = te.placeholder((7, 1, 4), "int8", "x")
    stage = te.compute(x.shape, lambda *at: x(*at).astype("int32"), "stage")
    out = te.compute(x.shape, lambda *at: stage(*at).astype("int8"), "out")
    s = te.Schedule(out)
    s[stage].set_scope("acc")
    outer, _ = s[out].split(s[out].axes[0], 2)
    s[stage].compute_at(s[out], outer)
    func = inject_dma(lower_schedule(s, (x, out), "f"))
    clips = [stmt.clips for stmt in walk(func.body) if isinstance(stmt, Copy)]
    assert [[(axis, str(low), str(high)) for axis, low, high in clip] for clip in clips] == [
        [(0, "0", "min(2, i0.o*-2 + 7)")],
        [(0, "0", "min(2, i0.o*-2 + 7)")],
    ]


def test_a_guard_bounds_one_loop() -> None:
    x, acc = Buffer("x", (8, 1, 4), "int32"), Buffer("acc", (8, 1, 4), "int32", "acc")
    i, o = te.Var("i"), te.Var("o")
    at = (i, te.Const(0), o)
    load = If(compare("<", i + o, 9), Store(acc, at, Read(x, at), loc="load"))
    func = Func("f", (x,), Alloc(acc, For(i, 8, For(o, 4, load))))
    with refused(
        "DMA of 'load': the guard i + o < 9 of a transfer must bound one of its loops; choose tile "
        "sizes that divide the extents"
    ):
        inject_dma(func)
