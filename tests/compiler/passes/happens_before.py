"""What the tokens of a stream order, by brute force.

One instruction happens before another if it is an older one of the same stage, or gave the token
that the other took, or any chain of these. The k-th token taken is the k-th given to its queue.
Nothing here is shared with the compiler: flags, stages and queues are spelt out again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.footprint import footprint
from vta_hw.spec.isa import Alu, Finish, Gemm, Instruction, Load, Store
from vta_hw.spec.program import Program

QUEUES = {
    ("load", "compute"): ("push_next", "pop_prev"),
    ("compute", "load"): ("push_prev", "pop_next"),
    ("compute", "store"): ("push_next", "pop_prev"),
    ("store", "compute"): ("push_prev", "pop_next"),
}
"""(producer, consumer) -> (its flag, its flag)."""

Places = dict[str, int]
"""Memory -> set of touched places, as the bits of an integer."""


@dataclass(frozen=True)
class Touched:
    """What one instruction reads and writes."""

    reads: Places
    writes: Places

    def conflicts(self, other: Touched) -> bool:
        """Whether one of them writes what the other touches."""
        return _meet(self.writes, other.reads, other.writes) or _meet(other.writes, self.reads, {})


def _meet(written: Places, *touched: Places) -> bool:
    return any(bits & places.get(m, 0) for m, bits in written.items() for places in touched)


NOTHING = Touched({}, {})


def stage(insn: Instruction) -> str:
    """Where an instruction runs."""
    if isinstance(insn, Store):
        return "store"
    if isinstance(insn, Load) and insn.memory_type in (1, 2):
        return "load"
    return "compute"


@dataclass(frozen=True)
class Token:
    """Given by one instruction (an index), taken by another."""

    queue: tuple[str, str]
    giver: int
    taker: int


def tokens(stream: Sequence[Instruction]) -> list[Token]:
    """All tokens; as many must be given as taken."""
    found = []
    for queue, (push, pop) in QUEUES.items():
        givers = [n for n, i in enumerate(stream) if stage(i) == queue[0] and getattr(i, push)]
        takers = [n for n, i in enumerate(stream) if stage(i) == queue[1] and getattr(i, pop)]
        assert len(givers) == len(takers), f"{queue} gives {len(givers)}, takes {len(takers)}"
        found += [Token(queue, *pair) for pair in zip(givers, takers, strict=True)]
    return found


def older(stream: Sequence[Instruction], given: Sequence[Token]) -> list[int]:
    """For each instruction the set of those that happen before it, as bits."""
    sources: list[list[int]] = [[] for _ in stream]
    last: dict[str, int] = {}
    for number, insn in enumerate(stream):
        if stage(insn) in last:
            sources[number].append(last[stage(insn)])
        last[stage(insn)] = number
    for token in given:
        assert token.giver < token.taker, "tokens go forward in program order"
        sources[token.taker].append(token.giver)
    before: list[int] = []
    for number in range(len(stream)):
        bits = 0
        for source in sources[number]:
            bits |= before[source] | 1 << source
        before.append(bits)
    return before


def conflicts(stream: Sequence[Instruction], touched: Sequence[Touched]) -> list[tuple[int, int]]:
    """Pairs of different stages that must be ordered; FINISH comes after everything."""
    return [
        (a, b)
        for b in range(len(stream))
        for a in range(b)
        if stage(stream[a]) != stage(stream[b])
        and (isinstance(stream[b], Finish) or touched[a].conflicts(touched[b]))
    ]


def unordered(
    stream: Sequence[Instruction],
    pairs: Sequence[tuple[int, int]],
    given: Sequence[Token] | None = None,
) -> list[tuple[int, int]]:
    """The pairs of `conflicts` that no token orders."""
    before = older(stream, tokens(stream) if given is None else given)
    return [(a, b) for a, b in pairs if not before[b] >> a & 1]


def without(stream: Sequence[Instruction], token: Token) -> list[Instruction]:
    """The stream in which one token is neither given nor taken."""
    push, pop = QUEUES[token.queue]
    changed = list(stream)
    changed[token.giver] = replace(changed[token.giver], **{push: False})
    changed[token.taker] = replace(changed[token.taker], **{pop: False})
    return changed


def program_touches(program: Program, addresses: dict[str, int]) -> Iterator[Touched]:
    """What each instruction of a program touches; DRAM in units of an activation element."""
    config = program.config
    unit = config.elem_bytes(MemType.OUT)
    symbols = {r.index: r.symbol for r in program.relocations}
    micro_ops = np.zeros(config.depth(MemType.UOP), np.uint32)
    for number, insn in enumerate(program.instructions):
        symbol = program.symbols.get(symbols.get(number, ""))
        words = np.zeros(0, np.uint32)
        if isinstance(insn, Load) and insn.memory_type == MemType.UOP and insn.x_size:
            assert symbol is not None
            assert symbol.contents is not None
            source = np.frombuffer(symbol.contents, np.uint32)
            end = insn.sram_base + insn.x_size
            micro_ops[insn.sram_base : end] = source[insn.dram_base :][: insn.x_size]
        if isinstance(insn, Gemm | Alu):
            words = micro_ops[insn.uop_bgn : insn.uop_end]
        yield _touched(insn, words, config, unit, addresses.get(symbol.name) if symbol else None)


def _touched(
    insn: Instruction, words: np.ndarray, config: VtaConfig, unit: int, address: int | None
) -> Touched:
    touch = footprint(insn, words, config)
    reads = {t.memory: _bits(t.places) for t in touch.reads}
    writes = {t.memory: _bits(t.places) for t in touch.writes}
    if touch.rows is not None and address is not None:
        side = writes if isinstance(insn, Store) else reads
        side["dram"] = _bits(touch.rows.units(address, unit).places)
    return Touched(reads, writes)


def _bits(places: np.ndarray) -> int:
    mask = np.zeros(int(places.max()) + 1, np.uint8)
    mask[places] = 1
    return int.from_bytes(np.packbits(mask, bitorder="little").tobytes(), "little")
