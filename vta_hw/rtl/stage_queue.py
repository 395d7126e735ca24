"""The command queue of a stage."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vta_hw.rtl.memories import NO_ATTRIBUTES, Queue
from vta_hw.rtl.signatures import INSTRUCTION, Dispatch
from vta_hw.spec.config import VtaConfig


class StageQueue(wiring.Component):
    """Instructions of one stage that are dispatched and not issued (rule F3).

    An instruction that is dispatched in n can be seen at the head from n + 2 on, the one behind an
    issued instruction in the cycle after that issue.

    `attributes` are those of its memory.

    Members
    -------
    dispatch
        What enters; `room` is as of the cycle's beginning.
    valid, head
        The oldest instruction.
    issue
        Removes it; only while `valid` is high.
    """

    def __init__(self, config: VtaConfig, attributes: Mapping[str, str] = NO_ATTRIBUTES) -> None:
        self._attributes = attributes
        self._depth = config.cmd_queue_depth
        super().__init__(
            {"dispatch": In(Dispatch()), "valid": Out(1), "head": Out(INSTRUCTION), "issue": In(1)}
        )

    def elaborate(self, platform: object) -> Module:
        """The queue's level counts the instruction at the output too."""
        m = Module()
        m.submodules.queue = queue = Queue(INSTRUCTION.size, self._depth, self._attributes)
        m.d.comb += [
            queue.push.eq(self.dispatch.valid),
            queue.entry.eq(self.dispatch.payload),
            self.dispatch.room.eq(queue.level != self._depth),
            self.valid.eq(queue.valid),
            self.head.eq(queue.head),
            queue.pop.eq(self.issue),
        ]
        return m
