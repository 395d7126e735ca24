"""What one instruction reads and writes, as element indices of SRAM and byte units of DRAM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Alu, AluOp, Gemm, Instruction, Load, Store, unpack_uops

Touched = tuple[str, np.ndarray]
"""(memory, indices): memory is inp, wgt, acc, uop or dram."""


@dataclass(frozen=True)
class Footprint:
    """Sets of touched indices, possibly with repetitions."""

    reads: tuple[Touched, ...] = ()
    writes: tuple[Touched, ...] = ()


def footprint(
    insn: Instruction, uops: np.ndarray, dram_start: int | None, unit: int, config: VtaConfig
) -> Footprint:
    """Footprint of an instruction. `uops` are the words of its micro-ops (GEMM, ALU).

    `dram_start` is the byte address that dram_base 0 stands for, None for constants, whose reads
    are left out: nothing writes them. `unit` is the DRAM granularity in bytes, a divisor of all
    activation elements and addresses.
    """
    match insn:
        case Load():
            if insn.x_size == 0:
                return Footprint()
            memory = MemType(insn.memory_type)
            rows, columns = insn.sram_shape
            first = insn.sram_base
            name = "acc" if memory is MemType.ACC_8BIT else memory.name.lower()
            reads = (
                ()
                if dram_start is None
                else (("dram", _dram(insn, memory, dram_start, unit, config)),)
            )
            return Footprint(reads, ((name, np.arange(first, first + rows * columns)),))
        case Store():
            if insn.x_size == 0:
                return Footprint()
            first = insn.sram_base
            read = np.arange(first, first + insn.y_size * insn.x_size)
            assert dram_start is not None, "constants are not written"
            target = _dram(insn, MemType.OUT, dram_start, unit, config)
            return Footprint((("acc", read),), (("dram", target),))
        case Gemm():
            fields = unpack_uops(uops, config)
            dst = _loop_indices(fields["dst"], insn, "dst")
            if insn.reset:
                return Footprint((), (("acc", dst),))
            inp = _loop_indices(fields["src"], insn, "src")
            wgt = _loop_indices(fields["wgt"], insn, "wgt")
            return Footprint((("acc", dst), ("inp", inp), ("wgt", wgt)), (("acc", dst),))
        case Alu():
            fields = unpack_uops(uops, config)
            dst = _loop_indices(fields["dst"], insn, "dst")
            operands: list[Touched] = [("acc", dst)]
            if not insn.use_imm:
                src = _loop_indices(fields["src"], insn, "src")
                parts = 3 if insn.alu_opcode == AluOp.REQ else 1
                operands += [("acc", src + part) for part in range(parts)]
            return Footprint(tuple(operands), (("acc", dst),))
    return Footprint()


def _dram(
    insn: Load | Store, memory: MemType, start: int, unit: int, config: VtaConfig
) -> np.ndarray:
    size = config.elem_bytes(memory)
    rows = start + (insn.dram_base + np.arange(insn.y_size) * insn.x_stride) * size
    length = insn.x_size * size
    assert start % unit == 0 and size % unit == 0
    return (rows[:, None] // unit + np.arange(length // unit)[None, :]).ravel()


def _loop_indices(base: np.ndarray, insn: Gemm | Alu, operand: str) -> np.ndarray:
    outer = np.arange(insn.iter_out) * getattr(insn, f"{operand}_factor_out")
    inner = np.arange(insn.iter_in) * getattr(insn, f"{operand}_factor_in")
    return np.unique((outer[:, None, None] + inner[None, :, None] + base[None, None, :]).ravel())
