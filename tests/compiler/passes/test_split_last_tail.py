"""The end of a kernel in parts: the same memory afterwards, each store behind its own operation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from compiler.loop.nodes import Task
from compiler.passes.split_last_tail import split_last_tail
from tests.compiler.passes.shorthand import TINY
from vta_hw.spec.config import MemType
from vta_hw.spec.isa import Alu, AluOp, Gemm, Store, pack_uops, unpack_uops

PRODUCTS = Task(Gemm(uop_end=1), None, (0,))


def _alu(rounds: int, size: int, dst: int = 8, src: int = 40, op: AluOp = AluOp.MAX) -> Task:
    """An operation over `rounds` blocks of `size` results each, a source for each block."""
    numbers = {"dst": np.array([dst]), "src": np.array([src]), "wgt": np.array([0])}
    insn = Alu(
        alu_opcode=int(op),
        uop_end=1,
        iter_out=rounds,
        iter_in=size,
        dst_factor_out=size,
        dst_factor_in=1,
        src_factor_out=3,
    )
    return Task(insn, None, tuple(pack_uops(numbers, TINY).tolist()))


def _store(rows: int, width: int, sram: int = 8, dram: int = 100, stride: int = 10) -> Task:
    insn = Store(
        memory_type=int(MemType.OUT),
        sram_base=sram,
        dram_base=dram,
        y_size=rows,
        x_size=width,
        x_stride=stride,
    )
    return Task(insn, None)


def _run(tasks: Sequence[Task], rng: np.random.Generator) -> np.ndarray:
    """What MAX and the stores leave in DRAM."""
    acc, dram = rng.integers(0, 1000, 128), np.zeros(1000, np.int64)
    for task in tasks:
        match task.insn:
            case Alu() as alu:
                (dst,), (src,), _ = unpack_uops(np.array(task.uops, np.uint32), TINY).values()
                for i in range(alu.iter_out):
                    for j in range(alu.iter_in):
                        d = dst + i * alu.dst_factor_out + j * alu.dst_factor_in
                        s = src + i * alu.src_factor_out + j * alu.src_factor_in
                        acc[d] = max(acc[d], acc[s])
            case Store() as store:
                for y in range(store.y_size):
                    row = acc[store.sram_base + y * store.x_size :][: store.x_size]
                    dram[store.dram_base + y * store.x_stride :][: store.x_size] = row
    return dram


ENDS = {
    "rows": ([_alu(4, 6), _store(8, 3)], 4),
    "one row": ([_alu(2, 5), _store(1, 10)], 2),
    "a store for each": ([_alu(8, 2), *(_store(1, 2, 8 + 2 * n, 50 * n) for n in range(8))], 4),
    "odd": ([_alu(3, 4), _store(6, 2)], 3),
    "a prime": ([_alu(5, 4), _store(10, 2)], 1),
    "rows across blocks": ([_alu(2, 6), _store(3, 4)], 1),
    "elsewhere": ([_alu(2, 6), _store(4, 3, sram=9)], 1),
    "other blocks": ([_alu(2, 6), _store(2, 2, 8), _store(2, 4, 12)], 1),
    "one block": ([_alu(1, 6), _store(2, 3)], 1),
}


@pytest.mark.parametrize(("end", "parts"), ENDS.values(), ids=ENDS)
def test_ends(end: list[Task], parts: int, rng: np.random.Generator) -> None:
    tasks = [PRODUCTS, *end]
    cut = split_last_tail(tasks, TINY)
    assert sum(isinstance(task.insn, Alu) for task in cut) == parts
    if parts == 1:
        assert cut == tasks
    seed = int(rng.integers(1 << 31))
    before, after = (_run(t, np.random.default_rng(seed)) for t in (tasks, cut))
    np.testing.assert_array_equal(after, before)


def test_longer_tails_and_other_ends_stay() -> None:
    for tasks in (
        [PRODUCTS, _alu(4, 6), _alu(4, 6), _store(8, 3)],
        [PRODUCTS, _alu(4, 6), _store(8, 3), PRODUCTS],
        [_alu(4, 6), _store(8, 3)],
        [PRODUCTS, _store(8, 3)],
        [_store(8, 3)],
        [],
    ):
        assert split_last_tail(tasks, TINY) == tasks
