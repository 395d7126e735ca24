"""Dependency tokens: every conflict between stages is ordered, by construction.

The stages run their own instructions in order, so for each memory location only its last writer
and its last reader per stage matter. An instruction that conflicts with an older one of another
stage must wait for it: an edge (older, newer). An edge between two stages needs a token only if it
waits for something younger than what that stage already waited for; the edges that remain increase
on both sides, so the k-th token pushed is the k-th popped, and each instruction pushes and pops at
most one token per counter. Load and store have no counter between them: their edges go through an
instruction of the compute stage, a no-op where none stands between. All edges point forward in
program order, so the oldest unretired instruction can always go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vta_hw.spec.config import MemType
from vta_hw.spec.footprint import Touch, meet
from vta_hw.spec.isa import TOKEN_FLAGS, Finish, Instruction, Load, Stage, TokenQueue, stage_of

_QUEUE = {
    (Stage.LOAD, Stage.COMPUTE): TokenQueue.LOAD_TO_COMPUTE,
    (Stage.COMPUTE, Stage.LOAD): TokenQueue.COMPUTE_TO_LOAD,
    (Stage.COMPUTE, Stage.STORE): TokenQueue.COMPUTE_TO_STORE,
    (Stage.STORE, Stage.COMPUTE): TokenQueue.STORE_TO_COMPUTE,
}
NO_INSTRUCTION = -1
_STAGES = tuple(Stage)


@dataclass(frozen=True)
class Access:
    """An instruction of the stream with what it touches; `origin` is its place in the input.

    Reads of constants are left out: nothing writes them.
    """

    insn: Instruction
    reads: tuple[Touch, ...]
    writes: tuple[Touch, ...]
    origin: int


def conflict(a: Access, b: Access) -> bool:
    """Whether two instructions touch a place that one of them writes: their order matters."""
    pairs = ((a.writes, b.writes), (a.writes, b.reads), (a.reads, b.writes))
    return any(meet(left, right) for ours, theirs in pairs for left in ours for right in theirs)


@dataclass(eq=False)
class _Item:
    insn: Instruction
    stage: Stage
    origin: int
    waits: dict[Stage, _Item] = field(default_factory=dict)
    order: int = -1


def insert_tokens(
    stream: Sequence[Access], sizes: dict[str, int]
) -> tuple[list[Instruction], list[int]]:
    """The stream with token flags, no-ops where needed, and FINISH at the end.

    `sizes` gives the number of locations of each memory of the footprints. Beside the instructions,
    the index in `stream` that each comes from, or `NO_INSTRUCTION`.
    """
    items = _with_waits(stream, sizes)
    _set_flags(items)
    return [item.insn for item in items], [item.origin for item in items]


def _with_waits(stream: Sequence[Access], sizes: dict[str, int]) -> list[_Item]:
    """Instructions and what each must wait for; load <-> store waits routed through compute."""
    history = _History(sizes)
    items: list[_Item] = []
    last: dict[Stage, _Item] = {}
    for access in stream:
        stage = stage_of(access.insn)
        item = _Item(access.insn, stage, access.origin)
        conflicts = history.conflicts(access, stage)
        waits = {s: items[index] for s, index in conflicts.items()}
        opposite = {Stage.LOAD: Stage.STORE, Stage.STORE: Stage.LOAD}.get(stage)
        if opposite in waits:
            far = waits.pop(opposite)
            middle = _between(far, waits.get(Stage.COMPUTE), last.get(Stage.COMPUTE))
            if middle is None:
                middle = _no_op()
                middle.order = len(items)
                items.append(middle)
                last[Stage.COMPUTE] = middle
            _wait_on(middle.waits, far)
            _wait_on(waits, middle)
        item.waits = waits
        item.order = len(items)
        items.append(item)
        last[stage] = item
        history.record(access, stage, item.order)
    items.append(_finish(last, len(items)))
    return items


def _between(far: _Item, near: _Item | None, newest: _Item | None) -> _Item | None:
    """A compute instruction younger than `far`, through which its completion can be passed on.

    Best the one that must be waited for anyway, else the newest: it delays computation least.
    """
    for candidate in (near, newest):
        if candidate is not None and candidate.order > far.order:
            return candidate
    return None


def _wait_on(waits: dict[Stage, _Item], other: _Item) -> None:
    known = waits.get(other.stage)
    if known is None or known.order < other.order:
        waits[other.stage] = other


def _no_op() -> _Item:
    return _Item(Load(memory_type=int(MemType.UOP)), Stage.COMPUTE, NO_INSTRUCTION)


def _finish(last: dict[Stage, _Item], order: int) -> _Item:
    """FINISH, after the last load and the last store."""
    item = _Item(Finish(), Stage.COMPUTE, NO_INSTRUCTION)
    item.waits = {s: last[s] for s in (Stage.LOAD, Stage.STORE) if s in last}
    item.order = order
    return item


def _set_flags(items: list[_Item]) -> None:
    seen: dict[tuple[Stage, Stage], int] = {}
    for item in items:
        for source, other in item.waits.items():
            edge = (source, item.stage)
            if other.order <= seen.get(edge, -1):
                continue
            seen[edge] = other.order
            queue = _QUEUE[edge]
            other.insn = _with_flag(other.insn, other.stage, "push", queue)
            item.insn = _with_flag(item.insn, item.stage, "pop", queue)


def _with_flag(insn: Instruction, stage: Stage, kind: str, queue: TokenQueue) -> Instruction:
    flag = next(f for f, q in TOKEN_FLAGS[stage].items() if q is queue and f.startswith(kind))
    assert not getattr(insn, flag), "edges between two stages increase on both sides"
    return replace(insn, **{flag: True})


class _History:
    """Last writer and last reader of every location, per stage (instruction order, -1: none)."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.writer = {m: np.full((3, n), -1, np.int64) for m, n in sizes.items()}
        self.reader = {m: np.full((3, n), -1, np.int64) for m, n in sizes.items()}

    def conflicts(self, access: Access, stage: Stage) -> dict[Stage, int]:
        """The youngest conflicting instruction of every other stage."""
        found: dict[Stage, int] = {}
        tables = [(self.writer, touch) for touch in access.reads]
        tables += [(t, touch) for touch in access.writes for t in (self.writer, self.reader)]
        for table, touch in tables:
            youngest = table[touch.memory][:, touch.at].max(axis=1).tolist()
            for other in _STAGES:
                if other is not stage and youngest[other] > found.get(other, -1):
                    found[other] = youngest[other]
        return found

    def record(self, access: Access, stage: Stage, order: int) -> None:
        """Note an instruction's accesses."""
        for touch in access.reads:
            self.reader[touch.memory][stage, touch.at] = order
        for touch in access.writes:
            self.writer[touch.memory][stage, touch.at] = order
