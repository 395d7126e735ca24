"""The CRC of the link's frames, one bit per clock cycle."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fpga.protocol import CRC_BYTES, CRC_INIT, CRC_POLYNOMIAL


class Crc(wiring.Component):
    """The CRC register of a content, small because a byte takes 8 cycles.

    Members
    -------
    clear : In(1)
        Begin a content.
    enable, data : In(1), In(8)
        The next byte, in a cycle without `busy`.
    busy : Out(1)
        A byte is being worked in.
    value : Out(32)
        The register after all bytes so far, while not `busy`.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "clear": In(1),
                "enable": In(1),
                "data": In(8),
                "busy": Out(1),
                "value": Out(8 * CRC_BYTES, init=CRC_INIT),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Shift the byte through."""
        m = Module()
        byte, left = Signal(8), Signal(range(9))
        m.d.comb += self.busy.eq(left != 0)
        with m.If(self.busy):
            add = Mux(self.value[0] ^ byte[0], CRC_POLYNOMIAL, 0)
            m.d.sync += [
                self.value.eq((self.value >> 1) ^ add),
                byte.eq(byte >> 1),
                left.eq(left - 1),
            ]
        with m.If(self.enable):
            m.d.sync += [byte.eq(self.data), left.eq(8)]
        with m.If(self.clear):
            m.d.sync += [self.value.eq(CRC_INIT), left.eq(0)]
        return m
