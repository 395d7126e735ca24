"""The top level of the ULX3S has the ports that the board has pins for."""

from __future__ import annotations

import pytest

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from fpga.boards import ulx3s
from fpga.boards.ulx3s_top import PORTS, Ulx3sTop, refuse_clock
from vta_hw.rtl.verilog import to_verilog
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.errors import VtaKitError

CONFIG = VtaConfig.load("tiny").override(["EXTENSIONS="])


def test_ports_have_pins_of_their_width():
    widths = ulx3s.port_widths()
    assert set(PORTS) <= widths.keys()
    assert {name for name in widths if name.startswith("sdram")} <= set(PORTS)
    assert "sdram_d[15]" in ulx3s.constraints(PORTS)


@pytest.mark.parametrize(
    ("clock_hz", "text"),
    [
        (83_000_000, "cannot be made from 25000000 Hz"),
        (150_000_000, "too fast for the SDRAM"),
        (20_000_000, "too slow to refresh the SDRAM"),
    ],
)
def test_clocks_that_something_cannot_take(clock_hz: int, text: str):
    with pytest.raises(VtaKitError, match=text):
        refuse_clock(clock_hz)
    refuse_clock(ulx3s.SYSTEM_HZ)


@pytest.mark.slow
def test_verilog_has_exactly_these_ports():
    top = Ulx3sTop(CONFIG, ulx3s.SYSTEM_HZ)
    text = to_verilog(top, "top")
    head = text[text.index("module top(") :].partition("(")[2].partition(")")[0]
    assert {name.strip() for name in head.split(",")} == set(PORTS)
    assert text.count("TRELLIS_IO #") == ulx3s.port_widths()["sdram_d"]
    assert text.count("EHXPLLL #") == 1
