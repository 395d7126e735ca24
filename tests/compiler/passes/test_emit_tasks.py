"""Kernels as instructions."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.context import CompileContext
from compiler.errors import LoweringError
from compiler.loop.expr import Const, Expr, Var, compare, select
from compiler.loop.nodes import Access, Alloc, Apply, Buffer, For, Func, If, Seq, Stmt, Store, Task
from compiler.loop.units import ALU_IMM, RESET
from compiler.passes.allocate_sram import allocate_sram
from compiler.passes.emit_tasks import emit_tasks
from compiler.passes.pipeline import lower_to_tasks
from tests.compiler.kernels import EXAMPLES, KERNELS, STEPS, after, example, result
from tests.compiler.passes.checks import check_equal, check_golden
from tests.compiler.passes.shorthand import TINY, refused
from tests.conftest import Golden
from vta_hw.spec.isa import Gemm, decode_uop


@pytest.mark.parametrize("kind", EXAMPLES)
def test_text(kind: str, golden: Golden) -> None:
    check_golden("emit_tasks", kind, golden)


@pytest.mark.parametrize("name", KERNELS)
def test_same_result(name: str, seed: int) -> None:
    check_equal("emit_tasks", name, seed)


ACC = Buffer("acc", (200, 1, 4), "int32", "acc")
ROW, COLUMN = Var("i"), Var("j")


def reset(index: Expr) -> Apply:
    return Apply(RESET, Access(ACC, (index,)), loc="stage")


def emitted(body: Stmt) -> list[Task]:
    func = Func("f", (), Alloc(ACC, body))
    flat = emit_tasks(func, allocate_sram(func, TINY), TINY).body
    assert isinstance(flat, Seq)
    return [stmt for stmt in flat.stmts if isinstance(stmt, Task)]


def elements(task: Task) -> list[int]:
    insn = task.insn
    assert isinstance(insn, Gemm)
    return sorted(
        decode_uop(word, TINY).dst + i * insn.dst_factor_out + j * insn.dst_factor_in
        for word in task.uops
        for i in range(insn.iter_out)
        for j in range(insn.iter_in)
    )


def test_a_nest_of_steps_is_one_instruction() -> None:
    (task,) = emitted(For(ROW, 3, For(COLUMN, 4, reset(ROW * 10 + COLUMN))))
    assert elements(task) == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]


def test_loops_around_several_nests_are_run_out() -> None:
    two = Seq((For(COLUMN, 4, reset(ROW * 10 + COLUMN)), reset(ROW + 100)))
    assert [elements(task) for task in emitted(For(ROW, 2, two))] == [
        [0, 1, 2, 3],
        [100],
        [10, 11, 12, 13],
        [101],
    ]


def test_unrolled_loops_are_run_out() -> None:
    tasks = emitted(For(ROW, 3, For(COLUMN, 4, reset(ROW * 10 + COLUMN)), "unroll"))
    assert [elements(task)[0] for task in tasks] == [0, 10, 20]


def test_conditions_are_decided() -> None:
    body = For(ROW, 4, If(compare("<", ROW * 2, 3), reset(ROW)))
    assert [elements(task) for task in emitted(body)] == [[0], [1]]


def test_choices_of_outer_loops_are_decided() -> None:
    index = select(compare(">=", ROW, 1), Const(50), Const(0)) + COLUMN
    body = For(ROW, 2, Seq((For(COLUMN, 2, reset(index)), reset(Const(9)))))
    assert [elements(task) for task in emitted(body)] == [[0, 1], [9], [50, 51], [9]]


def test_an_immediate_addresses_one_operand() -> None:
    step = Apply(ALU_IMM, Access(ACC, (ROW + 7,)), (), (("imm", 3), ("op", 2)))
    (task,) = emitted(For(ROW, 5, step))
    uop = decode_uop(task.uops[0], TINY)
    assert (uop.dst, uop.src) == (7, 7)


def test_scalar_code_is_refused() -> None:
    store = Store(ACC, (Const(0), Const(0), Const(0)), Const(1), loc="stage")
    with refused("stage 'stage': a Store is left, which VTA cannot execute"):
        emitted(For(ROW, 4, store))


def test_indices_are_linear_in_the_loops_of_a_nest() -> None:
    with refused("index i//2 is not linear in the loop variables"):
        emitted(For(ROW, 4, reset(ROW // 2)))


def test_unknown_units_are_refused() -> None:
    with pytest.raises(LoweringError, match="^stage 'stage' uses the unit 'dot', which VTA does"):
        emitted(Apply("dot", Access(ACC, (Const(0),)), loc="stage"))


# -- the whole pipeline ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EXAMPLES)
def test_the_pipeline_is_these_passes_in_order(kind: str, tmp_path) -> None:
    kernel = example(kind)
    context = CompileContext(kernel.config, tmp_path)
    template = kernel.template
    func, _ = lower_to_tasks(template.schedule, template.params, "kernel", context)
    expected = after(kernel, "emit_tasks")
    np.testing.assert_array_equal(result(func, kernel), result(expected, kernel))
    dumped = [path.stem.partition("-kernel-")[2] for path in sorted(tmp_path.iterdir())]
    assert dumped == [*STEPS[:-1], "allocate_sram", STEPS[-1]]
    assert set(STEPS) <= set(context.seconds)
