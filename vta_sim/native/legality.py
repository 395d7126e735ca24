"""Which instructions are refused: `vta_hw.spec.semantics.check`, compiled.

What these functions accept touches no memory beyond its end: the arithmetic relies on it.
"""

from __future__ import annotations

from vta_hw.spec.arith import ALU
from vta_hw.spec.config import MemType
from vta_hw.spec.isa import REQ_IMMEDIATE, AluOp, FaultClass, Opcode, Rounding
from vta_sim.lang.kinds import i64, kernel
from vta_sim.native.machine import Machine
from vta_sim.native.table import Insn

REQ_SOURCES = ALU[AluOp.REQ].sources
MODE_LOW = REQ_IMMEDIATE["mode"].low
MODE_MASK = REQ_IMMEDIATE["mode"].mask
_SUB_LOW = REQ_IMMEDIATE["sub_operation"].low
_SUB_MASK = REQ_IMMEDIATE["sub_operation"].mask
_MODES = len(Rounding)
GOOD = 0


@kernel
def fault_of(m: Machine, insn: Insn) -> i64:
    """The class of the fault that an instruction causes with the present micro-ops, or `GOOD`."""
    if not insn.known:
        return FaultClass.BAD_OPCODE
    if insn.opcode == Opcode.LOAD:
        return load_fault(m, insn)
    if insn.opcode == Opcode.STORE:
        return store_fault(m, insn)
    if insn.opcode == Opcode.ALU:
        return alu_fault(m, insn)
    if insn.opcode == Opcode.GEMM:
        sources = not insn.reset
        depth = m.depth
        return index_fault(
            m, insn, depth[MemType.ACC], sources, depth[MemType.INP], depth[MemType.WGT]
        )
    return GOOD


@kernel
def load_fault(m: Machine, insn: Insn) -> i64:
    """Of a LOAD, in the order of the checks."""
    memory = insn.memory_type
    if insn.bad_flags or (insn.pad_min and memory == MemType.UOP):
        return FaultClass.BAD_FLAGS
    if memory > MemType.ACC_8BIT or memory == MemType.OUT:
        return FaultClass.BAD_MEMORY_TYPE
    if not insn.x_size:
        return GOOD
    if insn.sram_base + sram_rows(insn) * sram_columns(insn) > m.depth[memory]:
        return FaultClass.SRAM_RANGE
    return dram_fault(m, insn)


@kernel
def sram_rows(insn: Insn) -> i64:
    """Rows that a LOAD writes, pads included."""
    return insn.y_pad_0 + insn.y_size + insn.y_pad_1


@kernel
def sram_columns(insn: Insn) -> i64:
    """Elements per row that a LOAD writes, pads included."""
    return insn.x_pad_0 + insn.x_size + insn.x_pad_1


@kernel
def store_fault(m: Machine, insn: Insn) -> i64:
    """Of a STORE, in the order of the checks."""
    if insn.bad_flags:
        return FaultClass.BAD_FLAGS
    if not insn.x_size:
        return GOOD
    if insn.memory_type != MemType.OUT:
        return FaultClass.BAD_MEMORY_TYPE
    if insn.y_pad_0 or insn.y_pad_1 or insn.x_pad_0 or insn.x_pad_1:
        return FaultClass.BAD_PAD
    if insn.sram_base + insn.y_size * insn.x_size > m.depth[MemType.OUT]:
        return FaultClass.SRAM_RANGE
    return dram_fault(m, insn)


@kernel
def dram_fault(m: Machine, insn: Insn) -> i64:
    """Whether a transfer ends beyond DRAM."""
    if not insn.y_size:
        return GOOD
    elements = (insn.y_size - 1) * insn.x_stride + insn.x_size
    end = insn.address + elements * m.elem_bytes[insn.memory_type]
    return FaultClass.DRAM_RANGE if end > m.dram_limit else GOOD


@kernel
def alu_fault(m: Machine, insn: Insn) -> i64:
    """Of an ALU operation."""
    if insn.alu_opcode >= AluOp.RDHM and not m.has_requant:
        return FaultClass.BAD_ALU_OPCODE
    sources = 1
    if insn.alu_opcode == AluOp.REQ:
        sources = REQ_SOURCES
        mode = insn.imm >> MODE_LOW & MODE_MASK
        if insn.use_imm or insn.imm >> _SUB_LOW & _SUB_MASK or mode >= _MODES:
            return FaultClass.BAD_ALU_OPCODE
    depth = m.depth[MemType.ACC]
    return index_fault(m, insn, depth, True, depth - sources + 1, 1 << 62)


@kernel
def steps(insn: Insn) -> i64:
    """Micro-ops that GEMM or ALU executes."""
    if insn.uop_bgn >= insn.uop_end:
        return 0
    return insn.iter_out * insn.iter_in * (insn.uop_end - insn.uop_bgn)


@kernel
def index_fault(
    m: Machine, insn: Insn, dst_end: i64, has_sources: bool, src_end: i64, wgt_end: i64
) -> i64:
    """Whether a loop computes an index at or beyond these ends, or runs out of micro-ops."""
    if steps(insn) == 0:
        return GOOD
    beyond = insn.uop_end > m.depth[MemType.UOP]
    end = min(insn.uop_end, m.depth[MemType.UOP])
    dst = 0
    src = 0
    wgt = 0
    for at in range(insn.uop_bgn, end):
        word = m.uop[at]
        dst = max(dst, word >> m.fields[0].low & m.fields[0].mask)
        src = max(src, word >> m.fields[1].low & m.fields[1].mask)
        wgt = max(wgt, word >> m.fields[2].low & m.fields[2].mask)
    if not beyond:
        outer = insn.iter_out - 1
        inner = insn.iter_in - 1
        dst += outer * insn.dst_factor_out + inner * insn.dst_factor_in
        src += outer * insn.src_factor_out + inner * insn.src_factor_in
        wgt += outer * insn.wgt_factor_out + inner * insn.wgt_factor_in
    if dst >= dst_end or (has_sources and (src >= src_end or wgt >= wgt_end)):
        # Also where micro-ops run out: the first round ends there, and these came before.
        return FaultClass.INDEX_RANGE
    return FaultClass.UOP_RANGE if beyond else GOOD
