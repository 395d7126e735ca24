"""The board ULX3S with its largest FPGA: pins, clock, memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fpga.boards.ecp5_parts import LFE5U_85F, Ecp5Part
from vta_hw.spec.errors import VtaKitError
from vta_hw.spec.sdram import ULX3S_CLOCK_HZ

NAME = "ulx3s"
CONFIG = "ulx3s"
"""Name of the config that is made for the board."""
PART: Ecp5Part = LFE5U_85F

CLOCK_PORT = "clk_25mhz"
CLOCK_HZ = 25_000_000
SYSTEM_HZ = ULX3S_CLOCK_HZ
"""The clock of core, memory controller and link, which the board's clock is made into."""

_IO_TYPE = "LVCMOS33"


class PinError(VtaKitError):
    """A port that the board has no pin for."""


@dataclass(frozen=True)
class Pin:
    """A ball of the FPGA. `drive` is in mA, None for an input; `slew` is that of an output."""

    site: str
    pull: str = "NONE"
    drive: int | None = None
    slew: str | None = None


def _output(site: str, *, fast: bool = False) -> Pin:
    return Pin(site, drive=4, slew="FAST" if fast else None)


def _bus(name: str, sites: str, form: Pin) -> dict[str, Pin]:
    """Pins of a port of several bits, the sites from bit 0 up."""
    return {
        f"{name}[{bit}]": replace(form, site=site) for bit, site in enumerate(sites.split())
    }  # fmt: skip


_FAST = _output("", fast=True)

PINS: Mapping[str, Pin] = {
    CLOCK_PORT: Pin("G2"),
    # Named as the USB chip sees them: what it receives is what the FPGA sends.
    "ftdi_rxd": _output("L4"),
    "ftdi_txd": Pin("M1", pull="UP"),
    **_bus("led", "B2 C2 C1 D2 D1 E2 E1 H3", _output("")),
    # The power button is 0 while it is pressed, the others are 1.
    "btn[0]": Pin("D6", pull="UP"),
    **{
        f"btn[{bit}]": Pin(site, pull="DOWN")
        for bit, site in enumerate(["R1", "T1", "R18", "V1", "U1", "H16"], 1)
    },
    # While it is 0, the WiFi module reboots the board.
    "wifi_gpio0": _output("L2"),
    "sdram_clk": replace(_FAST, site="F19"),
    "sdram_cke": replace(_FAST, site="F20"),
    "sdram_csn": replace(_FAST, site="P20"),
    "sdram_wen": replace(_FAST, site="T20"),
    "sdram_rasn": replace(_FAST, site="R20"),
    "sdram_casn": replace(_FAST, site="T19"),
    **_bus("sdram_a", "M20 M19 L20 L19 K20 K19 K18 J20 J19 H20 N19 G20 G19", _FAST),
    **_bus("sdram_ba", "P19 N20", _FAST),
    **_bus("sdram_dqm", "U19 E20", _FAST),
    **_bus(
        "sdram_d", "J16 L18 M18 N18 P18 T18 T17 U20 E19 D20 D19 C20 E18 F18 J18 J17", _FAST
    ),
}  # fmt: skip
"""Every pin by the name of its port in the top level; bits of a port have their number behind."""


SDRAM_OUTPUTS = tuple(
    dict.fromkeys(
        name.partition("[")[0]
        for name in PINS
        if name.startswith("sdram_") and not name.startswith("sdram_d[")
    )
)
"""The ports to the memory without its data."""


def port_widths() -> dict[str, int]:
    """The ports that have pins, and how many bits each has."""
    widths: dict[str, int] = {}
    for name in PINS:
        port = name.partition("[")[0]
        widths[port] = widths.get(port, 0) + 1
    return widths


def constraints(ports: Iterable[str]) -> str:
    """The LPF text for a top level that has these `ports` (names without bit numbers)."""
    wanted = list(dict.fromkeys(ports))
    unknown = sorted(set(wanted) - port_widths().keys())
    if unknown:
        raise PinError(
            f"the board {NAME} has no pin for the port {unknown[0]!r}; its ports are "
            f"{', '.join(port_widths())}"
        )
    lines = [
        f"# Pins of {NAME}, {PART.name}.",
        "BLOCK RESETPATHS;",
        "BLOCK ASYNCPATHS;",
        "SYSCONFIG CONFIG_IOVOLTAGE=3.3 COMPRESS_CONFIG=ON MCCLK_FREQ=62 "
        "MASTER_SPI_PORT=ENABLE SLAVE_SPI_PORT=DISABLE SLAVE_PARALLEL_PORT=DISABLE;",
    ]
    if CLOCK_PORT in wanted:
        lines.append(f'FREQUENCY PORT "{CLOCK_PORT}" {CLOCK_HZ / 1e6:g} MHZ;')
    for name, pin in PINS.items():
        if name.partition("[")[0] in wanted:
            lines += [f'LOCATE COMP "{name}" SITE "{pin.site}";', _io(name, pin)]
    return "\n".join(lines) + "\n"


def _io(name: str, pin: Pin) -> str:
    parts = [f"PULLMODE={pin.pull}", f"IO_TYPE={_IO_TYPE}"]
    if pin.drive is not None:
        parts.append(f"DRIVE={pin.drive}")
    if pin.slew is not None:
        parts.append(f"SLEWRATE={pin.slew}")
    return f'IOBUF PORT "{name}" {" ".join(parts)};'
