"""The store engine: rules T2 to T5."""

from __future__ import annotations

from vta_hw.spec import machine
from vta_sim.cycle.memory import WriteChannel
from vta_sim.cycle.spans import NEVER
from vta_sim.cycle.stages import Flight
from vta_sim.cycle.tokens import Wake


class StoreEngine:
    """Reads OUT and writes it to memory, one STORE after the other."""

    def __init__(self, channel: WriteChannel, wake_issue: Wake) -> None:
        self._channel = channel
        self._wake_issue = wake_issue
        self._waiting: tuple[Flight, list[int]] | None = None
        self._last_read = -1
        self._taken = -1
        self.last_arrival = -1
        self.next = NEVER

    def vacant(self, n: int) -> bool:
        """Whether the waiting place is empty in cycle n."""
        return self._waiting is None and n > self._taken

    def offer(self, flight: Flight, bursts: list[int]) -> None:
        """A STORE that has issued goes to the waiting place; `bursts` are its beats."""
        self._waiting = flight, bursts
        self.next = max(flight.issued, self._last_read) + 1  # T2

    def step(self, n: int) -> None:
        """Take the STORE that waits in cycle n."""
        assert self._waiting is not None
        flight, bursts = self._waiting
        self._waiting = None
        self._taken = n
        self._wake_issue(n + 1)
        first = max(n + 1, flight.issued + machine.STORE_READ_DELAY)  # T3
        self._last_read, self.last_arrival = self._channel.write(first, bursts)
        flight.finish(self.last_arrival)  # T5
        self.next = NEVER
