"""The command queue of a stage."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from vta_hw.rtl.signatures import INSTRUCTION, Dispatch
from vta_hw.spec.config import VtaConfig


class StageQueue(wiring.Component):
    """Instructions of one stage that are dispatched and not issued (rule F3).

    An instruction that is dispatched in n can be seen at the head from n + 2 on, the one behind an
    issued instruction in the cycle after that issue.

    Members
    -------
    dispatch
        What enters; `room` is as of the cycle's beginning.
    valid, head
        The oldest instruction.
    issue
        Removes it; only while `valid` is high.
    """

    def __init__(self, config: VtaConfig) -> None:
        self._depth = config.cmd_queue_depth
        super().__init__(
            {"dispatch": In(Dispatch()), "valid": Out(1), "head": Out(INSTRUCTION), "issue": In(1)}
        )

    def elaborate(self, platform: object) -> Module:
        """A queue in block RAM; its level counts the instruction at the output too."""
        m = Module()
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=INSTRUCTION.size, depth=self._depth)
        m.d.comb += [
            fifo.w_en.eq(self.dispatch.valid),
            fifo.w_data.eq(self.dispatch.payload),
            self.dispatch.room.eq(fifo.level != self._depth),
            self.valid.eq(fifo.r_rdy),
            self.head.eq(fifo.r_data),
            fifo.r_en.eq(self.issue),
        ]
        return m
