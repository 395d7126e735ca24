"""The counters of a run."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from vta_hw.rtl.control_port import ACC_WRITES
from vta_hw.rtl.signatures import OPS_BITS
from vta_hw.spec import registers
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.registers import COUNTERS

_WRITERS = ("gemm_ops", "gemm_reset_ops", "alu_ops")


def amount_bits(config: VtaConfig, name: str) -> int:
    """Bits of what the counter `name` can rise by in one cycle."""
    if name in _WRITERS:
        return OPS_BITS
    for memory in MemType:
        if name == registers.byte_counter(memory):
            return config.depth_bits(memory) + config.log_elem_bytes(memory) + 1
    return 1


def amounts_layout(config: VtaConfig) -> data.StructLayout:
    """What each of `COUNTERS` but `cycles` rises by in a cycle."""
    return data.StructLayout(
        {name: amount_bits(config, name) for name in COUNTERS if name != "cycles"}
    )


class Counters(wiring.Component):
    """Counts in the cycles with `running`; the values are there two cycles later.

    Members
    -------
    running
        High in the cycles of a run.
    amounts
        What is to be added in this cycle (`amounts_layout`).
    select, value
        `value` is the counter ``COUNTERS[select]`` as of the cycle before, or for `ACC_WRITES` the
        sum of the operations, as of the cycle before that.
    """

    def __init__(self, config: VtaConfig) -> None:
        super().__init__(
            {
                "running": In(1),
                "amounts": In(amounts_layout(config)),
                "select": In(range(ACC_WRITES + 1)),
                "value": Out(registers.COUNTER_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build one register per counter, and the selection."""
        m = Module()
        amounts = Signal.like(self.amounts)
        running = Signal()
        m.d.sync += running.eq(self.running)
        with m.If(self.running):
            m.d.sync += amounts.eq(self.amounts)
        counts = {name: Signal(registers.COUNTER_BITS, name=name) for name in COUNTERS}
        acc_writes = Signal(registers.COUNTER_BITS)
        with m.If(running):
            for name, count in counts.items():
                amount: Value | int = 1 if name == "cycles" else amounts[name]
                m.d.sync += count.eq(count + amount)
        m.d.sync += acc_writes.eq(sum((counts[name] for name in _WRITERS), start=0))
        with m.Switch(self.select):
            for number, name in enumerate(COUNTERS):
                with m.Case(number):
                    m.d.sync += self.value.eq(counts[name])
            with m.Default():
                m.d.sync += self.value.eq(acc_writes)
        return m
