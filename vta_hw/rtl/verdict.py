"""When a run ends, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from vta_hw.rtl.control_port import VERDICT_BITS
from vta_hw.rtl.signatures import FAULT_BITS, INDEX_BITS
from vta_hw.spec.isa import Stage
from vta_hw.spec.machine import QUIET
from vta_hw.spec.registers import NO_INDEX, Verdict

FAULT = data.StructLayout({"kind": FAULT_BITS, "index": INDEX_BITS})
"""A fault and its instruction; no fault if `kind` is 0."""

HELD = data.StructLayout({"valid": 1, "index": INDEX_BITS})
"""The oldest instruction that a stage holds, if it holds one."""

_STEPS = 4
assert QUIET > _STEPS, "the verdict is found while the machine is quiet"


class EndOfRun(wiring.Component):
    """Finds the last cycle of a run (rule R2) and the verdict on it.

    Parameters
    ----------
    units
        How many units may move.

    Members
    -------
    start, running
        High in cycle 0, and in all cycles of a run.
    moving
        A bit per unit: it moves in this cycle. Not after `QUIET` still cycles, less one.
    ended
        High in the last cycle of the run.
    bad_launch
        The stream's address is not one that can be fetched from.
    fetch_fault, load_fault, compute_fault, store_fault
        What has stopped them (`FAULT`).
    load_held, compute_held, store_held
        What they have not retired (`HELD`).
    next_index, count
        The next instruction to dispatch, and the instructions of the stream.
    finished
        FINISH has retired.
    verdict, index
        Valid with `ended`.
    """

    def __init__(self, units: int) -> None:
        super().__init__(
            {
                "start": In(1),
                "running": In(1),
                "moving": In(units),
                "ended": Out(1),
                "bad_launch": In(1),
                "fetch_fault": In(FAULT),
                **{f"{stage.name.lower()}_fault": In(FAULT) for stage in Stage},
                **{f"{stage.name.lower()}_held": In(HELD) for stage in Stage},
                "next_index": In(INDEX_BITS),
                "count": In(INDEX_BITS),
                "finished": In(1),
                "verdict": Out(VERDICT_BITS, init=Verdict.NO_FINISH),
                "index": Out(INDEX_BITS, init=NO_INDEX),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Count still cycles; find the verdict in steps, all inputs being still by then."""
        m = Module()
        moved, still = Signal(len(self.moving) + 1), Signal(range(QUIET))
        # What moves is known late in a cycle. The last one of a run needs not look at it: after
        # so many still cycles nothing moves any more.
        m.d.sync += moved.eq(Cat(self.moving, self.start))
        with m.If(moved.any()):
            m.d.sync += still.eq(1)
        with m.Elif(self.running & (still != QUIET - 1)):
            m.d.sync += still.eq(still + 1)
        m.d.comb += self.ended.eq(self.running & ~moved.any() & (still == QUIET - 1))

        stages = [stage.name.lower() for stage in Stage]
        faults = [self.fetch_fault, *(getattr(self, f"{stage}_fault") for stage in stages)]
        helds = [getattr(self, f"{stage}_held") for stage in stages]
        fault = _lowest(m, "fault", [(fault.kind, fault) for fault in faults])
        held = _lowest(m, "held", [(held.valid, held) for held in helds])
        undispatched = Signal()
        m.d.sync += undispatched.eq(self.next_index != self.count)
        left = Signal(HELD)
        with m.If(~held.valid | (undispatched & (self.next_index < held.index))):
            m.d.sync += [left.valid.eq(undispatched), left.index.eq(self.next_index)]
        with m.Else():
            m.d.sync += left.eq(held)
        self._judge(m, fault, held, left)
        return m

    def _judge(self, m: Module, fault: Any, held: Any, left: Any) -> None:
        """The first that applies; `left` is as `held`, with what was not dispatched."""

        def judge(verdict: Value | Verdict, index: Value | int) -> None:
            m.d.sync += [self.verdict.eq(verdict), self.index.eq(index)]

        with m.If(self.bad_launch):
            judge(Verdict.BAD_LAUNCH, NO_INDEX)
        with m.Elif(fault.kind != 0):
            judge(fault.kind, fault.index)
        with m.Elif(self.finished & ~left.valid):
            judge(Verdict.OK, NO_INDEX)
        with m.Elif(self.finished):
            judge(Verdict.FINISH_NOT_DRAINED, left.index)
        with m.Elif(held.valid):
            judge(Verdict.DEADLOCK, held.index)
        with m.Else():
            judge(Verdict.NO_FINISH, NO_INDEX)


def _lowest(m: Module, name: str, entries: Sequence[tuple[Value, Any]]) -> Any:
    """The valid entry with the lowest index, two steps later; not valid if there is none."""
    pairs = [entries[i : i + 2] for i in range(0, len(entries), 2)]
    firsts = []
    for number, pair in enumerate(pairs):
        first = Signal(pair[0][1].shape(), name=f"{name}_{number}")
        m.d.sync += first.eq(_lower(pair))
        firsts.append(first)
    result = Signal(firsts[0].shape(), name=f"{name}_lowest")
    valid = next(iter(firsts[0].shape().members))
    m.d.sync += result.eq(_lower([(first[valid], first) for first in firsts]))
    return result


def _lower(pair: Sequence[tuple[Value, Any]]) -> Value:
    if len(pair) == 1:
        return pair[0][1].as_value()
    (valid, one), (other_valid, other) = pair
    use_one = valid.any() & (~other_valid.any() | (one.index < other.index))
    return Mux(use_one, one.as_value(), other.as_value())
