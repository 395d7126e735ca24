"""The counters of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory, ReadPort
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
    """Counts in the cycles with `running`.

    Those that rise by one at most count in a few bits, from which one after the other is carried
    over to a memory of sums, in turn; so a sum is exact some cycles after the run only.

    Members
    -------
    running
        High in the cycles of a run.
    amounts
        What is to be added in this cycle (`amounts_layout`).
    settled
        The counters are exact; high again within two turns after a run.
    select, value
        The counter ``COUNTERS[select]``, or for `ACC_WRITES` the sum of the operations; in the
        cycle after that with `select`. 0 until something of this run was carried over to it.
    """

    def __init__(self, config: VtaConfig) -> None:
        super().__init__(
            {
                "running": In(1),
                "amounts": In(amounts_layout(config)),
                "settled": Out(1),
                "select": In(range(ACC_WRITES + 1)),
                "value": Out(registers.COUNTER_BITS),
            }
        )
        members = self.amounts.shape().members
        self._wide = [name for name, width in members.items() if width > 1]
        self._narrow = [name for name in COUNTERS if name not in self._wide]

    def elaborate(self, platform: Any) -> Module:
        """Amounts are registered first; wide ones have a register of their own to add to."""
        m = Module()
        amounts = Signal.like(self.amounts)
        running = Signal()
        m.d.sync += running.eq(self.running)
        with m.If(self.running):
            m.d.sync += amounts.eq(self.amounts)
        counts = {name: Signal(registers.COUNTER_BITS, name=name) for name in self._wide}
        acc_writes, wide, is_wide = (
            Signal(registers.COUNTER_BITS),
            Signal.like(self.value),
            Signal(),
        )
        with m.If(running):
            for name, count in counts.items():
                m.d.sync += count.eq(count + amounts[name])
        m.d.sync += [
            acc_writes.eq(sum((counts[name] for name in _WRITERS), start=0)),
            is_wide.eq(1),
        ]
        steps = {name: 1 if name == "cycles" else amounts[name] for name in self._narrow}
        sums, blank = self._carry(m, running, steps)
        with m.Switch(self.select):
            for number, name in enumerate(COUNTERS):
                with m.Case(number):
                    if name in counts:
                        m.d.sync += wide.eq(counts[name])
                    else:
                        m.d.comb += sums.addr.eq(self._narrow.index(name))
                        m.d.sync += is_wide.eq(0)
            with m.Default():
                m.d.sync += wide.eq(acc_writes)
        m.d.comb += self.value.eq(Mux(is_wide, wide, Mux(blank, 0, sums.data)))
        return m

    def _carry(
        self, m: Module, running: Value, steps: Mapping[str, Value | int]
    ) -> tuple[ReadPort, Signal]:
        """Carry the small counts over, in turn.

        Returns a port to read the sums by, and whether what it reads is not of this run.
        """
        slots = len(steps)
        m.submodules.sums = memory = Memory(shape=registers.COUNTER_BITS, depth=slots, init=[])
        old, port, new = memory.read_port(), memory.read_port(), memory.write_port()
        place, left = Signal(range(slots)), Signal(range(slots + 1))
        active, writing = Signal(), Signal()
        # The memory keeps the sums of the run before: the first turn does not add to them.
        first, first_of_written, blank = Signal(init=1), Signal(init=1), Signal()
        carried = Signal(range(slots + 1))
        m.d.comb += [
            active.eq(running | (left != 0)),
            self.settled.eq(~(self.running | active | writing)),
            old.addr.eq(place),
            new.en.eq(writing),
            new.data.eq(Mux(first_of_written, 0, old.data) + carried),
        ]
        m.d.sync += [writing.eq(active), new.addr.eq(place), first_of_written.eq(first)]
        m.d.sync += blank.eq(first_of_written & (port.addr >= new.addr))
        with m.If(running):
            m.d.sync += left.eq(slots)
        with m.Elif(active):
            m.d.sync += left.eq(left - 1)
        with m.If(active):
            m.d.sync += place.eq(place + 1)
            with m.If(place == slots - 1):
                m.d.sync += [place.eq(0), first.eq(0)]
            # No turn is longer than `slots` cycles, so that a count never overflows.
            counts = {name: Signal(range(slots + 1), name=name) for name in steps}
            for number, (name, count) in enumerate(counts.items()):
                kept = Mux(place == number, 0, count)
                m.d.sync += count.eq(kept + (steps[name] & running))
            with m.Switch(place):
                for number, count in enumerate(counts.values()):
                    with m.Case(number):
                        m.d.sync += carried.eq(count)
        return port, blank
