"""Who may do what when: fetch, three decoupled stages, bounded queues and token counters.

The order of events is left open: every step that is possible now may be taken next, and any order
is a legal run of the machine. What an instruction does is not known here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from vta_hw.spec.isa import (
    TOKEN_MAX,
    FaultClass,
    Finish,
    Instruction,
    Stage,
    TokenQueue,
    Unknown,
    pops,
    pushes,
    stage_of,
)
from vta_hw.spec.result import Status


@dataclass
class StageState:
    """One stage: dispatched instructions, and the one that was issued and has not retired.

    `worked` says whether the effect of `current` has taken place.
    """

    queue: deque[int] = field(default_factory=deque)
    current: int | None = None
    worked: bool = False
    stopped: bool = False


class Dataflow:
    """The control state of one run, all counters and queues empty at first.

    Each step (`dispatch`; per stage `issue`, `work` or `fail`, `retire`) may be taken only when the
    ``can_*`` of its name holds.
    """

    def __init__(self, instructions: Sequence[Instruction], queue_depth: int) -> None:
        self.instructions = instructions
        self.queue_depth = queue_depth
        self.tokens = [0] * len(TokenQueue)
        self.stages = [StageState() for _ in Stage]
        self.fetched = 0
        self.retired = 0
        self.finished = False
        self.faults: dict[int, FaultClass] = {}
        self._fetch_stopped = False
        self._stage = [stage_of(insn) for insn in instructions]
        self._pops = [pops(insn) for insn in instructions]
        self._pushes = [pushes(insn) for insn in instructions]

    # -- steps ----------------------------------------------------------------------------------

    def can_dispatch(self) -> bool:
        """Whether fetch can hand on its next instruction (or find that it has no opcode)."""
        if self._fetch_stopped or self.fetched >= len(self.instructions):
            return False
        if isinstance(self.instructions[self.fetched], Unknown):
            return True
        return len(self.stages[self._stage[self.fetched]].queue) < self.queue_depth

    def dispatch(self) -> None:
        """Hand the next instruction to its stage's queue; an unknown one stops the fetch."""
        index = self.fetched
        if isinstance(self.instructions[index], Unknown):
            self.faults[index] = FaultClass.BAD_OPCODE
            self._fetch_stopped = True
            return
        self.stages[self._stage[index]].queue.append(index)
        self.fetched += 1

    def can_issue(self, stage: Stage) -> bool:
        """Whether the head of the stage's queue can start: stage idle, all its tokens there."""
        state = self.stages[stage]
        if state.stopped or state.current is not None or not state.queue:
            return False
        return all(self.tokens[token] for token in self._pops[state.queue[0]])

    def issue(self, stage: Stage) -> None:
        """Pop the tokens of the head and free its queue entry."""
        state = self.stages[stage]
        state.current = state.queue.popleft()
        for token in self._pops[state.current]:
            self.tokens[token] -= 1

    def can_work(self, stage: Stage) -> bool:
        """Whether an issued instruction has yet to take effect."""
        state = self.stages[stage]
        return state.current is not None and not state.worked and not state.stopped

    def work(self, stage: Stage) -> None:
        """The issued instruction has taken effect."""
        self.stages[stage].worked = True

    def fail(self, stage: Stage, fault: FaultClass) -> None:
        """The issued instruction is bad: its stage stops for good and pushes nothing."""
        self.faults[self.current(stage)] = fault
        self.stages[stage].stopped = True

    def can_retire(self, stage: Stage) -> bool:
        """Whether the instruction that took effect can retire: every counter it pushes has room."""
        state = self.stages[stage]
        if state.current is None or not state.worked:
            return False
        return all(self.tokens[token] < TOKEN_MAX for token in self._pushes[state.current])

    def retire(self, stage: Stage) -> None:
        """Push the tokens of the issued instruction and free the stage; FINISH stops it."""
        state, index = self.stages[stage], self.current(stage)
        for token in self._pushes[index]:
            self.tokens[token] += 1
        state.current, state.worked = None, False
        self.retired += 1
        if isinstance(self.instructions[index], Finish):
            self.finished = state.stopped = True

    def current(self, stage: Stage) -> int:
        """Index of the issued instruction of a stage that has one."""
        index = self.stages[stage].current
        assert index is not None
        return index

    def run_alone(self) -> None:
        """Take steps until none is possible, every instruction being harmless.

        Bounded queues of this kind get stuck in every order of steps or in none.
        """
        moved = True
        while moved:
            moved = False
            while self.can_dispatch():
                self.dispatch()
                moved = True
            for stage in Stage:
                while self._advance(stage):
                    moved = True

    def _advance(self, stage: Stage) -> bool:
        if self.can_issue(stage):
            self.issue(stage)
            self.work(stage)
            return True
        if self.can_retire(stage):
            self.retire(stage)
            return True
        return False

    # -- verdict --------------------------------------------------------------------------------

    def verdict(self) -> tuple[Status, int | None]:
        """How the run ended and the instruction that this names; valid when no step is possible."""
        if self.faults:
            return Status.FAULT, min(self.faults)
        held = [index for _, index in self._held()]
        if self.finished:
            left = min([*held, self.fetched])
            done = left == len(self.instructions)
            return (Status.OK, None) if done else (Status.FINISH_NOT_DRAINED, left)
        return (Status.DEADLOCK, min(held)) if held else (Status.NO_FINISH, None)

    def waits(self) -> list[str]:
        """Per stage that holds something: the instruction and what it waits for."""
        return [
            f"{stage.name.lower()} instruction {index} waits for {self._wait(stage, index)}"
            for stage, index in self._held()
        ]

    def _held(self) -> list[tuple[Stage, int]]:
        """Per stage, the oldest instruction that it has not retired."""
        held = []
        for stage in Stage:
            state = self.stages[stage]
            if state.current is not None:
                held.append((stage, state.current))
            elif state.queue:
                held.append((stage, state.queue[0]))
        return held

    def _wait(self, stage: Stage, index: int) -> str:
        state = self.stages[stage]
        if state.current is not None:
            full = [token for token in self._pushes[index] if self.tokens[token] == TOKEN_MAX]
            return f"room in the full counter {_names(full)}"
        if state.stopped:
            return "a stage that FINISH has stopped"
        missing = [token for token in self._pops[index] if not self.tokens[token]]
        return f"a token {_names(missing)}"


def _names(tokens: Sequence[TokenQueue]) -> str:
    return " and ".join(token.name.lower() for token in tokens)
