"""GEMM: one micro-op per cycle, whatever the order in which accumulators are added to."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from vta_hw.rtl.mac_array import DELAY, MacArray
from vta_hw.rtl.signatures import (
    OPS_BITS,
    AccSlot,
    ElementRead,
    Work,
    acc_index_bits,
    element_bits,
    gemm_job,
)
from vta_hw.rtl.uop_loop import UopLoop
from vta_hw.spec.config import ACC_LANE_BITS, UOP_BITS, MemType, VtaConfig
from vta_hw.spec.machine import ACC_HAZARD, ACC_READ_DELAY, ACC_WRITE_DELAY

_READ = 1  # INP and WGT are addressed so many cycles after the grant of the slot,
_TAKE = _READ + 1  # the elements taken by the array in this one,
_GIVEN = ACC_READ_DELAY + 1  # acc[dst] is here in this one,
_ADD = _TAKE + DELAY  # and the sums of products are added to it in this one.
_FORWARDED = ACC_HAZARD - 1  # So many micro-ops before may still be on their way to the memory.

if _ADD != _GIVEN + 1:
    raise ImportError(
        f"sums are there {_ADD} cycles after a grant, what they are added to {_GIVEN}"
    )


class Gemm(wiring.Component):
    """The GEMM unit: rules G3 and G4, and docs/isa.md.

    Members
    -------
    work: jobs, one at a time.
    uop, inp, wgt: memories that it reads.
    acc: the slot of each micro-op.
    moving: a slot is granted (gemm_busy).
    port: a micro-op waits for its slot (gemm_port).
    """

    def __init__(self, config: VtaConfig) -> None:
        self._config = config

        def read(memory: MemType, bits: int) -> ElementRead:
            return ElementRead(config.depth_bits(memory), bits)

        super().__init__(
            {
                "work": In(Work(gemm_job(config), OPS_BITS)),
                "uop": Out(read(MemType.UOP, UOP_BITS)),
                "inp": Out(read(MemType.INP, element_bits(config, MemType.INP))),
                "wgt": Out(read(MemType.WGT, element_bits(config, MemType.WGT))),
                "acc": Out(AccSlot(config)),
                "moving": Out(1),
                "port": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The loop asks for slots; what is granted passes a pipeline that never stops."""
        m = Module()
        depth_bits = {
            "dst": self._config.depth_bits(MemType.ACC),
            "src": self._config.depth_bits(MemType.INP),
            "wgt": self._config.depth_bits(MemType.WGT),
        }
        m.submodules.loop = loop = UopLoop(gemm_job(self._config), self._config, depth_bits)
        connect(m, flipped(self.work), loop.work)
        connect(m, loop.uop, flipped(self.uop))
        micro_op = loop.micro_op.payload
        reset = loop.job.reset
        granted = Signal()
        m.d.comb += [
            loop.bad.eq(
                micro_op.beyond_dst | (~reset & (micro_op.beyond_src | micro_op.beyond_wgt))
            ),
            self.acc.valid.eq(loop.micro_op.valid & ~loop.bad),
            self.acc.index.eq(micro_op.dst),
            self.acc.write.eq(1),
            granted.eq(self.acc.valid & self.acc.grant),
            loop.micro_op.ready.eq(granted),
            self.moving.eq(granted),
            self.port.eq(self.acc.valid & ~self.acc.grant),
            self.inp.index.eq(self._after_grant(m, granted, micro_op.src[: depth_bits["src"]])),
            self.wgt.index.eq(self._after_grant(m, granted, micro_op.wgt[: depth_bits["wgt"]])),
        ]
        self._pipeline(m, granted, reset)
        return m

    def _after_grant(self, m: Module, granted: Value, index: Value) -> Value:
        held = Signal.like(index)
        with m.If(granted):
            m.d.sync += held.eq(index)
        return held

    def _pipeline(self, m: Module, granted: Value, reset: Value) -> None:
        """Stage n of it holds what was granted n cycles ago."""
        step = data.StructLayout({"valid": 1, "reset": 1, "forward": _FORWARDED})
        steps = [
            Signal(step, name=f"step_{stage}")
            for stage in range(ACC_WRITE_DELAY)
        ]  # fmt: skip
        m.d.comb += [
            steps[0].valid.eq(granted),
            steps[0].reset.eq(reset),
            steps[0].forward.eq(self._forward(m, steps)),
        ]
        for before, after in zip(steps, steps[1:], strict=False):
            m.d.sync += after.eq(before)
        m.submodules.mac_array = mac_array = MacArray(self._config)
        reads = steps[_READ].valid & ~steps[_READ].reset
        m.d.comb += [
            self.inp.enable.eq(reads),
            self.wgt.enable.eq(reads),
            mac_array.inp.eq(self.inp.data),
            mac_array.wgt.eq(self.wgt.data),
            mac_array.enable.eq(steps[_TAKE].valid & ~steps[_TAKE].reset),
        ]
        results = [
            Signal(element_bits(self._config, MemType.ACC), name=f"result_{stage}")
            for stage in range(_ADD + 1, ACC_WRITE_DELAY + 1)
        ]
        # The oldest of those on their way has left the results when the sums are there.
        oldest = steps[_GIVEN].forward[-1]
        given, base = Signal.like(self.acc.read_data), Signal.like(self.acc.read_data)
        m.d.sync += given.eq(Mux(oldest, results[-1], self.acc.read_data))
        adding = steps[_ADD]
        former: Value = given
        for distance in reversed(range(_FORWARDED - 1)):
            former = Mux(adding.forward[distance], results[distance], former)
        m.d.comb += base.eq(former)
        with m.If(adding.valid):
            m.d.sync += results[0].eq(Mux(adding.reset, 0, _lanes_added(base, mac_array.sums)))
        for stage, (before, after) in enumerate(zip(results, results[1:], strict=False), _ADD + 1):
            with m.If(steps[stage].valid):
                m.d.sync += after.eq(before)
        m.d.comb += self.acc.write_data.eq(results[-2])

    def _forward(self, m: Module, steps: list[data.View]) -> Value:
        """Which of the last micro-ops added to the element that is asked for: bit 0, the last."""
        before = self.acc.index
        same = []
        for stage in range(1, _FORWARDED + 1):
            dst = Signal(acc_index_bits(self._config), name=f"dst_{stage}")
            m.d.sync += dst.eq(before)
            same.append(steps[stage].valid & (dst == self.acc.index))
            before = dst
        return Cat(same)


def _lanes_added(first: Value, second: Value) -> Value:
    lanes = [
        (first.word_select(lane, ACC_LANE_BITS) + second.word_select(lane, ACC_LANE_BITS))[
            :ACC_LANE_BITS
        ]
        for lane in range(len(first) // ACC_LANE_BITS)
    ]
    return Cat(lanes)
