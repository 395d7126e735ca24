"""ALU instructions: micro-ops one after the other, all lanes of an element at once."""

from __future__ import annotations

from vta_hw.spec.isa import AluOp, Rounding
from vta_sim.lang.kinds import Array, Vec, i32, inline, kernel
from vta_sim.lang.ops import at, load, select, splat, store
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
    run_operation(e, insn, True)


@kernel
def run_register(e: Engine, insn: Insn) -> None:
    """acc[dst] := op(acc[dst], acc[src])."""
    run_operation(e, insn, False)


@inline
def run_operation(e: Engine, insn: Insn, has_imm: bool) -> None:
    """A loop of its own for each operation."""
    if insn.alu_opcode == AluOp.MIN:
        run_loop(e, insn, AluOp.MIN, has_imm)
    elif insn.alu_opcode == AluOp.MAX:
        run_loop(e, insn, AluOp.MAX, has_imm)
    elif insn.alu_opcode == AluOp.ADD:
        run_loop(e, insn, AluOp.ADD, has_imm)
    elif insn.alu_opcode == AluOp.SHR:
        run_loop(e, insn, AluOp.SHR, has_imm)
    elif insn.alu_opcode == AluOp.MUL:
        run_loop(e, insn, AluOp.MUL, has_imm)
    elif insn.alu_opcode == AluOp.RDHM:
        run_loop(e, insn, AluOp.RDHM, has_imm)
    else:
        run_loop(e, insn, AluOp.RSR, has_imm)


@inline
def run_loop(e: Engine, insn: Insn, op: int, has_imm: bool) -> None:
    """All micro-ops of an instruction, one of the two forms."""
    if has_imm:
        loop_immediate(e, insn, op)
    else:
        loop_register(e, insn, op)


@inline
def dsts_of(e: Engine, insn: Insn) -> Array[i32]:
    """The dst of an instruction's micro-ops; as many src follow."""
    return at(e.uops, e.patterns[insn.plan].first)


@inline
def loop_immediate(e: Engine, insn: Insn, op: int) -> None:
    """All micro-ops of an instruction with an immediate."""
    operand = splat(i32, ACC_LANES, insn.imm)
    # Locals: for all that LLVM knows, what is stored to ACC might change a structure.
    acc, dsts, count = e.acc, dsts_of(e, insn), e.patterns[insn.plan].count
    inner_count, by_outer, by_inner = insn.iter_in, insn.dst_factor_out, insn.dst_factor_in
    for outer in range(insn.iter_out):
        for inner in range(inner_count):
            base = outer * by_outer + inner * by_inner
            for number in range(count):
                dst = (base + dsts[number]) * ACC_LANES
                store(acc, dst, apply(op, load(acc, dst, ACC_LANES), operand))


@inline
def loop_register(e: Engine, insn: Insn, op: int) -> None:
    """All micro-ops of an instruction of the register form."""
    acc, dsts, count = e.acc, dsts_of(e, insn), e.patterns[insn.plan].count
    inner_count, dst_outer, dst_inner = insn.iter_in, insn.dst_factor_out, insn.dst_factor_in
    src_outer, src_inner = insn.src_factor_out, insn.src_factor_in
    for outer in range(insn.iter_out):
        for inner in range(inner_count):
            to = outer * dst_outer + inner * dst_inner
            by = outer * src_outer + inner * src_inner
            for number in range(count):
                dst = (to + dsts[number]) * ACC_LANES
                src = (by + dsts[count + number]) * ACC_LANES
                first = load(acc, dst, ACC_LANES)
                store(acc, dst, apply(op, first, load(acc, src, ACC_LANES)))


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
        rounded = rounding_shift(a, max(min(b, 63), 0), ACC_LANES)
        left = select(b > -32, a << min(max(-b, 0), 31), 0)
        result = select(b >= 0, rounded, left)
    return result


@kernel
def reset_acc(e: Engine, insn: Insn) -> None:
    """What a legal GEMM with reset does."""
    acc, dsts, count = e.acc, dsts_of(e, insn), e.patterns[insn.plan].count
    inner_count, by_outer, by_inner = insn.iter_in, insn.dst_factor_out, insn.dst_factor_in
    zero = splat(i32, ACC_LANES, 0)
    for outer in range(insn.iter_out):
        for inner in range(inner_count):
            base = outer * by_outer + inner * by_inner
            for number in range(count):
                store(acc, (base + dsts[number]) * ACC_LANES, zero)
