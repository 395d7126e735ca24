"""Spans of cycles, and the moment that never comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

NEVER = 1 << 62
"""A cycle beyond the end of every run."""


class Spans:
    """Cycles in which something happens, as (first, last); one that follows another joins it."""

    __slots__ = ("firsts", "lasts")

    def __init__(self) -> None:
        self.firsts: list[int] = []
        self.lasts: list[int] = []

    def add(self, first: int, last: int) -> None:
        """Add a span; one that ends before it begins is empty."""
        if last < first:
            return
        if self.lasts and self.lasts[-1] + 1 == first:
            self.lasts[-1] = last
        else:
            self.firsts.append(first)
            self.lasts.append(last)

    def add_each(self, cycles: Sequence[int]) -> None:
        """Add cycles in ascending order; a range of them is one span."""
        if isinstance(cycles, range):
            self.add(cycles.start, cycles.stop - 1)
            return
        firsts, lasts = self.firsts, self.lasts
        for cycle in cycles:
            if lasts and lasts[-1] + 1 == cycle:
                lasts[-1] = cycle
            else:
                firsts.append(cycle)
                lasts.append(cycle)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.firsts, self.lasts, strict=True)

    def __bool__(self) -> bool:
        return bool(self.lasts)

    @property
    def end(self) -> int:
        """The last cycle of the span added last; -1 without any."""
        return self.lasts[-1] if self.lasts else -1
