"""The store engine: reads rows of OUT and writes them to memory, one beat per cycle."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from vta_hw.rtl.bursts import RowBursts
from vta_hw.rtl.parts import move_up, part
from vta_hw.rtl.signatures import LENGTH_BITS, STORE_JOB, OutRead, Work, element_bits
from vta_hw.rtl.write_channel import AxiWrite, WriteChannel
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import FaultClass
from vta_hw.spec.machine import (
    STAGE_SLOTS,
    STORE_READ_DELAY,
    beats_per_element,
    bus_bytes,
    elements_per_beat,
)


class StoreEngine(wiring.Component):
    """Stores one job after the other (rules B1 and T1 to T5).

    A job has at least one row and one column, and rows that lie inside ACC; at most `STAGE_SLOTS`
    may be started and not done.

    Members
    -------
    work
        Jobs; an error response to a burst is the fault `BUS` of its job.
    out
        The beats are read here.
    axi
        They go out here.
    moving
        A job is taken, a beat is read, a write burst is open, or a response arrives.
    busy
        A beat is read.
    write_burst, write_beat
        The first beat of a burst is read; a beat goes over the bus.
    """

    def __init__(self, config: VtaConfig) -> None:
        self._config = config
        self._log_per_beat = (elements_per_beat(config, MemType.OUT) - 1).bit_length()
        self._log_parts = (beats_per_element(config, MemType.OUT) - 1).bit_length()
        super().__init__(
            {
                "work": In(Work(STORE_JOB)),
                "out": Out(OutRead(config)),
                "axi": Out(AxiWrite(config)),
                "moving": Out(1),
                "busy": Out(1),
                "write_burst": Out(1),
                "write_beat": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Connect what takes jobs, reads beats, writes them and waits for responses."""
        m = Module()
        config = self._config
        longest_row = config.depth(MemType.ACC) * config.elem_bytes(MemType.OUT)
        m.submodules.bursts = bursts = RowBursts(config, longest_row)
        m.submodules.channel = channel = WriteChannel(config)
        wiring.connect(m, channel.axi, wiring.flipped(self.axi))
        taken, read, ended = Signal(), Signal(), Signal()
        sram, due = self._take(m, bursts, taken, ended)
        beat = self._choose(m, bursts, channel, due, read, ended)
        self._read(m, channel, (taken, sram), read, beat)
        self._finish(m, channel, ended)
        m.d.comb += [
            self.busy.eq(read),
            self.write_beat.eq(channel.write_beat),
            self.moving.eq(taken | read | channel.open | channel.response),
        ]
        return m

    def _take(self, m: Module, bursts: RowBursts, taken: Value, ended: Value) -> tuple[Any, Value]:
        """The waiting place; gives the first element of its job, and whether T3's delay is over."""
        start = self.work.start
        waiting, active = Signal(), Signal()
        job = Signal(STORE_JOB)
        # Cycles until the first read: a job's own delay goes with it.
        waiting_delay, delay = Signal(range(STORE_READ_DELAY)), Signal(range(STORE_READ_DELAY))
        waiting_less = Mux(waiting_delay == 0, 0, waiting_delay - 1)
        m.d.comb += [
            start.ready.eq(~waiting),
            taken.eq(waiting & ~active),
            bursts.start.valid.eq(taken),
            bursts.start.payload.address.eq(job.address),
            bursts.start.payload.stride.eq(job.stride),
            bursts.start.payload.rows.eq(job.rows),
            bursts.start.payload.row_bytes.eq(
                job.columns << self._config.log_elem_bytes(MemType.OUT)
            ),
        ]
        with m.If(start.valid & start.ready):
            m.d.sync += [waiting.eq(1), job.eq(start.payload)]
            m.d.sync += waiting_delay.eq(STORE_READ_DELAY - 1)
        with m.Else():
            m.d.sync += waiting_delay.eq(waiting_less)
        with m.If(taken):
            m.d.sync += [waiting.eq(0), active.eq(1), delay.eq(waiting_less)]
        with m.Else():
            m.d.sync += delay.eq(Mux(delay == 0, 0, delay - 1))
            with m.If(ended):
                m.d.sync += active.eq(0)
        return job.sram, delay == 0

    def _choose(
        self,
        m: Module,
        bursts: RowBursts,
        channel: WriteChannel,
        due: Value,
        read: Value,
        ended: Value,
    ) -> Any:
        """Read the next beat, if one may be read; gives the bytes of it that count."""
        burst, accepted = bursts.burst, channel.burst
        left = Signal(LENGTH_BITS)
        inside = Signal()
        end, final = Signal.like(burst.payload.end), Signal()
        beat = Signal(_bytes(self._config))
        may_begin = Signal()
        m.d.comb += [
            inside.eq(left != 0),
            may_begin.eq(burst.valid & due & accepted.ready & ~inside),
            read.eq(channel.room & (inside | may_begin)),
            self.write_burst.eq(read & ~inside),
            burst.ready.eq(self.write_burst),
            accepted.valid.eq(self.write_burst),
            accepted.payload.address.eq(burst.payload.address),
            accepted.payload.length.eq(burst.payload.length),
            channel.reserve.eq(read),
            beat.last.eq(Mux(inside, left == 1, burst.payload.length == 0)),
            beat.begin.eq(Mux(inside, 0, burst.payload.begin)),
            ended.eq(read & beat.last & Mux(inside, final, burst.payload.final)),
        ]
        with m.If(beat.last):
            m.d.comb += beat.end.eq(Mux(inside, end, burst.payload.end))
        with m.Else():
            m.d.comb += beat.end.eq(bus_bytes(self._config) - 1)
        with m.If(self.write_burst):
            m.d.sync += [
                left.eq(burst.payload.length),
                end.eq(burst.payload.end),
                final.eq(burst.payload.final),
            ]
        with m.Elif(read):
            m.d.sync += left.eq(left - 1)
        return beat

    def _read(
        self,
        m: Module,
        channel: WriteChannel,
        start: tuple[Value, Value],
        read: Value,
        beat: Any,
    ) -> None:
        """Read OUT, and place what comes a cycle later in the beat."""
        log_element = self._config.log_elem_bytes(MemType.OUT)
        index = Signal.like(self.out.index)
        places, parts = Signal(self._log_per_beat), Signal(self._log_parts)
        m.d.comb += [self.out.enable.eq(read), self.out.index.eq(index)]
        taken, sram = start
        if self._log_parts:
            next_part = Signal(self._log_parts)
            with m.If(taken):
                m.d.sync += index.eq(sram)
            with m.Elif(read):
                m.d.sync += [next_part.eq(next_part + 1), parts.eq(next_part)]
                m.d.sync += index.eq(index + next_part.all())
        else:
            first, last = beat.begin[log_element:], beat.end[log_element:]
            with m.If(taken):
                m.d.sync += index.eq(sram)
            with m.Elif(read):
                m.d.sync += [index.eq(index + 1 + last - first), places.eq(first)]
        found, last_found, strobe = Signal(), Signal(), Signal(bus_bytes(self._config))
        m.d.sync += found.eq(read)
        with m.If(read):
            m.d.sync += [last_found.eq(beat.last), strobe.eq(self._strobe(beat))]
        value = part(self.out.data, parts)
        m.d.comb += [
            channel.beat.eq(found),
            channel.beat_payload.last.eq(last_found),
            channel.beat_payload.strobe.eq(strobe),
            channel.beat_payload.data.eq(
                move_up(value, places, element_bits(self._config, MemType.OUT))
            ),
        ]

    def _strobe(self, beat: Any) -> Value:
        """The bytes from the first to the last that count."""
        count = bus_bytes(self._config)
        ones = (1 << count) - 1
        return (Const(ones) << beat.begin)[:count] & (Const(ones) >> ~beat.end)

    def _finish(self, m: Module, channel: WriteChannel, ended: Value) -> None:
        """Jobs end in order: with the response to the burst that was their last."""
        # Fewer than half of the numbers are in use at a time.
        bits = bits_for(self._config.max_reads) + 1
        begun, answered = Signal(bits), Signal(bits)
        next_begun, next_answered = Signal(bits), Signal(bits)
        failed = Signal()
        m.submodules.lasts = lasts = SyncFIFOBuffered(width=bits, depth=STAGE_SLOTS + 1)
        match = Signal()
        m.d.comb += [
            next_begun.eq(begun + self.write_burst),
            next_answered.eq(answered + channel.response),
            lasts.w_en.eq(ended),
            lasts.w_data.eq(next_begun),
            match.eq(channel.response & lasts.r_rdy & (lasts.r_data == next_answered)),
            lasts.r_en.eq(match),
        ]
        m.d.sync += [begun.eq(next_begun), answered.eq(next_answered)]
        m.d.sync += self.work.done.eq(match)
        with m.If(match):
            m.d.sync += failed.eq(0)
            failure = failed | channel.error
            m.d.sync += self.work.fault.eq(Mux(failure, int(FaultClass.BUS), 0))
        with m.Elif(channel.error):
            m.d.sync += failed.eq(1)


def _bytes(config: VtaConfig) -> data.StructLayout:
    """Of a beat: its first and its last byte that count, and whether it ends a burst."""
    bits = config.log_bus_width - 3
    return data.StructLayout({"begin": bits, "end": bits, "last": 1})
