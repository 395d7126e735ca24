"""Which scratchpad elements an instruction reads and writes, and which were never written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vta_hw.spec.config import MemType
from vta_hw.spec.isa import Alu, AluOp, Gemm, Instruction, Load, Store
from vta_hw.spec.semantics import ALU, IntArray, Scratchpads, micro_ops

NOTES_MAX = 100
"""Notes kept of one run; the rest is only counted."""


@dataclass(frozen=True, slots=True)
class Touch:
    """Elements of one memory that an instruction reads or writes; indices may repeat."""

    memory: MemType
    indices: IntArray
    write: bool


def touches(insn: Instruction, pads: Scratchpads) -> Iterator[Touch]:
    """What a legal instruction touches on chip, reads before the writes that they feed.

    ACC_8BIT and OUT count as ACC. Large instructions are given in pieces.
    """
    match insn:
        case Load() if insn.x_size:
            memory = MemType(insn.memory_type)
            memory = MemType.ACC if memory is MemType.ACC_8BIT else memory
            rows, columns = insn.sram_shape
            yield Touch(memory, insn.sram_base + np.arange(rows * columns), write=True)
        case Store():
            count = insn.y_size * insn.x_size
            yield Touch(MemType.ACC, insn.sram_base + np.arange(count), write=False)
        case Gemm() | Alu() if insn.iter_out and insn.iter_in and insn.uop_bgn < insn.uop_end:
            yield Touch(MemType.UOP, np.arange(insn.uop_bgn, insn.uop_end), write=False)
            yield from _operands(insn, pads)


def _operands(insn: Gemm | Alu, pads: Scratchpads) -> Iterator[Touch]:
    for ops in micro_ops(insn, pads):
        if isinstance(insn, Gemm):
            if not insn.reset:
                yield Touch(MemType.INP, ops.src, write=False)
                yield Touch(MemType.WGT, ops.wgt, write=False)
                yield Touch(MemType.ACC, ops.dst, write=False)
        else:
            sources = 0 if insn.use_imm else ALU[AluOp(insn.alu_opcode)].sources
            reads = [ops.dst, *(ops.src + i for i in range(sources))]
            yield Touch(MemType.ACC, np.concatenate(reads), write=False)
        yield Touch(MemType.ACC, ops.dst, write=True)


class InitTracker:
    """Notes reads of scratchpad elements that nothing has written since it was made."""

    def __init__(self, pads: Scratchpads) -> None:
        self._pads = pads
        memories = (MemType.UOP, MemType.WGT, MemType.INP, MemType.ACC)
        self._written = {memory: np.zeros(pads.depth[memory], bool) for memory in memories}
        self._notes: list[str] = []
        self._more = 0

    def record(self, index: int, insn: Instruction) -> None:
        """Take in instruction `index`, which is legal; its micro-ops must still be in place."""
        missing: dict[MemType, list[IntArray]] = {}
        for touch in touches(insn, self._pads):
            written = self._written[touch.memory]
            if touch.write:
                written[touch.indices] = True
            elif not (known := written[touch.indices]).all():
                missing.setdefault(touch.memory, []).append(touch.indices[~known])
        for memory, parts in missing.items():
            self._note(index, memory, np.unique(np.concatenate(parts)))

    def _note(self, index: int, memory: MemType, elements: IntArray) -> None:
        if len(self._notes) == NOTES_MAX:
            self._more += 1
            return
        more = f" and {len(elements) - 1} more" if len(elements) > 1 else ""
        self._notes.append(
            f"instruction {index} reads {memory.name} element {elements[0]}{more}, "
            f"which this run has not written"
        )

    def notes(self) -> tuple[str, ...]:
        """One text per instruction and memory with such reads, in order of execution."""
        rest = (f"and {self._more} more such reads",) if self._more else ()
        return (*self._notes, *rest)
