"""What schedules refuse, and in which words."""

from __future__ import annotations

import re

import pytest

from compiler import te
from compiler.errors import ScheduleError
from compiler.passes.lower_schedule import lower_schedule
from tests.compiler.te import programs


def refused(text: str):
    return pytest.raises(ScheduleError, match=f"^{re.escape(text)}$")


def test_a_tensor_needs_an_index_per_axis() -> None:
    x = te.placeholder((2, 3), "int32", "x")
    with refused("tensor 'x' has 2 axes, 1 indices given"):
        x(0)


@pytest.mark.parametrize("where", ["inside", "nested"])
def test_a_reduction_stands_at_the_top(where: str) -> None:
    x = te.placeholder((8,), "int32", "x")
    k, m = te.reduce_axis(8, "k"), te.reduce_axis(8, "m")
    inner = te.sum(x(k.var), [k])
    body = inner + 1 if where == "inside" else te.max(inner, [m], init=0)
    with refused(
        "tensor 'y' reduces inside its expression; give the reduction a tensor of its own"
    ):
        te.compute((2,), lambda i: body, "y")


def test_a_stage_has_only_its_own_loops() -> None:
    program = programs.chain()
    s, (a, y) = program.schedule, program.tensors
    for primitive in ("split", "vthread", "unroll", "vectorize", "parallel"):
        with refused(f"{primitive}: 'i' is no loop of stage 'a', whose loops are i"):
            arguments = (2,) if primitive == "split" else ()
            getattr(s[a], primitive)(s[y].axes[0], *arguments)
    with refused("compute_at: 'i' is no loop of stage 'y', whose loops are i"):
        s[a].compute_at(s[y], s[a].axes[0])


@pytest.mark.parametrize(
    ("factor", "nparts"), [(None, None), (2, 3), (0, None), (-2, None), (None, 0)]
)
def test_split_needs_one_positive_number(factor: int | None, nparts: int | None) -> None:
    program = programs.scale()
    stage = program.schedule[program.out]
    with refused(
        f"split of 'i' in stage 'y' needs either a positive factor or a positive nparts, "
        f"not factor={factor}, nparts={nparts}"
    ):
        stage.split(stage.axes[0], factor, nparts)
    assert stage.leaves == list(stage.axes)


def test_fuse_needs_neighbours() -> None:
    program = programs.scale()
    stage = program.schedule[program.out]
    i, j = stage.axes
    with refused("fuse in stage 'y': 'i' must stand directly inside 'j'; reorder them first"):
        stage.fuse(j, i)


def test_fuse_keeps_data_and_reduction_apart() -> None:
    program = programs.matmul()
    stage = program.schedule[program.out]
    with refused("fuse in stage 'y': 'j' and 'k' must both be data loops or both reduction loops"):
        stage.fuse(stage.axes[1], stage.reduce_axes[0])


def test_reorder_takes_each_loop_once() -> None:
    program = programs.scale()
    stage = program.schedule[program.out]
    i, _ = stage.axes
    with refused("reorder in stage 'y': an axis is given twice"):
        stage.reorder(i, i)


@pytest.mark.parametrize("kind", ["vthread", "vectorize", "parallel"])
def test_rounds_of_a_reduction_are_no_threads(kind: str) -> None:
    program = programs.matmul()
    stage = program.schedule[program.out]
    with refused(
        f"{kind} in stage 'y': 'k' is a reduction loop, whose steps depend on each other; "
        f"choose a data loop"
    ):
        getattr(stage, kind)(stage.reduce_axes[0])


@pytest.mark.parametrize("kind", ["vthread", "unroll", "vectorize", "parallel"])
@pytest.mark.parametrize("primitive", ["split", "fuse"])
def test_a_marked_loop_is_not_taken_apart(kind: str, primitive: str) -> None:
    """The mark would be lost without a word."""
    program = programs.scale()
    stage = program.schedule[program.out]
    i, j = stage.axes
    getattr(stage, kind)(i)
    with refused(
        f"{primitive} in stage 'y': loop 'i' is already marked {kind}, which the new loops "
        f"would lose; use {primitive} first"
    ):
        stage.split(i, 2) if primitive == "split" else stage.fuse(i, j)


def test_a_tensorized_loop_is_not_taken_apart() -> None:
    program = programs.scale()
    stage = program.schedule[program.out]
    p = te.placeholder((4,), "int32", "p")
    double = te.compute((4,), lambda c: p(c) * 2, "double")
    stage.tensorize(stage.axes[1], te.TensorIntrin("double", (p,), double, compute=_no_rule))
    with pytest.raises(ScheduleError, match="^split in stage 'y': loop 'j' is already marked tens"):
        stage.split(stage.axes[1], 2)


def _no_rule(dst, srcs):
    raise AssertionError("not lowered in these tests")


def test_a_reduction_is_not_inlined() -> None:
    program = programs.matmul()
    with refused("stage 'y' reduces and cannot be computed inline"):
        program.schedule[program.out].compute_inline()


def test_scopes_are_memories() -> None:
    program = programs.scale()
    with refused("scope must be one of dram, inp, wgt, acc, host, not 'uop'"):
        program.schedule[program.out].set_scope("uop")
    with refused("scope must be one of dram, inp, wgt, acc, host, not 'shared'"):
        program.schedule.cache_read(program.inputs[0], "shared", [program.out])


def test_placeholders_have_no_stage() -> None:
    program = programs.scale()
    with refused("tensor 'x' is not computed in this schedule"):
        program.schedule[program.inputs[0]]


def test_cache_read_needs_readers_that_read() -> None:
    program = programs.chain()
    s, (a, y), (x,) = program.schedule, program.tensors, program.inputs
    with refused("cache_read: 'y' does not read 'x'; name its readers"):
        s.cache_read(x, "acc", [a, y])
    with refused("cache_read of 'x' needs at least one reader"):
        s.cache_read(x, "acc", [])


@pytest.mark.parametrize("first", ["split", "reorder", "vthread"])
def test_cache_write_comes_first(first: str) -> None:
    program = programs.scale()
    stage = program.schedule[program.out]
    i, j = stage.axes
    {
        "split": lambda: stage.split(i, 2),
        "reorder": lambda: stage.reorder(j, i),
        "vthread": lambda: stage.vthread(i),
    }[first]()
    with refused("cache_write of 'y' must come before its other primitives"):
        program.schedule.cache_write(program.out, "acc")


def test_intrinsics_have_the_rules_that_they_need() -> None:
    p = te.placeholder((4,), "int32", "p")
    c = te.reduce_axis(4, "c")
    total = te.compute((1,), lambda o: te.sum(p(c.var), [c]), "total")
    double = te.compute((4,), lambda i: p(i) * 2, "double")
    with refused("intrinsic 'f' needs a computed tensor as its meaning"):
        te.TensorIntrin("f", (p,), p, compute=_no_rule)
    with refused("intrinsic 'f' reduces: give reset and update rules"):
        te.TensorIntrin("f", (p,), total, reset=_no_rule)
    with refused("intrinsic 'f' does not reduce: give a compute rule"):
        te.TensorIntrin("f", (p,), double, update=_no_rule)


# -- found when the schedule is lowered ------------------------------------------------------------


def test_outputs_are_held_by_something() -> None:
    program = programs.chain()
    program.schedule[program.out].compute_inline()
    with refused(
        "output 'y' is computed inline, so that nothing would hold it; only intermediate tensors "
        "can be"
    ):
        program.lower()


def test_outputs_are_computed_on_their_own() -> None:
    x = te.placeholder((4,), "int32", "x")
    a = te.compute((4,), lambda i: x(i) + 1, "a")
    y = te.compute((4,), lambda i: a(i) * 2, "y")
    s = te.Schedule([a, y])
    s[a].compute_at(s[y], s[y].axes[0])
    with pytest.raises(ScheduleError, match="^output 'a' is computed at a loop of another stage"):
        lower_schedule(s, (x, a, y), "f")


def test_outputs_are_parameters() -> None:
    program = programs.chain()
    with refused("output 'y' is not among the parameters 'x'; add it"):
        lower_schedule(program.schedule, program.inputs, "f")


def test_inputs_are_parameters() -> None:
    program = programs.chain()
    with refused("tensor 'x' is read but is neither computed nor a parameter"):
        lower_schedule(program.schedule, (program.out,), "f")


def test_compute_at_names_a_loop_that_is_still_there() -> None:
    program = programs.chain()
    s, (a, y) = program.schedule, program.tensors
    i = s[y].axes[0]
    s[a].compute_at(s[y], i)
    s[y].split(i, 4)
    with refused(
        "stage 'a' is computed at loop 'i' of 'y', which was split or fused afterwards into "
        "i.o, i.i; use compute_at last"
    ):
        program.lower()


def test_compute_at_reaches_every_reader() -> None:
    x = te.placeholder((4,), "int32", "x")
    a = te.compute((4,), lambda i: x(i) + 1, "a")
    b = te.compute((4,), lambda i: a(i) * 2, "b")
    y = te.compute((4,), lambda i: a(i) * b(i), "y")
    s = te.Schedule(y)
    s[a].compute_at(s[y], s[y].axes[0])
    with refused(
        "stage 'a' is computed at loop 'i' of 'y', but 'b' reads it from outside that loop; "
        "move one of them"
    ):
        lower_schedule(s, (x, y), "f")


def test_compute_at_is_outside_what_reads_it() -> None:
    program = programs.padded()
    s, (a, p, y) = program.schedule, program.tensors
    outer, inner = s[y].split(s[y].axes[0], 4)
    s[p].compute_at(s[y], outer)
    s[a].compute_at(s[y], inner)
    with refused(
        "stage 'a' is computed at loop 'i.i' of 'y', but 'p' reads it from an outer loop; "
        "move one of them"
    ):
        program.lower()


def test_a_tensor_is_computed_between_what_it_reads_and_what_reads_it() -> None:
    x = te.placeholder((4,), "int32", "x")
    a = te.compute((4,), lambda i: x(i) + 1, "a")
    b = te.compute((4,), lambda i: a(i) + 1, "b")
    c = te.compute((4,), lambda i: x(i) + 2, "c")
    d = te.compute((4,), lambda i: b(i) + c(i), "d")
    s = te.Schedule(d)
    with refused("compute_before: 'b' cannot be computed before 'a': it reads 'a'"):
        s.compute_before(b, a)
    with refused("compute_before: 'a' cannot be computed before 'c': 'b' reads it"):
        s.compute_before(a, c)
    s.compute_before(c, a)
    assert [stage.name for stage in s.stages] == ["c", "a", "b", "d"]
