"""The SDRAM as an AXI4 slave: bursts in the order of their arrival, data buffered both ways.

Write data are accepted at once, and a write burst is begun when all of it is here. The beats of a
read burst are handed on one per cycle, as late as that needs and no later. So the core sees a
memory whose only freedom is when a burst's first beat or its response comes.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, flipped

from fpga.soc.beat_buffers import ReadBuffer, WriteBuffer
from fpga.soc.burst_queue import BurstQueue, RowCutter
from fpga.soc.sdram import JobShape, SdramController, SdramPins
from vta_hw.rtl.read_channel import AxiRead
from vta_hw.rtl.write_channel import AxiWrite
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.machine import BURST_BEATS_MAX
from vta_hw.spec.sdram import SdramTiming


class AxiMemory(wiring.Component):
    """`SdramController` behind AXI4; answers have id 0, and no errors.

    Bursts must be of full beats with rising addresses, and keep to rule B1 of the timing page. An
    address beyond the chip's size wraps.

    Members
    -------
    read, write
        The channels. As long as no more than `VtaConfig.max_reads` bursts of each kind are open,
        addresses and write data are accepted at once.
    settle, settled
        See `SdramController`; nothing must be open.
    clear
        Forget all bursts, those half done included; what they were about to write may be lost. Must
        be held until `busy` is low.
    busy
        The controller does a job, or words are under way.
    pins
        The chip's.
    """

    def __init__(self, config: VtaConfig, timing: SdramTiming) -> None:
        self._config = config
        self._timing = timing
        super().__init__(
            {
                "read": In(AxiRead(config)),
                "write": In(AxiWrite(config)),
                "settle": In(1),
                "settled": Out(1),
                "clear": In(1),
                "busy": Out(1),
                "pins": Out(SdramPins(timing.part)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Queue bursts, make jobs of them, and move their data."""
        m = Module()
        config, timing = self._config, self._timing
        m.submodules.sdram = sdram = SdramController(timing, BURST_BEATS_MAX)
        queue = BurstQueue(config.max_reads)
        cutter = RowCutter(config, JobShape(timing.part, BURST_BEATS_MAX))
        writes, reads = WriteBuffer(config, timing), ReadBuffer(config, timing)
        for name, part in (
            ("queue", queue),
            ("cutter", cutter),
            ("writes", writes),
            ("reads", reads),
        ):
            m.submodules[name] = ResetInserter(self.clear)(part)
        wiring.connect(m, queue.burst, cutter.burst)
        wiring.connect(m, cutter.job, sdram.job)
        wiring.connect(m, sdram.pins, flipped(self.pins))
        self._read_side(m, queue, reads, sdram)
        self._write_side(m, queue, writes, sdram)
        m.d.comb += [
            sdram.settle.eq(self.settle),
            self.settled.eq(sdram.settled),
            self.busy.eq(~sdram.idle | reads.arriving),
        ]
        return m

    def _read_side(
        self, m: Module, queue: BurstQueue, reads: ReadBuffer, sdram: SdramController
    ) -> None:
        axi, job = self.read, sdram.job.payload
        m.d.comb += [
            queue.reads.valid.eq(axi.arvalid),
            queue.reads.payload.address.eq(axi.araddr),
            queue.reads.payload.length.eq(axi.arlen),
            axi.arready.eq(queue.reads.ready),
            reads.asked.eq(sdram.issue & ~sdram.writes),
            reads.ends.eq(sdram.ends & ~sdram.writes),
            reads.release.eq(sdram.release),
            reads.beats.eq(sdram.beats),
            reads.word.eq(sdram.read_word),
            reads.started.eq(sdram.job.valid & sdram.job.ready & ~job.write & job.final),
            reads.start_beats.eq(job.beats),
            sdram.room.eq(reads.room),
            axi.rvalid.eq(reads.valid),
            axi.rdata.eq(reads.beat),
            axi.rlast.eq(reads.last),
            reads.ready.eq(axi.rready),
        ]

    def _write_side(
        self, m: Module, queue: BurstQueue, writes: WriteBuffer, sdram: SdramController
    ) -> None:
        axi = self.write
        responses = Signal(range(self._config.max_reads + 2))
        m.d.comb += [
            queue.writes.valid.eq(axi.awvalid),
            queue.writes.payload.address.eq(axi.awaddr),
            queue.writes.payload.length.eq(axi.awlen),
            axi.awready.eq(queue.writes.ready),
            writes.valid.eq(axi.wvalid),
            writes.beat.eq(axi.wdata),
            writes.strobe.eq(axi.wstrb),
            axi.wready.eq(writes.ready),
            queue.complete.eq(axi.wvalid & axi.wready & axi.wlast),
            writes.take.eq(sdram.issue & sdram.writes),
            sdram.word.eq(writes.word),
            # What was forgotten must not be written.
            sdram.mask.eq(writes.mask | self.clear.replicate(len(writes.mask))),
            axi.bvalid.eq(responses != 0),
        ]
        ended = sdram.issue & sdram.writes & sdram.ends & ~self.clear
        with m.If(self.clear):
            m.d.sync += responses.eq(0)
        with m.Else():
            m.d.sync += responses.eq(responses + ended - (axi.bvalid & axi.bready))
