"""The counters of tokens by which the stages wait for each other."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vta_hw.spec.isa import TOKEN_MAX, TokenQueue

QUEUES = len(TokenQueue)


class TokenCounters(wiring.Component):
    """The four counters; bit i of every member belongs to ``TokenQueue(i)``.

    Members
    -------
    push, pop
        Count up or down at the end of this cycle; both at once leave the counter as it is. A full
        counter must not be pushed, nor one that is 0 popped.
    available, full
        The counter is above 0, or at TOKEN_MAX, as of the cycle's beginning.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "push": In(QUEUES),
                "pop": In(QUEUES),
                "available": Out(QUEUES),
                "full": Out(QUEUES),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """One counter per queue."""
        m = Module()
        for queue in TokenQueue:
            count = Signal(range(TOKEN_MAX + 1), name=queue.name.lower())
            push, pop = self.push[queue], self.pop[queue]
            with m.If(push & ~pop):
                m.d.sync += count.eq(count + 1)
            with m.If(pop & ~push):
                m.d.sync += count.eq(count - 1)
            m.d.comb += [
                self.available[queue].eq(count != 0),
                self.full[queue].eq(count == TOKEN_MAX),
            ]
        return m
