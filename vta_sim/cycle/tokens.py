"""The four token counters: what changes in a cycle is seen from the next on (S2, S5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vta_hw.spec.isa import TOKEN_MAX, TokenQueue
from vta_sim.cycle.spans import NEVER

Wake = Callable[[int], None]


class Tokens:
    """Counts as of the beginning of a cycle; `commit` makes what happened in it count."""

    def __init__(self) -> None:
        self.counts = [0] * len(TokenQueue)
        self.present_since = [NEVER] * len(TokenQueue)
        """Per counter the first cycle of those, up to now, in which it is above 0."""
        self._changes = [0] * len(TokenQueue)
        self._changed = False
        self._wake_consumer: list[Wake] = []
        self._wake_producer: list[Wake] = []

    def connect(self, consumers: Sequence[Wake], producers: Sequence[Wake]) -> None:
        """Who to tell, per counter, that it is no longer 0, or no longer full."""
        self._wake_consumer, self._wake_producer = list(consumers), list(producers)

    def pop(self, queues: Sequence[int]) -> None:
        """Take one token from each."""
        for queue in queues:
            self._changes[queue] -= 1
            self._changed = True

    def push(self, queues: Sequence[int]) -> None:
        """Put one token into each."""
        for queue in queues:
            self._changes[queue] += 1
            self._changed = True

    def commit(self, n: int) -> None:
        """The changes of cycle n are seen from n + 1 on."""
        if not self._changed:
            return
        self._changed = False
        for queue, change in enumerate(self._changes):
            if not change:
                continue
            before = self.counts[queue]
            after = self.counts[queue] = before + change
            self._changes[queue] = 0
            if after and not before:
                self.present_since[queue] = n + 1
                self._wake_consumer[queue](n + 1)
            elif not after:
                self.present_since[queue] = NEVER
            if before == TOKEN_MAX and after < TOKEN_MAX:
                self._wake_producer[queue](n + 1)
