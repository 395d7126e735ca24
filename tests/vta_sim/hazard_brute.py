"""Hazards by force: a set of places per instruction, and reachability in the graph of all events.

By the rules of docs/isa.md and in plain Python; shares nothing with the checker but the
instruction classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import (
    Alu,
    AluOp,
    Finish,
    Gemm,
    Instruction,
    Load,
    MicroOp,
    Stage,
    Store,
    TokenQueue,
    decode_uop,
    pops,
    pushes,
    stage_of,
)

Place = tuple[str, int]
Conflicts = Mapping[str, tuple[frozenset[int], bool, bool]]
"""Memory -> places, whether the first and whether the second writes any of them."""


@dataclass
class Access:
    """The places that one instruction reads and writes."""

    reads: set[Place] = field(default_factory=set)
    writes: set[Place] = field(default_factory=set)

    def conflicts(self, other: Access) -> Conflicts:
        places = (self.writes & (other.reads | other.writes)) | (self.reads & other.writes)
        return {
            memory: (
                frozenset(n for m, n in places if m == memory),
                any(m == memory for m, _ in self.writes & (other.reads | other.writes)),
                any(m == memory for m, _ in other.writes & (self.reads | self.writes)),
            )
            for memory in {m for m, _ in places}
        }


def accesses(
    config: VtaConfig,
    program: Sequence[Instruction],
    dram: bytes,
    bases: Mapping[MemType, int] | None = None,
) -> list[Access]:
    """What each legal instruction touches, DRAM byte by byte."""
    uops: dict[int, MicroOp] = {}
    return [_access(config, insn, dram, bases or {}, uops) for insn in program]


def _access(
    config: VtaConfig,
    insn: Instruction,
    dram: bytes,
    bases: Mapping[MemType, int],
    uops: dict[int, MicroOp],
) -> Access:
    access = Access()
    if isinstance(insn, Load | Store):
        if insn.x_size:
            _transfer(config, insn, dram, bases, uops, access)
    elif isinstance(insn, Gemm | Alu):
        for outer in range(insn.iter_out):
            for inner in range(insn.iter_in):
                for number in range(insn.uop_bgn, insn.uop_end):
                    access.reads.add(("uop", number))
                    uop = uops.get(number, MicroOp())
                    _operate(insn, uop, outer, inner, access)
    return access


def _transfer(
    config: VtaConfig,
    insn: Load | Store,
    dram: bytes,
    bases: Mapping[MemType, int],
    uops: dict[int, MicroOp],
    access: Access,
) -> None:
    memory = MemType(insn.memory_type)
    pad = "acc" if memory in (MemType.OUT, MemType.ACC_8BIT) else memory.name.lower()
    size = config.elem_bytes(memory)
    base = bases.get(MemType.ACC if memory is MemType.ACC_8BIT else memory, 0)
    height = insn.y_pad_0 + insn.y_size + insn.y_pad_1
    width = insn.x_pad_0 + insn.x_size + insn.x_pad_1
    for place in range(height * width):
        entry = insn.sram_base + place
        y, x = place // width - insn.y_pad_0, place % width - insn.x_pad_0
        inside = 0 <= y < insn.y_size and 0 <= x < insn.x_size
        first = base + (insn.dram_base + y * insn.x_stride + x) * size
        touched = {("dram", first + i) for i in range(size)} if inside else set()
        if isinstance(insn, Store):
            access.reads.add((pad, entry))
            access.writes |= touched
        else:
            access.writes.add((pad, entry))
            access.reads |= touched
        if memory is MemType.UOP:
            word = int.from_bytes(dram[first : first + 4], "little") if inside else 0
            uops[entry] = decode_uop(word, config)


def _operate(insn: Gemm | Alu, uop: MicroOp, outer: int, inner: int, access: Access) -> None:
    dst = uop.dst + outer * insn.dst_factor_out + inner * insn.dst_factor_in
    src = uop.src + outer * insn.src_factor_out + inner * insn.src_factor_in
    access.writes.add(("acc", dst))
    if isinstance(insn, Gemm):
        if not insn.reset:
            wgt = uop.wgt + outer * insn.wgt_factor_out + inner * insn.wgt_factor_in
            access.reads |= {("acc", dst), ("inp", src), ("wgt", wgt)}
        return
    access.reads.add(("acc", dst))
    if not insn.use_imm:
        parts = 3 if insn.alu_opcode == AluOp.REQ else 1
        access.reads |= {("acc", src + part) for part in range(parts)}


# -- order ----------------------------------------------------------------------------------------


def started(program: Sequence[Instruction]) -> list[int]:
    """The instructions that a machine with endless queues ever starts."""
    waiting = {stage: deque[int]() for stage in Stage}
    for index, insn in enumerate(program):
        waiting[stage_of(insn)].append(index)
    tokens = dict.fromkeys(TokenQueue, 0)
    done: list[int] = []
    moved = True
    while moved:
        moved = False
        for queue in waiting.values():
            if queue and all(tokens[token] for token in pops(program[queue[0]])):
                index = queue.popleft()
                for token in pops(program[index]):
                    tokens[token] -= 1
                for token in pushes(program[index]):
                    tokens[token] += 1
                if isinstance(program[index], Finish):
                    queue.clear()
                done.append(index)
                moved = True
    return sorted(done)


class Before:
    """`complete(a, b)`: whether instruction a is complete before b starts, in every run."""

    def __init__(self, config: VtaConfig, program: Sequence[Instruction]) -> None:
        self.started = started(program)
        after: dict[tuple[str, int], list[tuple[str, int]]] = {}
        for stage in Stage:
            mine = [i for i in self.started if stage_of(program[i]) is stage]
            for older, newer in zip(mine, mine[1:], strict=False):
                beside = config.has("overlap") and getattr(program[newer], "overlap", False)
                after.setdefault(("start", older), []).append(("start", newer))
                after.setdefault(("end", older), []).append(("end", newer))
                if not beside:
                    after.setdefault(("end", older), []).append(("start", newer))
        for token in TokenQueue:
            givers = [i for i in self.started if token in pushes(program[i])]
            takers = [i for i in self.started if token in pops(program[i])]
            for giver, taker in zip(givers, takers, strict=False):
                after.setdefault(("end", giver), []).append(("start", taker))
        for index in self.started:
            after.setdefault(("start", index), []).append(("end", index))
        self._after = after
        self._known: dict[tuple[str, int], int] = {}
        self._reach_all()

    def _reach_all(self) -> None:
        """Per event, a bit mask of the instructions whose start follows it."""
        for root in list(self._after):
            stack = [root]
            while stack:
                event = stack[-1]
                missing = [e for e in self._after.get(event, ()) if e not in self._known]
                if missing:
                    stack += missing
                    continue
                stack.pop()
                mask = 1 << event[1] if event[0] == "start" else 0
                for follower in self._after.get(event, ()):
                    mask |= self._known[follower]
                self._known[event] = mask

    def following(self, a: int) -> int:
        """Bit mask of the instructions b for which `complete(a, b)` holds."""
        return self._known[("end", a)]

    def complete(self, a: int, b: int) -> bool:
        return bool(self.following(a) >> b & 1)


# -- hazards --------------------------------------------------------------------------------------


def _unit(insn: Instruction) -> str:
    return "dma" if isinstance(insn, Load) else type(insn).__name__


def _false_hint(program: Sequence[Instruction], a: int, b: int) -> bool:
    """Whether b's bit speaks of the older compute instruction a."""
    if not getattr(program[b], "overlap", False) or _unit(program[a]) == _unit(program[b]):
        return False
    between = [i for i in range(a + 1, b) if stage_of(program[i]) is Stage.COMPUTE]
    return all(getattr(program[i], "overlap", False) for i in between)


def hazards(
    config: VtaConfig,
    program: Sequence[Instruction],
    dram: bytes,
    bases: Mapping[MemType, int] | None = None,
) -> dict[tuple[int, int], Conflicts]:
    """Every pair that conflicts and that nothing orders, or whose hint is false."""
    touched = accesses(config, program, dram, bases)
    before = Before(config, program)
    found = {}
    for b in before.started:
        for a in before.started:
            if a >= b:
                break
            if stage_of(program[a]) is not stage_of(program[b]):
                suspect = not before.complete(a, b) and not before.complete(b, a)
            else:
                compute = stage_of(program[a]) is Stage.COMPUTE
                suspect = compute and config.has("overlap") and _false_hint(program, a, b)
            if suspect and (conflicts := touched[a].conflicts(touched[b])):
                found[a, b] = conflicts
    return found
