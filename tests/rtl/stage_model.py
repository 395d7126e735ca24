"""Rules S1 to S6, L1, G1 and T1 in plain Python: what a stage does in each cycle.

It knows instructions, not words, and keeps what happened when, so that every rule can be written
as it stands in ``docs/timing.md``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from vta_hw.spec import isa
from vta_hw.spec.isa import Instruction, Load, Stage, TokenQueue
from vta_hw.spec.machine import (
    DISPATCH_TO_READY,
    DONE_TO_RETIRE,
    ISSUE_INTERVAL,
    STAGE_SLOTS,
)
from vta_hw.spec.registers import STAGE_STATES, State

LATER = 1 << 60


@dataclass(eq=False)
class Item:
    """An instruction on its way; cycles are LATER until they are known.

    `unit` is what it is handed to, None without work; `bad` the class that the checks find.
    """

    insn: Instruction
    index: int
    unit: str | None
    bad: int
    dispatched: int
    issued: int = LATER
    done: int = LATER
    retired: int = LATER
    fault: int = 0
    amount: int = 0

    @property
    def group(self) -> str:
        """The unit that it is in by rule G1."""
        form = type(self.insn)
        return "dma" if form is Load else form.__name__


@dataclass
class Inputs:
    """What the stage sees in one cycle."""

    tokens: Mapping[TokenQueue, int]
    ready: Collection[str]
    busy: bool = False
    port: bool = False


@dataclass
class Outcome:
    """What it does in one cycle."""

    issue: Item | None = None
    retire: Item | None = None
    stop: Item | None = None
    state: State = State.IDLE


@dataclass
class StageModel:
    """One stage; call `step` once per cycle."""

    stage: Stage
    queue: list[Item] = field(default_factory=list)
    flying: list[Item] = field(default_factory=list)
    last_issue: int = -LATER
    closed: bool = False
    stopped: Item | None = None
    finished: bool = False

    def step(self, now: int, given: Inputs) -> Outcome:
        """What happens in cycle `now`; what it depends on is of the cycle's beginning."""
        outcome = Outcome()
        head = self._head(now)
        if head is not None and self._may_issue(head, given):
            outcome.issue = head
        blocked = False
        oldest = self.flying[0] if self.flying else None
        if oldest is not None and self.stopped is None and now >= oldest.done + DONE_TO_RETIRE:
            blocked = any(given.tokens[q] == isa.TOKEN_MAX for q in isa.pushes(oldest.insn))
            if oldest.bad or oldest.fault:
                outcome.stop, blocked = oldest, False
            elif not blocked:
                outcome.retire = oldest
        outcome.state = self._state(now, given, head, blocked)
        self._apply(now, outcome)
        return outcome

    def _head(self, now: int) -> Item | None:
        if not self.queue:
            return None
        head = self.queue[0]
        since = max(head.dispatched + DISPATCH_TO_READY, self.last_issue + ISSUE_INTERVAL)
        return head if now >= since and not self.closed else None

    def _may_issue(self, head: Item, given: Inputs) -> bool:
        if any(given.tokens[queue] == 0 for queue in isa.pops(head.insn)):
            return False
        if head.unit is not None and head.unit not in given.ready:
            return False
        if self.stage is not Stage.COMPUTE:
            return len(self.flying) < STAGE_SLOTS
        if not getattr(head.insn, "overlap", False):
            return not self.flying
        return not any(item.group in (head.group, "Finish") for item in self.flying)

    def _state(self, now: int, given: Inputs, head: Item | None, blocked: bool) -> State:
        transfers = [item for item in self.flying if item.unit not in (None, "gemm", "alu")]
        applies = {
            State.BUSY: given.busy,
            State.MEMORY: any(item.done >= now for item in transfers),
            State.PORT: given.port,
            State.TOKEN_FULL: blocked,
            State.DRAIN: bool(self.flying),
            State.IDLE: True,
        }
        if head is not None:
            for queue in isa.pops(head.insn):
                applies[State[queue.name]] = given.tokens[queue] == 0
        return next(state for state in STAGE_STATES[self.stage] if applies.get(state, False))

    def _apply(self, now: int, outcome: Outcome) -> None:
        if outcome.issue is not None:
            item = self.queue.pop(0)
            item.issued = self.last_issue = now
            if item.unit is None:
                item.done = now
            self.flying.append(item)
            self.closed |= bool(item.bad)
        if outcome.retire is not None:
            self.flying.pop(0).retired = now
            if outcome.retire.group == "Finish":
                self.finished = self.closed = True
        if outcome.stop is not None:
            self.stopped, self.closed = outcome.stop, True
