"""Zeroing by LOADs of padding: the same elements of ACC are zero, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.loop.nodes import Task
from compiler.passes.insert_tokens import Access
from compiler.passes.split_products import split_products
from compiler.passes.zero_by_loads import hoist_zeroing, zero_by_loads
from tests.compiler.passes.shorthand import TINY
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.footprint import Touch
from vta_hw.spec.isa import Alu, AluOp, Gemm, Load, MicroOp, Store, altered, encode_uop
from vta_hw.spec.semantics import Scratchpads, execute

PYNQ = VtaConfig.load("pynq")


def reset(first: int, outer: tuple[int, int], inner: tuple[int, int]) -> Task:
    insn = Gemm(
        reset=True,
        uop_end=1,
        iter_out=outer[0],
        dst_factor_out=outer[1],
        iter_in=inner[0],
        dst_factor_in=inner[1],
    )
    return Task(insn, None, (encode_uop(MicroOp(dst=first), TINY),))


def zeroed(task: Task, rng: np.random.Generator) -> np.ndarray:
    """Which elements of ACC an instruction sets to zero; the others must stay."""
    pads = Scratchpads(TINY)
    pads.acc[:] = before = rng.integers(1, 1 << 20, pads.acc.shape)
    pads.uop[: len(task.uops)] = task.uops
    assert execute(task.insn, pads, np.zeros(64, np.uint8), TINY) is None
    changed = (pads.acc != before).any(axis=(1, 2))
    assert not pads.acc[changed].any()
    return np.flatnonzero(changed)


@pytest.mark.parametrize(
    ("first", "outer", "inner"),
    [
        (0, (1, 0), (1, 0)),
        (5, (1, 0), (49, 1)),
        (3, (4, 12), (12, 1)),
        (0, (1, 0), (97, 1)),
        (0, (1, 0), (256, 1)),
    ],
)
def test_consecutive_elements(
    first: int, outer: tuple[int, int], inner: tuple[int, int], rng: np.random.Generator
) -> None:
    task = reset(first, outer, inner)
    (made,) = zero_by_loads([task], TINY)
    assert isinstance(made.insn, Load) and not made.insn.y_size and not made.uops
    np.testing.assert_array_equal(zeroed(made, rng), zeroed(task, rng))


@pytest.mark.parametrize(
    ("outer", "inner"), [((2, 20), (12, 1)), ((1, 0), (4, 2)), ((3, 1), (4, 1)), ((2, 0), (4, 1))]
)
def test_others_stay_resets(outer: tuple[int, int], inner: tuple[int, int]) -> None:
    task = reset(0, outer, inner)
    assert zero_by_loads([task], TINY) == [task]


def test_products_and_other_instructions_stay() -> None:
    tasks = [Task(Gemm(uop_end=1, iter_out=1, iter_in=4), None, (0,)), Task(Alu(uop_end=1), None)]
    assert zero_by_loads(tasks, TINY) == tasks
    assert zero_by_loads([reset(0, (1, 0), (8, 1))], PYNQ)[0].insn == reset(0, (1, 0), (8, 1)).insn


def test_a_maximum_begins_with_the_least_number(rng: np.random.Generator) -> None:
    """Zeroing and an addition of -128 to the same elements are one LOAD, where it can pad so."""
    start = reset(3, (1, 0), (12, 1))
    less = Alu(uop_end=1, iter_out=1, iter_in=12, dst_factor_in=1, use_imm=True, imm=-128)
    add = Task(altered(less, alu_opcode=int(AluOp.ADD)), None, start.uops)
    (made,) = zero_by_loads([start, add], TINY)
    pads = Scratchpads(TINY)
    pads.acc[:] = before = rng.integers(1, 1 << 20, pads.acc.shape)
    assert execute(made.insn, pads, np.zeros(64, np.uint8), TINY) is None
    before[3:15] = -128
    np.testing.assert_array_equal(pads.acc, before)
    plain = TINY.override(["EXTENSIONS=requant,overlap"])
    for config, tasks in (
        (plain, [start, add]),
        (TINY, [reset(4, (1, 0), (12, 1)), add]),
        (TINY, [start, add.with_insn(altered(add.insn, imm=-127), add.uops)]),
    ):
        first, second = zero_by_loads(tasks, config)
        assert isinstance(first.insn, Load) and not first.insn.pad_min
        assert second == tasks[1]


def _touch(first: int, count: int) -> tuple[Touch, ...]:
    return (Touch("acc", first, first + count - 1),)


def _zero(first: int) -> Access:
    return Access(Load(memory_type=int(MemType.ACC), x_size=8, y_pad_0=1), (), _touch(first, 8), 9)


GEMM = Access(Gemm(uop_end=1), _touch(0, 8), _touch(0, 8), 0)
ALU = Access(Alu(uop_end=1), _touch(0, 8), _touch(0, 8), 1)
STORE = Access(Store(memory_type=4, x_size=8, y_size=1), _touch(0, 8), (), 2)


def test_zeroing_moves_up_behind_the_products_of_the_last_tile() -> None:
    moved = hoist_zeroing([GEMM, ALU, STORE, _zero(8)], TINY)
    assert [access.origin for access in moved] == [0, 9, 1, 2]


def test_zeroing_stays_where_its_elements_are_in_use() -> None:
    stream = [GEMM, ALU, STORE, _zero(0)]
    assert hoist_zeroing(stream, TINY) == stream
    # Without products before it there is nothing to run beside.
    assert [access.origin for access in hoist_zeroing([ALU, _zero(8)], TINY)] == [1, 9]
    assert [access.origin for access in hoist_zeroing([GEMM, ALU, _zero(8)], PYNQ)] == [0, 1, 9]


def test_micro_ops_come_before_zeroing() -> None:
    micro_ops = Load(memory_type=int(MemType.UOP), x_size=4, x_stride=4, y_size=1)
    inputs = Load(memory_type=int(MemType.INP), x_size=4, x_stride=4, y_size=1)
    load = Access(micro_ops, (), (Touch("uop", 4, 7),), 7)
    bring = Access(inputs, (), (Touch("inp", 0, 3),), 6)
    moved = hoist_zeroing([bring, _zero(8), load, GEMM], TINY)
    assert [access.origin for access in moved] == [7, 6, 9, 0]
    # Behind products, and behind what still reads the micro-ops that were there.
    reader = Access(ALU.insn, (*ALU.reads, Touch("uop", 7, 7)), ALU.writes, 1)
    moved = hoist_zeroing([GEMM, bring, load], TINY)
    assert [access.origin for access in moved] == [0, 7, 6]
    moved = hoist_zeroing([GEMM, reader, bring, load], TINY)
    assert [access.origin for access in moved] == [0, 1, 7, 6]


def test_long_products_are_cut_in_two(rng: np.random.Generator) -> None:
    uops = tuple(range(5))
    long = Task(Gemm(uop_end=5, iter_out=32, iter_in=32, dst_factor_in=1), None, uops)
    first, second = split_products([long], TINY)
    assert first.uops + second.uops == uops
    assert [part.insn.uop_end for part in (first, second) if isinstance(part.insn, Gemm)] == [2, 3]
    short = Task(Gemm(uop_end=5, iter_out=2, iter_in=2), None, uops)
    single = Task(Gemm(uop_end=1, iter_out=99, iter_in=99), None, (0,))
    assert split_products([short, single], TINY) == [short, single]
    assert split_products([long], PYNQ) == [long]
    # In four where another kernel runs beside.
    assert len(split_products([long], TINY, [range(1)])) == 4
    assert len(split_products([long, Task(Alu(uop_end=1), None), long], TINY, [range(1)])) == 4 + 3
