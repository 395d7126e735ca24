"""The counters of cycles, from the spans in which things happened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from vta_hw.spec.events import NEVER as MISSING
from vta_hw.spec.isa import Stage as StageName
from vta_hw.spec.isa import TokenQueue
from vta_hw.spec.registers import STAGE_STATES, State, state_counter
from vta_hw.spec.semantics import IntArray
from vta_sim.cycle.spans import Spans
from vta_sim.cycle.stages import Stage

_WAITS = {
    TokenQueue.LOAD_TO_COMPUTE: State.LOAD_TO_COMPUTE,
    TokenQueue.COMPUTE_TO_LOAD: State.COMPUTE_TO_LOAD,
    TokenQueue.COMPUTE_TO_STORE: State.COMPUTE_TO_STORE,
    TokenQueue.STORE_TO_COMPUTE: State.STORE_TO_COMPUTE,
}

Rows = IntArray
"""Spans as an array with rows of (first, last)."""


def rows(*parts: Iterable[tuple[int, int]]) -> Rows:
    """All spans of several collections."""
    return np.array([span for part in parts for span in part], np.int64).reshape(-1, 2)


def moments(cycles: Iterable[int]) -> Rows:
    """Spans of one cycle each; those that never come are left out."""
    single = np.array([n for n in cycles if n != MISSING], np.int64)
    return np.stack((single, single), axis=1)


def held(stage: Stage, numbers: Sequence[int], ends: Sequence[int], cycles: int) -> Rows:
    """From the cycle after issue to `ends`, or to the last cycle, of the instructions `numbers`."""
    issue = stage.record.issue
    return rows(
        (issue[i] + 1, ends[i] if ends[i] != MISSING else cycles - 1)
        for i in numbers
        if issue[i] != MISSING and (ends[i] == MISSING or ends[i] > issue[i])
    )


class Painter:
    """Counts cycles of a run by the first of several kinds of spans that they lie in."""

    def __init__(self, cycles: int, layers: Mapping[str, Rows]) -> None:
        """All spans that will be asked for, by name; those beyond the run are cut off."""
        self._cycles = cycles
        clipped = {name: _clip(spans, cycles) for name, spans in layers.items()}
        bounds = [np.array([0, cycles])]
        for spans in clipped.values():
            bounds += [spans[:, 0], spans[:, 1] + 1]
        # np.unique does not sort but hash, which takes ten times as long.
        edges = np.sort(np.concatenate(bounds))
        self._edges = edges[np.diff(edges, prepend=-1) != 0]
        self._lengths = np.diff(self._edges)
        self._masks = {name: self._mask(spans) for name, spans in clipped.items()}

    def _mask(self, spans: Rows) -> IntArray:
        change = np.zeros(len(self._edges), np.int64)
        np.add.at(change, np.searchsorted(self._edges, spans[:, 0]), 1)
        np.add.at(change, np.searchsorted(self._edges, spans[:, 1] + 1), -1)
        covered: IntArray = np.cumsum(change)[:-1] > 0
        return covered

    def count(self, order: Sequence[str], rest: str) -> dict[str, int]:
        """Cycles per name: each cycle counts for the first of `order` that covers it, or `rest`."""
        left = np.ones(len(self._lengths), bool)
        found = {}
        for name in order:
            found[name] = int(self._lengths[left & self._masks[name]].sum())
            left &= ~self._masks[name]
        found[rest] = int(self._lengths[left].sum())
        return found

    def without(self, pairs: Iterable[tuple[str, str]]) -> int:
        """Cycles that, for some pair, lie in the first and not in the second."""
        found = np.zeros(len(self._lengths), bool)
        for inside, outside in pairs:
            found |= self._masks[inside] & ~self._masks[outside]
        return int(self._lengths[found].sum())

    def total(self, name: str) -> int:
        """Cycles that lie in spans of this name."""
        return int(self._lengths[self._masks[name]].sum())


def _clip(spans: Rows, cycles: int) -> Rows:
    kept = spans[(spans[:, 0] < cycles) & (spans[:, 1] >= spans[:, 0])]
    return np.stack((kept[:, 0], np.minimum(kept[:, 1], cycles - 1)), axis=1)


def stage_states(
    name: StageName,
    stage: Stage,
    numbers: Sequence[int],
    busy: Rows,
    cycles: int,
    port: Rows | None = None,
) -> dict[str, int]:
    """The state counters of a stage; `numbers` are its instructions."""
    record = stage.record
    worked = [i for i in numbers if record.work[i]]
    layers: dict[str, Rows] = {
        State.BUSY: busy,
        State.MEMORY: held(stage, worked, record.done, cycles),
        State.TOKEN_FULL: rows(stage.retire.token_full),
        State.DRAIN: held(stage, numbers, record.retire, cycles),
    }
    if port is not None:
        layers[State.PORT] = port
    for queue, state in _WAITS.items():
        layers[state] = rows(stage.issue.waits.get(queue, Spans()))
    order = [state for state in STAGE_STATES[name] if state is not State.IDLE]
    counts = Painter(cycles, layers).count(order, State.IDLE)
    return {state_counter(name, State(state)): count for state, count in counts.items()}
