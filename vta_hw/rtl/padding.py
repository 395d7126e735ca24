"""Which elements of a LOAD are padding, one after the other."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, ValueLike
from amaranth.lib.wiring import Component, In, Out

from vta_hw.rtl.signatures import LOAD_JOB


class Padding(Component):
    """Walks over the elements of a job that are not read, in the order of their indices.

    They come in runs: one before the first element read, one between each two rows, one after the
    last element. A step from run to run takes no time.

    Parameters
    ----------
    index_bits
        Bits of an index of the memory.

    Members
    -------
    start, job, read : In
        Take over a job. A job without rows has padding in `fill_first` only. `read` are its rows
        times its columns: a product takes too long to be made in this cycle.
    active : Out(1)
        An element is left; `index` is the next one. From the cycle after the start on.
    final : Out(1)
        It is the last.
    step : In(1)
        It is filled in this cycle.
    """

    def __init__(self, index_bits: int) -> None:
        self._index_bits = index_bits
        super().__init__(
            {
                "start": In(1),
                "job": In(LOAD_JOB),
                "read": In(index_bits),
                "active": Out(1),
                "final": Out(1),
                "index": Out(index_bits),
                "step": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The run at hand, and the one behind it: between rows, or at the end.

        What follows the last row lies where another gap would.
        """
        m = Module()
        job = self.job
        bits = self._index_bits
        left, last_left = Signal(bits + 1), Signal(bits + 1)
        gaps_left = Signal(min(bits + 1, 16))
        gap_index = Signal(bits)
        gap, pitch = Signal.like(job.fill_between), Signal(bits + 1)

        def begin_run(
            gaps: ValueLike, at: ValueLike, size: ValueLike, step: ValueLike, tail: ValueLike
        ) -> None:  # fmt: skip
            """The next run, if there is one: between rows, or else the last."""
            with m.If(gaps != 0):
                m.d.sync += [
                    self.index.eq(at),
                    left.eq(size),
                    gaps_left.eq(gaps - 1),
                    gap_index.eq(at + step),
                ]
            with m.Else():
                m.d.sync += [self.index.eq(at), left.eq(tail), last_left.eq(0)]

        m.d.comb += [
            self.active.eq(left != 0),
            self.final.eq((left == 1) & (gaps_left == 0) & (last_left == 0)),
        ]
        gaps, new_pitch, after = Signal(16), Signal(bits + 1), Signal(bits)
        first_gap = Signal(bits)
        with m.If((job.fill_between != 0) & (job.rows != 0)):
            m.d.comb += gaps.eq(job.rows - 1)
        m.d.comb += [
            new_pitch.eq(job.columns + job.fill_between),
            after.eq(job.sram + job.fill_first),
            first_gap.eq(after + Mux(job.fill_between == 0, self.read, job.columns)),
        ]
        with m.If(self.start):
            m.d.sync += [
                gap.eq(job.fill_between),
                pitch.eq(new_pitch),
                last_left.eq(job.fill_last),
            ]
            with m.If(job.fill_first != 0):
                m.d.sync += [
                    self.index.eq(job.sram),
                    left.eq(job.fill_first),
                    gaps_left.eq(gaps),
                    gap_index.eq(first_gap),
                ]
            with m.Else():
                m.d.sync += gaps_left.eq(0)
                begin_run(gaps, first_gap, job.fill_between, new_pitch, job.fill_last)
        with m.Elif(self.step):
            m.d.sync += [self.index.eq(self.index + 1), left.eq(left - 1)]
            with m.If(left == 1):
                begin_run(gaps_left, gap_index, gap, pitch, last_left)
        return m
