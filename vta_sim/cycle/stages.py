"""Issue and retirement, the same for the three stages: rules S1 to S6."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Protocol

from vta_hw.spec import machine
from vta_hw.spec.events import NEVER as MISSING
from vta_hw.spec.isa import TOKEN_MAX, FaultClass, Finish, Instruction, pops, pushes
from vta_sim.cycle.spans import NEVER, Spans
from vta_sim.cycle.tokens import Tokens, Wake


@dataclass(slots=True)
class Flight:
    """An instruction that was issued; `done` is known once nothing can change it any more."""

    index: int
    insn: Instruction
    issued: int
    wake_retire: Wake
    work: bool = False
    done: int = NEVER
    bad: FaultClass | None = None
    executed: bool = False

    def finish(self, cycle: int) -> None:
        """Its work is done in `cycle`, maybe a later one."""
        self.done = cycle
        self.wake_retire(cycle + machine.DONE_TO_RETIRE)

    def fail(self, cycle: int, fault: FaultClass) -> None:
        """It is found bad, and done, in `cycle`."""
        self.bad = fault
        self.finish(cycle)


class Engine(Protocol):
    """What a stage works with."""

    def has_room(self, index: int, n: int) -> bool:
        """Rules L1, G1, T1: whether instruction `index` may issue in cycle n."""

    def start(self, flight: Flight, n: int) -> None:
        """It issues in cycle n."""


@dataclass(slots=True)
class Record:
    """Per instruction the cycles in which things happened (`MISSING`: they did not)."""

    dispatch: list[int]
    issue: list[int]
    done: list[int]
    retire: list[int]
    work: list[bool]
    faults: dict[int, FaultClass] = field(default_factory=dict)
    last_stop: int = 0

    @classmethod
    def of(cls, count: int) -> Record:
        """Of `count` instructions that have not been dispatched."""
        dispatch, issue, done, retire = ([MISSING] * count for _ in range(4))
        return cls(dispatch, issue, done, retire, [False] * count)


class Stage:
    """The state of one stage, shared by its two parts."""

    def __init__(self, instructions: Sequence[Instruction], record: Record, tokens: Tokens) -> None:
        self.instructions = instructions
        self.record = record
        self.tokens = tokens
        self.queue: deque[int] = deque()
        self.in_flight: deque[Flight] = deque()
        self.stopped = False
        self.finished = False
        self.issue = Issue(self)
        self.retire = Retire(self)

    def connect(
        self,
        engine: Engine,
        wake_fetch: Wake,
        execute: Callable[[Instruction], None],
        count: Callable[[Instruction], None],
    ) -> None:
        """What it works with; what carries out, and what counts, the instructions it retires."""
        self.issue.engine = engine
        self.issue.wake_fetch = wake_fetch
        self.retire.execute = execute
        self.retire.count = count

    def enter(self, index: int, n: int) -> None:
        """An instruction is dispatched to the stage in cycle n."""
        self.queue.append(index)
        self.record.dispatch[index] = n
        self.issue.wake(n + machine.DISPATCH_TO_READY)


class _Part:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.next = NEVER
        self._wakes: list[int] = []

    def wake(self, cycle: int) -> None:
        """Something may happen in `cycle`."""
        heappush(self._wakes, cycle)
        self.next = self._wakes[0]

    def _begin(self, n: int) -> None:
        """A step begins; what it was woken for in later cycles stays."""
        wakes = self._wakes
        while wakes and wakes[0] <= n:
            heappop(wakes)
        self.next = wakes[0] if wakes else NEVER


class Issue(_Part):
    """The head of a stage's queue."""

    engine: Engine
    wake_fetch: Wake

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.last = -machine.ISSUE_INTERVAL
        self._closed = False
        # For each head, while it was ready: the counter that was 0.
        self.waits: dict[int, Spans] = {}

    def ready(self, index: int) -> int:
        """The first cycle in which the head is ready (S1)."""
        dispatched = self.stage.record.dispatch[index]
        return max(dispatched + machine.DISPATCH_TO_READY, self.last + machine.ISSUE_INTERVAL)

    def step(self, n: int) -> None:
        """Issue the head in cycle n, if it can (S2)."""
        self._begin(n)
        stage = self.stage
        if stage.stopped or self._closed or not stage.queue:
            return
        index = stage.queue[0]
        ready = self.ready(index)
        if n < ready:
            self.wake(ready)
            return
        insn = stage.instructions[index]
        popped = pops(insn)
        counts = stage.tokens.counts
        if not all(counts[queue] for queue in popped) or not self.engine.has_room(index, n):
            return
        self._note_waits(popped, ready, n)
        stage.queue.popleft()
        stage.tokens.pop(popped)
        stage.record.issue[index] = self.last = n
        self.wake_fetch(n + 1)
        flight = Flight(index, insn, n, stage.retire.wake)
        stage.in_flight.append(flight)
        self.engine.start(flight, n)
        stage.record.work[index] = flight.work
        if flight.bad and flight.done == n:  # S3
            self._closed = True
            return
        if stage.queue:
            self.wake(self.ready(stage.queue[0]))

    def _note_waits(self, popped: Sequence[int], ready: int, end: int) -> None:
        """Note the cycles from `ready` to before `end` in which a popped counter was 0."""
        for queue in popped:
            since = min(self.stage.tokens.present_since[queue], end)
            if since > ready:
                self.waits.setdefault(queue, Spans()).add(ready, since - 1)
                ready = since

    def close(self, cycles: int) -> None:
        """The run took so many cycles: what still waits has waited to the end."""
        stage = self.stage
        if stage.queue and not stage.stopped:
            index = stage.queue[0]
            self._note_waits(pops(stage.instructions[index]), self.ready(index), cycles)


class Retire(_Part):
    """The oldest instruction of a stage that was issued and has not retired."""

    execute: Callable[[Instruction], None]
    count: Callable[[Instruction], None]

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.last = -1
        self.token_full = Spans()
        self._full_since = NEVER

    def step(self, n: int) -> None:
        """Retire the oldest in cycle n, if it can (S5), or stop the stage with it (S6)."""
        self._begin(n)
        stage = self.stage
        if stage.stopped or not stage.in_flight:
            return
        flight = stage.in_flight[0]
        if flight.done == NEVER:
            return
        due = max(flight.done + machine.DONE_TO_RETIRE, self.last + 1)
        if n < due:
            self.wake(due)
            return
        if flight.bad:  # S6
            stage.stopped = True
            stage.record.faults[flight.index] = flight.bad
            stage.record.last_stop = max(stage.record.last_stop, n)
            return
        if not flight.executed:
            flight.executed = True
            self.execute(flight.insn)
        pushed = pushes(flight.insn)
        counts = stage.tokens.counts
        if any(counts[queue] == TOKEN_MAX for queue in pushed):
            self._full_since = min(self._full_since, n)
            return
        self.token_full.add(self._full_since, n - 1)
        self._full_since = NEVER
        stage.tokens.push(pushed)
        self._leave(flight, n)

    def _leave(self, flight: Flight, n: int) -> None:
        stage = self.stage
        stage.record.retire[flight.index] = self.last = n
        stage.record.done[flight.index] = flight.done
        stage.in_flight.popleft()
        self.count(flight.insn)
        if isinstance(flight.insn, Finish):
            stage.stopped = stage.finished = True
            return
        stage.issue.wake(n + 1)
        if stage.in_flight and stage.in_flight[0].done != NEVER:
            self.wake(max(n + 1, stage.in_flight[0].done + machine.DONE_TO_RETIRE))

    def close(self, cycles: int) -> None:
        """The run took so many cycles: what is still in flight stays so to the end."""
        self.token_full.add(self._full_since, cycles - 1)
        for flight in self.stage.in_flight:
            self.stage.record.done[flight.index] = min(flight.done, cycles - 1)
