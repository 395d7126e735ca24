"""The top level: ports with the names that tools infer bus interfaces from."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockDomain, Module, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import Flow, In, Out, Signature

from vta_hw.rtl.control_port import AxiLite, ControlPort
from vta_hw.rtl.engine import Engine, tap_ports
from vta_hw.rtl.read_channel import AxiRead
from vta_hw.rtl.write_channel import AxiWrite
from vta_hw.spec.config import VtaConfig

MASTER, SLAVE = "m_axi_", "s_axi_"


def _flat(prefix: str, signature: Signature, master: bool) -> dict[str, Any]:
    """Ports of a bus without structure, as the master or the slave of it has them."""
    ports = {}
    for name, member in signature.members.items():
        out = (member.flow is Flow.Out) == master
        ports[prefix + name] = (Out if out else In)(member.shape)
    return ports


def bus_ports(config: VtaConfig) -> dict[str, Any]:
    """The ports of both buses and `irq`."""
    return {
        **_flat(MASTER, AxiWrite(config), True),
        **_flat(MASTER, AxiRead(config), True),
        **_flat(SLAVE, AxiLite(), False),
        "irq": Out(1),
    }


class Core(wiring.Component):
    """A whole VTA: AXI4 master for memory, AXI4-Lite slave for control, `irq`, event taps.

    Clock and reset (synchronous, active high) are those of the domain ``sync``; in Verilog they are
    the ports ``clk`` and ``rst``. Taps (`tap_ports`) are not registered: what happens in the cycle
    n of a run shows in the n-th clock cycle with `tap_running`.
    """

    def __init__(self, config: VtaConfig) -> None:
        self._config = config
        super().__init__(
            {**bus_ports(config), **{name: Out(width) for name, width in tap_ports().items()}}
        )

    def elaborate(self, platform: Any) -> Module:
        """Put control port and engine together; a launch resets the engine."""
        m = Module()
        m.submodules.control = control = ControlPort(self._config)
        engine = Engine(self._config)
        m.submodules.engine = ResetInserter(control.clear)(engine)
        for bus, prefix in (
            (engine.read, MASTER),
            (engine.write, MASTER),
            (control.axi, SLAVE),
        ):
            for name, member in bus.signature.members.items():
                inner, outer = getattr(bus, name), getattr(self, prefix + name)
                m.d.comb += outer.eq(inner) if member.flow is Flow.Out else inner.eq(outer)
        m.d.comb += [
            self.irq.eq(control.irq),
            engine.settings.eq(control.settings),
            engine.start.eq(control.start),
            engine.running.eq(control.running),
            control.ended.eq(engine.ended),
            control.verdict.eq(engine.verdict),
            control.verdict_index.eq(engine.verdict_index),
            engine.counter.eq(control.counter),
            control.counter_value.eq(engine.counter_value),
            control.settled.eq(engine.settled),
        ]
        m.d.comb += [getattr(self, name).eq(getattr(engine, name)) for name in tap_ports()]
        return m


class Shell(wiring.Component):
    """The core as it goes on an FPGA: `aclk`, `aresetn` (active low, synchronous), no taps."""

    def __init__(self, config: VtaConfig) -> None:
        self._config = config
        super().__init__({"aclk": In(1), "aresetn": In(1), **bus_ports(config)})

    def elaborate(self, platform: Any) -> Module:
        """Wire the core's ports through, and make its clock domain."""
        m = Module()
        m.domains.sync = domain = ClockDomain()
        m.d.comb += [domain.clk.eq(self.aclk), domain.rst.eq(~self.aresetn)]
        m.submodules.core = core = Core(self._config)
        for name, member in bus_ports(self._config).items():
            inner, outer = getattr(core, name), getattr(self, name)
            m.d.comb += outer.eq(inner) if member.flow is Flow.Out else inner.eq(outer)
        return m
