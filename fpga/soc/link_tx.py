"""The sending side of the link: contents into frames."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from fpga.protocol import CRC_BYTES, ESCAPE, ESCAPE_XOR, FLAG
from fpga.soc.crc import Crc

CONTENT_BYTE = data.StructLayout({"byte": 8, "last": 1})
"""A byte of a content; `last` marks the end of it."""


class LinkTx(wiring.Component):
    """Puts contents into frames.

    Members
    -------
    content : In(stream.Signature(CONTENT_BYTE))
        A content may pause; it has at least one byte.
    bytes : Out(stream.Signature(8))
        To the transmitter of the line.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "content": In(stream.Signature(CONTENT_BYTE)),
                "bytes": Out(stream.Signature(8)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Per byte: fetch it, escape it where needed, hand it over."""
        m = Module()
        m.submodules.crc = crc = Crc()
        out = self.bytes
        byte, escape = Signal(8), Signal()
        left = Signal(range(CRC_BYTES + 1))
        ended, closing = Signal(), Signal()
        m.d.sync += [crc.enable.eq(0), crc.clear.eq(0)]
        m.d.comb += [crc.data.eq(byte), escape.eq((byte == FLAG) | (byte == ESCAPE))]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [crc.clear.eq(1), left.eq(CRC_BYTES), ended.eq(0), closing.eq(0)]
                with m.If(self.content.valid):
                    m.d.sync += [out.valid.eq(1), out.payload.eq(FLAG)]
                    m.next = "SEND"
            with m.State("SEND"), m.If(out.ready):
                m.d.sync += out.valid.eq(0)
                m.next = "FETCH"
                with m.If(closing):
                    m.next = "IDLE"
            with m.State("FETCH"), m.If(~crc.busy & ~crc.enable):
                inverted = ~crc.value.word_select((CRC_BYTES - left)[:2], 8)
                with m.If(~ended):
                    m.d.comb += self.content.ready.eq(1)
                    m.d.sync += byte.eq(self.content.payload.byte)
                    with m.If(self.content.valid):
                        m.d.sync += [ended.eq(self.content.payload.last), crc.enable.eq(1)]
                        m.next = "ESCAPE"
                with m.Elif(left != 0):
                    m.d.sync += [byte.eq(inverted), left.eq(left - 1)]
                    m.next = "ESCAPE"
                with m.Else():
                    m.d.sync += [out.valid.eq(1), out.payload.eq(FLAG), closing.eq(1)]
                    m.next = "SEND"
            with m.State("ESCAPE"):
                m.d.sync += [out.valid.eq(1), out.payload.eq(Mux(escape, ESCAPE, byte))]
                m.next = "SEND"
                with m.If(escape):
                    m.next = "ESCAPED"
            with m.State("ESCAPED"), m.If(out.ready):
                m.d.sync += out.payload.eq(byte ^ ESCAPE_XOR)
                m.next = "SEND"
        return m
