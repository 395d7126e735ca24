"""The Zynq boards: every fact about them that a project, a check or a driver needs.

Sources: AMD UG585 and UG1085 (address maps, ports, interrupts of the two processing systems),
PG082 and PG201 (their IP cores), the boards' manuals and board files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fpga.boards.parts import XC7Z020, XCZU3EG, XCZU7EV, Part
from vta_hw.rtl.fabric import PLAIN, Fabric
from vta_hw.spec import registers
from vta_hw.spec.errors import VtaKitError

CONTROL_WINDOW_BYTES = 1 << registers.ADDRESS_BITS
"""What the control port takes of the address map; Vivado assigns no less than these 4 KiB."""


class BoardError(VtaKitError):
    """A board that is not known, or a project that cannot be made for it."""


@dataclass(frozen=True)
class ProcessingSystem:
    """The hard processors beside the fabric, as an IP core of Vivado.

    Parameters
    ----------
    ip, version
        Name and version of the IP core; Vivado takes its newest one.
    clock, reset, interrupt
        Pins: clock to the fabric, reset from it (active low), interrupts to it.
    control_port, control_clock
        Master port that reaches the control registers, and the pin of its clock.
    memory_port, memory_clock
        Slave port that reaches DRAM, and the pin of its clock; it is not coherent with the caches.
    memory_bits
        Widths that the memory port can have, rising.
    memory_segment, other_segments
        DRAM behind the memory port in the address editor; what lies beside it and is left out.
    space
        Address space of the control port in the address editor.
    control_base, control_bytes
        Addresses that the control port can reach.
    interrupt_number
        Shared peripheral interrupt of the interrupt pin's bit 0, counted as device trees do.
    settings
        Parameters that do not depend on the board.
    clock_setting, memory_width_setting
        The parameters for the clock's frequency in MHz and the memory port's width in bits.
    externals
        Interfaces that leave the block design, as Vivado's automation lists them.
    interrupt_parent
        Label of the interrupt controller in the kernel's device trees.
    tree_cells
        32-bit cells of an address, and of a length, below the root of a device tree.
    """

    ip: str
    version: str
    clock: str
    reset: str
    interrupt: str
    control_port: str
    control_clock: str
    memory_port: str
    memory_clock: str
    memory_bits: tuple[int, ...]
    memory_segment: str
    other_segments: tuple[str, ...]
    space: str
    control_base: int
    control_bytes: int
    interrupt_number: int
    settings: Mapping[str, str]
    clock_setting: str
    memory_width_setting: str
    externals: str
    interrupt_parent: str
    tree_cells: int


ZYNQ7 = ProcessingSystem(
    ip="processing_system7",
    version="5.5",
    clock="FCLK_CLK0",
    reset="FCLK_RESET0_N",
    interrupt="IRQ_F2P",
    control_port="M_AXI_GP0",
    control_clock="M_AXI_GP0_ACLK",
    memory_port="S_AXI_HP0",
    memory_clock="S_AXI_HP0_ACLK",
    memory_bits=(32, 64),
    memory_segment="S_AXI_HP0/HP0_DDR_LOWOCM",
    other_segments=(),
    space="Data",
    control_base=0x4000_0000,
    control_bytes=0x4000_0000,
    interrupt_number=29,
    settings={
        "PCW_USE_M_AXI_GP0": "1",
        "PCW_USE_S_AXI_HP0": "1",
        "PCW_USE_FABRIC_INTERRUPT": "1",
        "PCW_IRQ_F2P_INTR": "1",
        "PCW_EN_CLK0_PORT": "1",
        "PCW_EN_RST0_PORT": "1",
    },
    clock_setting="PCW_FPGA0_PERIPHERAL_FREQMHZ",
    memory_width_setting="PCW_S_AXI_HP0_DATA_WIDTH",
    externals="FIXED_IO, DDR",
    interrupt_parent="intc",
    tree_cells=1,
)
ZYNQMP = ProcessingSystem(
    ip="zynq_ultra_ps_e",
    version="3.5",
    clock="pl_clk0",
    reset="pl_resetn0",
    interrupt="pl_ps_irq0",
    control_port="M_AXI_HPM0_FPD",
    control_clock="maxihpm0_fpd_aclk",
    memory_port="S_AXI_HP0_FPD",
    memory_clock="saxihp0_fpd_aclk",
    memory_bits=(32, 64, 128),
    memory_segment="SAXIGP2/HP0_DDR_LOW",
    other_segments=("SAXIGP2/HP0_DDR_HIGH", "SAXIGP2/HP0_LPS_OCM", "SAXIGP2/HP0_QSPI"),
    space="Data",
    control_base=0xA000_0000,
    control_bytes=0x1000_0000,
    interrupt_number=89,
    settings={
        "PSU__USE__M_AXI_GP0": "1",
        "PSU__USE__M_AXI_GP1": "0",
        "PSU__USE__M_AXI_GP2": "0",
        "PSU__USE__S_AXI_GP2": "1",
        "PSU__USE__IRQ0": "1",
        "PSU__FPGA_PL0_ENABLE": "1",
    },
    clock_setting="PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ",
    memory_width_setting="PSU__SAXIGP2__DATA_WIDTH",
    externals="",
    interrupt_parent="gic",
    tree_cells=2,
)


@dataclass(frozen=True)
class ZynqBoard:
    """A board.

    Parameters
    ----------
    name, title
        Name for commands; name for people.
    part
        Its FPGA.
    board_file
        Name of its board file: what stands between the first two colons of Vivado's board part.
    system
        Its processing system.
    dram_bytes
        DRAM that the memory port reaches, from address 0.
    clock_mhz
        Clock that is asked for; nothing here has been placed and routed, so Vivado decides.
    config
        Name of the config that goes on it.
    control_address
        Address of the control registers; upstream's on these boards.
    fabric
        How a core uses the part, so that `config` takes at most 80 % of everything it has.
    """

    name: str
    title: str
    part: Part
    board_file: str
    system: ProcessingSystem
    dram_bytes: int
    clock_mhz: int
    config: str
    control_address: int
    fabric: Fabric = field(default=PLAIN)


_SMALL = Fabric(
    wide_multipliers=True,
    nine_bit_lanes=True,
    lut_memories=frozenset({"load_queue", "store_queue"}),
)
_MIB = 1 << 20

_PYNQ_Z1 = ZynqBoard(
    name="pynq-z1",
    title="Digilent PYNQ-Z1",
    part=XC7Z020,
    board_file="pynq-z1",
    system=ZYNQ7,
    dram_bytes=512 * _MIB,
    clock_mhz=100,
    config="pynq",
    control_address=0x43C0_0000,
    fabric=_SMALL,
)

BOARDS: Mapping[str, ZynqBoard] = {
    board.name: board
    for board in (
        _PYNQ_Z1,
        replace(_PYNQ_Z1, name="pynq-z2", title="TUL PYNQ-Z2", board_file="pynq-z2"),
        ZynqBoard(
            name="ultra96-v2",
            title="Avnet Ultra96-V2",
            part=XCZU3EG,
            board_file="ultra96v2",
            system=ZYNQMP,
            dram_bytes=2048 * _MIB,
            clock_mhz=150,
            config="ultra96",
            control_address=0xA000_0000,
            fabric=Fabric(wide_multipliers=True),
        ),
        ZynqBoard(
            name="zcu104",
            title="AMD ZCU104",
            part=XCZU7EV,
            board_file="zcu104",
            system=ZYNQMP,
            dram_bytes=2048 * _MIB,
            clock_mhz=150,
            config="zcu104",
            control_address=0xA000_0000,
        ),
    )
}


def find_board(name: str) -> ZynqBoard:
    """The board of that name."""
    if name not in BOARDS:
        raise BoardError(f"unknown board {name!r}; known are {', '.join(BOARDS)}")
    return BOARDS[name]
