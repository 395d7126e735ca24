"""Places in the scratchpads: a stack per memory, following the nesting of allocations.

Buffers alive at the same time (one allocated inside the other's scope) never overlap; siblings
share. Memory types are independent.

ACC serves one request per cycle in each of its two halves, by the top bit of the index. So the
halves of a double-buffered accumulator go to different ones, and products do not stand in the way
of what the ALU does with the tile before; unless they only fit one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.errors import CapacityError
from compiler.loop.nodes import Alloc, Buffer, For, Func, If, Seq, Stmt, walk
from compiler.loop.scopes import MEMORY, Place, elements
from vta_hw.spec.config import VtaConfig


def allocate_sram(func: Func, config: VtaConfig) -> Mapping[Buffer, Place]:
    """The place of every scratchpad buffer; refuses with the sum that does not fit."""
    allocated = [stmt.buffer for stmt in walk(func.body) if isinstance(stmt, Alloc)]
    if any(buffer.is_double and buffer.scope == "acc" for buffer in allocated):
        apart = _Apart(config)
        try:
            apart.visit(func.body, [])
        except CapacityError:
            pass
        else:
            return apart.places
    stacks = _Stacks(config)
    stacks.visit(func.body, [])
    return stacks.places


def places_text(places: Mapping[Buffer, Place]) -> str:
    """One line per buffer: memory, first and last element (of both halves), name."""
    lines = []
    for buffer, place in places.items():
        spans = ",".join(f"{span.start}..{span.stop - 1}" for span in place.spans(buffer))
        lines.append(f"{buffer.scope} {spans} {buffer.name}\n")
    return "".join(lines)


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
        return Place(first)


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
