"""The compute stage."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from vta_hw.rtl.head import STAGE_UNITS
from vta_hw.rtl.signatures import OPS_BITS
from vta_hw.rtl.stage import StageControl
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Stage

SLOTS = 4
"""Instructions in flight are at most three, one per unit; a queue's depth is a power of two."""


class ComputeStage(StageControl):
    """Hands instructions to GEMM, ALU and the loaders of UOP and ACC, which are one unit (rule G1).

    Members as of `StageControl`, and

    port
        GEMM or ALU has a micro-op whose slot is not granted.
    finished
        FINISH has retired.
    gemm_ops, gemm_reset_ops, alu_ops
        Micro-ops of the instruction that retires in this cycle, else 0.
    """

    def __init__(self, config: VtaConfig) -> None:
        super().__init__(
            config,
            Stage.COMPUTE,
            SLOTS,
            {
                "port": In(1),
                "finished": Out(1),
                "gemm_ops": Out(OPS_BITS),
                "gemm_reset_ops": Out(OPS_BITS),
                "alu_ops": Out(OPS_BITS),
            },
        )
        self._taken = Signal(3)

    def _room(self, m: Module) -> Value:
        """Rule G1. Nothing issues behind a FINISH, so that none can be older and in flight."""
        wanted = _groups(self._info.unit)
        left = _groups(self._front.unit) & self.retire.replicate(3)
        entered = wanted & self.issue.replicate(3)
        m.d.sync += self._taken.eq((self._taken & ~left) | entered)
        free = (self._taken & wanted) == 0
        return (self._in_flight == 0) | (self._info.overlap & free)

    def _port_wait(self) -> Value:
        return self.port

    def elaborate(self, platform: object) -> Module:
        """Adds the end of the run and the counts of micro-ops."""
        m = super().elaborate(platform)
        with m.If(self.retire & self._front.finish):
            m.d.sync += self.finished.eq(1)
        amounts = {"gemm": Signal(OPS_BITS), "alu": Signal(OPS_BITS)}
        for name, amount in amounts.items():
            unit = getattr(self, name)
            with m.If(unit.done):
                m.d.sync += amount.eq(unit.amount)
        names = STAGE_UNITS[Stage.COMPUTE]
        gemm, alu = (self.retire & self._front.unit[names.index(name)] for name in amounts)
        reset = self._front.reset
        m.d.comb += [
            self.gemm_ops.eq(Mux(gemm & ~reset, amounts["gemm"], 0)),
            self.gemm_reset_ops.eq(Mux(gemm & reset, amounts["gemm"], 0)),
            self.alu_ops.eq(Mux(alu, amounts["alu"], 0)),
        ]
        return m


def _groups(units: Value) -> Value:
    """One bit per unit of rule G1 from one per unit of STAGE_UNITS."""
    gemm, alu, uop, acc = units
    return Cat(gemm, alu, uop | acc)
