"""The link's way to memory and to the core's registers: one small transaction at a time."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vta_hw.rtl.control_port import STROBES, WORD_BITS, AxiLite
from vta_hw.rtl.read_channel import BURST_INCR, CACHE_NORMAL, AxiRead
from vta_hw.rtl.signatures import ADDRESS_BITS
from vta_hw.rtl.write_channel import AxiWrite
from vta_hw.spec import registers
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.machine import OKAY, bus_bytes


class ByteMaster(wiring.Component):
    """Reads and writes single bytes of memory, each in a transaction of one beat.

    A line of 3 Mbaud takes longer for a byte than memory does, so that wider accesses would save
    no time.

    Members
    -------
    address, data : In(32), In(8)
        Constant from `read` or `write` to `done`.
    read, write : In(1)
        Begin, for one cycle.
    done, error, value : Out(1), Out(1), Out(8)
        The end, for one cycle: memory answered with an error; the byte that was read.
    clear : In(1)
        Forget what is under way, as the memory does too; an answer that still comes is dropped.
    memory_read, memory_write : Out(AxiRead), Out(AxiWrite)
        RREADY and BREADY are always high.
    """

    def __init__(self, config: VtaConfig) -> None:
        self._config = config
        super().__init__(
            {
                "address": In(ADDRESS_BITS),
                "data": In(8),
                "read": In(1),
                "write": In(1),
                "done": Out(1),
                "error": Out(1),
                "value": Out(8),
                "clear": In(1),
                "memory_read": Out(AxiRead(config)),
                "memory_write": Out(AxiWrite(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Present address and data, wait for the answer."""
        m = Module()
        read, write = self.memory_read, self.memory_write
        beat_bytes = bus_bytes(self._config)
        lane_bits = beat_bytes.bit_length() - 1
        lane = self.address[:lane_bits]
        m.d.comb += [
            read.arsize.eq(lane_bits),
            read.arburst.eq(BURST_INCR),
            read.arcache.eq(CACHE_NORMAL),
            read.araddr[lane_bits:].eq(self.address[lane_bits:]),
            read.rready.eq(1),
            write.awsize.eq(lane_bits),
            write.awburst.eq(BURST_INCR),
            write.awcache.eq(CACHE_NORMAL),
            write.awaddr[lane_bits:].eq(self.address[lane_bits:]),
            write.wdata.eq(self.data.replicate(beat_bytes)),
            write.wstrb.eq(1 << lane),
            write.wlast.eq(1),
            write.bready.eq(1),
        ]
        reading, writing = Signal(), Signal()
        m.d.sync += self.done.eq(0)
        with m.If(self.read):
            m.d.sync += [reading.eq(1), read.arvalid.eq(1)]
        with m.Elif(read.arready):
            m.d.sync += read.arvalid.eq(0)
        with m.If(self.write):
            m.d.sync += [writing.eq(1), write.awvalid.eq(1), write.wvalid.eq(1)]
        with m.Else():
            with m.If(write.awready):
                m.d.sync += write.awvalid.eq(0)
            with m.If(write.wready):
                m.d.sync += write.wvalid.eq(0)
        with m.If(reading & read.rvalid):
            m.d.sync += [
                reading.eq(0),
                self.done.eq(1),
                self.error.eq(read.rresp != OKAY),
                self.value.eq(read.rdata.word_select(lane, 8)),
            ]
        with m.If(writing & write.bvalid):
            m.d.sync += [writing.eq(0), self.done.eq(1), self.error.eq(write.bresp != OKAY)]
        with m.If(self.clear):
            m.d.sync += [reading.eq(0), writing.eq(0), self.done.eq(0)]
            m.d.sync += [read.arvalid.eq(0), write.awvalid.eq(0), write.wvalid.eq(0)]
        return m


class RegisterMaster(wiring.Component):
    """Reads and writes single registers of the core.

    Members
    -------
    address, data : In(12), In(32)
        Constant from `read` or `write` to `done`.
    read, write : In(1)
        Begin, for one cycle.
    done, error, value : Out(1), Out(1), Out(32)
        The end, for one cycle: the core refused; the word that was read, until the next one.
    clear : In(1)
        Forget what is under way, as the core does too.
    settle, settled : Out(1), In(1)
        Before a write, `settle` is high up to and including the first cycle in which `settled` is.
        In the very next cycle AWVALID and WVALID rise, always both.
    control : Out(AxiLite)
        To the core.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "address": In(registers.ADDRESS_BITS),
                "data": In(WORD_BITS),
                "read": In(1),
                "write": In(1),
                "done": Out(1),
                "error": Out(1),
                "value": Out(WORD_BITS),
                "clear": In(1),
                "settle": Out(1),
                "settled": In(1),
                "control": Out(AxiLite()),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Present address and data, wait for the answer."""
        m = Module()
        axi = self.control
        m.d.comb += [
            axi.araddr.eq(self.address),
            axi.rready.eq(1),
            axi.awaddr.eq(self.address),
            axi.wdata.eq(self.data),
            axi.wstrb.eq((1 << STROBES) - 1),
            axi.bready.eq(1),
        ]
        reading, writing = Signal(), Signal()
        m.d.sync += self.done.eq(0)
        with m.If(self.read):
            m.d.sync += [reading.eq(1), axi.arvalid.eq(1)]
        with m.Elif(axi.arready):
            m.d.sync += axi.arvalid.eq(0)
        with m.If(self.write):
            m.d.sync += self.settle.eq(1)
        with m.If(self.settle & self.settled):
            m.d.sync += [self.settle.eq(0), writing.eq(1)]
            m.d.sync += [axi.awvalid.eq(1), axi.wvalid.eq(1)]
        with m.Else():
            with m.If(axi.awready):
                m.d.sync += axi.awvalid.eq(0)
            with m.If(axi.wready):
                m.d.sync += axi.wvalid.eq(0)
        with m.If(reading & axi.rvalid):
            m.d.sync += [
                reading.eq(0),
                self.done.eq(1),
                self.error.eq(axi.rresp != OKAY),
                self.value.eq(axi.rdata),
            ]
        with m.If(writing & axi.bvalid):
            m.d.sync += [writing.eq(0), self.done.eq(1), self.error.eq(axi.bresp != OKAY)]
        with m.If(self.clear):
            m.d.sync += [reading.eq(0), writing.eq(0), self.done.eq(0), self.settle.eq(0)]
            m.d.sync += [axi.arvalid.eq(0), axi.awvalid.eq(0), axi.wvalid.eq(0)]
        return m
