"""The nested loop of GEMM and ALU: micro-ops with their indices, one per cycle."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from vta_hw.rtl.signatures import OPS_BITS, ElementRead, Work
from vta_hw.spec import isa
from vta_hw.spec.config import UOP_BITS, MemType, VtaConfig
from vta_hw.spec.isa import FaultClass


def loop_indices(job: data.StructLayout) -> tuple[str, ...]:
    """Names of the indices that the instruction of `job` computes: dst, src, and wgt of GEMM."""
    return tuple(slot for slot in ("dst", "src", "wgt") if f"{slot}_factor_out" in job.members)


def index_layout(job: data.StructLayout, config: VtaConfig) -> data.StructLayout:
    """The indices of a micro-op.

    Each is one bit wider than its field in the micro-op or its factors: sums do not wrap, that bit
    is high if the sum is no number of as many bits.
    """
    fields = {slot.name: slot.width for slot in isa.layout(isa.MicroOp, config)}
    return data.StructLayout(
        {
            name: 1
            + max(
                fields[name],
                job[f"{name}_factor_out"].width,
                job[f"{name}_factor_in"].width,
            )
            for name in loop_indices(job)
        }
    )


def micro_op_layout(job: data.StructLayout, config: VtaConfig) -> data.StructLayout:
    """What the loop gives for one micro-op.

    With each index goes `beyond_`, whether it lies beyond its memory. `first` and `last` are those
    of the instruction.
    """
    indices = index_layout(job, config).members
    beyond = {f"beyond_{name}": 1 for name in indices}
    return data.StructLayout({**indices, **beyond, "first": 1, "last": 1})


def _out_of_range(index: Value, depth_bits: int) -> Value:
    """Whether an index lies beyond a memory of 2^depth_bits elements."""
    return index[depth_bits:].any()


class UopLoop(wiring.Component):
    """Takes a job, reads its micro-ops and gives them with their indices (rules G3 and G4).

    The job is also followed to its end: this is the whole of `Work` of its unit.

    UOP is read one micro-op ahead: whether a micro-op is taken is known late in a cycle, and only
    decides whether what was read is used in the next one or kept.

    Parameters
    ----------
    job
        Layout of the instruction.
    depth_bits
        For each of its indices, that of the memory it is for.

    Members
    -------
    work: the jobs. One at a time: ready is low from the cycle after a start to the end.
    uop: the UOP memory.
    job: the job in hand, from the cycle after its start on.
    micro_op: the first one in the second cycle after the start, the next in the cycle after each
        transfer. Ready must be high only in a cycle in which the micro-op has all that it needs
        and `bad` is low. A micro-op that is beyond the UOP memory never gets here.
    loads, coming: micro_op takes these indices for the next cycle. `loads` is known late.
    bad: while micro_op is valid: an index of it is out of range. The job ends there.
    """

    def __init__(
        self, job: data.StructLayout, config: VtaConfig, depth_bits: Mapping[str, int]
    ) -> None:
        self._config = config
        self._depth_bits = depth_bits
        self._job = job
        self._indices = loop_indices(job)
        super().__init__(
            {
                "work": In(Work(job, OPS_BITS)),
                "uop": Out(ElementRead(config.depth_bits(MemType.UOP), UOP_BITS)),
                "job": Out(job),
                "micro_op": Out(stream.Signature(micro_op_layout(job, config))),
                "loads": Out(1),
                "coming": Out(index_layout(job, config)),
                "bad": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Two stages: the counters, beside the word in the read register of UOP; the sums."""
        m = Module()
        job = self.job
        start = Signal()
        busy = Signal()
        none = Signal()  # in the cycle after the start of a job without micro-ops
        counted = Signal()  # the counters stand at a micro-op, its word is on uop.data
        summed = Signal()  # micro_op.payload holds one
        beyond = Signal()  # that one is beyond the UOP memory
        taken = Signal()
        ended = Signal()
        advance = Signal()
        m.d.comb += [
            self.work.start.ready.eq(~busy),
            start.eq(self.work.start.valid & ~busy),
            self.micro_op.valid.eq(summed & ~beyond),
            taken.eq(self.micro_op.valid & self.micro_op.ready),
            advance.eq(~summed | taken),
            ended.eq(
                none
                | (summed & (beyond | self.bad))
                | (taken & self.micro_op.payload.last)
            ),
        ]  # fmt: skip
        step = Signal()
        m.d.comb += [step.eq(counted & advance), self.loads.eq(step)]
        u, last = self._count(m, start, step, self._word(m, start, busy, step))
        with m.If(advance):
            m.d.sync += summed.eq(counted)
        with m.If(advance & counted):
            m.d.sync += [
                beyond.eq(_out_of_range(u, self._config.depth_bits(MemType.UOP))),
                self.micro_op.payload.last.eq(last),
                counted.eq(~last),
            ]
        with m.If(taken):
            m.d.sync += [
                self.micro_op.payload.first.eq(0),
                self.work.amount.eq(self.work.amount + 1),
            ]
        with m.If(ended):
            m.d.sync += [busy.eq(0), counted.eq(0), summed.eq(0)]
        fault = Mux(beyond, FaultClass.UOP_RANGE, FaultClass.INDEX_RANGE)
        m.d.sync += [
            none.eq(0),
            self.work.done.eq(ended),
            self.work.fault.eq(Mux(summed & (beyond | self.bad), fault, 0)),
        ]
        with m.If(start):
            given = self.work.start.payload
            empty = (
                (given.uop_bgn >= given.uop_end)
                | (given.iter_out == 0)
                | (given.iter_in == 0)
            )  # fmt: skip
            m.d.sync += [
                job.eq(given),
                busy.eq(1),
                none.eq(empty),
                counted.eq(~empty),
                self.micro_op.payload.first.eq(1),
                self.work.amount.eq(0),
            ]
        return m

    def _word(self, m: Module, start: Value, busy: Value, step: Value) -> Value:
        """The word of the micro-op in hand: the one just read, or the same as a cycle before."""
        word, kept, stays = Signal.like(self.uop.data), Signal.like(self.uop.data), Signal()
        m.d.sync += [stays.eq(busy & ~step), kept.eq(word)]
        m.d.comb += [
            word.eq(Mux(stays, kept, self.uop.data)),
            self.uop.enable.eq(start | busy),
        ]
        return word

    def _count(self, m: Module, start: Value, step: Value, word: Value) -> tuple[Value, Value]:
        """Place of the micro-op in hand, whether it is the last; with `step` go on to the next."""
        job = self.job
        given = self.work.start.payload
        u, following = Signal.like(job.uop_end), Signal.like(job.uop_end)
        inner_left = Signal.like(job.iter_in)
        outer_left = Signal.like(job.iter_out)
        u_ends, following_ends, first_ends = Signal(), Signal(), Signal()
        inner_ends = Signal()
        last = Signal()
        m.d.comb += [
            first_ends.eq(given.uop_bgn + 1 == given.uop_end),
            following_ends.eq(following + 1 == job.uop_end),
            inner_ends.eq(inner_left == 1),
            last.eq(u_ends & inner_ends & (outer_left == 1)),
            self.uop.index.eq(Mux(start, given.uop_bgn, following)),
        ]
        with m.If(step):
            m.d.sync += [
                u.eq(following),
                u_ends.eq(following_ends),
                following.eq(Mux(following_ends, job.uop_bgn, following + 1)),
            ]
        with m.If(start):
            m.d.sync += [
                u.eq(given.uop_bgn),
                u_ends.eq(first_ends),
                following.eq(Mux(first_ends, given.uop_bgn, given.uop_bgn + 1)),
            ]
        with m.If(step & u_ends):
            m.d.sync += inner_left.eq(Mux(inner_ends, job.iter_in, inner_left - 1))
            with m.If(inner_ends):
                m.d.sync += outer_left.eq(outer_left - 1)
        with m.If(start):
            m.d.sync += [inner_left.eq(given.iter_in), outer_left.eq(given.iter_out)]
        for name in self._indices:
            self._sum(m, name, word, start, step, u_ends, inner_ends)
        return u, last

    def _sum(
        self,
        m: Module,
        name: str,
        word: Value,
        start: Value,
        step: Value,
        u_ends: Value,
        inner_ends: Value,
    ) -> None:
        """One index: the offset of the outer loop, that of both, and the sum with the field."""
        outer_factor = getattr(self.job, f"{name}_factor_out")
        inner_factor = getattr(self.job, f"{name}_factor_in")
        result = getattr(self.micro_op.payload, name)
        outer = Signal.like(result)
        offset = Signal.like(result)
        slot = next(s for s in isa.layout(isa.MicroOp, self._config) if s.name == name)
        total = getattr(self.coming, name)
        m.d.comb += total.eq(_add(offset, word[slot.low : slot.low + slot.width]))
        beyond = getattr(self.micro_op.payload, f"beyond_{name}")
        with m.If(step):
            m.d.sync += [
                result.eq(total),
                beyond.eq(_out_of_range(total, self._depth_bits[name])),
            ]
        with m.If(step & u_ends):
            m.d.sync += offset.eq(
                _add(Mux(inner_ends, outer, offset), Mux(inner_ends, outer_factor, inner_factor))
            )
            with m.If(inner_ends):
                m.d.sync += outer.eq(_add(outer, outer_factor))
        with m.If(start):
            m.d.sync += [outer.eq(0), offset.eq(0)]


def _add(index: Value, term: Value) -> Value:
    """The sum, its top bit high as soon as one sum did not fit below it: terms are not negative."""
    bits = len(index) - 1
    total = index[:bits] + term
    return Cat(total[:bits], index[bits] | total[bits])
