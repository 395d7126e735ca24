"""Moves the loads of inputs and weights up to where their scratchpad becomes free.

The load stage runs them in the same order as before. What changes is the compute instruction that
tells it of a completed store, or of a buffer that is free: one before the last products, not the
products themselves, which would tell it at their end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.passes.insert_tokens import Access
from compiler.passes.last_touches import LastTouches
from vta_hw.spec.isa import Stage, stage_of

_OTHERS = "other stages"
_MEMORIES = ("dram", "inp", "wgt")
"""What the load stage touches."""


def hoist_loads(stream: Sequence[Access], sizes: Mapping[str, int]) -> list[Access]:
    """The instructions with each load of the load stage moved up to the one before it, or up to
    an instruction that it conflicts with. `sizes` as for `insert_tokens`."""
    others: list[Access] = []
    loads: dict[int, list[Access]] = {}  # by the number of others that they stay behind
    history = LastTouches({name: size for name, size in sizes.items() if name in _MEMORIES})
    place = 0
    for access in stream:
        if stage_of(access.insn) is Stage.LOAD:
            place = history.conflict(_OTHERS, access.reads, access.writes, place - 1) + 1
            loads.setdefault(place, []).append(access)
        else:
            history.note(_OTHERS, access.reads, access.writes, len(others))
            others.append(access)
    out = loads.get(0, [])
    for number, access in enumerate(others, 1):
        out.append(access)
        out += loads.get(number, ())
    return out
