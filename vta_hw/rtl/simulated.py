"""The core as the native simulation compiles it."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Flow, Out

from vta_hw.rtl.core import Core, bus_ports
from vta_hw.rtl.engine import tap_ports
from vta_hw.spec.config import VtaConfig


class SimulatedCore(wiring.Component):
    """`Core` with its ports, and a register behind the reset: it comes and goes a cycle later.

    The next state of all registers depends on the reset. Were that an input, the simulator would
    compute each of them twice more per cycle.
    """

    def __init__(self, config: VtaConfig) -> None:
        self._config = config
        super().__init__(
            {**bus_ports(config), **{name: Out(width) for name, width in tap_ports().items()}}
        )

    def elaborate(self, platform: Any) -> Module:
        """Wire all ports through."""
        m = Module()
        m.domains.inner = ClockDomain(local=True)
        reset = Signal(init=1, reset_less=True)
        m.d.sync += reset.eq(ResetSignal())
        m.d.comb += [ClockSignal("inner").eq(ClockSignal()), ResetSignal("inner").eq(reset)]
        core = Core(self._config)
        m.submodules.core = DomainRenamer({"sync": "inner"})(core)
        for name, member in self.signature.members.items():
            inner, outer = getattr(core, name), getattr(self, name)
            m.d.comb += outer.eq(inner) if member.flow is Flow.Out else inner.eq(outer)
        return m
