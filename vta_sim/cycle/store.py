"""The store engine: rules T2 to T5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vta_hw.spec import machine
from vta_sim.cycle.bursts import Burst
from vta_sim.cycle.memory import Tell
from vta_sim.cycle.spans import NEVER
from vta_sim.cycle.stages import Flight
from vta_sim.cycle.tokens import Wake


class StoreChannel(Protocol):
    """The write channel, as the store engine knows it."""

    def begin(
        self, earliest: int, bursts: Sequence[Burst], read_ended: Tell, answered: Tell
    ) -> None:
        """Do the bursts of a STORE whose reading begins in `earliest` at the earliest.

        As soon as they are known, `read_ended` is told the last cycle of reading, and `answered`
        the arrival of the last response.
        """


class StoreEngine:
    """Reads OUT and writes it to memory, one STORE after the other."""

    def __init__(self, channel: StoreChannel, wake_issue: Wake) -> None:
        self._channel = channel
        self._wake_issue = wake_issue
        self._waiting: tuple[Flight, list[Burst]] | None = None
        self._last_read = -1
        self._taken = -1
        self.last_arrival = -1
        self.next = NEVER

    def vacant(self, n: int) -> bool:
        """Whether the waiting place is empty in cycle n."""
        return self._waiting is None and n > self._taken

    def offer(self, flight: Flight, bursts: list[Burst]) -> None:
        """A STORE that has issued goes to the waiting place."""
        self._waiting = flight, bursts
        self._plan()

    def _plan(self) -> None:
        """When the STORE that waits is taken (T2); NEVER while it is not known."""
        if self._waiting is not None:
            earliest = max(self._waiting[0].issued, self._last_read)
            self.next = NEVER if earliest == NEVER else earliest + 1

    def step(self, n: int) -> None:
        """Take the STORE that waits in cycle n."""
        assert self._waiting is not None
        flight, bursts = self._waiting
        self._waiting = None
        self._taken = n
        self._wake_issue(n + 1)
        self.next = self._last_read = NEVER
        first = max(n + 1, flight.issued + machine.STORE_READ_DELAY)  # T3

        def answered(arrival: int) -> None:
            self.last_arrival = arrival
            flight.finish(arrival)  # T5

        self._channel.begin(first, bursts, self._read_ended, answered)

    def _read_ended(self, last: int) -> None:
        self._last_read = last
        self._plan()
