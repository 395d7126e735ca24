"""What resets the core when the host asks for it, or when something takes too long."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fpga.protocol import RUN_LIMIT_BITS

RESET_CYCLES = 255
"""What was under way on the buses at the begin of a reset is over when it ends."""
ANSWER_CYCLES = 8191
"""A bus that has not answered after as many cycles does not answer any more."""


class LinkWatchdog(wiring.Component):
    """Keeps the time.

    Members
    -------
    tick : Out(1)
        High for one cycle in each millisecond.
    running, limit_ms : In(1), In(24)
        The core runs; how long it may, in milliseconds (a run is ended less than one late), or 0.
    waiting : In(1)
        The link waits for a bus.
    reset : In(1)
        The host wants a reset, for one cycle.
    core_reset : Out(1)
        High for `RESET_CYCLES`.
    fired : Out(1)
        A reset begins that nobody asked for, for one cycle.
    """

    def __init__(self, clock_hz: int) -> None:
        self._cycles_per_ms = clock_hz // 1000
        super().__init__(
            {
                "tick": Out(1),
                "running": In(1),
                "limit_ms": In(RUN_LIMIT_BITS),
                "waiting": In(1),
                "reset": In(1),
                "core_reset": Out(1),
                "fired": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Three counters of time, and the length of the reset."""
        m = Module()
        cycles = Signal(range(self._cycles_per_ms))
        m.d.sync += [cycles.eq(cycles - 1), self.tick.eq(cycles == 0)]
        with m.If(cycles == 0):
            m.d.sync += cycles.eq(self._cycles_per_ms - 1)

        ran, waited = Signal(RUN_LIMIT_BITS), Signal(range(ANSWER_CYCLES + 1))
        late, silent = Signal(), Signal()
        m.d.sync += [
            late.eq((ran == self.limit_ms) & (self.limit_ms != 0)),
            silent.eq(waited == ANSWER_CYCLES),
            waited.eq(waited + 1),
            self.fired.eq((late & self.tick | silent) & ~self.fired & ~self.core_reset),
        ]
        with m.If(self.tick):
            m.d.sync += ran.eq(ran + 1)
        with m.If(~self.running | self.core_reset):
            m.d.sync += [ran.eq(0), late.eq(0)]
        with m.If(~self.waiting | self.core_reset):
            m.d.sync += [waited.eq(0), silent.eq(0)]

        left = Signal(range(RESET_CYCLES + 1))
        m.d.sync += self.core_reset.eq(left != 0)
        with m.If(self.fired | self.reset):
            m.d.sync += [left.eq(RESET_CYCLES), self.core_reset.eq(1)]
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        return m
