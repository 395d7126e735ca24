"""What every instruction of a program touches, found without running it.

Addresses, sizes and loops stand in the instructions. Micro-ops come from DRAM and are taken to be
those of the image; `hazard_tokens.unknown_micro_ops` says where that need not be so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
from operator import attrgetter
from typing import Any

import numpy as np

from vta_hw.spec.asm import format_insn
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.footprint import NOTHING, Footprint, IntArray, Rows, Touch, footprint, spans
from vta_hw.spec.isa import (
    Alu,
    FaultClass,
    Finish,
    Gemm,
    Instruction,
    Load,
    Stage,
    Store,
    TokenQueue,
    Unknown,
    pops,
    pushes,
    stage_of,
)
from vta_hw.spec.result import Fault
from vta_hw.spec.semantics import Scratchpads, address, check, execute
from vta_sim.report import describe_fault


class Unit(IntEnum):
    """The units of the compute stage that the extension `overlap` lets run side by side."""

    GEMM = 0
    ALU = 1
    DMA = 2


@dataclass(frozen=True, slots=True)
class Region:
    """A named piece of DRAM: bytes start .. end - 1; `known` if its contents are those given."""

    name: str
    start: int
    end: int
    known: bool


@dataclass(frozen=True)
class Dram:
    """DRAM as it is before a run.

    `limit` ends the legal addresses. `regions` lie in `image`; `within` says which instruction
    must stay inside which of them.
    """

    image: IntArray
    limit: int
    bases: Mapping[MemType, int]
    regions: tuple[Region, ...]
    within: Mapping[int, Region] = field(default_factory=dict)

    def address(self, insn: Load | Store) -> int:
        """Byte address that its memory's base register holds."""
        memory = MemType(insn.memory_type)
        return self.bases.get(MemType.ACC if memory is MemType.ACC_8BIT else memory, 0)

    def knows(self, rows: Rows, base: int) -> bool:
        """Whether every byte of the rows is in a region of known contents."""
        starts = rows.starts(base)
        inside = np.zeros(len(starts), bool)
        for region in self.regions:
            if region.known:
                inside |= (starts >= region.start) & (starts + rows.length <= region.end)
        return bool(inside.all())


@dataclass(slots=True, eq=False)
class Step:
    """One instruction that a stage gets to, with all that ordering and conflicts depend on.

    `hinted`: it claims that it may run beside older instructions of other units. DRAM is touched
    in `Written`'s numbering; `rows` from `base` are its exact bytes.
    """

    index: int
    stage: Stage
    pops: tuple[TokenQueue, ...]
    pushes: tuple[TokenQueue, ...]
    reads: tuple[Touch, ...] = ()
    writes: tuple[Touch, ...] = ()
    rows: Rows | None = None
    base: int = 0
    unit: Unit | None = None
    hinted: bool = False


@dataclass(frozen=True)
class Trace:
    """The steps in program order, what is wrong with single ones, and the size of each memory."""

    steps: tuple[Step, ...]
    faults: tuple[Fault, ...]
    sizes: Mapping[str, int]


class Written:
    """The units of DRAM that some STORE writes, numbered from 0 without gaps.

    Conflicts need a STORE, so no other byte matters. All STOREs write whole OUT elements at whole
    multiples from one base: with these as units, two transfers share a byte of written memory
    just if they share a unit of it, although a LOAD may cover a part only.
    """

    def __init__(self, stores: Sequence[tuple[Rows, int]], config: VtaConfig) -> None:
        self._unit = config.elem_bytes(MemType.OUT)
        self._shift = stores[0][1] % self._unit if stores else 0
        self._memo: dict[tuple[Rows, int], Touch | None] = {}
        begins = [rows.starts(base) - self._shift for rows, base in stores]
        ends = [b + rows.length for b, (rows, _) in zip(begins, stores, strict=True)]
        self._starts, self._lengths = _merge(_join(begins), _join(ends), self._unit)
        self._before = np.cumsum(self._lengths) - self._lengths
        self.size = int(self._lengths.sum())

    def touch(self, rows: Rows, base: int) -> Touch | None:
        """The written units that have a byte in the rows."""
        key = rows, base
        if key not in self._memo:
            self._memo[key] = self._find(rows, base)
        return self._memo[key]

    def _find(self, rows: Rows, base: int) -> Touch | None:
        if not self.size:
            return None
        starts = rows.starts(base) - self._shift
        begins = self._count_below(starts // self._unit)
        ends = self._count_below(-(-(starts + rows.length) // self._unit))
        some = ends > begins
        return spans("dram", begins[some], ends[some]) if some.any() else None

    def _count_below(self, units: IntArray) -> IntArray:
        """How many written units lie below each of `units`."""
        span = np.searchsorted(self._starts, units, side="right") - 1
        inside = np.minimum(units - self._starts[span], self._lengths[span])
        return np.where(span < 0, 0, self._before[span] + inside)


def _join(arrays: Sequence[IntArray]) -> IntArray:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int64)


def _merge(begins: IntArray, ends: IntArray, unit: int) -> tuple[IntArray, IntArray]:
    """Starts and lengths, in units, of the disjoint spans that cover all the given ones."""
    order = np.argsort(begins, kind="stable")
    begins, reach = begins[order] // unit, np.maximum.accumulate(ends[order] // unit)
    heads = np.flatnonzero(np.append(True, begins[1:] > reach[:-1])[: len(begins)])
    ends = reach[np.append(heads[1:], len(reach))[: len(heads)] - 1]
    return begins[heads], ends - begins[heads]


def trace(config: VtaConfig, instructions: Sequence[Instruction], dram: Dram) -> Trace:
    """The steps of a program whose DRAM addresses are filled in.

    A bad instruction is reported and touches nothing; the ones after it are looked at all the
    same. Left out is what never starts: all after an unknown opcode, and compute instructions
    after FINISH.
    """
    return _Tracer(config, instructions, dram).run()


_TOKEN_FLAGS = ("opcode", "pop_prev", "pop_next", "push_prev", "push_next", "overlap")


def _loop_fields(form: type[Gemm] | type[Alu]) -> attrgetter[tuple[Any, ...]]:
    return attrgetter(*(item.name for item in fields(form) if item.name not in _TOKEN_FLAGS))


_LOOP_FIELDS = {Gemm: _loop_fields(Gemm), Alu: _loop_fields(Alu)}


class _Tracer:
    def __init__(self, config: VtaConfig, instructions: Sequence[Instruction], dram: Dram) -> None:
        self.config = config
        self.instructions = instructions
        self.dram = dram
        self.pads = Scratchpads(config)
        self.faults: list[Fault] = []
        self.loops: dict[tuple[Any, ...], tuple[FaultClass | None, Footprint]] = {}
        stores = (insn for insn in instructions if isinstance(insn, Store))
        legal = [insn for insn in stores if self._check(insn) is None]
        moved = [(footprint(insn, self.pads.uop[:0], config).rows, insn) for insn in legal]
        self.written = Written(
            [(rows, dram.address(insn)) for rows, insn in moved if rows is not None], config
        )

    def run(self) -> Trace:
        steps, finished = [], False
        for index, insn in enumerate(self.instructions):
            if isinstance(insn, Unknown):
                self._fault(index, insn, FaultClass.BAD_OPCODE)
                break
            stage = stage_of(insn)
            if finished and stage is Stage.COMPUTE:
                continue
            finished = finished or isinstance(insn, Finish)
            steps.append(self._step(index, insn, stage))
        memories = {m.name.lower(): m for m in (MemType.UOP, MemType.WGT, MemType.INP, MemType.ACC)}
        sizes = {name: self.config.depth(memory) for name, memory in memories.items()}
        return Trace(tuple(steps), tuple(self.faults), {**sizes, "dram": self.written.size})

    def _step(self, index: int, insn: Instruction, stage: Stage) -> Step:
        step = Step(index, stage, pops(insn), pushes(insn))
        if stage is Stage.COMPUTE and self.config.has("overlap"):
            step.unit = _unit(insn)
            step.hinted = bool(getattr(insn, "overlap", False))
        touched = self._footprint(index, insn)
        step.reads, step.writes, step.rows = touched.reads, touched.writes, touched.rows
        if step.rows is not None:
            assert isinstance(insn, Load | Store)
            step.base = self.dram.address(insn)
            dram = self.written.touch(step.rows, step.base)
            if dram is not None and isinstance(insn, Store):
                step.writes += (dram,)
            elif dram is not None:
                step.reads += (dram,)
        return step

    def _footprint(self, index: int, insn: Instruction) -> Footprint:
        if isinstance(insn, Gemm | Alu):
            # Compiled programs run the same loops on the same micro-ops over and over.
            uops = self.pads.uop[insn.uop_bgn : insn.uop_end]
            key = (type(insn), _LOOP_FIELDS[type(insn)](insn), uops.tobytes())
            if key not in self.loops:
                bad = self._check(insn)
                self.loops[key] = bad, NOTHING if bad else footprint(insn, uops, self.config)
            fault, touched = self.loops[key]
        else:
            fault = self._check(insn)
            touched = NOTHING if fault else footprint(insn, self.pads.uop[:0], self.config)
        if fault is not None:
            self._fault(index, insn, fault)
        elif touched.rows is not None:
            assert isinstance(insn, Load | Store)
            if not self._stays_within(index, insn, touched.rows):
                return NOTHING
        if fault is None and isinstance(insn, Load) and insn.memory_type == MemType.UOP:
            execute(insn, self.pads, self.dram.image, self.config, self.dram.bases, self.dram.limit)
        return touched

    def _check(self, insn: Instruction) -> FaultClass | None:
        return check(insn, self.pads, self.config, self.dram.limit, self.dram.bases)

    def _fault(self, index: int, insn: Instruction, fault: FaultClass) -> None:
        text = describe_fault(index, insn, fault, self.config, self.dram.limit)
        self.faults.append(Fault(fault.text, index, text))

    def _stays_within(self, index: int, insn: Load | Store, rows: Rows) -> bool:
        region = self.dram.within.get(index)
        if region is None:
            return True
        first = address(insn, MemType(insn.memory_type), self.pads, self.dram.bases)
        end = first + (rows.count - 1) * rows.pitch + rows.length
        if region.start <= first and end <= region.end:
            return True
        text = (
            f"instruction {index} ({format_insn(insn)}) reaches bytes {first - region.start}.."
            f"{end - region.start - 1} of {region.name!r}, which has "
            f"{region.end - region.start}; move it or make it smaller"
        )
        self.faults.append(Fault(FaultClass.DRAM_RANGE.text, index, text))
        return False


def _unit(insn: Instruction) -> Unit | None:
    match insn:
        case Gemm():
            return Unit.GEMM
        case Alu():
            return Unit.ALU
        case Load():
            return Unit.DMA
    return None
