"""Instruction fetch: reads the stream in chunks and hands each instruction to its stage."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vta_hw.rtl.memories import Queue
from vta_hw.rtl.parts import part
from vta_hw.rtl.signatures import (
    ADDRESS_BITS,
    FAULT_BITS,
    INDEX_BITS,
    Dispatch,
    ReadPort,
    bus_bits,
    instruction_fields,
)
from vta_hw.spec import isa
from vta_hw.spec.config import INSN_BITS, INSN_BYTES, VtaConfig
from vta_hw.spec.isa import FaultClass, Stage
from vta_hw.spec.machine import FETCH_BUFFER, FETCH_CHUNK

_LOG_INSN_BYTES = INSN_BYTES.bit_length() - 1
_LOG_CHUNK = FETCH_CHUNK.bit_length() - 1


class Fetch(wiring.Component):
    """Reads instructions ahead and dispatches them in order (rules B2 and F1 to F4).

    Members
    -------
    start, base, count
        `start` is high in cycle 0; address (a multiple of 16) and length of the stream are taken
        then.
    port
        Its side of the read channel.
    load, compute, store
        The stages' queues.
    moving
        An instruction is dispatched, or the fetch stops.
    fault, fault_index
        From the cycle after a stop on: its class, and the instruction that was next. After an
        unknown opcode or an error on the bus nothing is requested or dispatched.
    next_index, exhausted
        The next instruction to dispatch; whether there is none.
    busy, queue_full, memory, idle
        What the fetch does in this cycle: exactly one of them is high.
    """

    def __init__(self, config: VtaConfig) -> None:
        self._log_per_beat = max(0, config.log_bus_width - (INSN_BITS.bit_length() - 1))
        self._beats = max(1, INSN_BITS // bus_bits(config))
        super().__init__(
            {
                "start": In(1),
                "base": In(ADDRESS_BITS),
                "count": In(INDEX_BITS),
                "port": Out(ReadPort(config)),
                **{stage.name.lower(): Out(Dispatch()) for stage in Stage},
                "moving": Out(1),
                "fault": Out(FAULT_BITS),
                "fault_index": Out(INDEX_BITS),
                "next_index": Out(INDEX_BITS),
                "exhausted": Out(1),
                "busy": Out(1),
                "queue_full": Out(1),
                "memory": Out(1),
                "idle": Out(1),
            }
        )
        self._fields = instruction_fields(isa.Load, config)

    def elaborate(self, platform: Any) -> Module:
        """Build the requests, the buffer and the dispatch."""
        m = Module()
        stopped, dispatched = Signal(), Signal()
        m.d.comb += stopped.eq(self.fault != 0)
        self._request(m, stopped, dispatched)
        word, available = self._buffer(m, dispatched)
        self._dispatch(m, stopped, word, available, dispatched)
        return m

    def _request(self, m: Module, stopped: Value, dispatched: Value) -> None:
        """Chunks, numbered by the place of their first instruction in memory.

        How long the next one is, is found a chunk before: whether it is granted is known late.
        """
        where = Signal(ADDRESS_BITS - _LOG_INSN_BYTES)
        remaining = Signal(INDEX_BITS)
        outstanding = Signal(range(FETCH_BUFFER + 1))
        offset = where[:_LOG_CHUNK]
        chunk = Signal(range(FETCH_CHUNK + 1))
        granted = Signal()
        request = self.port.request
        m.d.comb += [
            request.valid.eq(~stopped & (chunk != 0) & (outstanding + chunk <= FETCH_BUFFER)),
            granted.eq(request.valid & request.ready),
        ]
        aligned = where[self._log_per_beat :]
        m.d.comb += request.payload.address.eq(aligned << _LOG_INSN_BYTES + self._log_per_beat)
        if self._log_per_beat:
            last = (offset + chunk - 1) >> self._log_per_beat
            m.d.comb += request.payload.length.eq(last - (offset >> self._log_per_beat))
        else:
            m.d.comb += request.payload.length.eq(chunk * self._beats - 1)
        taken = Mux(granted, chunk, 0)
        m.d.sync += outstanding.eq(outstanding + taken - dispatched)
        first, left = Signal.like(where), Signal.like(remaining)
        m.d.comb += [
            first.eq(self.base >> _LOG_INSN_BYTES),
            left.eq(remaining - chunk),
        ]
        with m.If(self.start):
            m.d.sync += [
                where.eq(first),
                remaining.eq(self.count),
                chunk.eq(_least(self.count, FETCH_CHUNK - first[:_LOG_CHUNK])),
            ]
        with m.Elif(granted):
            # Only the first chunk begins where no other could.
            m.d.sync += [
                where.eq(where + chunk),
                remaining.eq(left),
                chunk.eq(_least(left, FETCH_CHUNK)),
            ]

    def _buffer(self, m: Module, dispatched: Value) -> tuple[Value, Value]:
        """The next instruction, and whether it is there: two cycles after its last beat (F2)."""
        per_beat = 1 << self._log_per_beat
        width = max(INSN_BITS, len(self.port.data))
        # Unless an entry has several instructions, there are as many as are requested; else the
        # first may be left of its entry.
        depth = FETCH_BUFFER // per_beat + 1
        m.submodules.buffer = buffer = Queue(width, depth)
        if self._beats == 1:
            m.d.comb += [buffer.entry.eq(self.port.data), buffer.push.eq(self.port.beat)]
        else:
            earlier = Signal(INSN_BITS - len(self.port.data))
            beat = Signal(range(self._beats))
            whole = Cat(earlier, self.port.data)
            with m.If(self.port.beat):
                m.d.sync += [earlier.eq(whole[len(self.port.data) :]), beat.eq(beat + 1)]
            m.d.comb += [
                buffer.entry.eq(whole),
                buffer.push.eq(self.port.beat & (beat == self._beats - 1)),
            ]
        if per_beat == 1:
            m.d.comb += buffer.pop.eq(dispatched)
            return buffer.head, buffer.valid
        slot = Signal(self._log_per_beat)
        with m.If(self.start):
            m.d.sync += slot.eq(self.base >> _LOG_INSN_BYTES)
        with m.Elif(dispatched):
            m.d.sync += slot.eq(slot + 1)
        m.d.comb += buffer.pop.eq(dispatched & slot.all())
        return part(buffer.head, slot), buffer.valid

    def _dispatch(
        self, m: Module, stopped: Value, found: Value, available: Value, dispatched: Value
    ) -> None:
        """Dispatch, or stop at, the next instruction."""
        word = Signal(self._fields)
        count = Signal(INDEX_BITS)
        present, known, error, remain = Signal(), Signal(), Signal(), Signal()
        with m.If(self.start):
            m.d.sync += count.eq(self.count)
        m.d.comb += [
            word.as_value().eq(found),
            # In cycle 0 the length is only on its way into the register.
            remain.eq(Mux(self.start, self.count, count) != self.next_index),
            self.exhausted.eq(~remain),
            error.eq(self.port.beat & self.port.error & ~stopped),
            # A wide entry may end with what is no instruction of the stream.
            present.eq(available & remain & ~stopped & ~error),
            known.eq(word.opcode.matches(*(int(opcode) for opcode in isa.Opcode))),
        ]
        room = Signal()
        for stage, here in self._stage_of(word).items():
            queue = getattr(self, stage.name.lower())
            m.d.comb += [
                queue.valid.eq(present & known & here & queue.room),
                queue.payload.word.eq(word),
                queue.payload.index.eq(self.next_index),
            ]
            with m.If(here):
                m.d.comb += room.eq(queue.room)
        stops = Signal()
        m.d.comb += [
            dispatched.eq(present & known & room),
            stops.eq(error | (present & ~known)),
            self.moving.eq(dispatched | stops),
            self.busy.eq(dispatched),
            self.queue_full.eq(present & known & ~room),
            self.memory.eq(remain & ~stopped & ~self.busy & ~self.queue_full),
            self.idle.eq(~self.busy & ~self.queue_full & ~self.memory),
        ]
        with m.If(stops):
            kind = Mux(error, int(FaultClass.BUS), int(FaultClass.BAD_OPCODE))
            m.d.sync += [self.fault.eq(kind), self.fault_index.eq(self.next_index)]
        with m.If(dispatched):
            m.d.sync += self.next_index.eq(self.next_index + 1)

    @staticmethod
    def _stage_of(word: Any) -> dict[Stage, Value]:
        """Whether an instruction with a known opcode belongs to each stage (`isa.stage_of`)."""
        types = range(1 << len(word.memory_type))
        loads = [t for t in types if isa.stage_of(isa.Load(memory_type=t)) is Stage.LOAD]
        load = (word.opcode == isa.Opcode.LOAD) & word.memory_type.matches(*loads)
        store = word.opcode == isa.Opcode.STORE
        return {Stage.LOAD: load, Stage.COMPUTE: ~(load | store), Stage.STORE: store}


def _least(count: Value, most: ValueLike) -> Value:
    return Mux(count < most, count, most)
