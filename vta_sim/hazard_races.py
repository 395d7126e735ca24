"""Pairs of instructions that touch the same place, one of them writing, and that nothing orders.

Steps are taken in an order that agrees with "complete before" (`hazard_order`), so when B is taken
every earlier A of a conflict with B has been taken, and the pairs of B with what comes later are
found there. Accesses are recorded in lanes: one per memory, agent (a stage, or a compute unit
under `overlap`) and kind (read or write). An agent's steps complete in order, hence of its steps
just those from some position on are unordered with B: the threshold. A lane keeps the last access
to every place. If any access of the lane to a place of B lies at or above the threshold, so does
the last one there; reads and writes have lanes of their own, so neither hides the other. Looking
at the last accesses therefore misses no conflict, and only where one shows up is the lane searched
from the threshold on for all of them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from vta_hw.spec.footprint import IntArray, Rows, Touch
from vta_hw.spec.isa import Stage
from vta_sim.hazard_order import Clock, Event
from vta_sim.hazard_trace import Step, Trace, Unit

Ranges = tuple[tuple[int, int], ...]
"""First and last place of each run, in increasing order."""


@dataclass(frozen=True)
class Clash:
    """What a pair of instructions conflicts on in one memory; bytes in `dram`, else entries."""

    memory: str
    ranges: Ranges
    first_writes: bool
    second_writes: bool


@dataclass(frozen=True)
class Race:
    """Two instructions, `first` the older one in the program, that nothing orders.

    `hint`: both are compute instructions and the second claims not to conflict with the first.
    """

    first: int
    second: int
    hint: bool
    clashes: tuple[Clash, ...]


@dataclass(slots=True, eq=False)
class _Found:
    """A race being put together from the lanes it shows up in."""

    first: Step
    second: Step
    writers: dict[str, list[bool]] = field(default_factory=dict)
    places: dict[str, list[IntArray]] = field(default_factory=dict)

    def add(self, memory: str, places: IntArray, first_writes: bool, second_writes: bool) -> None:
        writers = self.writers.setdefault(memory, [False, False])
        writers[0] |= first_writes
        writers[1] |= second_writes
        self.places.setdefault(memory, []).append(places)

    def race(self) -> Race:
        first, second = self.first, self.second
        clashes = []
        for memory, (first_writes, second_writes) in sorted(self.writers.items()):
            if memory == "dram":
                assert first.rows is not None and second.rows is not None
                ranges = _common_bytes(first.rows, first.base, second.rows, second.base)
            else:
                ranges = _ranges(np.unique(np.concatenate(self.places[memory])))
            clashes.append(Clash(memory, ranges, first_writes, second_writes))
        return Race(first.index, second.index, first.stage is second.stage, tuple(clashes))


@dataclass(frozen=True, slots=True)
class _Agent:
    """Who accesses: a stage, or one unit of the compute stage (None without hints)."""

    stage: Stage
    unit: Unit | None


class _Lane:
    """Accesses of one agent and kind to one memory, by position in the stage."""

    def __init__(self, agent: _Agent, write: bool, size: int) -> None:
        self.agent = agent
        self.write = write
        self._last = np.zeros(size, np.int32)  # 1 + position; 0: none
        self._steps: list[Step] = []
        self._touches: list[Touch] = []
        self._positions, self._firsts, self._lasts = array("q"), array("q"), array("q")

    def record(self, step: Step, position: int, touch: Touch) -> None:
        self._last[touch.at] = position + 1
        self._steps.append(step)
        self._touches.append(touch)
        self._positions.append(position)
        self._firsts.append(touch.first)
        self._lasts.append(touch.last)

    def since(self, threshold: int, touch: Touch) -> list[tuple[Step, IntArray]]:
        """The steps from position `threshold` on that touch the same places, and these."""
        if self._last[touch.at].max() <= threshold:
            return []
        begin = bisect_left(self._positions, threshold)
        near = np.frombuffer(self._firsts, np.int64)[begin:] <= touch.last
        near &= np.frombuffer(self._lasts, np.int64)[begin:] >= touch.first
        found = []
        for number in (np.flatnonzero(near) + begin).tolist():
            places = _common(self._touches[number], touch)
            if places.size:
                found.append((self._steps[number], places))
        return found


def find_races(
    trace: Trace, timeline: Iterable[Event], limit: int
) -> tuple[tuple[Race, ...], bool]:
    """All races by program order, and whether there are more than the `limit` given here.

    `timeline` is that of `hazard_order.in_order`.
    """
    finder = _Finder(trace)
    found: dict[tuple[int, int], _Found] = {}
    more = False
    for step, position, clock in timeline:
        for older, newer, memory, places, writes in finder.take(step, position, clock):
            key = older.index, newer.index
            if key not in found:
                if len(found) == limit:
                    more = True
                    break
                found[key] = _Found(older, newer)
            found[key].add(memory, places, *writes)
        if more:
            break
    return tuple(found[key].race() for key in sorted(found)), more


class _Finder:
    def __init__(self, trace: Trace) -> None:
        self._by_unit = any(step.hinted for step in trace.steps)
        self._window = 0
        self._lanes: dict[str, dict[tuple[_Agent, bool], _Lane]] = {}
        keys = {
            (touch.memory, self._agent(step), write)
            for step in trace.steps
            for write, touches in ((False, step.reads), (True, step.writes))
            for touch in touches
        }
        for memory, agent, write in keys:
            rivals = (m == memory and a != agent and (w or write) for m, a, w in keys)
            if any(rivals):
                lane = _Lane(agent, write, trace.sizes[memory])
                self._lanes.setdefault(memory, {})[agent, write] = lane

    def _agent(self, step: Step) -> _Agent:
        return _Agent(step.stage, step.unit if self._by_unit else None)

    def take(
        self, step: Step, position: int, clock: Clock
    ) -> Iterator[tuple[Step, Step, str, IntArray, tuple[bool, bool]]]:
        """Conflicts of `step` with what was taken before: older, newer, memory, places, writes."""
        if step.stage is Stage.COMPUTE and not step.hinted:
            # It waits for all older ones, and the ones after it wait for it to issue.
            self._window = position
        agent = self._agent(step)
        accesses = [(touch, False) for touch in step.reads]
        accesses += [(touch, True) for touch in step.writes]
        for touch, write in accesses:
            lanes = self._lanes.get(touch.memory, {})
            if (agent, write) not in lanes:
                continue
            for lane in lanes.values():
                if lane.agent == agent or not (write or lane.write):
                    continue
                threshold = self._threshold(step, lane.agent, clock)
                if threshold is None:
                    continue
                for other, places in lane.since(threshold, touch):
                    if other.index < step.index:
                        yield other, step, touch.memory, places, (lane.write, write)
                    else:
                        yield step, other, touch.memory, places, (write, lane.write)
            lanes[agent, write].record(step, position, touch)

    def _threshold(self, step: Step, other: _Agent, clock: Clock) -> int | None:
        """Position from which on the other agent's steps are unordered with this one."""
        if other.stage is not step.stage:
            return clock[other.stage]
        return self._window if step.hinted else None


# -- sets of places -------------------------------------------------------------------------------


def _common(one: Touch, other: Touch) -> IntArray:
    first, last = max(one.first, other.first), min(one.last, other.last)
    match one.indices, other.indices:
        case None, None:
            return np.arange(first, last + 1)
        case None, indices:
            pass
        case indices, None:
            pass
        case _:
            return np.intersect1d(one.places, other.places, assume_unique=True)
    assert indices is not None
    begin, end = np.searchsorted(indices, (first, last + 1))
    return indices[begin:end]


def _ranges(places: IntArray) -> Ranges:
    heads = np.flatnonzero(np.diff(places, prepend=places[0] - 2) > 1)
    tails = np.append(heads[1:], len(places)) - 1
    return tuple(zip(places[heads].tolist(), places[tails].tolist(), strict=True))


def _common_bytes(one: Rows, base: int, other: Rows, other_base: int) -> Ranges:
    mine, theirs = _byte_spans(one, base), _byte_spans(other, other_base)
    found: list[tuple[int, int]] = []
    i = j = 0
    while i < len(mine) and j < len(theirs):
        first, last = max(mine[i][0], theirs[j][0]), min(mine[i][1], theirs[j][1])
        if first <= last:
            found.append((first, last))
        if mine[i][1] < theirs[j][1]:
            i += 1
        else:
            j += 1
    return tuple(found)


def _byte_spans(rows: Rows, base: int) -> Sequence[tuple[int, int]]:
    """First and last byte of the disjoint spans that the rows cover, in increasing order."""
    if rows.pitch <= rows.length:
        start = int(rows.start + base)
        return [(start, start + (rows.count - 1) * rows.pitch + rows.length - 1)]
    return [(start, start + rows.length - 1) for start in rows.starts(base).tolist()]
