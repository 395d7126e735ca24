"""What Vivado's own IP cores have: pins, buses, address segments, parameters that are set here.

Written from their documentation: PG082 (processing system 7), PG201 (Zynq UltraScale+ processing
system), PG164 (processor system reset), PG247 (SmartConnect); addresses from UG585 and UG1085.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

AXI = "aximm"


@dataclass(frozen=True)
class Pin:
    """A pin.

    `kind` is ``clock``, ``reset`` (active high), ``reset_n`` (active low), ``interrupt`` or
    ``data``. `when` is the parameter that must be 1 for the pin to exist; `required` says that it
    must be connected then.
    """

    output: bool
    kind: str
    required: bool = False
    when: str = ""


@dataclass(frozen=True)
class Bus:
    """A bus interface; `clock` is the pin with its clock, `kind` what it can be connected to."""

    master: bool
    clock: str
    kind: str = AXI
    when: str = ""


@dataclass(frozen=True)
class Segment:
    """A range of addresses behind the slave `bus`: at most `size_bytes` of it from `base` on.

    With `exact`, no less either. With `optional`, it may be absent.
    """

    bus: str
    size_bytes: int
    base: int = 0
    exact: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Space:
    """The addresses that the master `bus` can reach: `size_bytes` from `base` on."""

    bus: str
    base: int
    size_bytes: int


@dataclass(frozen=True)
class Ip:
    """An IP core; `parameters` with the defaults of those that decide what exists."""

    vlnv: str
    pins: Mapping[str, Pin]
    buses: Mapping[str, Bus] = field(default_factory=dict)
    segments: Mapping[str, Segment] = field(default_factory=dict)
    spaces: Mapping[str, Space] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    external: tuple[str, ...] = ()
    """Buses that must leave the block design, by the automation of the IP core."""


_GP0, _HP0 = "PCW_USE_M_AXI_GP0", "PCW_USE_S_AXI_HP0"
_ZYNQ7 = Ip(
    "xilinx.com:ip:processing_system7:5.5",
    pins={
        "FCLK_CLK0": Pin(True, "clock", when="PCW_EN_CLK0_PORT"),
        "FCLK_RESET0_N": Pin(True, "reset_n", when="PCW_EN_RST0_PORT"),
        "IRQ_F2P": Pin(False, "interrupt", when="PCW_USE_FABRIC_INTERRUPT"),
        "M_AXI_GP0_ACLK": Pin(False, "clock", required=True, when=_GP0),
        "S_AXI_HP0_ACLK": Pin(False, "clock", required=True, when=_HP0),
    },
    buses={
        "M_AXI_GP0": Bus(True, "M_AXI_GP0_ACLK", when=_GP0),
        "S_AXI_HP0": Bus(False, "S_AXI_HP0_ACLK", when=_HP0),
        "DDR": Bus(True, "", "ddrx"),
        "FIXED_IO": Bus(True, "", "fixedio"),
    },
    segments={"S_AXI_HP0/HP0_DDR_LOWOCM": Segment("S_AXI_HP0", 1 << 30)},
    spaces={"Data": Space("M_AXI_GP0", 0x4000_0000, 0x4000_0000)},
    parameters={
        _GP0: "1", _HP0: "0", "PCW_EN_CLK0_PORT": "1", "PCW_EN_RST0_PORT": "1",
        "PCW_USE_FABRIC_INTERRUPT": "0", "PCW_IRQ_F2P_INTR": "0",
        "PCW_FPGA0_PERIPHERAL_FREQMHZ": "50", "PCW_S_AXI_HP0_DATA_WIDTH": "64",
    },
    choices={"PCW_S_AXI_HP0_DATA_WIDTH": ("32", "64")},
    external=("DDR", "FIXED_IO"),
)  # fmt: skip

_HPM0, _HPM1, _LPD, _HP0_FPD = (
    f"PSU__USE__{name}" for name in ("M_AXI_GP0", "M_AXI_GP1", "M_AXI_GP2", "S_AXI_GP2")
)
_ZYNQMP = Ip(
    "xilinx.com:ip:zynq_ultra_ps_e:3.5",
    pins={
        "pl_clk0": Pin(True, "clock", when="PSU__FPGA_PL0_ENABLE"),
        "pl_resetn0": Pin(True, "reset_n"),
        "pl_ps_irq0": Pin(False, "interrupt", when="PSU__USE__IRQ0"),
        "maxihpm0_fpd_aclk": Pin(False, "clock", required=True, when=_HPM0),
        "maxihpm1_fpd_aclk": Pin(False, "clock", required=True, when=_HPM1),
        "maxihpm0_lpd_aclk": Pin(False, "clock", required=True, when=_LPD),
        "saxihp0_fpd_aclk": Pin(False, "clock", required=True, when=_HP0_FPD),
    },
    buses={
        "M_AXI_HPM0_FPD": Bus(True, "maxihpm0_fpd_aclk", when=_HPM0),
        "M_AXI_HPM1_FPD": Bus(True, "maxihpm1_fpd_aclk", when=_HPM1),
        "M_AXI_HPM0_LPD": Bus(True, "maxihpm0_lpd_aclk", when=_LPD),
        "S_AXI_HP0_FPD": Bus(False, "saxihp0_fpd_aclk", when=_HP0_FPD),
    },
    segments={
        "SAXIGP2/HP0_DDR_LOW": Segment("S_AXI_HP0_FPD", 1 << 31),
        "SAXIGP2/HP0_DDR_HIGH": Segment("S_AXI_HP0_FPD", 1 << 35, 1 << 35, optional=True),
        "SAXIGP2/HP0_LPS_OCM": Segment("S_AXI_HP0_FPD", 1 << 24, 0xFF00_0000),
        "SAXIGP2/HP0_QSPI": Segment("S_AXI_HP0_FPD", 1 << 29, 0xC000_0000),
    },
    spaces={"Data": Space("M_AXI_HPM0_FPD", 0xA000_0000, 0x1000_0000)},
    parameters={
        _HPM0: "1", _HPM1: "1", _LPD: "0", _HP0_FPD: "0", "PSU__USE__IRQ0": "1",
        "PSU__FPGA_PL0_ENABLE": "1", "PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ": "100",
        "PSU__SAXIGP2__DATA_WIDTH": "128",
    },
    choices={"PSU__SAXIGP2__DATA_WIDTH": ("32", "64", "128")},
)  # fmt: skip

_RESET = Ip(
    "xilinx.com:ip:proc_sys_reset:5.0",
    pins={
        "slowest_sync_clk": Pin(False, "clock", required=True),
        # Its polarity follows what drives it.
        "ext_reset_in": Pin(False, "reset_n", required=True),
        "aux_reset_in": Pin(False, "reset"),
        "mb_debug_sys_rst": Pin(False, "reset"),
        "dcm_locked": Pin(False, "data"),
        "mb_reset": Pin(True, "reset"),
        "bus_struct_reset": Pin(True, "reset"),
        "peripheral_reset": Pin(True, "reset"),
        "interconnect_aresetn": Pin(True, "reset_n"),
        "peripheral_aresetn": Pin(True, "reset_n"),
    },
)
_SMARTCONNECT = Ip(
    "xilinx.com:ip:smartconnect:1.0",
    pins={
        "aclk": Pin(False, "clock", required=True),
        "aresetn": Pin(False, "reset_n", required=True),
    },
    buses={"S00_AXI": Bus(False, "aclk"), "M00_AXI": Bus(True, "aclk")},
    parameters={"NUM_SI": "2", "NUM_MI": "1"},
    # More than one of each has pins that are not in this table.
    choices={"NUM_SI": ("1",), "NUM_MI": ("1",)},
)
_CONCAT = Ip(
    "xilinx.com:ip:xlconcat:2.1",
    pins={"In0": Pin(False, "interrupt", required=True), "dout": Pin(True, "interrupt")},
    parameters={"NUM_PORTS": "2"},
    choices={"NUM_PORTS": ("1",)},
)

IPS: Mapping[str, Ip] = {
    ip.vlnv: ip for ip in (_ZYNQ7, _ZYNQMP, _RESET, _SMARTCONNECT, _CONCAT)
}  # fmt: skip

THROUGH = {_SMARTCONNECT.vlnv: ("S00_AXI", "M00_AXI")}
"""Cores that pass on accesses: from which slave to which master."""

BOARD_FILES = (
    "www.digilentinc.com:pynq-z1:part0:1.0",
    "tul.com.tw:pynq-z2:part0:1.0",
    "avnet.com:ultra96v2:part0:1.2",
    "xilinx.com:zcu104:part0:1.1",
)
"""Board parts as their makers name them."""
