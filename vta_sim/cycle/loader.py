"""The four loaders: rules L2 to L5, D1 and D2."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Load
from vta_sim.cycle.acc import AccPort
from vta_sim.cycle.bursts import (
    Burst,
    acc_halves,
    filled_places,
    filled_vectors,
    replicates,
    transfer_bursts,
)
from vta_sim.cycle.filling import Filling
from vta_sim.cycle.spans import NEVER, Spans
from vta_sim.cycle.stages import Flight
from vta_sim.cycle.tokens import Wake


@dataclass(slots=True)
class Job:
    """A LOAD with work, and how far it is."""

    flight: Flight
    insn: Load
    address: int
    rows: int
    bursts: list[Burst]
    fills: int
    replicates: bool
    granted: int = 0
    beats: int = 0
    last_grant: int = -1
    last_arrival: int = -1
    last_fill: int = -1

    @classmethod
    def of(cls, flight: Flight, insn: Load, address: int, config: VtaConfig) -> Job:
        """Cut the transfer of a LOAD that is good and has work into its parts."""
        copies = replicates(insn)
        rows = 1 if copies else insn.y_size  # D2
        bursts = transfer_bursts(insn, address, rows, config)
        return cls(flight, insn, address, rows, bursts, filled_vectors(insn), copies)

    @property
    def all_granted(self) -> bool:
        """Whether every burst has been granted."""
        return self.granted == len(self.bursts)


class Loader:
    """A loader of UOP, INP or WGT, a client of the read channel."""

    def __init__(self, wake_channel: Wake, wake_issue: Wake) -> None:
        self._wake_channel = wake_channel
        self._wake_issue = wake_issue
        self._waiting: Job | None = None
        self._job: Job | None = None
        self._taken = -1
        self._filling: Filling | None = None
        self._arrivals: deque[tuple[int, int]] = deque()
        self.arrivals = Spans()
        self.filled = Spans()
        self.could_fill = Spans()
        self.next = NEVER
        self.request = NEVER
        self.burst = Burst(0, 0)

    def vacant(self, n: int) -> bool:
        """Whether the waiting place is empty in cycle n."""
        return self._waiting is None and n > self._taken

    def offer(self, job: Job) -> None:
        """A LOAD that has issued goes to the waiting place."""
        self._waiting = job
        self.wake(job.flight.issued + 1)

    def wake(self, cycle: int) -> None:
        """Something may happen in `cycle`."""
        if cycle < self.next:
            self.next = cycle

    def step(self, n: int) -> None:
        """What happens in cycle n; fillings are carried out up to the cycle before."""
        self.next = NEVER
        if self._filling is not None:
            last = self._filling.run(n)
            if self._filling.left:
                self.next = self._filling.least_end() + 1
            else:
                self.fill_ended(last)
        waiting, job = self._waiting, self._job
        if waiting is None:
            return
        if job is not None:  # L2
            if not job.all_granted or self._filling is not None:
                return
            free = max(job.last_grant, job.last_fill) + 1
            if waiting.fills:
                free = max(free, job.last_arrival + 1)
            if n < free:
                self.wake(free)
                return
        self._take(waiting, n)

    def _take(self, job: Job, n: int) -> None:
        self._waiting, self._job = None, job
        self._taken = n
        self._wake_issue(n + 1)
        if job.fills and not job.replicates:
            self._fill_from(n + 1, job)  # L4
        if job.bursts:
            self._ask(n + 1)  # L3

    def _ask(self, cycle: int) -> None:
        assert self._job is not None
        self.request = cycle
        self.burst = self._job.bursts[self._job.granted]
        self._wake_channel(cycle)

    def granted(self, cycle: int, first: int, last: int) -> None:
        """A burst was granted; its beats arrive from `first` to `last`."""
        job = self._job
        assert job is not None
        job.granted += 1
        job.beats += self.burst.beats
        job.last_grant, job.last_arrival = cycle, last
        self.arrivals.add(first, last)
        self._arrivals.append((first, last))
        self.request = NEVER
        if not job.all_granted:
            self._ask(cycle + 1)  # L3
            return
        if self._waiting is not None:
            self.wake(cycle + 1)
        if job.replicates:
            self._fill_from(last + 1, job)  # D2
        elif self._filling is None:
            self._done(job)

    def _fill_from(self, start: int, job: Job) -> None:
        self._filling = Filling(start, job.fills, self._arrivals, self.filled)
        self.wake(self._filling.least_end() + 1)

    def fill_ended(self, last: int) -> None:
        """The last vector was filled in cycle `last`."""
        job, filling = self._job, self._filling
        assert job is not None and filling is not None
        self.could_fill.add(filling.start, last)
        self._filling = None
        job.last_fill = last
        if job.all_granted:
            self._done(job)

    def _done(self, job: Job) -> None:
        job.flight.finish(max(job.last_arrival, job.last_fill))  # L5


class AccLoader(Loader):
    """The loader of ACC: what it writes needs slots (D1)."""

    def __init__(
        self, wake_channel: Wake, wake_issue: Wake, acc: AccPort, config: VtaConfig
    ) -> None:
        super().__init__(wake_channel, wake_issue)
        self._acc = acc
        self._config = config

    def granted(self, cycle: int, first: int, last: int) -> None:
        """A burst was granted; its beats arrive from `first` to `last`."""
        job = self._job
        assert job is not None

        def halves() -> list[int]:
            return acc_halves(job.insn, job.address, job.rows, self._config)

        self._acc.expect(first, last, job.flight.index, job.beats, halves)
        super().granted(cycle, first, last)

    def _fill_from(self, start: int, job: Job) -> None:
        self._filling = Filling(start, job.fills, self._arrivals, self.filled)
        self._acc.fill(self._filling, lambda: filled_places(job.insn), self.fill_ended)

    def step(self, n: int) -> None:
        """What happens in cycle n."""
        self.next = NEVER
        # Only one LOAD is in the unit (G1), so the loader is free when another one waits.
        if self._waiting is not None:
            self._take(self._waiting, n)
