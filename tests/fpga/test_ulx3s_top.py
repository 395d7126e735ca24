"""The top level of the ULX3S has the ports that the board has pins for."""

from __future__ import annotations

import pytest

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from fpga.boards import ulx3s
from fpga.boards.ulx3s_top import Ulx3sTop
from vta_hw.rtl.verilog import to_verilog
from vta_hw.spec.config import VtaConfig

CONFIG = VtaConfig.load("tiny").override(["EXTENSIONS="])


def test_ports_have_pins_of_their_width():
    top = Ulx3sTop(CONFIG, ulx3s.SYSTEM_HZ)
    widths = ulx3s.port_widths()
    for name in top.signature.members:
        assert len(getattr(top, name)) == widths[name]
    assert len(top.data_port) == widths["sdram_d"]
    assert {name for name in widths if name.startswith("sdram")} <= set(top.ports)
    assert "sdram_d[15]" in ulx3s.constraints(top.ports)


@pytest.mark.slow
def test_verilog_has_exactly_these_ports():
    top = Ulx3sTop(CONFIG, ulx3s.SYSTEM_HZ)
    text = to_verilog(top, "top")
    head = text[text.index("module top(") :].partition("(")[2].partition(")")[0]
    assert {name.strip() for name in head.split(",")} == set(top.ports)
    assert text.count("TRELLIS_IO #") == ulx3s.port_widths()["sdram_d"]
    assert text.count("EHXPLLL #") == 1
