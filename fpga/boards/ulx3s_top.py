"""The top level of a ULX3S: its pins, its clock, and the system on chip between them."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, ClockDomain, Instance, IOPort, Module
from amaranth.lib import wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In, Out

from fpga.boards import ulx3s
from fpga.driver.serial_link import BAUD
from fpga.soc.pll import Pll, plan
from fpga.soc.top import LAMPS, Soc
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.sdram import ULX3S_SDRAM, SdramTiming

SDRAM_PHASE_DEGREES = 90
"""How much later the chip's clock is than that of everything else.

Everything leaves registers inside the FPGA, the clock a net, and is at the pins some 3 to 5 ns
later. What goes to the chip must be there 1.5 ns before the chip's edge. What comes from it is
there up to 6 ns after that edge, and needs up to 3 ns more to its registers, before the next edge
of the system's clock. By these estimates, not measured on a board, both have about 3 ns of reserve
at 50 MHz with a quarter of a cycle; with a half, the second one has none.
"""

_INPUTS = (ulx3s.CLOCK_PORT, "ftdi_txd")
_OUTPUTS = ("ftdi_rxd", "led", "wifi_gpio0", *ulx3s.SDRAM_OUTPUTS)
_DATA = "sdram_d"
PORTS = (*_INPUTS, *_OUTPUTS, _DATA)
"""Names of all ports of the top level."""


def refuse_clock(clock_hz: int) -> None:
    """Raise for a clock that cannot be made, or that the memory cannot take."""
    plan(ulx3s.CLOCK_HZ, clock_hz, SDRAM_PHASE_DEGREES)
    SdramTiming.of(ULX3S_SDRAM, clock_hz)


class Ulx3sTop(wiring.Component):
    """All of it. Its ports are `PORTS`, those of `ulx3s.PINS` that it uses.

    Parameters
    ----------
    config
        Of the core.
    clock_hz
        Of core, memory controller and link.
    """

    def __init__(self, config: VtaConfig, clock_hz: int) -> None:
        self._pll = Pll(ulx3s.CLOCK_HZ, clock_hz, SDRAM_PHASE_DEGREES)
        self._soc = Soc(config, ULX3S_SDRAM, clock_hz=clock_hz, baud=BAUD, board=ulx3s.NAME)
        widths = ulx3s.port_widths()
        # The memory's data pins go both ways.
        self.data_port = IOPort(widths[_DATA], name=_DATA)
        super().__init__(
            {
                **{name: In(widths[name]) for name in _INPUTS},
                **{name: Out(widths[name]) for name in _OUTPUTS},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The clock comes first; until it is steady, all else is in reset."""
        m = Module()
        m.submodules.pll = pll = self._pll
        m.submodules.soc = soc = self._soc
        m.domains.sync = domain = ClockDomain()
        m.submodules.reset = ResetSynchronizer(~pll.locked, domain="sync")
        pins = soc.pins
        m.d.comb += [
            pll.clock_in.eq(getattr(self, ulx3s.CLOCK_PORT)),
            domain.clk.eq(pll.clock),
            self.ftdi_rxd.eq(soc.tx),
            soc.rx.eq(self.ftdi_txd),
            self.led[: len(LAMPS)].eq(soc.lamps),
            self.wifi_gpio0.eq(1),
            self.sdram_clk.eq(pll.clock_shifted),
            self.sdram_cke.eq(1),
            self.sdram_csn.eq(0),
            Cat(self.sdram_wen, self.sdram_casn, self.sdram_rasn).eq(pins.command),
            self.sdram_ba.eq(pins.bank),
            self.sdram_a.eq(pins.address),
            self.sdram_dqm.eq(pins.mask),
        ]
        for bit in range(len(self.data_port)):
            m.submodules[f"data_{bit}"] = Instance(
                "TRELLIS_IO",
                p_DIR="BIDIR",
                io_B=self.data_port[bit],
                i_I=pins.dq_out[bit],
                i_T=~pins.drive,
                o_O=pins.dq_in[bit],
            )
        return m
