"""The pins of the ULX3S, and the constraints that are made of them."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from fpga.boards import ulx3s
from tests.conftest import Golden

PORTS = ("clk_25mhz", "ftdi_rxd", "ftdi_txd", "led", "btn", "wifi_gpio0")
SDRAM = {
    "sdram_clk": 1,
    "sdram_cke": 1,
    "sdram_csn": 1,
    "sdram_wen": 1,
    "sdram_rasn": 1,
    "sdram_casn": 1,
    "sdram_a": 13,
    "sdram_ba": 2,
    "sdram_dqm": 2,
    "sdram_d": 16,
}


def test_no_site_has_two_ports():
    sites = Counter(pin.site for pin in ulx3s.PINS.values())
    assert {site: n for site, n in sites.items() if n > 1} == {}
    # A ball of the package CABGA381: a row from A to Y without some letters, a column up to 20.
    assert all(re.fullmatch(r"[A-HJ-NPRT-WY]([1-9]|1\d|20)", site) for site in sites)


def test_bits_of_a_port_are_numbered_without_gaps():
    for port, width in ulx3s.port_widths().items():
        bits = [f"{port}[{bit}]" for bit in range(width)]
        assert port in ulx3s.PINS if width == 1 else all(bit in ulx3s.PINS for bit in bits)


def test_the_memory_has_all_its_pins():
    widths = ulx3s.port_widths()
    assert {port: widths[port] for port in SDRAM} == SDRAM


def test_constraints(golden: Golden):
    golden(ulx3s.constraints(PORTS))


def test_constraints_of_all_ports_name_every_pin_once():
    text = ulx3s.constraints(ulx3s.port_widths())
    located = re.findall(r'^LOCATE COMP "(\S+)" SITE "(\w+)";$', text, re.M)
    assert dict(located) == {name: pin.site for name, pin in ulx3s.PINS.items()}
    assert len(located) == len(ulx3s.PINS) == text.count("IOBUF PORT")
    assert text.count("FREQUENCY") == 1


def test_a_port_without_a_pin_is_refused():
    with pytest.raises(ulx3s.PinError, match="no pin for the port 'vga'; its ports are clk_25mhz"):
        ulx3s.constraints(["led", "vga"])
