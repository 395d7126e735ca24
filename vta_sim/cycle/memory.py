"""The two channels of the memory bus: rules M1, M2 and C1 to C3."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from vta_sim.cycle.bursts import Burst
from vta_sim.cycle.spans import NEVER, Spans


class ReadClient(Protocol):
    """What the read channel knows of a client."""

    request: int
    """The cycle from which it requests a burst; NEVER without one."""
    burst: Burst
    """That burst."""

    def granted(self, cycle: int, first: int, last: int) -> None:
        """Its request was granted; the beats arrive from `first` to `last`."""


class Memory(Protocol):
    """What is behind the read channel."""

    def read(self, entered: int, address: int, beats: int) -> tuple[int, int]:
        """Cycles on the bus of the first and the last beat of a burst accepted in `entered`."""


class SteadyMemory:
    """Rule M1."""

    def __init__(self, latency: int) -> None:
        self._latency = latency
        self._bus = -1

    def read(self, entered: int, address: int, beats: int) -> tuple[int, int]:
        """Cycles on the bus of the first and the last beat of a burst accepted in `entered`."""
        first = max(entered + self._latency, self._bus + 1)
        self._bus = first + beats - 1
        return first, self._bus


class ReadChannel:
    """Grants requests and says when their beats come.

    `clients` are set once, in the order of priority.
    """

    def __init__(self, memory: Memory, max_reads: int) -> None:
        self._memory = memory
        self._max_reads = max_reads
        self.clients: Sequence[ReadClient] = ()
        self._open: deque[int] = deque()  # last cycle on the bus of each open burst
        self.next = NEVER
        self.bus = Spans()
        self.bursts = 0
        self.beats = 0
        self.accepted = -1
        """The cycle in which the memory accepts the last burst that was granted."""

    def wake(self, cycle: int) -> None:
        """A request may be granted from `cycle` on."""
        if cycle < self.next:
            self.next = cycle

    def step(self, n: int) -> None:
        """Grant at most one request in cycle n."""
        open_bursts = self._open
        while open_bursts and open_bursts[0] < n:
            open_bursts.popleft()
        if len(open_bursts) >= self._max_reads:  # C1: a burst is open up to its last beat
            self.next = open_bursts[0] + 1
            return
        for client in self.clients:  # C1: the first that requests
            if client.request <= n:
                self.accepted = n + 1  # C2
                burst = client.burst
                first, last = self._memory.read(n + 1, burst.address, burst.beats)
                self.bus.add(first, last)
                self.bursts += 1
                self.beats += burst.beats
                open_bursts.append(last)
                client.granted(n, first + 1, last + 1)  # C3
                break
        self.next = max(n + 1, min([client.request for client in self.clients]))


Tell = Callable[[int], None]


class WriteChannel:
    """Says when the beats of a STORE are read and its responses arrive (T3 to T5, M2)."""

    def __init__(self, latency: int, max_writes: int) -> None:
        self._latency = latency
        self._max_writes = max_writes
        self._open: deque[int] = deque()  # cycle of the response on the bus of each open burst
        self.reads = Spans()
        self.bus = Spans()
        self.bursts = 0
        self.beats = 0

    def begin(
        self, earliest: int, bursts: Sequence[Burst], read_ended: Tell, answered: Tell
    ) -> None:
        """Do the bursts of a STORE, and tell what `write` gives."""
        read, arrival = self.write(earliest, [burst.beats for burst in bursts])
        read_ended(read)
        answered(arrival)

    def write(self, earliest: int, bursts: Sequence[int]) -> tuple[int, int]:
        """Last cycle of reading, and arrival of the last response; `bursts` are their beats."""
        read, response = earliest - 1, earliest
        for beats in bursts:
            first = read + 1
            while self._open and self._open[0] < first:
                self._open.popleft()
            if len(self._open) >= self._max_writes:  # T3: open up to its response
                first = self._open.popleft() + 1
            read = first + beats - 1
            self.reads.add(first, read)
            self.bus.add(first + 2, read + 2)  # T4
            response = read + 2 + self._latency  # M2
            self._open.append(response)
            self.bursts += 1
            self.beats += beats
        return read, response + 1  # T5
