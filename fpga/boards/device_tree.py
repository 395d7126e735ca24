"""The device-tree overlay that makes a core's registers and its memory known to Linux."""

from __future__ import annotations

from string import Template

from fpga.boards.zynq import CONTROL_WINDOW_BYTES, ZynqBoard

BUFFER_BYTES = 64 << 20
"""Memory that the overlay asks for: instructions, constants and tensors of a network."""

BUFFER_NAME = "udmabuf0"
UIO_NAME = "vta"

_OVERLAY = Template("""\
// Registers of the core as /dev/uio*, and a buffer in DRAM as /dev/$buffer_name.
//
//     dtc -@ -I dts -O dtb -o vta.dtbo vta.dts
//
// The kernel needs uio_pdrv_genirq.of_id=generic-uio on its command line, and the module u-dma-buf.
/dts-v1/;
/plugin/;

/ {
    fragment@0 {
        target-path = "/";
        __overlay__ {
            #address-cells = <$cells>;
            #size-cells = <$cells>;

            $uio_name: $uio_name@$address {
                compatible = "generic-uio";
                reg = <$base $size>;
                interrupt-parent = <&$interrupt_parent>;
                // A shared peripheral interrupt, active high.
                interrupts = <0 $interrupt 4>;
            };

            $buffer_name {
                compatible = "ikwzm,u-dma-buf";
                device-name = "$buffer_name";
                size = <$buffer_bytes>;
            };
        };
    };
};
""")


def overlay(board: ZynqBoard) -> str:
    """The source text of the overlay."""
    system = board.system

    def cells(value: int) -> str:
        words = [value >> 32 * place & 0xFFFF_FFFF for place in reversed(range(system.tree_cells))]
        return " ".join(f"{word:#x}" for word in words)

    return _OVERLAY.substitute(
        uio_name=UIO_NAME,
        buffer_name=BUFFER_NAME,
        address=f"{board.control_address:x}",
        cells=system.tree_cells,
        base=cells(board.control_address),
        size=cells(CONTROL_WINDOW_BYTES),
        interrupt_parent=system.interrupt_parent,
        interrupt=system.interrupt_number,
        buffer_bytes=f"{BUFFER_BYTES:#x}",
    )
