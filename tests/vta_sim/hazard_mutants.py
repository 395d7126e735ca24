"""Programs with one dependency token taken out, and a judge of whether that matters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tests.vta_sim.hazard_brute import Before, accesses
from vta_hw.spec.config import PAGE_BYTES, VtaConfig
from vta_hw.spec.isa import (
    TOKEN_FLAGS,
    Finish,
    Instruction,
    Stage,
    TokenQueue,
    pops,
    pushes,
    stage_of,
)
from vta_hw.spec.program import Program


@dataclass(frozen=True)
class Token:
    """The k-th token of a counter: who pushes it and who pops it."""

    queue: TokenQueue
    pusher: int
    popper: int

    def __str__(self) -> str:
        return f"{self.queue.name.lower()} from {self.pusher} to {self.popper}"

    def without(self, program: Sequence[Instruction]) -> tuple[Instruction, ...]:
        """The program without it; the other tokens of its counter pair up as before."""
        out = list(program)
        for index, kind in ((self.pusher, "push"), (self.popper, "pop")):
            flags = TOKEN_FLAGS[stage_of(out[index])]
            flag = next(f for f, q in flags.items() if q is self.queue and f.startswith(kind))
            assert getattr(out[index], flag)
            out[index] = replace(out[index], **{flag: False})
        return tuple(out)


def tokens(program: Sequence[Instruction]) -> Iterator[Token]:
    """Every token that is popped."""
    for queue in TokenQueue:
        pushers = [i for i, insn in enumerate(program) if queue in pushes(insn)]
        poppers = [i for i, insn in enumerate(program) if queue in pops(insn)]
        assert len(pushers) == len(poppers)
        for pusher, popper in zip(pushers, poppers, strict=True):
            yield Token(queue, pusher, popper)


class Judge:
    """Knows what a program touches, which its tokens do not change."""

    def __init__(self, program: Program, addresses: Mapping[str, int]) -> None:
        self.config = program.config
        end = max((addresses[n] + program.symbols[n].size_bytes for n in addresses), default=0)
        dram = bytearray(end + -end % PAGE_BYTES)
        places = dict(addresses)
        for name, symbol in program.symbols.items():
            if name not in places:
                assert symbol.contents is not None
                places[name] = len(dram)
                dram += symbol.contents + bytes(-len(symbol.contents) % PAGE_BYTES)
        self.conflicts = _conflicts(self.config, program.bound(places), bytes(dram))

    def is_safe(self, program: Sequence[Instruction]) -> bool:
        """Whether all conflicts between stages are ordered and FINISH is after all transfers."""
        before = Before(self.config, program)
        if len(before.started) < len(program):
            return False
        masks = {
            stage: sum(1 << i for i, insn in enumerate(program) if stage_of(insn) is stage)
            for stage in Stage
        }
        finish = next(i for i, insn in enumerate(program) if isinstance(insn, Finish))
        for a, insn in enumerate(program):
            stage = stage_of(insn)
            if stage is not Stage.COMPUTE and not before.complete(a, finish):
                return False
            rest = self.conflicts[a] & ~masks[stage] & ~before.following(a)
            while rest:
                b = rest.bit_length() - 1
                if not before.complete(b, a):
                    return False
                rest ^= 1 << b
        return True


def _conflicts(config: VtaConfig, program: Sequence[Instruction], dram: bytes) -> list[int]:
    """Per instruction a bit mask of those that touch the same place, one of the two writing."""
    touched = accesses(config, program, dram)
    readers: dict[tuple[str, int], int] = {}
    writers: dict[tuple[str, int], int] = {}
    for index, access in enumerate(touched):
        for place in access.reads:
            readers[place] = readers.get(place, 0) | 1 << index
        for place in access.writes:
            writers[place] = writers.get(place, 0) | 1 << index
    masks = []
    for access in touched:
        mask = 0
        for place in access.reads:
            mask |= writers.get(place, 0)
        for place in access.writes:
            mask |= writers[place] | readers.get(place, 0)
        masks.append(mask)
    return masks
