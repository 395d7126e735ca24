"""Who touched each place of the memories last: what an instruction has to stay behind.

Instructions of one actor, a stage or a unit, take effect in order. So of each actor only the newest
that touched a place counts, and what it costs to find does not grow with the stream.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from vta_hw.spec.footprint import Touch


class LastTouches:
    """The newest touch and the newest write of every place, by actor.

    `sizes` gives the number of places of each memory; touches of other memories do not count.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._touched: dict[Hashable, dict[str, _Newest]] = {}
        self._written: dict[Hashable, dict[str, _Newest]] = {}

    def note(
        self, actor: Hashable, reads: Sequence[Touch], writes: Sequence[Touch], order: int
    ) -> None:
        """Take in what an instruction touches; `order` must increase."""
        if actor not in self._touched:
            self._touched[actor] = {name: _Newest(size) for name, size in self._sizes.items()}
            self._written[actor] = {name: _Newest(size) for name, size in self._sizes.items()}
        _enter(self._touched[actor], reads, order)
        if writes:
            _enter(self._touched[actor], writes, order)
            _enter(self._written[actor], writes, order)

    def conflict(
        self, actor: Hashable, reads: Sequence[Touch], writes: Sequence[Touch], after: int
    ) -> int:
        """The order of the actor's newest instruction that conflicts with one that touches this.

        It is `after` if there is none above that: looking costs less, the greater that is.
        """
        if actor not in self._touched:
            return after
        after = _newest(self._touched[actor], writes, after)
        return _newest(self._written[actor], reads, after)


class _Newest:
    """The order of the newest instruction at each place of a memory, and the newest of all."""

    def __init__(self, size: int) -> None:
        self.orders = np.full(size, -1, np.int64)
        self.last = -1


def _enter(memories: Mapping[str, _Newest], touches: Sequence[Touch], order: int) -> None:
    for touch in touches:
        memory = memories.get(touch.memory)
        if memory is not None:
            memory.orders[touch.at] = memory.last = order


def _newest(memories: Mapping[str, _Newest], touches: Sequence[Touch], after: int) -> int:
    for touch in touches:
        memory = memories.get(touch.memory)
        # Mostly the whole memory has seen nothing newer.
        if memory is not None and memory.last > after:
            after = max(after, int(np.maximum.reduce(memory.orders[touch.at])))
    return after
