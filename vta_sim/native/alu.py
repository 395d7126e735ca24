"""ALU instructions: micro-ops one after the other, all lanes of an element at once."""

from __future__ import annotations

from vta_hw.spec.isa import AluOp, Rounding
from vta_sim.lang.kinds import Vec, i32, inline, kernel
from vta_sim.lang.ops import load, select, splat, store
from vta_sim.native.engine import ACC_LANES, Engine
from vta_sim.native.legality import MODE_LOW, MODE_MASK
from vta_sim.native.requant import double_high, requantise, rounding_shift
from vta_sim.native.table import Insn


@kernel
def run_alu(e: Engine, insn: Insn) -> None:
    """What a legal ALU instruction does."""
    if insn.plan < 0:
        return
    if insn.alu_opcode == AluOp.REQ:
        mode = insn.imm >> MODE_LOW & MODE_MASK
        if mode == Rounding.DOUBLE:
            requantise(e, insn, Rounding.DOUBLE)
        elif mode == Rounding.SINGLE:
            requantise(e, insn, Rounding.SINGLE)
        else:
            requantise(e, insn, Rounding.FLOAT)
    elif insn.use_imm:
        run_immediate(e, insn)
    else:
        run_register(e, insn)


@kernel
def run_immediate(e: Engine, insn: Insn) -> None:
    """acc[dst] := op(acc[dst], imm)."""
    if insn.alu_opcode == AluOp.MIN:
        loop_immediate(e, insn, AluOp.MIN)
    elif insn.alu_opcode == AluOp.MAX:
        loop_immediate(e, insn, AluOp.MAX)
    elif insn.alu_opcode == AluOp.ADD:
        loop_immediate(e, insn, AluOp.ADD)
    elif insn.alu_opcode == AluOp.SHR:
        loop_immediate(e, insn, AluOp.SHR)
    elif insn.alu_opcode == AluOp.MUL:
        loop_immediate(e, insn, AluOp.MUL)
    elif insn.alu_opcode == AluOp.RDHM:
        loop_immediate(e, insn, AluOp.RDHM)
    else:
        loop_immediate(e, insn, AluOp.RSR)


@kernel
def run_register(e: Engine, insn: Insn) -> None:
    """acc[dst] := op(acc[dst], acc[src])."""
    if insn.alu_opcode == AluOp.MIN:
        loop_register(e, insn, AluOp.MIN)
    elif insn.alu_opcode == AluOp.MAX:
        loop_register(e, insn, AluOp.MAX)
    elif insn.alu_opcode == AluOp.ADD:
        loop_register(e, insn, AluOp.ADD)
    elif insn.alu_opcode == AluOp.SHR:
        loop_register(e, insn, AluOp.SHR)
    elif insn.alu_opcode == AluOp.MUL:
        loop_register(e, insn, AluOp.MUL)
    elif insn.alu_opcode == AluOp.RDHM:
        loop_register(e, insn, AluOp.RDHM)
    else:
        loop_register(e, insn, AluOp.RSR)


@inline
def loop_immediate(e: Engine, insn: Insn, op: int) -> None:
    """All micro-ops of an instruction with an immediate."""
    uops = e.patterns[insn.plan]
    operand = splat(i32, ACC_LANES, insn.imm)
    for outer in range(insn.iter_out):
        for inner in range(insn.iter_in):
            base = outer * insn.dst_factor_out + inner * insn.dst_factor_in
            for number in range(uops.count):
                dst = (base + e.uops[uops.first + number]) * ACC_LANES
                store(e.acc, dst, apply(op, load(e.acc, dst, ACC_LANES), operand))


@inline
def loop_register(e: Engine, insn: Insn, op: int) -> None:
    """All micro-ops of an instruction of the register form."""
    uops = e.patterns[insn.plan]
    for outer in range(insn.iter_out):
        for inner in range(insn.iter_in):
            to = outer * insn.dst_factor_out + inner * insn.dst_factor_in
            by = outer * insn.src_factor_out + inner * insn.src_factor_in
            for number in range(uops.count):
                dst = (to + e.uops[uops.first + number]) * ACC_LANES
                src = (by + e.uops[uops.first + uops.count + number]) * ACC_LANES
                first = load(e.acc, dst, ACC_LANES)
                store(e.acc, dst, apply(op, first, load(e.acc, src, ACC_LANES)))


@inline
def apply(op: int, a: Vec, b: Vec) -> Vec:
    """One operation on all lanes; `vta_hw.spec.arith` has the meanings."""
    if op == AluOp.MIN:
        result = min(a, b)
    elif op == AluOp.MAX:
        result = max(a, b)
    elif op == AluOp.ADD:
        result = a + b
    elif op == AluOp.SHR:
        # A shift by 31 leaves what one by more does; one to the left by 32 or more leaves nothing.
        right = a >> max(min(b, 31), 0)
        left = select(b > -32, a << min(max(-b, 0), 31), 0)
        result = select(b >= 0, right, left)
    elif op == AluOp.MUL:
        result = a * b
    elif op == AluOp.RDHM:
        result = double_high(a, b)
    else:
        rounded = rounding_shift(a, max(min(b, 63), 0))
        left = select(b > -32, a << min(max(-b, 0), 31), 0)
        result = select(b >= 0, rounded, left)
    return result


@kernel
def reset_acc(e: Engine, insn: Insn) -> None:
    """What a legal GEMM with reset does."""
    uops = e.patterns[insn.plan]
    zero = splat(i32, ACC_LANES, 0)
    for outer in range(insn.iter_out):
        for inner in range(insn.iter_in):
            base = outer * insn.dst_factor_out + inner * insn.dst_factor_in
            for number in range(uops.count):
                store(e.acc, (base + e.uops[uops.first + number]) * ACC_LANES, zero)
