"""Hardware as the native simulation compiles it."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Signal
from amaranth.lib import wiring


class RegisteredReset(wiring.Component):
    """A component with its ports, and a register behind the reset: it comes and goes a cycle later.

    The next state of all registers depends on the reset. Were that an input, the simulator would
    compute each of them twice more per cycle.
    """

    def __init__(self, component: wiring.Component) -> None:
        self._component = component
        super().__init__(component.signature)

    def elaborate(self, platform: Any) -> Module:
        """Wire all ports through."""
        m = Module()
        m.domains.inner = ClockDomain(local=True)
        reset = Signal(init=1, reset_less=True)
        m.d.sync += reset.eq(ResetSignal())
        m.d.comb += [ClockSignal("inner").eq(ClockSignal()), ResetSignal("inner").eq(reset)]
        component = self._component
        m.submodules.inner = DomainRenamer({"sync": "inner"})(component)
        wiring.connect(m, component, wiring.flipped(self))
        return m
