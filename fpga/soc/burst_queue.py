"""The bursts that wait for the SDRAM, in one order, and the jobs that they become."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from fpga.soc.sdram import JobShape
from vta_hw.rtl.signatures import ADDRESS_BITS, LENGTH_BITS
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.machine import burst_window, bus_bytes

BURST = data.StructLayout({"write": 1, "address": ADDRESS_BITS, "length": LENGTH_BITS})
"""A burst: `length` is one less than its beats, as AXI has it."""

ADDRESS = data.StructLayout({"address": ADDRESS_BITS, "length": LENGTH_BITS})


class BurstQueue(wiring.Component):
    """Puts read and write bursts in one order: that in which the memory can begin them.

    A read enters when its address is accepted. A write enters in the first later cycle than that
    of its last beat in which no read does.

    Members
    -------
    reads, writes
        Addresses. Ready as long as no more than `max_reads` of each kind wait.
    complete
        The last beat of a write burst is accepted; its address has been, or will be.
    burst
        The oldest one.
    """

    def __init__(self, max_bursts: int) -> None:
        self._max_bursts = max_bursts
        super().__init__(
            {
                "reads": In(stream.Signature(ADDRESS)),
                "writes": In(stream.Signature(ADDRESS)),
                "complete": In(1),
                "burst": Out(stream.Signature(BURST)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """One queue for addresses of writes, another one for all that is complete."""
        m = Module()
        most = self._max_bursts
        m.submodules.addresses = addresses = SyncFIFO(width=ADDRESS.size, depth=most)
        m.submodules.order = order = SyncFIFO(width=BURST.size, depth=2 * most)
        waiting = Signal(range(2 * most + 1))
        write_waits, read_enters, write_enters = Signal(), Signal(), Signal()
        head = Signal(ADDRESS)
        entry = Signal(BURST)
        m.d.comb += [
            addresses.w_en.eq(self.writes.valid),
            addresses.w_data.eq(self.writes.payload),
            self.writes.ready.eq(addresses.w_rdy),
            head.eq(addresses.r_data),
            write_waits.eq((waiting != 0) & addresses.r_rdy),
            read_enters.eq(self.reads.valid & self.reads.ready),
            write_enters.eq(write_waits & order.w_rdy & ~read_enters),
            addresses.r_en.eq(write_enters),
            entry.write.eq(~read_enters),
            entry.address.eq(Mux(read_enters, self.reads.payload.address, head.address)),
            entry.length.eq(Mux(read_enters, self.reads.payload.length, head.length)),
            order.w_en.eq(read_enters | write_enters),
            order.w_data.eq(entry),
            self.burst.valid.eq(order.r_rdy),
            self.burst.payload.eq(order.r_data),
            order.r_en.eq(self.burst.ready),
        ]
        m.d.sync += [
            waiting.eq(waiting + self.complete - write_enters),
            # Of the room a cycle ago, since whoever asks begins a long path here. A place less is
            # enough: while bursts wait, one more has left the queue. It is a write's if one waits,
            # so that reads that never pause do not shut writes out.
            self.reads.ready.eq(order.level < 2 * most - 1),
        ]
        return m


class RowCutter(wiring.Component):
    """Makes jobs of bursts: each one lies in a row of a bank.

    A job is offered from the cycle after that in which its burst is, or in which the job before is
    taken.

    Parameters
    ----------
    config
        Gives the width of a beat; bursts keep inside its aligned windows (rule B1), so that with
        some widths there is nothing to cut.
    """

    def __init__(self, config: VtaConfig, shape: JobShape) -> None:
        self._shape = shape
        part = shape.part
        self._log_beat_words = (bus_bytes(config) // part.word_bytes).bit_length() - 1
        self._cuts = burst_window(config) > part.row_bytes
        super().__init__(
            {
                "burst": In(stream.Signature(BURST)),
                "job": Out(stream.Signature(shape.layout)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """A register holds the job; columns are the low bits of an address, then come banks."""
        m = Module()
        part, burst, job = self._shape.part, self.burst.payload, self.job.payload
        log = self._log_beat_words
        log_word_bytes = part.word_bytes.bit_length() - 1
        word_bits = part.column_bits + part.bank_bits + part.row_bits
        begin = Signal(word_bits)
        # Beats begin where their address is a multiple of their size.
        m.d.comb += begin.eq(Cat(Const(0, log), burst.address[log_word_bytes + log :])[:word_bits])
        left = Signal(LENGTH_BITS + log)  # one less than the words that are left
        words, final = Signal(part.column_bits), Signal()
        address = Signal(word_bits)
        m.d.comb += [left.eq(Cat(Const(-1, log), burst.length)), address.eq(begin)]
        m.d.comb += [words.eq(left), final.eq(1)]
        free = Signal()
        m.d.comb += free.eq(~self.job.valid | self.job.ready)
        if self._cuts:
            done = Signal(LENGTH_BITS + log)
            to_row_end = ~address[: part.column_bits]
            m.d.comb += [
                address.eq(begin + done),
                left.eq(Cat(Const(-1, log), burst.length) - done),
                final.eq(left <= to_row_end),
                words.eq(Mux(final, left, to_row_end)),
            ]
            with m.If(self.burst.valid & free):
                m.d.sync += done.eq(Mux(final, 0, done + words + 1))
        m.d.comb += self.burst.ready.eq(free & final)
        with m.If(free):
            m.d.sync += self.job.valid.eq(self.burst.valid)
        with m.If(free & self.burst.valid):
            column, bank, row = part.column_bits, part.bank_bits, part.row_bits
            m.d.sync += [
                job.write.eq(burst.write),
                job.column.eq(address[:column]),
                job.bank.eq(address[column : column + bank]),
                job.row.eq(address[column + bank : column + bank + row]),
                job.words.eq(words),
                job.beats.eq(burst.length),
                job.final.eq(final),
            ]
        return m
