"""The hazard checker: is a program's result the same on every machine that keeps to the tokens?

Nothing is run. Reported are conflicting accesses that nothing orders, tokens that are waited for in
vain or left over, and instructions that fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vta_hw.spec import isa
from vta_hw.spec.asm import format_insn
from vta_hw.spec.config import PAGE_BYTES, MemType, VtaConfig
from vta_hw.spec.errors import ProgramError
from vta_hw.spec.footprint import IntArray
from vta_hw.spec.isa import Instruction
from vta_hw.spec.program import Program
from vta_hw.spec.result import Fault, Status
from vta_hw.spec.semantics import ADDRESS_LIMIT
from vta_sim.hazard_order import in_order
from vta_sim.hazard_races import Clash, Race, Ranges, find_races
from vta_sim.hazard_tokens import Subject, not_awaited, run_tokens, unknown_micro_ops
from vta_sim.hazard_trace import Dram, Region, trace

__all__ = ["Clash", "Hazard", "Race", "Report", "check_program", "check_stream"]

PAIRS_MAX = 1_000
"""Pairs that a report lists unless told otherwise."""


@dataclass(frozen=True)
class Hazard:
    """A race with what a reader needs: both instructions as text, and where they come from."""

    race: Race
    first_text: str
    second_text: str
    first_source: str
    second_source: str
    places: tuple[str, ...]

    @property
    def text(self) -> str:
        """One sentence: who, on what, and the mend."""
        race = self.race
        first = _named(race.first, self.first_text, self.first_source)
        second = _named(race.second, self.second_text, self.second_source)
        on = "; ".join(
            f"{where}, which the first {_verb(clash.first_writes)} and the second "
            f"{_verb(clash.second_writes)}"
            for where, clash in zip(self.places, race.clashes, strict=True)
        )
        if race.hint:
            return (
                f"{second} claims by its overlap bit not to conflict with {first}, the first, "
                f"but does on {on}; clear the bit"
            )
        return f"nothing orders {first} and {second}: both touch {on}; add a token between them"

    def to_dict(self) -> dict[str, Any]:
        """The form used by ``--json``."""
        sides = (
            ("first", self.race.first, self.first_text, self.first_source),
            ("second", self.race.second, self.second_text, self.second_source),
        )
        return {
            "kind": "overlap" if self.race.hint else "order",
            **{name: {"index": i, "text": t, "source": s} for name, i, t, s in sides},
            "conflicts": [
                {
                    "memory": clash.memory,
                    "ranges": [list(ends) for ends in clash.ranges],
                    "first_writes": clash.first_writes,
                    "second_writes": clash.second_writes,
                }
                for clash in self.race.clashes
            ],
            "text": self.text,
        }


def _named(index: int, text: str, source: str) -> str:
    return f"instruction {index} ({text}{f'; {source}' if source else ''})"


def _verb(writes: bool) -> str:
    return "writes" if writes else "reads"


@dataclass(frozen=True)
class Report:
    """What is wrong with a program.

    `faults` are instructions that fault, or whose effect cannot be told beforehand; `ending` says
    how the run ends if nothing faults (`deadlock` names what waits for which token); `more` that
    there are hazards beyond those listed. `notes` are harmless on a machine that keeps to the
    instruction set: tokens left over, and a FINISH that does not wait for the other stages.
    """

    instructions: int
    hazards: tuple[Hazard, ...]
    faults: tuple[Fault, ...]
    ending: Status
    ending_fault: Fault | None
    notes: tuple[str, ...] = ()
    more: bool = False

    @property
    def clean(self) -> bool:
        """Whether nothing but notes was found."""
        return self.status == "clean"

    @property
    def status(self) -> str:
        """The gravest kind of finding: ``fault``, ``deadlock`` or another ending, ``hazard``, or
        ``clean``.
        """
        if self.faults:
            return str(Status.FAULT)
        if self.ending is not Status.OK:
            return str(self.ending)
        return "hazard" if self.hazards else "clean"

    @property
    def findings(self) -> tuple[str, ...]:
        """All that is wrong, as sentences, the gravest first."""
        ending = (self.ending_fault.text,) if self.ending_fault else ()
        hazards = tuple(hazard.text for hazard in self.hazards)
        more = (f"there are more hazards than these {len(hazards)}",) if self.more else ()
        return (*(fault.text for fault in self.faults), *ending, *hazards, *more)

    def to_dict(self) -> dict[str, Any]:
        """The form used by ``--json``."""
        return {
            "instructions": self.instructions,
            "status": self.status,
            "hazards": [hazard.to_dict() for hazard in self.hazards],
            "more_hazards": self.more,
            "faults": [fault.to_dict() for fault in self.faults],
            "ending": str(self.ending),
            "ending_fault": self.ending_fault.to_dict() if self.ending_fault else None,
            "notes": list(self.notes),
        }


def check_stream(
    config: VtaConfig,
    stream: bytes | Sequence[Instruction],
    dram: IntArray,
    *,
    bases: Mapping[MemType, int] | None = None,
    dram_limit: int | None = None,
    pairs_max: int = PAIRS_MAX,
) -> Report:
    """Check a raw stream: encoded, or instructions as `isa.decode` gives them.

    `dram` is all of DRAM as uint8; its micro-ops are looked at. `bases` are the base registers in
    bytes (absent ones 0), `dram_limit` the end of legal addresses (default: all of `dram`).
    """
    limit = len(dram) if dram_limit is None else dram_limit
    if not 0 <= limit <= len(dram):
        raise ProgramError(
            f"DRAM_LIMIT must be within 0..{len(dram)} (the size of DRAM), not {limit}"
        )
    if dram.dtype != np.uint8 or dram.ndim != 1:
        raise ProgramError(
            f"DRAM must be a uint8 array with one axis, not {dram.dtype} of shape {dram.shape}"
        )
    for memory, base in (bases or {}).items():
        if not 0 <= base < ADDRESS_LIMIT:
            raise ProgramError(
                f"the base register of {memory.name} must be within 0..{ADDRESS_LIMIT - 1}, "
                f"not {base}"
            )
    instructions = isa.decode_all(stream, config) if isinstance(stream, bytes) else stream
    whole = Region("dram", 0, len(dram), known=True)
    image = Dram(dram, limit, dict(bases or {}), (whole,))
    return _check(Subject(config, instructions, image), pairs_max)


def check_program(
    program: Program,
    addresses: Mapping[str, int] | None = None,
    *,
    pairs_max: int = PAIRS_MAX,
) -> Report:
    """Check a program with its symbols at these byte addresses.

    Symbols that are not mentioned lie behind the others, each on pages of its own. Every
    instruction must also stay within the symbol that it addresses.
    """
    regions = _place(program, addresses or {})
    end = max((region.end for region in regions.values()), default=0)
    image = np.zeros(end, np.uint8)
    for name, symbol in program.symbols.items():
        if symbol.contents is not None:
            region = regions[name]
            image[region.start : region.end] = np.frombuffer(symbol.contents, np.uint8)
    within = {r.index: regions[r.symbol] for r in program.relocations}
    bound = program.bound({name: region.start for name, region in regions.items()})
    sources = {i: program.source(i) for i in range(len(bound))}
    dram = Dram(image, end, {}, tuple(regions.values()), within)
    return _check(Subject(program.config, bound, dram, sources, named=True), pairs_max)


def _place(program: Program, addresses: Mapping[str, int]) -> dict[str, Region]:
    regions = {}
    free = 0
    for name, address in addresses.items():
        if name not in program.symbols:
            raise ProgramError(f"the program has no symbol {name!r} to put at {address:#x}")
        if address < 0:
            raise ProgramError(f"symbol {name!r} must lie at a positive address, not {address}")
        free = max(free, address + program.symbols[name].size_bytes)
    for name, symbol in program.symbols.items():
        start = addresses.get(name)
        if start is None:
            start = -(-free // PAGE_BYTES) * PAGE_BYTES
            free = start + symbol.size_bytes
        end = start + symbol.size_bytes
        regions[name] = Region(name, start, end, known=symbol.contents is not None)
    return regions


def _check(subject: Subject, pairs_max: int) -> Report:
    traced = trace(subject.config, subject.instructions, subject.dram)
    timeline = list(in_order(traced.steps))
    races, more = find_races(traced, timeline, pairs_max)
    ending, ending_fault, left = run_tokens(subject)
    faults = (*traced.faults, *unknown_micro_ops(traced, timeline, subject))
    return Report(
        instructions=len(subject.instructions),
        hazards=tuple(_hazard(race, subject) for race in races),
        faults=tuple(sorted(faults, key=lambda fault: fault.index or 0)),
        ending=ending,
        ending_fault=ending_fault,
        notes=(*left, *not_awaited(traced, timeline, subject)),
        more=more,
    )


# -- texts ----------------------------------------------------------------------------------------


def _hazard(race: Race, subject: Subject) -> Hazard:
    return Hazard(
        race=race,
        first_text=format_insn(subject.instructions[race.first]),
        second_text=format_insn(subject.instructions[race.second]),
        first_source=subject.sources.get(race.first, ""),
        second_source=subject.sources.get(race.second, ""),
        places=tuple(_places(clash, subject) for clash in race.clashes),
    )


_SHOWN_RANGES = 4


def _places(clash: Clash, subject: Subject) -> str:
    if clash.memory != "dram":
        return f"{clash.memory} {_ranges_text(clash.ranges)}"
    text = f"DRAM bytes {_ranges_text(clash.ranges)}"
    if subject.named:
        first, last = clash.ranges[0][0], clash.ranges[-1][1]
        names = [r.name for r in subject.dram.regions if r.start <= last and first < r.end]
        text += f" ({', '.join(names)})"
    return text


def _ranges_text(ranges: Ranges) -> str:
    shown = [str(a) if a == b else f"{a}..{b}" for a, b in ranges[:_SHOWN_RANGES]]
    rest = len(ranges) - len(shown)
    return ", ".join(shown) + (f" and {rest} more ranges" if rest else "")
