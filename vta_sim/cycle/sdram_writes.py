"""The write channel before a memory whose answers depend on what else it does."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from vta_sim.cycle.bursts import Burst
from vta_sim.cycle.memory import ReadChannel, Tell
from vta_sim.cycle.sdram import Sdram
from vta_sim.cycle.spans import NEVER, Spans


@dataclass(slots=True)
class _Write:
    """A burst that is open; `response` is its cycle on the bus, once it is known."""

    burst: Burst
    last_beat: int
    response: int = NEVER


@dataclass(slots=True)
class _Job:
    """A STORE: the bursts that have not begun, and those that have no known response."""

    earliest: int
    left: deque[Burst]
    read_ended: Tell
    answered: Tell
    unanswered: int = field(init=False)

    def __post_init__(self) -> None:
        self.unanswered = len(self.left)


class SdramWrites:
    """Begins the bursts of STOREs, and has them enter the memory (rules T3 to T5).

    A burst enters in the first cycle after that of its last beat in which no read does.
    """

    def __init__(self, memory: Sdram, reads: ReadChannel, max_writes: int) -> None:
        self._memory = memory
        self._reads = reads
        self._max_writes = max_writes
        self._open: deque[_Write] = deque()
        self._entering: deque[tuple[_Write, _Job]] = deque()
        self._job: _Job | None = None
        self.reads = Spans()
        self.bus = Spans()
        self.bursts = 0
        self.beats = 0
        self.next = NEVER

    def begin(
        self, earliest: int, bursts: Sequence[Burst], read_ended: Tell, answered: Tell
    ) -> None:
        """See `vta_sim.cycle.store.StoreChannel`."""
        self._job = _Job(earliest, deque(bursts), read_ended, answered)
        self._advance()

    def _advance(self) -> None:
        """Begin all bursts of which it is known when they can."""
        job = self._job
        if job is None:
            return
        while job.left:
            first = job.earliest
            while self._open and self._open[0].response < first:
                self._open.popleft()
            if len(self._open) >= self._max_writes:  # T3: open up to its response
                if self._open[0].response == NEVER:
                    return
                first = self._open.popleft().response + 1
            burst = job.left.popleft()
            read = first + burst.beats - 1
            job.earliest = read + 1
            self.reads.add(first, read)
            self.bus.add(first + 2, read + 2)  # T4
            self.bursts += 1
            self.beats += burst.beats
            write = _Write(burst, read + 2)
            self._open.append(write)
            self._entering.append((write, job))
            self._plan(0)
        self._job = None
        job.read_ended(job.earliest - 1)

    def _plan(self, earliest: int) -> None:
        """The next cycle in which it can be said that a burst enters in the one after it."""
        self.next = max(earliest, self._entering[0][0].last_beat) if self._entering else NEVER

    def step(self, n: int) -> None:
        """In cycle n, reads that enter in n + 1 are known."""
        if self._reads.accepted != n + 1:
            write, job = self._entering.popleft()
            burst = write.burst
            write.response = self._memory.write(n + 1, burst.address, burst.beats)
            job.unanswered -= 1
            if not job.unanswered:
                job.answered(write.response + 1)  # T5
            self._advance()
        self._plan(n + 1)
