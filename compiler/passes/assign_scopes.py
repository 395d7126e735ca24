"""Check that scratchpad buffers can live where the schedule put them.

Their last two axes must be one element of the memory, their dtype its scalar, and each must fit the
memory on its own (all of them together: `allocate_sram`).
"""

from __future__ import annotations

from compiler.errors import CapacityError, LoweringError
from compiler.loop.nodes import Alloc, Func, walk
from compiler.loop.scopes import DTYPE, MEMORY, element_shape, elements
from vta_hw.spec.config import VtaConfig


def assign_scopes(func: Func, config: VtaConfig) -> Func:
    """`func` unchanged, or a refusal that names the buffer and both sides of what differs."""
    for stmt in walk(func.body):
        if not isinstance(stmt, Alloc):
            continue
        buffer = stmt.buffer
        if buffer.scope not in MEMORY:
            raise LoweringError(
                f"buffer {buffer.name!r} is in scope {buffer.scope!r}; a VTA kernel needs its "
                f"intermediate tensors in {', '.join(MEMORY)} (set_scope)"
            )
        if buffer.dtype != DTYPE[buffer.scope]:
            raise LoweringError(
                f"buffer {buffer.name!r} holds {buffer.dtype}, memory {buffer.scope!r} holds "
                f"{DTYPE[buffer.scope]}"
            )
        shape = element_shape(buffer.scope, config)
        if buffer.shape[-2:] != shape:
            raise LoweringError(
                f"buffer {buffer.name!r} of shape {list(buffer.shape)} must end in one "
                f"{buffer.scope!r} element, {list(shape)}"
            )
        depth = config.depth(MEMORY[buffer.scope])
        if elements(buffer) > depth:
            raise CapacityError(
                f"buffer {buffer.name!r} takes {elements(buffer)} elements of {buffer.scope!r}, "
                f"which has {depth}; use smaller tiles"
            )
    return func
