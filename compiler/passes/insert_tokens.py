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
from dataclasses import dataclass, field

from compiler.passes.last_touches import LastTouches
from vta_hw.spec.config import MemType
from vta_hw.spec.footprint import Touch, meet
from vta_hw.spec.isa import (
    TOKEN_FLAGS,
    Finish,
    Instruction,
    Load,
    Stage,
    TokenQueue,
    altered,
    stage_of,
)

_QUEUE = {
    (Stage.LOAD, Stage.COMPUTE): TokenQueue.LOAD_TO_COMPUTE,
    (Stage.COMPUTE, Stage.LOAD): TokenQueue.COMPUTE_TO_LOAD,
    (Stage.COMPUTE, Stage.STORE): TokenQueue.COMPUTE_TO_STORE,
    (Stage.STORE, Stage.COMPUTE): TokenQueue.STORE_TO_COMPUTE,
}
NO_INSTRUCTION = -1
_OTHERS = {stage: tuple(other for other in Stage if other is not stage) for stage in Stage}
_OPPOSITE = {Stage.LOAD: Stage.STORE, Stage.STORE: Stage.LOAD}
# (stage, "push" or "pop", counter) -> the flag for it
_FLAGS = {
    (stage, flag.split("_")[0], queue): flag
    for stage, flags in TOKEN_FLAGS.items()
    for flag, queue in flags.items()
}


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
    return (
        _any_meet(a.writes, b.writes)
        or _any_meet(a.writes, b.reads)
        or _any_meet(a.reads, b.writes)
    )


def _any_meet(ours: Sequence[Touch], theirs: Sequence[Touch]) -> bool:
    # Plain loops: asked many times for each instruction, a generator would take most of the time.
    for left in ours:
        for right in theirs:
            if left.memory == right.memory and meet(left, right):
                return True
    return False


@dataclass(eq=False)
class _Item:
    insn: Instruction
    stage: Stage
    origin: int
    waits: dict[Stage, _Item] = field(default_factory=dict)
    order: int = -1
    flags: set[str] = field(default_factory=set)


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
    # Micro-ops are loaded and used by one stage: nobody else waits for them.
    history = LastTouches({name: size for name, size in sizes.items() if name != "uop"})
    items: list[_Item] = []
    last: dict[Stage, _Item] = {}
    for access in stream:
        stage = stage_of(access.insn)
        item = _Item(access.insn, stage, access.origin)
        waits = _conflicts(history, items, access, stage)
        opposite = _OPPOSITE.get(stage)
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
        history.note(stage, access.reads, access.writes, item.order)
    items.append(_finish(last, len(items)))
    return items


def _conflicts(
    history: LastTouches, items: Sequence[_Item], access: Access, stage: Stage
) -> dict[Stage, _Item]:
    """The newest conflicting instruction of every other stage."""
    found: dict[Stage, _Item] = {}
    for other in _OTHERS[stage]:
        order = history.conflict(other, access.reads, access.writes, -1)
        if order >= 0:
            found[other] = items[order]
    return found


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
            _flag(other, "push", queue)
            _flag(item, "pop", queue)
    for item in items:
        if item.flags:
            item.insn = altered(item.insn, **dict.fromkeys(item.flags, True))


def _flag(item: _Item, kind: str, queue: TokenQueue) -> None:
    flag = _FLAGS[item.stage, kind, queue]
    assert flag not in item.flags, "edges between two stages increase on both sides"
    item.flags.add(flag)
