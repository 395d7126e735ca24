"""Scratchpad offsets: a stack per memory, following the nesting of allocations.

Buffers alive at the same time (one allocated inside the other's scope) never overlap; siblings
share. Memory types are independent.
"""

from __future__ import annotations

from collections.abc import Mapping

from compiler.errors import CapacityError
from compiler.loop.nodes import Alloc, Buffer, For, Func, If, Seq, Stmt
from compiler.loop.scopes import MEMORY, elements
from vta_hw.spec.config import VtaConfig


def allocate_sram(func: Func, config: VtaConfig) -> Mapping[Buffer, int]:
    """First element of every scratchpad buffer; refuses with the sum that does not fit."""
    offsets: dict[Buffer, int] = {}
    _visit(func.body, [], offsets, config)
    return offsets


def offsets_text(offsets: Mapping[Buffer, int]) -> str:
    """One line per buffer: memory, first and last element, name."""
    return "".join(
        f"{buffer.scope} {first}..{first + elements(buffer) - 1} {buffer.name}\n"
        for buffer, first in offsets.items()
    )


def _visit(stmt: Stmt, live: list[Buffer], offsets: dict[Buffer, int], config: VtaConfig) -> None:
    match stmt:
        case Alloc(buffer, body):
            peers = [b for b in live if b.scope == buffer.scope]
            offsets[buffer] = sum(elements(b) for b in peers)
            depth = config.depth(MEMORY[buffer.scope])
            if offsets[buffer] + elements(buffer) > depth:
                parts = " + ".join(f"{elements(b)} ({b.name})" for b in [*peers, buffer])
                total = offsets[buffer] + elements(buffer)
                raise CapacityError(
                    f"memory {buffer.scope!r} of config {config.name!r} has {depth} elements, but "
                    f"{parts} = {total} must be in it at once; use smaller tiles or fewer threads"
                )
            _visit(body, [*live, buffer], offsets, config)
        case Seq(stmts):
            for part in stmts:
                _visit(part, live, offsets, config)
        case For(_, _, body) | If(_, body):
            _visit(body, live, offsets, config)
