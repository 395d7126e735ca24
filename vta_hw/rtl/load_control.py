"""What all loaders have in common: jobs, requests, where beats and padding go (rules L2 to L5)."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from vta_hw.rtl.bursts import RowBursts
from vta_hw.rtl.padding import Padding
from vta_hw.rtl.placement import Placement
from vta_hw.rtl.signatures import LOAD_JOB, ReadPort, Work
from vta_hw.spec import machine
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import FaultClass


class LoadControl(Component):
    """Takes jobs, requests their bursts, and says what to write in which cycle.

    At most `STAGE_SLOTS` jobs may be here at a time.

    Parameters
    ----------
    memories
        The memory type, or the one without and the one with `eight_bit`.

    Members
    -------
    work : In(Work(LOAD_JOB))
        Ready while the waiting place is empty.
    port : Out(ReadPort)
    index, count, offset, part, complete, eight_bit : Out
        About the beat that arrives, see `Placement`.
    fill : Out(1)
        An element of padding (or a replica, rule D2) wants to be filled, never while a beat
        arrives. `fill_index` is its place; `least`, `fill_eight_bit` and `replicate` are those of
        its job.
    filled : In(1)
        It is, in this cycle. Only with `fill`.
    moving, busy, port_wait : Out(1)
        A job is taken or a vector filled; a beat arrives or a vector is filled; a vector could be
        filled but is not.
    """

    def __init__(self, config: VtaConfig, memories: Sequence[MemType]) -> None:
        self._config = config
        self._memories = memories
        self._index_bits = config.depth_bits(memories[0])
        self._placement = Placement(config, memories)
        placed = ("index", "count", "offset", "part", "complete", "eight_bit")
        self._placed = placed
        super().__init__(
            {
                "work": In(Work(LOAD_JOB)),
                "port": Out(ReadPort(config)),
                **{name: self._placement.signature.members[name] for name in placed},
                "fill": Out(1),
                "fill_index": Out(self._index_bits),
                "least": Out(1),
                "fill_eight_bit": Out(1),
                "replicate": Out(1),
                "filled": In(1),
                "moving": Out(1),
                "busy": Out(1),
                "port_wait": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """A waiting place, and behind it requests, padding and beats, each at its own pace."""
        m = Module()
        m.submodules.placement = placement = self._placement
        m.submodules.padding = padding = Padding(self._index_bits)
        most_bytes = max(
            self._config.depth(memory) * self._config.elem_bytes(memory)
            for memory in self._memories
        )
        m.submodules.bursts = bursts = RowBursts(self._config, most_bytes)

        job, waiting = Signal(LOAD_JOB), Signal()
        read = Signal(self._index_bits)
        in_flight = Signal(range(machine.STAGE_SLOTS + 1))
        take = Signal()
        m.d.comb += [
            self.work.start.ready.eq(~waiting),
            take.eq(
                waiting
                & bursts.start.ready
                & ~padding.active
                & (((job.fill_first | job.fill_last) == 0) | (in_flight == 0))
            ),
            bursts.start.valid.eq(take),
            bursts.start.payload.address.eq(job.address),
            bursts.start.payload.stride.eq(job.stride),
            bursts.start.payload.rows.eq(job.rows),
            padding.start.eq(take),
            padding.job.eq(job),
            padding.read.eq(read),
            placement.start.eq(take & (job.rows != 0)),
            placement.job.eq(job),
        ]
        logs = [self._config.log_elem_bytes(memory) for memory in self._memories]
        row_bytes = [job.columns << log for log in logs]
        m.d.comb += bursts.start.payload.row_bytes.eq(
            Mux(job.eight_bit, row_bytes[-1], row_bytes[0])
        )
        with m.If(self.work.start.valid & self.work.start.ready):
            offered = self.work.start.payload
            m.d.sync += [job.eq(offered), waiting.eq(1), read.eq(offered.rows * offered.columns)]
        with m.If(take):
            m.d.sync += [
                waiting.eq(0),
                self.least.eq(job.least),
                self.fill_eight_bit.eq(job.eight_bit),
                self.replicate.eq(job.replicate),
            ]
        m.d.comb += [
            self.port.request.valid.eq(bursts.burst.valid),
            self.port.request.payload.address.eq(bursts.burst.payload.address),
            self.port.request.payload.length.eq(bursts.burst.payload.length),
            bursts.burst.ready.eq(self.port.request.ready),
            placement.beat.eq(self.port.beat),
            *(getattr(self, name).eq(getattr(placement, name)) for name in self._placed),
        ]
        self._finish(m, padding, take, in_flight, job.rows == 0)
        return m

    def _finish(
        self, m: Module, padding: Padding, take: Signal, in_flight: Signal, rowless: Signal
    ) -> None:
        """Rule L5, and what depends on it."""
        # Jobs older than the last one taken have been filled; only that one may have padding left.
        alone = in_flight == 1
        beats_over, error = Signal(), Signal()
        last_beat, finish = Signal(), Signal()
        could_fill = padding.active & (~self.replicate | beats_over)
        m.d.comb += [
            self.fill.eq(could_fill & ~self.port.beat),
            self.fill_index.eq(padding.index),
            padding.step.eq(self.filled),
            last_beat.eq(self.port.beat & self._placement.final),
            finish.eq(
                (last_beat | beats_over)
                & (~alone | ~padding.active | (self.filled & padding.final))
            ),
            self.moving.eq(take | self.filled),
            self.busy.eq(self.port.beat | self.filled),
            self.port_wait.eq(could_fill & ~self.filled),
        ]
        with m.If(finish):
            m.d.sync += beats_over.eq(0)
        with m.Elif(last_beat | (take & rowless)):
            m.d.sync += beats_over.eq(1)
        failed = error | (self.port.beat & self.port.error)
        m.d.sync += [
            in_flight.eq(in_flight + take - finish),
            error.eq(failed & ~finish),
            self.work.done.eq(finish),
            self.work.fault.eq(Mux(finish & failed, FaultClass.BUS, 0)),
        ]
