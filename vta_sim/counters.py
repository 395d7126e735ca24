"""Counts of what a program moved and computed."""

from __future__ import annotations

from collections.abc import Mapping

from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Alu, Gemm, Instruction, Load, Stage, Store, stage_of


class Counters:
    """Counts over retired instructions.

    Bytes are those of DRAM, so pads count nothing; operations are executions of micro-ops, resets
    of GEMM apart from its multiplications.
    """

    def __init__(self, config: VtaConfig) -> None:
        self._config = config
        self._elem_bytes = {memory: config.elem_bytes(memory) for memory in MemType}
        self._counts = {
            **{f"load_{m.name.lower()}_bytes": 0 for m in MemType if m is not MemType.OUT},
            "store_out_bytes": 0,
            "gemm_ops": 0,
            "gemm_reset_ops": 0,
            "alu_ops": 0,
            **{_stage_name(stage): 0 for stage in Stage},
        }

    @property
    def counts(self) -> Mapping[str, int]:
        """All counters by name."""
        return dict(self._counts)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the array."""
        return self._counts["gemm_ops"] * self._config.macs_per_cycle

    def add(self, insn: Instruction) -> None:
        """Count one instruction."""
        self._counts[_stage_name(stage_of(insn))] += 1
        match insn:
            case Load() | Store() if insn.x_size:
                memory = MemType(insn.memory_type)
                direction = "load" if isinstance(insn, Load) else "store"
                moved = insn.y_size * insn.x_size * self._elem_bytes[memory]
                self._counts[f"{direction}_{memory.name.lower()}_bytes"] += moved
            case Gemm(reset=True):
                self._counts["gemm_reset_ops"] += _executions(insn)
            case Gemm():
                self._counts["gemm_ops"] += _executions(insn)
            case Alu():
                self._counts["alu_ops"] += _executions(insn)


def _stage_name(stage: Stage) -> str:
    return f"{stage.name.lower()}_instructions"


def _executions(insn: Gemm | Alu) -> int:
    return insn.iter_out * insn.iter_in * max(0, insn.uop_end - insn.uop_bgn)
