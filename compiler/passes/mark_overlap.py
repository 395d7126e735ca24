"""Hints `overlap`: which compute instructions may run beside older ones of other units.

An instruction with the hint claims that it touches no entry of ACC or UOP that an older instruction
of another unit touches in a conflicting way, back to and including the latest one without the hint
(that one waited for all before it). The stream is walked in program order; an instruction that
conflicts gets no hint, and what follows it need not look further back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.passes.insert_tokens import Access
from compiler.passes.last_touches import LastTouches
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Alu, Gemm, Instruction, Load, Stage, altered, stage_of

_MEMORIES = ("acc", "uop")
_UNITS = (Gemm, Alu, Load)


def mark_overlap(
    instructions: Sequence[Instruction],
    origins: Sequence[int],
    stream: Mapping[int, Access],
    sizes: Mapping[str, int],
    config: VtaConfig,
) -> list[Instruction]:
    """The instructions with hints wherever they are true; unchanged without the extension.

    `stream` has the footprint of each instruction by its origin, `sizes` the number of entries of
    each memory.
    """
    if not config.has("overlap"):
        return list(instructions)
    history = _History({memory: sizes[memory] for memory in _MEMORIES})
    places = [
        place
        for place, insn in enumerate(instructions)
        if stage_of(insn) is Stage.COMPUTE and isinstance(insn, Gemm | Alu | Load)
    ]
    for place in places:
        history.add(type(instructions[place]), stream.get(origins[place]))
    out = list(instructions)
    for number, place in enumerate(places):
        insn = out[place]
        assert isinstance(insn, Gemm | Alu | Load)
        hint = number not in history.without
        if insn.overlap != hint:
            out[place] = altered(insn, overlap=hint)
    return out


class _History:
    """The instructions so far, numbered, with the units that they keep busy."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._touches = LastTouches(sizes)
        self._units: list[type] = []
        self._begin = 0  # the latest without a hint
        self.without: set[int] = set()

    def add(self, unit: type, access: Access | None) -> None:
        """Take in the next instruction."""
        number = len(self._units)
        met = -1 if access is None else self._youngest(unit, access)
        self._units.append(unit)
        if number == 0 or (met >= self._begin and not self._begin_behind(met)):
            self._begin = number
            self.without.add(number)
        if access is not None:
            self._touches.note(unit, access.reads, access.writes, number)

    def _begin_behind(self, met: int) -> bool:
        """Take the hint from an instruction behind a conflict that waits for its unit anyway.

        Of such ones the newest: what it has to wait for is most likely done by then. Best one that
        follows an instruction of its own unit, as no other unit has just begun something.
        """
        last = len(self._units) - 1
        found = [
            other
            for other in range(last - 1, met, -1)
            if self._units[other] in self._units[met + 1 : other]
        ]
        if not found:
            return False
        alone = (other for other in found if self._units[other - 1] is self._units[other])
        self._begin = next(alone, found[0])
        self.without.add(self._begin)
        return True

    def _youngest(self, unit: type, access: Access) -> int:
        """The youngest conflicting instruction of another unit; before `_begin`: there is none."""
        met = self._begin - 1
        for other in _UNITS:
            if other is not unit:
                met = self._touches.conflict(other, access.reads, access.writes, met)
        return met
