"""The receiving side of the link: from bytes of the line to whole requests whose CRC matches."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from fpga.protocol import (
    CONTENT_BYTES,
    CRC_BYTES,
    CRC_RESIDUE,
    ESCAPE,
    ESCAPE_XOR,
    FLAG,
    HEADER_BYTES,
    RECORD_BYTES,
    STALL_MS,
)
from fpga.soc.crc import Crc

RING_BYTES = 8192
"""Four block RAMs of an ECP5: seven blocks under way outlast the 16 ms of a USB converter."""
SPARE_BYTES = 16
BUFFER_BYTES = RING_BYTES - SPARE_BYTES
"""What requests that wait may take of the ring; the rest is for the CRC of the one that comes."""

_LEAST = HEADER_BYTES + CRC_BYTES
_MOST = CONTENT_BYTES + CRC_BYTES
_FULL = 2 * CRC_BYTES
assert SPARE_BYTES > _FULL + CRC_BYTES


class LinkRx(wiring.Component):
    """Keeps the requests that have come, whole and in order, until they are taken.

    A frame is written into a ring as it comes, and becomes visible when it has ended well;
    otherwise its place is used again. In front of each request is its length.

    Parameters
    ----------
    ring_bytes
        Size of the ring, a power of two.

    Members
    -------
    valid, data, error : In(1), In(8), In(1)
        From the receiver of the line.
    tick : In(1)
        High for one cycle in each millisecond.
    bytes : Out(stream.Signature(8))
        Of each request its length (two bytes, low one first), then its content.
    good, bad, stalled, overrun : Out(1)
        A frame has ended so, for one cycle; counted once, as the first that applied to it.
    """

    def __init__(self, ring_bytes: int = RING_BYTES) -> None:
        self._ring_bytes = ring_bytes
        super().__init__(
            {
                "valid": In(1),
                "data": In(8),
                "error": In(1),
                "tick": In(1),
                "bytes": Out(stream.Signature(8)),
                "good": Out(1),
                "bad": Out(1),
                "stalled": Out(1),
                "overrun": Out(1),
            }
        )
        self._write = Signal(range(ring_bytes), init=RECORD_BYTES)
        """Where the next byte goes."""
        self._begin = Signal(range(ring_bytes))
        """Where the record of the frame that comes begins; those before it are visible."""
        self._read = Signal(range(ring_bytes))
        self._length = Signal(range(_MOST + 1))
        """Bytes of the frame so far."""
        self._drop = Signal(init=1)
        """Nothing counts until the next FLAG."""
        self._escaped = Signal()

    def elaborate(self, platform: Any) -> Module:
        """Receive into the ring, and read from it."""
        m = Module()
        m.submodules.ring = ring = memory.Memory(shape=8, depth=self._ring_bytes, init=[])
        m.submodules.crc = crc = Crc()
        written, taken = ring.write_port(), ring.read_port()
        m.d.sync += [crc.enable.eq(0), crc.clear.eq(0), written.en.eq(0)]
        m.d.sync += [self.good.eq(0), self.bad.eq(0), self.stalled.eq(0), self.overrun.eq(0)]
        full, matches, fits = Signal(), Signal(), Signal()
        m.d.sync += [
            full.eq((self._read - self._write - 1)[: len(self._read)] < _FULL),
            matches.eq(crc.value == CRC_RESIDUE),
            fits.eq((self._length >= _LEAST) & ~self._escaped),
        ]
        restart = Signal()
        with m.FSM():
            with m.State("RECEIVE"):
                with m.If(self.valid & (self.data == FLAG)):
                    m.d.sync += [self._drop.eq(0), self._escaped.eq(0), crc.clear.eq(1)]
                    with m.If(matches & fits & ~self._drop):
                        m.d.sync += self.good.eq(1)
                        m.next = "LOW"
                    with m.Else():
                        begun = (self._length != 0) | self._escaped
                        m.d.sync += self.bad.eq(begun & ~self._drop)
                        m.d.comb += restart.eq(1)
                with m.Elif(~self._drop):
                    self._byte(m, written, crc, full)
            with m.State("LOW"):
                content = self._length - CRC_BYTES
                m.d.sync += [
                    written.en.eq(1),
                    written.addr.eq(self._begin),
                    written.data.eq(content[:8]),
                ]
                m.next = "HIGH"
            with m.State("HIGH"):
                m.d.sync += [
                    written.en.eq(1),
                    written.addr.eq(self._begin + 1),
                    written.data.eq(content[8:]),
                ]
                m.next = "SHOW"
            with m.State("SHOW"):
                # The last write is done in this cycle; the reader sees it from the next one on.
                m.d.sync += self._begin.eq(self._write - CRC_BYTES)
                m.next = "RESTART"
            with m.State("RESTART"):
                m.d.comb += restart.eq(1)
                m.next = "RECEIVE"
        self._stall(m)
        with m.If(restart):
            m.d.sync += [self._write.eq(self._begin + RECORD_BYTES), self._length.eq(0)]
        self._reader(m, taken)
        return m

    def _byte(self, m: Module, written: Any, crc: Crc, full: Signal) -> None:
        """Take what is no FLAG into a frame that is good so far."""
        byte = Mux(self._escaped, self.data ^ ESCAPE_XOR, self.data)
        needless = self._escaped & (byte != FLAG) & (byte != ESCAPE)
        m.d.sync += [written.addr.eq(self._write), written.data.eq(byte), crc.data.eq(byte)]
        with m.If(self.error | (self.valid & (needless | (self._length == _MOST)))):
            m.d.sync += [self._drop.eq(1), self.bad.eq(1)]
        with m.Elif(self.valid & ~self._escaped & (self.data == ESCAPE)):
            m.d.sync += self._escaped.eq(1)
        with m.Elif(self.valid & full):
            m.d.sync += [self._drop.eq(1), self.overrun.eq(1)]
        with m.Elif(self.valid):
            m.d.sync += [
                self._escaped.eq(0),
                written.en.eq(1),
                crc.enable.eq(1),
                self._write.eq(self._write + 1),
                self._length.eq(self._length + 1),
            ]

    def _stall(self, m: Module) -> None:
        """Drop a frame in which nothing comes any more."""
        left = Signal(range(STALL_MS + 1), init=STALL_MS)
        begun = ((self._length != 0) | self._escaped) & ~self._drop
        with m.If(self.valid | self.error | ~begun):
            m.d.sync += left.eq(STALL_MS)
        with m.Elif(left == 0):
            m.d.sync += [self._drop.eq(1), self.stalled.eq(1)]
        with m.Elif(self.tick):
            m.d.sync += left.eq(left - 1)

    def _reader(self, m: Module, taken: Any) -> None:
        """Hold the next visible byte; a byte that is taken gives its place back."""
        m.d.comb += [
            taken.addr.eq(self._read),
            taken.en.eq(~self.bytes.valid),
            self.bytes.payload.eq(taken.data),
        ]
        with m.If(~self.bytes.valid):
            m.d.sync += self.bytes.valid.eq(self._read != self._begin)
        with m.Elif(self.bytes.ready):
            m.d.sync += [self.bytes.valid.eq(0), self._read.eq(self._read + 1)]
