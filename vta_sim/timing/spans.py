"""Spans of cycles in which something happens, and how many cycles they cover."""

from __future__ import annotations

from vta_sim.lang.kinds import Array, i64, kernel, struct
from vta_sim.lang.ops import release, resize

NEVER = 1 << 62
"""A cycle beyond the end of every run."""
MISSING = -1
"""In records of what happened: it did not."""

_LEAST = 64


@struct
class Span:
    """From the first cycle to the last, inclusive."""

    first: i64
    last: i64


@struct
class Spans:
    """Spans in order of their first cycle; one that follows or overlaps another joins it."""

    items: Array[Span]
    count: i64
    room: i64

    def add(self, first: i64, last: i64) -> None:
        """Add a span; one that ends before it begins is empty."""
        if last < first:
            return
        if self.count:
            latest = self.items[self.count - 1]
            if first <= latest.last + 1:
                latest.last = max(latest.last, last)
                return
        if self.count == self.room:
            self.room = 2 * self.room + _LEAST
            self.items = resize(self.items, self.room)
        new = self.items[self.count]
        new.first = first
        new.last = last
        self.count += 1

    def end(self) -> i64:
        """The last cycle of the span added last; -1 without any."""
        if not self.count:
            return -1
        return self.items[self.count - 1].last

    def total(self) -> i64:
        """The cycles that they cover."""
        cycles = 0
        for place in range(self.count):
            cycles += self.items[place].last - self.items[place].first + 1
        return cycles

    def free(self) -> None:
        """Give the memory back."""
        release(self.items)


@struct
class Layer:
    """Spans that count for one state, while they are gone through: `at` is the present one."""

    spans: Array[Spans]
    rank: i64
    at: i64


@kernel
def is_on(layer: Layer, n: i64) -> bool:
    """Whether cycle n lies in one of its spans; n must not fall from call to call."""
    spans = layer.spans[0]
    while layer.at < spans.count and spans.items[layer.at].last < n:
        layer.at += 1
    return layer.at < spans.count and spans.items[layer.at].first <= n


@kernel
def next_change(layer: Layer, n: i64) -> i64:
    """The next cycle after n in which `is_on` may change; `is_on` was asked for n before."""
    spans = layer.spans[0]
    if layer.at >= spans.count:
        return NEVER
    present = spans.items[layer.at]
    return present.first if present.first > n else present.last + 1


@kernel
def count_first(
    layers: Array[Layer], count: i64, cycles: i64, found: Array[i64], rest: i64
) -> None:
    """Add to found[rank] the cycles of a run whose least covering rank that is; or found[rest].

    The layers come in the order of their ranks.
    """
    n = 0
    while n < cycles:
        rank = rest
        stop = cycles
        for number in range(count):
            layer = layers[number]
            is_covered = is_on(layer, n)
            stop = min(stop, next_change(layer, n))
            if is_covered:
                # While it lasts and none before begins, what comes behind is of no effect.
                rank = layer.rank
                break
        found[rank] += stop - n
        n = stop


@kernel
def count_without(layers: Array[Layer], pairs: i64, cycles: i64) -> i64:
    """Cycles in which, for some pair of layers, the first covers and the second does not."""
    n = 0
    total = 0
    while n < cycles:
        stop = cycles
        differs = False
        for pair in range(pairs):
            inside = is_on(layers[2 * pair], n)
            outside = is_on(layers[2 * pair + 1], n)
            if inside and not outside:
                differs = True
            stop = min(stop, next_change(layers[2 * pair], n))
            stop = min(stop, next_change(layers[2 * pair + 1], n))
        if differs:
            total += stop - n
        n = stop
    return total
