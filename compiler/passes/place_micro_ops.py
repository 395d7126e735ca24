"""Micro-op lists -> places in the UOP memory, with the loads that bring them there.

The UOP memory is used as a ring over the whole instruction stream. A list that is still there is
reused; else it is loaded behind the last one, together with those that come next and are missing
too, as many as there is room for, and they evict what they overwrite. So a small program loads its
micro-ops once. Loads and their users run in order in the compute stage, so no token is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from compiler.loop.nodes import Buffer, Task
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import SIZE_MAX, Alu, Gemm, Load, altered


@dataclass(frozen=True)
class PlacedMicroOps:
    """`tasks` with LOAD UOP instructions; `words` is the DRAM buffer `buffer` that they read."""

    tasks: list[Task]
    buffer: Buffer
    words: np.ndarray


def place_micro_ops(tasks: Sequence[Task], name: str, config: VtaConfig) -> PlacedMicroOps:
    """Give every micro-op list a place; a list that is missing is loaded with those that follow."""
    words: list[int] = []
    ring = _Ring(config.depth(MemType.UOP))
    out: list[Task] = []
    homes: dict[tuple[tuple[int, ...], ...], int] = {}
    for index, task in enumerate(tasks):
        if not task.uops:
            out.append(task)
            continue
        assert isinstance(task.insn, Gemm | Alu)
        if task.uops not in ring.resident:
            lists = ring.load(tasks[at].uops for at in range(index, len(tasks)))
            home = homes.setdefault(tuple(lists), len(words))
            if home == len(words):
                words += [word for uops in lists for word in uops]
            out.append(_load(task, ring.resident[task.uops], home, sum(map(len, lists))))
        begin = ring.resident[task.uops]
        insn = altered(task.insn, uop_bgn=begin, uop_end=begin + len(task.uops))
        out.append(task.with_insn(insn))
    buffer = Buffer(name, (len(words),), "uint32", "dram")
    out = [t.with_operand(buffer) if _is_load(t) else t for t in out]
    return PlacedMicroOps(out, buffer, np.array(words, np.uint32))


def _is_load(task: Task) -> bool:
    return isinstance(task.insn, Load) and task.insn.memory_type == MemType.UOP


def _load(task: Task, begin: int, home: int, count: int) -> Task:
    assert count <= SIZE_MAX
    insn = Load(
        memory_type=int(MemType.UOP),
        sram_base=begin,
        dram_base=home,
        y_size=1,
        x_size=count,
        x_stride=count,
    )
    return Task(insn, None, loc=task.loc)


class _Ring:
    """The UOP memory: `resident` says where each list begins that it holds."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.next = 0
        self.resident: dict[tuple[int, ...], int] = {}

    def load(self, wanted: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Bring in the first list, and of those used after it as many as fit behind it."""
        begin = end = self.next
        lists: dict[tuple[int, ...], int] = {}
        for uops in wanted:
            if not uops or uops in self.resident or uops in lists:
                continue
            if end + len(uops) > self.depth:
                if lists:
                    break
                assert len(uops) <= self.depth, "fold_micro_ops keeps lists within the memory"
                begin = end = 0
            lists[uops] = end
            end += len(uops)
        self.resident = {
            words: at
            for words, at in self.resident.items()
            if at + len(words) <= begin or at >= end
        }
        self.resident |= lists
        self.next = end
        return list(lists)
