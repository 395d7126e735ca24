"""Moves the loads of inputs and weights up to where their scratchpad becomes free.

The load stage runs them in the same order as before. What changes is the compute instruction that
tells it of a completed store, or of a buffer that is free: one before the last products, not the
products themselves, which would tell it at their end.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.passes.insert_tokens import Access, conflict
from vta_hw.spec.isa import Stage, stage_of


def hoist_loads(stream: Sequence[Access]) -> list[Access]:
    """The instructions with each load of the load stage moved up to the one before it, or up to
    an instruction that it conflicts with."""
    out: list[Access] = []
    for access in stream:
        place = len(out)
        if stage_of(access.insn) is Stage.LOAD:
            while place and not _stops(access, out[place - 1]):
                place -= 1
        out.insert(place, access)
    return out


def _stops(access: Access, other: Access) -> bool:
    return stage_of(other.insn) is Stage.LOAD or conflict(access, other)
