"""Each schedule primitive: the loop nest before and after, and the same result as numpy."""

from __future__ import annotations

import pytest

from compiler import te
from compiler.loop.expr import Const, Read
from compiler.loop.nodes import Access, For, Stmt, Store, walk
from compiler.loop.printer import to_text
from compiler.passes.tensorize import tensorize
from tests.compiler.te import programs
from tests.compiler.te.programs import PROGRAMS, TensorProgram
from tests.conftest import Golden


def show(program: TensorProgram, golden: Golden) -> None:
    """Hold the scheduled nest against the golden text and its result against numpy."""
    func = program.lower()
    program.check(func)
    golden(to_text(func))


@pytest.mark.parametrize("make", PROGRAMS, ids=lambda make: make.__name__)
def test_default_schedule(make, golden: Golden) -> None:
    show(make(), golden)


@pytest.mark.parametrize("factor", [1, 2, 4, 6, 9])
def test_split_by_factor(factor: int, golden: Golden) -> None:
    program = programs.scale()
    stage = program.schedule[program.out]
    outer, inner = stage.split(stage.axes[0], factor=factor)
    assert [axis.name for axis in stage.leaves] == ["i.o", "i.i", "j"]
    assert (outer, inner) == tuple(stage.leaves[:2])
    show(program, golden)


@pytest.mark.parametrize("nparts", [1, 2, 4, 6, 9])
def test_split_into_parts(nparts: int, golden: Golden) -> None:
    program = programs.scale()
    stage = program.schedule[program.out]
    stage.split(stage.axes[0], nparts=nparts)
    show(program, golden)


def test_split_twice_with_remainders(golden: Golden) -> None:
    program = programs.scale(rows=11, columns=1)
    stage = program.schedule[program.out]
    _, inner = stage.split(stage.axes[0], factor=5)
    stage.split(inner, factor=2)
    show(program, golden)


def test_split_of_a_reduction_with_remainder(golden: Golden) -> None:
    """The start value is not guarded by the reduction's own bound."""
    program = programs.matmul()
    stage = program.schedule[program.out]
    stage.split(stage.reduce_axes[0], factor=3)
    show(program, golden)


def test_reorder(golden: Golden) -> None:
    program = programs.matmul()
    stage = program.schedule[program.out]
    (i, j), (k,) = stage.axes, stage.reduce_axes
    stage.reorder(k, j, i)
    show(program, golden)


def test_reorder_leaves_the_others_in_place() -> None:
    program = programs.matmul()
    stage = program.schedule[program.out]
    (i, j), (k,) = stage.axes, stage.reduce_axes
    stage.reorder(k, i)
    assert stage.leaves == [k, j, i]
    program.check()


def test_fuse(golden: Golden) -> None:
    program = programs.scale()
    stage = program.schedule[program.out]
    fused = stage.fuse(*stage.axes)
    assert stage.leaves == [fused]
    show(program, golden)


def test_split_of_a_fused_loop_with_remainder(golden: Golden) -> None:
    program = programs.scale(rows=3, columns=5)
    stage = program.schedule[program.out]
    stage.split(stage.fuse(*stage.axes), factor=4)
    show(program, golden)


def test_fuse_of_reductions(golden: Golden) -> None:
    program = programs.matmul()
    stage = program.schedule[program.out]
    stage.fuse(*stage.split(stage.reduce_axes[0], factor=2))
    show(program, golden)


def test_tile(golden: Golden) -> None:
    program = programs.scale()
    stage = program.schedule[program.out]
    i, j = stage.axes
    names = [axis.name for axis in stage.tile(i, j, 3, 2)]
    assert names == ["i.o", "j.o", "i.i", "j.i"]
    show(program, golden)


def test_tile_with_remainder(golden: Golden) -> None:
    program = programs.scale(rows=5, columns=7)
    stage = program.schedule[program.out]
    i, j = stage.axes
    stage.tile(i, j, 2, 3)
    show(program, golden)


def test_compute_at(golden: Golden) -> None:
    """The producer keeps just what one round of the loop reads."""
    program = programs.stencil()
    s, (a, y) = program.schedule, program.tensors
    outer, _ = s[y].split(s[y].axes[0], factor=4)
    s[a].compute_at(s[y], outer)
    show(program, golden)


def test_compute_at_with_remainder(golden: Golden) -> None:
    """The last round's box stands out of the producer, which is not computed there."""
    program = programs.stencil(size=11)
    s, (a, y) = program.schedule, program.tensors
    outer, _ = s[y].split(s[y].axes[0], factor=4)
    s[a].compute_at(s[y], outer)
    show(program, golden)


def test_compute_at_where_the_box_starts_before_the_tensor(golden: Golden) -> None:
    program = programs.padded()
    s, (a, p, y) = program.schedule, program.tensors
    outer, _ = s[y].split(s[y].axes[0], factor=4)
    s[p].compute_at(s[y], outer)
    s[a].compute_at(s[y], outer)
    show(program, golden)


def test_compute_at_in_a_chain(golden: Golden) -> None:
    """A stage may be computed at a loop of a stage that is itself computed at a loop."""
    program = programs.padded()
    s, (a, p, y) = program.schedule, program.tensors
    outer, _ = s[y].split(s[y].axes[0], factor=4)
    s[p].compute_at(s[y], outer)
    s[a].compute_at(s[p], s[p].axes[0])
    show(program, golden)


def test_compute_at_a_reduction_loop(golden: Golden) -> None:
    program = programs.matmul()
    s, (a, _) = program.schedule, program.inputs
    cached = s.cache_read(a, "dram", [program.out])
    stage = s[program.out]
    stage.reorder(*stage.reduce_axes, *stage.axes)
    s[cached].compute_at(stage, stage.reduce_axes[0])
    show(program, golden)


def test_compute_inline(golden: Golden) -> None:
    program = programs.stencil()
    program.schedule[program.tensors[0]].compute_inline()
    show(program, golden)


def test_compute_inline_of_two_stages_in_a_row(golden: Golden) -> None:
    program = programs.padded()
    for tensor in program.tensors[:2]:
        program.schedule[tensor].compute_inline()
    show(program, golden)


def test_cache_read(golden: Golden) -> None:
    program = programs.matmul()
    s, (_, b) = program.schedule, program.inputs
    cached = s.cache_read(b, "wgt", [program.out])
    assert (cached.name, cached.shape, s[cached].scope) == ("b.wgt", b.shape, "wgt")
    s[cached].compute_at(s[program.out], s[program.out].axes[0])
    show(program, golden)


def test_cache_read_serves_only_the_readers_it_names(golden: Golden) -> None:
    x = te.placeholder((4,), "int32", "x")
    a = te.compute((4,), lambda i: x(i) + 1, "a")
    y = te.compute((4,), lambda i: a(i) * x(i), "y")
    s = te.Schedule(y)
    s.cache_read(x, "host", [y])
    show(TensorProgram(s, (x,), (a, y), lambda x: (x + 1) * x), golden)


def test_cache_write(golden: Golden) -> None:
    program = programs.matmul()
    s = program.schedule
    cached = s.cache_write(program.out, "acc")
    assert (cached.name, s[cached].scope) == ("y.acc", "acc")
    outer, _ = s[program.out].split(s[program.out].axes[0], factor=2)
    s[cached].compute_at(s[program.out], outer)
    show(program, golden)


def test_set_scope(golden: Golden) -> None:
    program = programs.chain()
    program.schedule[program.tensors[0]].set_scope("acc")
    show(program, golden)


@pytest.mark.parametrize("kind", ["vthread", "unroll", "vectorize", "parallel"])
def test_loop_marks(kind: str, golden: Golden) -> None:
    program = programs.scale()
    stage = program.schedule[program.out]
    getattr(stage, kind)(stage.axes[1])
    kinds = [stmt.kind for stmt in walk(program.lower().body) if isinstance(stmt, For)]
    assert kinds == ["serial", kind]
    show(program, golden)


def test_unroll_of_a_reduction() -> None:
    program = programs.matmul()
    stage = program.schedule[program.out]
    stage.unroll(stage.reduce_axes[0])
    program.check()


def dot_intrin(size: int) -> te.TensorIntrin:
    """out += sum over c of p[c] * q[c], as a loop over scalars instead of a unit."""
    p, q = (te.placeholder((size,), "int32", name) for name in "pq")
    c = te.reduce_axis(size, "c")
    out = te.compute((1,), lambda o: te.sum(p(c.var) * q(c.var), [c]), "out")

    def reset(dst: Access, srcs: tuple[Access, ...]) -> Stmt:
        return Store(dst.buffer, (*dst.indices, Const(0)), Const(0))

    def update(dst: Access, srcs: tuple[Access, ...]) -> Stmt:
        at = (*dst.indices, Const(0))
        total: te.Expr = Read(dst.buffer, at)
        for lane in range(size):
            x, w = (Read(s.buffer, (*s.indices, Const(lane))) for s in srcs)
            total = total + x * w
        return Store(dst.buffer, at, total)

    return te.TensorIntrin("dot", (p, q), out, reset=reset, update=update)


def test_tensorize(golden: Golden) -> None:
    a = te.placeholder((3, 2, 4), "int32", "a")
    b = te.placeholder((5, 2, 4), "int32", "b")
    k, c = te.reduce_axis(2, "k"), te.reduce_axis(4, "c")
    y = te.compute(
        (3, 5, 1),
        lambda i, j, o: te.sum(a(i, k.var, c.var) * b(j, k.var, c.var), [k, c]),
        "y",
    )
    s = te.Schedule(y)
    i, j, o = s[y].axes
    s[y].reorder(k, i, j, o, c)
    s[y].tensorize(o, dot_intrin(4))

    def meaning(a, b):
        return (a.reshape(3, 8) @ b.reshape(5, 8).T)[:, :, None]

    program = TensorProgram(s, (a, b), (y,), meaning)
    before = program.lower()
    program.check(before)
    golden(to_text(before), "before")
    after = tensorize(before)
    program.check(after)
    golden(to_text(after), "after")
