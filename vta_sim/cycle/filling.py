"""Vectors of padding, filled in the cycles that the beats leave free (rule L4)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from vta_sim.cycle.spans import NEVER, Spans


class Filling:
    """`left` vectors to be filled from cycle `start` on by one loader.

    `arrivals` are the spans in which its beats arrive, those known now; those that become known
    later lie later. `filled` takes down the cycles of filling. `cycle` is the first cycle about
    which nothing is decided yet.
    """

    def __init__(
        self, start: int, left: int, arrivals: deque[tuple[int, int]], filled: Spans
    ) -> None:
        self.start = self.cycle = start
        self.left = left
        self._arrivals = arrivals
        self._filled = filled

    def is_free(self, n: int) -> bool:
        """Whether no beat arrives in cycle n; n must not fall from call to call."""
        arrivals = self._arrivals
        while arrivals and arrivals[0][1] < n:
            arrivals.popleft()
        return not arrivals or n < arrivals[0][0]

    def fill(self, cycles: Sequence[int]) -> None:
        """Fill one vector in each of these cycles."""
        self._filled.add_each(cycles)
        self.left -= len(cycles)

    def run(self, end: int) -> int:
        """Fill in all free cycles before `end`; the last one used, or -1 if none was."""
        last = -1
        n = self.cycle
        while n < end and self.left:
            if not self.is_free(n):
                n = self._arrivals[0][1] + 1
                continue
            stop = min(end, n + self.left, self._arrivals[0][0] if self._arrivals else NEVER)
            last = stop - 1
            self._filled.add(n, last)
            self.left -= stop - n
            n = stop
        self.cycle = max(n, end)
        return last

    def least_end(self) -> int:
        """The earliest cycle in which the last vector can be filled, by what is known now."""
        n, left = self.cycle, self.left
        for first, last in self._arrivals:
            if last < n:
                continue
            if first - n >= left:
                break
            left -= max(0, first - n)
            n = last + 1
        return n + left - 1
