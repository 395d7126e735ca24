"""The UOP memory as a ring: what is used is there, and what is there is not loaded again."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.loop.nodes import Task
from compiler.passes.place_micro_ops import PlacedMicroOps, place_micro_ops
from tests.compiler.kernels import KERNELS, after, random_kernel
from tests.compiler.passes.shorthand import TINY
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Alu, Gemm, Load, Store
from vta_hw.spec.semantics import Scratchpads, execute

DEPTH = TINY.depth(MemType.UOP)


def gemm(words: range) -> Task:
    insn = Gemm(uop_end=len(words), iter_out=1, iter_in=1)
    return Task(insn, None, tuple(words), loc=f"from {words.start}")


def check(tasks: list[Task], placed: PlacedMicroOps, config: VtaConfig) -> list[int]:
    """Run the UOP loads: each instruction finds its words. Sizes of the loads."""
    pads = Scratchpads(config)
    dram = placed.words.view(np.uint8)
    wanted = [task for task in tasks if task.uops]
    loads: list[int] = []
    for task in placed.tasks:
        insn = task.insn
        assert not task.uops
        if isinstance(insn, Load) and task.operand is placed.buffer:
            assert execute(insn, pads, dram, config) is None
            loads.append(insn.x_size)
        elif isinstance(insn, Gemm | Alu):
            expected = wanted.pop(0)
            found = pads.uop[insn.uop_bgn : insn.uop_end]
            assert tuple(found) == expected.uops, expected.loc
            assert task.loc == expected.loc
    assert not wanted
    assert placed.buffer.shape == placed.words.shape
    return loads


def test_a_list_is_loaded_once_and_used_again() -> None:
    tasks = [gemm(range(10)), gemm(range(10, 13)), gemm(range(10))]
    placed = place_micro_ops(tasks, "uops", TINY)
    assert check(tasks, placed, TINY) == [13]
    assert placed.words.tolist() == list(range(13))
    names = [type(task.insn).__name__ for task in placed.tasks]
    assert names == ["Load", "Gemm", "Gemm", "Gemm"]


def test_a_full_ring_starts_over_and_evicts_what_it_overwrites() -> None:
    first, second, third = range(100), range(100, 200), range(200, 300)
    tasks = [gemm(words) for words in (first, second, third, second, first)]
    placed = place_micro_ops(tasks, "uops", TINY)
    # `third` goes to the start, over `first`; `second` stays; `first` then goes over `second`.
    assert check(tasks, placed, TINY) == [200, 100, 100]
    assert placed.words.tolist() == [*range(300), *range(100)]
    begins = [t.insn.uop_bgn for t in placed.tasks if isinstance(t.insn, Gemm)]
    assert begins == [0, 100, 0, 100, 100]


def test_a_list_may_fill_the_memory() -> None:
    tasks = [gemm(range(DEPTH)), gemm(range(5)), gemm(range(DEPTH))]
    placed = place_micro_ops(tasks, "uops", TINY)
    assert check(tasks, placed, TINY) == [DEPTH, 5, DEPTH]


def test_other_instructions_pass_through() -> None:
    store = Task(Store(memory_type=4, x_size=1), None)
    placed = place_micro_ops([store], "uops", TINY)
    assert placed.tasks == [store]
    assert placed.words.size == 0


def test_random_streams(rng: np.random.Generator) -> None:
    evictions = 0
    for _ in range(60):
        lists = []
        start = 0
        for _ in range(int(rng.integers(2, 9))):
            size = int(rng.integers(1, 120))
            lists.append(range(start, start + size))
            start += size
        tasks = [gemm(lists[int(n)]) for n in rng.integers(0, len(lists), 40)]
        placed = place_micro_ops(tasks, "uops", TINY)
        loads = check(tasks, placed, TINY)
        words = sum(len(uops) for uops in {task.uops for task in tasks})
        assert sum(loads) >= words
        evictions += sum(loads) > words
        # Only what did not fit at once is loaded in several pieces.
        assert len(loads) == 1 or sum(loads) > DEPTH - max(len(task.uops) for task in tasks)
    assert evictions > 20


@pytest.mark.parametrize("name", KERNELS)
def test_kernels(name: str, seed: int) -> None:
    kernel = random_kernel(name, seed)
    body = after(kernel, "emit_tasks").body
    tasks = [task for task in getattr(body, "stmts", (body,)) if isinstance(task, Task)]
    loads = check(tasks, place_micro_ops(tasks, "uops", kernel.config), kernel.config)
    assert loads
