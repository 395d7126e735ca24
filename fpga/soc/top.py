"""A whole accelerator without a processor: host link, core, memory controller, in one clock domain.

``docs/soc.md`` describes it.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    DomainRenamer,
    Module,
    Mux,
    ResetSignal,
    Signal,
    Value,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import Flow, In, Out, flipped

from fpga.soc.axi_memory import AxiMemory
from fpga.soc.link import Link
from fpga.soc.sdram import SdramPins
from vta_hw.rtl.control_port import AxiLite
from vta_hw.rtl.core import MASTER, SLAVE, Core
from vta_hw.rtl.read_channel import AxiRead
from vta_hw.rtl.write_channel import AxiWrite
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.sdram import SdramPart, SdramTiming

LAMPS = ("alive", "running", "ran", "active", "error", "resetting")
"""What the board's LEDs mean, from bit 0 up."""

_HEARTBEAT_HZ = 1


class Soc(wiring.Component):
    """Link, core and SDRAM controller.

    Memory belongs to the core while it runs, else to the link.

    Parameters
    ----------
    config
        Of the core.
    part, clock_hz
        The SDRAM, and the clock of everything.
    baud
        Of the link.
    board
        The name that the link answers with.

    Members
    -------
    rx, tx
        The link's line.
    lamps
        See `LAMPS`.
    pins
        The SDRAM's.
    """

    def __init__(
        self, config: VtaConfig, part: SdramPart, *, clock_hz: int, baud: int, board: str
    ) -> None:
        self._config = config
        self._clock_hz = clock_hz
        self._timing = SdramTiming.of(part, clock_hz)
        self._baud = baud
        self._board = board
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "lamps": Out(len(LAMPS)),
                "pins": Out(SdramPins(part)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Connect the three, and let the link reset the other two."""
        m = Module()
        config = self._config
        m.submodules.link = link = Link(
            config,
            clock_hz=self._clock_hz,
            baud=self._baud,
            board=self._board,
            memory_bytes=self._timing.part.size_bytes,
        )
        m.submodules.memory = memory = AxiMemory(config, self._timing)
        resetting = Signal()
        # The core's reset goes to most of the FPGA: a register of its own gives it a whole cycle.
        core_reset = Signal(init=1)
        m.domains.core = ClockDomain()
        m.d.sync += core_reset.eq(resetting)
        m.d.comb += [ClockSignal("core").eq(ClockSignal()), ResetSignal("core").eq(core_reset)]
        m.submodules.core = core = DomainRenamer("core")(Core(config))
        wiring.connect(m, memory.pins, flipped(self.pins))
        # What the core had open is forgotten, and the controller comes to a stop first.
        with m.If(link.core_reset):
            m.d.sync += resetting.eq(1)
        with m.Elif(~memory.busy):
            m.d.sync += resetting.eq(0)
        m.d.comb += [
            link.rx.eq(self.rx),
            self.tx.eq(link.tx),
            link.running.eq(core.tap_running),
            memory.settle.eq(link.settle & ~resetting),
            link.settled.eq(memory.settled),
            memory.clear.eq(resetting),
        ]
        self._share_memory(m, core, link, memory, resetting | core_reset)
        self._control(m, core, link, resetting | core_reset)
        self._light(m, core, link, resetting)
        return m

    def _share_memory(
        self, m: Module, core: Any, link: Link, memory: AxiMemory, resetting: Value
    ) -> None:
        """A reset may last longer than the link's part in it: nothing passes until it is over."""
        running = core.tap_running
        for signature, slave, master in (
            (AxiRead(self._config), memory.read, link.memory_read),
            (AxiWrite(self._config), memory.write, link.memory_write),
        ):
            for name, member in signature.members.items():
                port = getattr(core, MASTER + name)
                here, there = getattr(slave, name), getattr(master, name)
                handshake = name.endswith(("valid", "ready"))
                if member.flow is Flow.Out:
                    chosen = Mux(running, port, there)
                    m.d.comb += here.eq(chosen & ~resetting if handshake else chosen)
                elif handshake:
                    m.d.comb += [
                        port.eq(here & running & ~resetting),
                        there.eq(here & ~running & ~resetting),
                    ]
                else:
                    m.d.comb += [port.eq(here), there.eq(here)]

    def _control(self, m: Module, core: Any, link: Link, resetting: Value) -> None:
        """The link is the master of the core's registers; nothing passes during a reset."""
        for name, member in AxiLite().members.items():
            master, port = getattr(link.control, name), getattr(core, SLAVE + name)
            to, of = (port, master) if member.flow is Flow.Out else (master, port)
            handshake = name.endswith(("valid", "ready"))
            m.d.comb += to.eq(of & ~resetting if handshake else of)

    def _light(self, m: Module, core: Any, link: Link, resetting: Signal) -> None:
        half = self._clock_hz // (2 * _HEARTBEAT_HZ)
        count, alive, ran = Signal(range(half)), Signal(), Signal()
        with m.If(count == half - 1):
            m.d.sync += [count.eq(0), alive.eq(~alive)]
        with m.Else():
            m.d.sync += count.eq(count + 1)
        with m.If(core.tap_running):
            m.d.sync += ran.eq(1)
        lamps = {
            "alive": alive,
            "running": core.tap_running,
            "ran": ran & ~core.tap_running,
            "active": link.active,
            "error": link.error,
            "resetting": resetting,
        }
        m.d.comb += self.lamps.eq(Cat(lamps[name] for name in LAMPS))
