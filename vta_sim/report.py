"""Sentences about how a run ended."""

from __future__ import annotations

from collections.abc import Sequence

from vta_hw.spec.asm import format_insn
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import FaultClass, Gemm, Instruction, Load, Store
from vta_hw.spec.result import Status


def describe_fault(
    index: int, insn: Instruction, fault: FaultClass, config: VtaConfig, dram_limit: int
) -> str:
    """One sentence: the instruction, what is wrong with it, and the mend."""
    return f"instruction {index} ({format_insn(insn)}) {_reason(insn, fault, config, dram_limit)}"


def _reason(insn: Instruction, fault: FaultClass, config: VtaConfig, dram_limit: int) -> str:
    match fault:
        case FaultClass.BAD_OPCODE:
            return "has no opcode of this machine; is this an instruction stream?"
        case FaultClass.BAD_FLAGS:
            return "carries a flag that its stage or memory type does not allow; clear it"
        case FaultClass.BAD_MEMORY_TYPE:
            legal = "out" if isinstance(insn, Store) else "uop, wgt, inp, acc or acc_8bit"
            return f"has a memory type that it cannot access; it must be {legal}"
        case FaultClass.BAD_PAD:
            return "has padding, which a store cannot do; set it to zero"
        case FaultClass.SRAM_RANGE:
            return f"{_sram_end(insn, config)}; move it down or make it smaller"
        case FaultClass.DRAM_RANGE:
            return f"reaches beyond the {dram_limit} bytes of DRAM; move it or enlarge the DRAM"
        case FaultClass.BAD_ALU_OPCODE:
            return (
                "has an ALU operation, or a form of it, that does not exist with the extensions "
                f"of config {config.name!r}; use another"
            )
        case FaultClass.UOP_RANGE:
            depth = config.depth(MemType.UOP)
            return f"runs past the last of {depth} micro-ops; lower uop_end"
        case FaultClass.INDEX_RANGE:
            return (
                f"computes an index beyond its memory ({_depths(insn, config)}); lower its loop "
                "factors, its counts or the indices of its micro-ops"
            )
        case FaultClass.BUS:
            if isinstance(insn, Load | Store):
                return (
                    "met a bus error; see what answers at its DRAM address and, in case fetch met "
                    "it, where the stream lies from this instruction on"
                )
            return (
                "was the next to dispatch when fetch met a bus error; see what answers where the "
                "stream lies from this instruction on"
            )


def _sram_end(insn: Instruction, config: VtaConfig) -> str:
    assert isinstance(insn, Load | Store)
    rows, columns = insn.sram_shape if isinstance(insn, Load) else (insn.y_size, insn.x_size)
    depth = config.depth(MemType(insn.memory_type))
    return f"ends at SRAM element {insn.sram_base + rows * columns} of {depth}"


def _depths(insn: Instruction, config: VtaConfig) -> str:
    memories = [MemType.ACC]
    if isinstance(insn, Gemm) and not insn.reset:
        memories += [MemType.INP, MemType.WGT]
    return ", ".join(f"{memory.name} {config.depth(memory)}" for memory in memories)


def describe_end(status: Status, index: int | None, waits: Sequence[str]) -> str:
    """One sentence on a run that ended without a fault and not well; `waits` says what is stuck."""
    stuck = "; ".join(waits)
    match status:
        case Status.DEADLOCK:
            return f"the program is stuck: {stuck}; let the other stages push these tokens"
        case Status.FINISH_NOT_DRAINED:
            reason = stuck or "fetch has not dispatched it"
            return (
                f"instruction {index} had not retired when all came to rest after FINISH: "
                f"{reason}; let FINISH wait for the other stages"
            )
        case Status.NO_FINISH:
            return "the program ended without FINISH; append one"
        case _:
            raise ValueError(f"a run that ended with {status} needs no description")
