"""Micro-op lists -> places in the UOP memory, with the loads that bring them there.

The UOP memory is used as a ring over the whole instruction stream: a list that is still there is
reused, else it is loaded behind the last one and evicts what it overwrites. Loads and their users
run in order in the compute stage, so no token is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from compiler.loop.nodes import Buffer, Task
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import SIZE_MAX, Alu, Gemm, Load


@dataclass(frozen=True)
class PlacedMicroOps:
    """`tasks` with LOAD UOP instructions; `words` is the DRAM buffer `buffer` that they read."""

    tasks: list[Task]
    buffer: Buffer
    words: np.ndarray


def place_micro_ops(tasks: Sequence[Task], name: str, config: VtaConfig) -> PlacedMicroOps:
    """Give every micro-op list a place; equal lists share one DRAM copy."""
    homes: dict[tuple[int, ...], int] = {}
    for task in tasks:
        if task.uops and task.uops not in homes:
            homes[task.uops] = sum(len(words) for words in homes)
    words = np.array([w for uops in homes for w in uops], np.uint32)
    buffer = Buffer(name, (len(words),), "uint32", "dram")
    ring = _Ring(config.depth(MemType.UOP))
    out: list[Task] = []
    for task in tasks:
        if not task.uops:
            out.append(task)
            continue
        assert isinstance(task.insn, Gemm | Alu)
        begin, missing = ring.place(task.uops)
        if missing:
            out.append(_load(task, begin, homes[task.uops], buffer))
        end = begin + len(task.uops)
        insn = replace(task.insn, uop_bgn=begin, uop_end=end)
        out.append(replace(task, insn=insn, uops=()))
    return PlacedMicroOps(out, buffer, words)


def _load(task: Task, begin: int, home: int, buffer: Buffer) -> Task:
    count = len(task.uops)
    assert count <= SIZE_MAX
    insn = Load(
        memory_type=int(MemType.UOP),
        sram_base=begin,
        dram_base=home,
        y_size=1,
        x_size=count,
        x_stride=count,
    )
    return Task(insn, buffer, loc=task.loc)


class _Ring:
    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.next = 0
        self.resident: dict[tuple[int, ...], int] = {}

    def place(self, uops: tuple[int, ...]) -> tuple[int, bool]:
        """(first index, whether it must be loaded)"""
        if uops in self.resident:
            return self.resident[uops], False
        assert len(uops) <= self.depth, "fold_micro_ops keeps lists within the memory"
        begin = self.next if self.next + len(uops) <= self.depth else 0
        end = begin + len(uops)
        self.resident = {
            words: at
            for words, at in self.resident.items()
            if at + len(words) <= begin or at >= end
        }
        self.resident[uops] = begin
        self.next = end
        return begin, True
