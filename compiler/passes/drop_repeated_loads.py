"""Leaves out LOADs of constants that are on the chip already, at the same place.

A buffer with two halves is loaded anew for each round, though every second one finds what it needs
where it was left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compiler.passes.insert_tokens import Access
from vta_hw.spec.footprint import Touch, meet
from vta_hw.spec.isa import Instruction, Load


@dataclass(frozen=True)
class _Held:
    """What a LOAD left on the chip: where, and the instruction with the constant that it read."""

    place: Touch
    source: tuple[Instruction, str]


def drop_repeated_loads(stream: Sequence[Access], constants: Sequence[str | None]) -> list[Access]:
    """The instructions without such LOADs. `constants` has, by origin, the constant read."""
    held: list[_Held] = []
    out: list[Access] = []
    for access in stream:
        name = constants[access.origin]
        source = None
        if name is not None and isinstance(access.insn, Load) and access.writes:
            source = access.insn, name
            if any(source == other.source for other in held):
                continue
        held = [other for other in held if not _overwrites(access, other.place)]
        if source is not None:
            held += [_Held(place, source) for place in access.writes]
        out.append(access)
    return out


def _overwrites(access: Access, place: Touch) -> bool:
    return any(write.memory == place.memory and meet(write, place) for write in access.writes)
