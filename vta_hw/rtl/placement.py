"""Where in its memory the elements of an arriving beat go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from amaranth.hdl import Module, Mux, Signal, Value, ValueLike
from amaranth.lib import data
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import Component, In, Out

from vta_hw.rtl.signatures import LOAD_JOB
from vta_hw.spec import machine
from vta_hw.spec.config import MemType, VtaConfig


class Placement(Component):
    """Follows the beats of the jobs in flight, which come in order.

    Parameters
    ----------
    memories
        The memory type, or the one without and the one with `eight_bit`.

    Members
    -------
    start, job : In
        Append a job that has rows. Its beats may come from the fourth cycle after that on, those
        of all jobs before it given; `STAGE_SLOTS` jobs may be in flight.
    beat : In(1)
        A beat arrives. The others tell about it:
    index, count : Out
        The first element that it completes, and how many.
    offset : Out
        Where in the beat, in bytes, its elements begin.
    part : Out
        Which beat of its element it is.
    complete : Out(1)
        It completes elements.
    final : Out(1)
        It is the last of its job.
    eight_bit : Out(1)
        That of its job.
    """

    def __init__(self, config: VtaConfig, memories: Sequence[MemType]) -> None:
        self._config = config
        self._memories = memories
        self._elements = [machine.elements_per_beat(config, memory) for memory in memories]
        self._parts = [machine.beats_per_element(config, memory) for memory in memories]
        index_bits = config.depth_bits(memories[0])
        byte_bits = config.log_bus_width - 3
        size_bits = min(index_bits + 1, 16)
        self._entry = data.StructLayout(
            {
                "index": index_bits,
                "columns": size_bits,
                "rows": size_bits,
                "between": LOAD_JOB["fill_between"].width,
                "offset": byte_bits,
                "step": byte_bits,
                "eight_bit": 1,
                "last_part": range(max(self._parts)),
            }
        )
        super().__init__(
            {
                "start": In(1),
                "job": In(LOAD_JOB),
                "beat": In(1),
                "index": Out(index_bits),
                "count": Out(range(max(self._elements) + 1)),
                "offset": Out(byte_bits),
                "part": Out(range(max(self._parts))),
                "complete": Out(1),
                "final": Out(1),
                "eight_bit": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The job whose beats arrive is in registers, those that follow it in a queue."""
        m = Module()
        queue = SyncFIFOBuffered(width=self._entry.size, depth=machine.STAGE_SLOTS + 1)
        m.submodules.queue = queue
        self._append(m, queue)

        job = Signal(self._entry)
        remaining = Signal.like(job.columns)
        active = Signal()
        room = Signal.like(self.count)
        row_ends = Signal()
        m.d.comb += [
            self.eight_bit.eq(job.eight_bit),
            room.eq(self._pick(self._room(form) for form in range(len(self._memories)))),
            self.complete.eq(self.part == job.last_part),
            row_ends.eq(remaining <= room),
            self.count.eq(Mux(row_ends, remaining, room)),
            self.final.eq(active & self.complete & row_ends & (job.rows == 1)),
        ]
        with m.If(self.beat & ~self.complete):
            m.d.sync += self.part.eq(self.part + 1)
        with m.If(self.beat & self.complete):
            m.d.sync += [
                self.part.eq(0),
                self.offset.eq(0),
                self.index.eq(self.index + self.count + Mux(row_ends, job.between, 0)),
                remaining.eq(remaining - self.count),
            ]
            with m.If(row_ends):
                # From row to row the offset wraps as the address does.
                m.d.sync += [
                    remaining.eq(job.columns),
                    self.offset.eq(job.offset),
                    job.offset.eq(job.offset + job.step),
                    job.rows.eq(job.rows - 1),
                ]
        ends = self.beat & self.final
        entry = self._entry(queue.r_data)
        with m.If(~active | ends):
            m.d.comb += queue.r_en.eq(1)
            m.d.sync += active.eq(queue.r_rdy)
            with m.If(queue.r_rdy):
                m.d.sync += [
                    job.eq(entry),
                    job.offset.eq(entry.offset + entry.step),
                    self.index.eq(entry.index),
                    self.offset.eq(entry.offset),
                    remaining.eq(entry.columns),
                ]
        return m

    def _append(self, m: Module, queue: SyncFIFOBuffered) -> None:
        entry = Signal(self._entry)
        m.d.comb += [
            entry.index.eq(self.job.sram + self.job.fill_first),
            entry.columns.eq(self.job.columns),
            entry.rows.eq(self.job.rows),
            entry.between.eq(self.job.fill_between),
            entry.offset.eq(self.job.address),
            entry.step.eq(self.job.stride),
            entry.eight_bit.eq(self.job.eight_bit),
            # Not asked of `eight_bit`, a register that is near what it widens.
            entry.last_part.eq(Mux(self.job.eight_bit, self._parts[-1] - 1, self._parts[0] - 1)),
            queue.w_data.eq(entry),
            queue.w_en.eq(self.start),
        ]

    def _room(self, form: int) -> ValueLike:
        """Elements from `offset` to the end of the beat."""
        log = self._config.log_elem_bytes(self._memories[form])
        return self._elements[form] - self.offset[log:]

    def _pick(self, forms: Iterable[ValueLike]) -> Value:
        """The one that goes with the job's element."""
        first, *rest = [Value.cast(form) for form in forms]
        return Mux(self.eight_bit, rest[0], first) if rest else first
