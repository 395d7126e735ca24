"""The way to memory for writes: the AXI4 write channels."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, Signature

from vta_hw.rtl.read_channel import BURST_INCR, CACHE_NORMAL
from vta_hw.rtl.signatures import ADDRESS_BITS, LENGTH_BITS, READ_REQUEST, bus_bits
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.machine import bus_bytes

_BUFFER = 3
"""Beats that may be under way: on the bus, at its door, and in the cycle before that."""


class AxiWrite(Signature):
    """AW, W and B of AXI4, seen from the master."""

    def __init__(self, config: VtaConfig) -> None:
        super().__init__(
            {
                "awid": Out(1),
                "awaddr": Out(ADDRESS_BITS),
                "awlen": Out(LENGTH_BITS),
                "awsize": Out(3),
                "awburst": Out(2),
                "awlock": Out(1),
                "awcache": Out(4),
                "awprot": Out(3),
                "awqos": Out(4),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(bus_bits(config)),
                "wstrb": Out(bus_bytes(config)),
                "wlast": Out(1),
                "wvalid": Out(1),
                "wready": In(1),
                "bid": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
            }
        )


def write_beat(config: VtaConfig) -> data.StructLayout:
    """One beat: data, which of its bytes count, whether it is the last of its burst."""
    return data.StructLayout({"data": bus_bits(config), "strobe": bus_bytes(config), "last": 1})


class WriteChannel(wiring.Component):
    """Puts bursts on the bus and takes their responses (rules T4 and T5).

    Members
    -------
    burst
        A burst, accepted in the cycle u in which its first beat is reserved; its address is on the
        bus from u + 1 on. Ready while fewer than `MAX_READS` bursts are open and the address before
        has gone.
    room, reserve
        In a cycle u with `room`, a beat may be reserved.
    beat, beat_payload
        A beat that was reserved in u comes in u + 1. It is on the bus in u + 2, or when those
        before it have gone. No burst's data come before its address.
    open, response, error
        Whether a burst is open; a response arrives; it is an error. Responses that come while no
        burst is open, those to bursts from before a reset, are dropped.
    write_beat
        A beat goes over the bus.
    axi
        Always the same id, bursts that increment, beats as wide as the bus. BREADY is always high.
    """

    def __init__(self, config: VtaConfig) -> None:
        self._config = config
        super().__init__(
            {
                "burst": In(stream.Signature(READ_REQUEST)),
                "room": Out(1),
                "reserve": In(1),
                "beat": In(1),
                "beat_payload": In(write_beat(config)),
                "open": Out(1),
                "response": Out(1),
                "error": Out(1),
                "write_beat": Out(1),
                "axi": Out(AxiWrite(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the three channels."""
        m = Module()
        axi = self.axi
        m.d.comb += [
            axi.awsize.eq(self._config.log_bus_width - 3),
            axi.awburst.eq(BURST_INCR),
            axi.awcache.eq(CACHE_NORMAL),
            axi.bready.eq(1),
        ]
        self._bursts(m)
        self._beats(m)
        return m

    def _bursts(self, m: Module) -> None:
        """Addresses and responses."""
        axi, most = self.axi, self._config.max_reads
        count = Signal(range(most + 1))
        accepted, answered = Signal(), Signal()
        m.d.comb += [
            self.burst.ready.eq((count != most) & (~axi.awvalid | axi.awready)),
            accepted.eq(self.burst.valid & self.burst.ready),
            self.open.eq(count != 0),
            answered.eq(axi.bvalid & self.open),
        ]
        with m.If(accepted):
            m.d.sync += [
                axi.awvalid.eq(1),
                axi.awaddr.eq(self.burst.payload.address),
                axi.awlen.eq(self.burst.payload.length),
            ]
        with m.Elif(axi.awready):
            m.d.sync += axi.awvalid.eq(0)
        m.d.sync += [
            count.eq(count + accepted - answered),
            self.response.eq(answered),
            self.error.eq(answered & (axi.bresp != 0)),
        ]

    def _beats(self, m: Module) -> None:
        """A queue of registers; what is reserved has its place in it."""
        axi, came = self.axi, self.beat
        queue = [Signal(write_beat(self._config), name=f"beat_{i}") for i in range(_BUFFER)]
        reserved, level = Signal(range(_BUFFER + 1)), Signal(range(_BUFFER + 1))
        kept = Signal(range(_BUFFER + 1))
        went = self.write_beat
        m.d.comb += [
            self.room.eq(reserved != _BUFFER),
            axi.wvalid.eq(level != 0),
            axi.wdata.eq(queue[0].data),
            axi.wstrb.eq(queue[0].strobe),
            axi.wlast.eq(queue[0].last),
            went.eq(axi.wvalid & axi.wready),
            kept.eq(level - went),
        ]
        m.d.sync += [reserved.eq(reserved + self.reserve - went), level.eq(kept + came)]
        for place, entry in enumerate(queue):
            with m.If(came & (kept == place)):
                m.d.sync += entry.eq(self.beat_payload)
            if place + 1 < _BUFFER:
                with m.Elif(went):
                    m.d.sync += entry.eq(queue[place + 1])
