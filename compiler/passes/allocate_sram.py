"""Places in the scratchpads: a stack per memory, following the nesting of allocations.

Buffers alive at the same time (one allocated inside the other's scope) never overlap; siblings
share. Memory types are independent.

ACC serves one request per cycle in each of its two halves, by the top bit of the index. So the
halves of a double-buffered accumulator go to different ones, and products do not stand in the way
of what the ALU does with the tile before; unless they only fit one after the other.

Beside a kernel that runs before, each memory is filled from the end where that one is not, so that
weights and inputs can be loaded before it is done with its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.errors import CapacityError
from compiler.loop.nodes import Alloc, Buffer, For, Func, If, Seq, Stmt, walk
from compiler.loop.scopes import MEMORY, Place, elements
from vta_hw.spec.config import VtaConfig

Layout = Mapping[Buffer, Place]


def allocate_sram(func: Func, config: VtaConfig, before: Layout | None = None) -> Layout:
    """The place of every scratchpad buffer; refuses with the sum that does not fit.

    `before` is the layout of the kernel that runs before this one.
    """
    stacks = _stacked(func, config)
    layout = dict(stacks.places)
    for scope in MEMORY:
        buffers = [buffer for buffer in layout if buffer.scope == scope]
        mirrored = {buffer: stacks.mirror(buffer, layout[buffer]) for buffer in buffers}
        straight = {buffer: layout[buffer] for buffer in buffers}
        if before and _meeting(mirrored, before) < _meeting(straight, before):
            layout.update(mirrored)
    return layout


def places_text(places: Layout) -> str:
    """One line per buffer: memory, first and last element (of both halves), name."""
    lines = []
    for buffer, place in places.items():
        spans = ",".join(f"{span.start}..{span.stop - 1}" for span in place.spans(buffer))
        lines.append(f"{buffer.scope} {spans} {buffer.name}\n")
    return "".join(lines)


def _meeting(layout: Layout, before: Layout) -> tuple[int, int]:
    """Elements that a kernel shares with the one before: of what it needs first, and of all."""
    old = [(b.scope, span) for b, place in before.items() for span in place.spans(b)]
    first = everything = 0
    for buffer, place in layout.items():
        for half, span in enumerate(place.spans(buffer)):
            common = sum(_common(span, other) for scope, other in old if scope == buffer.scope)
            first += common if half == 0 else 0
            everything += common
    return first, everything


def _common(a: range, b: range) -> int:
    return max(0, min(a.stop, b.stop) - max(a.start, b.start))


def _stacked(func: Func, config: VtaConfig) -> _Stacks:
    """The stacks with the buffers in them: the halves of ACC apart, if there is a reason to."""
    allocated = [stmt.buffer for stmt in walk(func.body) if isinstance(stmt, Alloc)]
    if any(buffer.is_double and buffer.scope == "acc" for buffer in allocated):
        apart = _Apart(config)
        try:
            apart.visit(func.body, [])
        except CapacityError:
            pass
        else:
            return apart
    stacks = _Stacks(config)
    stacks.visit(func.body, [])
    return stacks


class _Stacks:
    """Every buffer directly behind those that live around it."""

    def __init__(self, config: VtaConfig) -> None:
        self.config = config
        self.places: dict[Buffer, Place] = {}

    def visit(self, stmt: Stmt, live: list[Buffer]) -> None:
        """Place all buffers below a statement; `live` are those allocated around it."""
        match stmt:
            case Alloc(buffer, body):
                peers = [b for b in live if b.scope == buffer.scope]
                self.places[buffer] = self.place(buffer, peers)
                self.visit(body, [*live, buffer])
            case Seq(stmts):
                for part in stmts:
                    self.visit(part, live)
            case For(_, _, body) | If(_, body):
                self.visit(body, live)

    def mirror(self, buffer: Buffer, place: Place) -> Place:
        """The place as far from the end of the memory as it was from the begin.

        Halves change their sides, so that the first one is at the end.
        """
        depth, count = self.config.depth(MEMORY[buffer.scope]), elements(buffer)
        if not buffer.is_double:
            return Place(depth - place.first - count)
        first = depth - place.first - count // 2
        return Place(first, first - count // 2)

    def place(self, buffer: Buffer, peers: Sequence[Buffer]) -> Place:
        """The place of a buffer beside its peers of the same memory."""
        first = sum(elements(b) for b in peers)
        depth = self.config.depth(MEMORY[buffer.scope])
        if first + elements(buffer) > depth:
            parts = " + ".join(f"{elements(b)} ({b.name})" for b in [*peers, buffer])
            total = first + elements(buffer)
            raise CapacityError(
                f"memory {buffer.scope!r} of config {self.config.name!r} has {depth} elements, but "
                f"{parts} = {total} must be in it at once; use smaller tiles or fewer threads"
            )
        return Place(first, first + elements(buffer) // 2 if buffer.is_double else None)


class _Apart(_Stacks):
    """As `_Stacks`, with a stack in each half of ACC; refuses what does not fit so."""

    def place(self, buffer: Buffer, peers: Sequence[Buffer]) -> Place:
        """The place of a buffer; a single one goes to the half with more room."""
        if buffer.scope != "acc":
            return super().place(buffer, peers)
        room = self.config.depth(MEMORY["acc"]) // 2
        used = [0, 0]
        for span in (span for peer in peers for span in self.places[peer].spans(peer)):
            half = span.start // room
            used[half] = max(used[half], span.stop - half * room)
        halves = (0, 1) if buffer.is_double else (int(used[1] < used[0]),)
        if any(used[half] + elements(buffer) // len(halves) > room for half in halves):
            raise CapacityError(f"buffer {buffer.name!r} does not fit a half of 'acc'")
        return Place(*(half * room + used[half] for half in halves))

    def mirror(self, buffer: Buffer, place: Place) -> Place:
        """As far from the end of its half of ACC as it was from the begin."""
        if buffer.scope != "acc":
            return super().mirror(buffer, place)
        room = self.config.depth(MEMORY["acc"]) // 2
        return Place(
            *(span.start // room * 2 * room + room - span.stop for span in place.spans(buffer))
        )
