"""A nest of tensor-unit steps -> GEMM or ALU instructions with micro-ops.

An instruction runs a list of micro-ops under two loops that step each operand's index linearly.
Every loop of the nest is linear, so: loops that continue each other are merged, the two longest
that fit the factor fields become the instruction's loops, the rest is written out as micro-ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from compiler.errors import LoweringError
from compiler.loop.units import ALU, ALU_IMM, GEMM, REQ, RESET
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import (
    ITER_MAX,
    Alu,
    AluOp,
    Gemm,
    Instruction,
    layout,
    pack_uops,
)


@dataclass(frozen=True)
class Loop:
    """A loop around a step: its extent and the step of each operand's element index."""

    extent: int
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Folded:
    """One instruction and its micro-op words (indexed by its uop_bgn .. uop_end)."""

    insn: Instruction
    uops: tuple[int, ...]


def fold_micro_ops(
    op: str,
    attrs: dict[str, int],
    base: Sequence[int],
    loops: Sequence[Loop],
    config: VtaConfig,
    loc: str,
) -> list[Folded]:
    """Instructions for ``op`` on operand elements `base` (dst, src, wgt) under `loops`.

    `base` and the loops' steps have one entry per operand of the unit, missing ones are zero.
    """
    base = (*base, 0, 0)[:3]
    merged = _merge([Loop(x.extent, (*x.steps, 0, 0)[:3]) for x in loops if x.extent > 1])
    merged = [part for loop in merged for part in _fit(loop)]
    outer, inner, rest = _choose(op, merged, config)
    capacity = config.depth(MemType.UOP)
    peeled: list[Loop] = []
    while _count(rest) > capacity:
        peeled.append(rest.pop(0))
    out = []
    for where in product(*(range(loop.extent) for loop in peeled)):
        start = _advance(base, where, peeled)
        words = _words(start, rest, config, loc)
        out.append(Folded(_instruction(op, attrs, len(words), outer, inner), words))
    return out


def _merge(loops: list[Loop]) -> list[Loop]:
    """Join loop pairs in which one continues where the other ends, for every operand."""
    loops = list(loops)
    changed = True
    while changed:
        changed = False
        for a in loops:
            for b in loops:
                joins = a is not b and all(
                    x == b.extent * y for x, y in zip(a.steps, b.steps, strict=True)
                )
                if joins:
                    loops[loops.index(b)] = Loop(a.extent * b.extent, b.steps)
                    loops.remove(a)
                    changed = True
                    break
            if changed:
                break
    return loops


def _fit(loop: Loop) -> list[Loop]:
    """Split a loop longer than an instruction's count, if it has a divisor."""
    if loop.extent <= ITER_MAX:
        return [loop]
    inner = next(n for n in range(ITER_MAX, 0, -1) if loop.extent % n == 0)
    return [
        Loop(loop.extent // inner, tuple(s * inner for s in loop.steps)),
        Loop(inner, loop.steps),
    ]


_FACTORS = ("dst_factor_out", "src_factor_out", "wgt_factor_out")


def _choose(op: str, loops: list[Loop], config: VtaConfig) -> tuple[Loop, Loop, list[Loop]]:
    """(outer, inner, rest): the two longest loops whose counts and steps fit the fields."""
    form = Gemm if op in (GEMM, RESET) else Alu
    widths = {slot.name: slot.width for slot in layout(form, config)}
    limits = [1 << widths.get(name, 0) for name in _FACTORS]
    legal = [
        loop
        for loop in loops
        if loop.extent <= ITER_MAX
        and all(0 <= s < m for s, m in zip(loop.steps, limits, strict=True))
    ]
    none = Loop(1, (0, 0, 0))
    chosen = sorted(legal, key=lambda loop: loop.extent, reverse=True)[:2]
    rest = [loop for loop in loops if not any(loop is c for c in chosen)]
    chosen += [none] * (2 - len(chosen))
    # The inner loop is the one that keeps the second operand, so that the unit can hold it.
    chosen.sort(key=lambda loop: (loop.steps[1] == 0 and loop.extent > 1, loop.extent))
    return chosen[0], chosen[1], rest


def _count(loops: list[Loop]) -> int:
    count = 1
    for loop in loops:
        count *= loop.extent
    return count


def _advance(base: Sequence[int], where: Sequence[int], loops: Sequence[Loop]) -> tuple[int, ...]:
    out = list(base)
    for position, loop in zip(where, loops, strict=True):
        for operand in range(3):
            out[operand] += position * loop.steps[operand]
    return tuple(out)


def _words(
    start: Sequence[int], loops: Sequence[Loop], config: VtaConfig, loc: str
) -> tuple[int, ...]:
    """The micro-ops of all steps of `loops` from `start` on, the last loop's steps together."""
    indices = np.array(start)[:, None]
    for loop in loops:
        steps = np.array(loop.steps)[:, None] * np.arange(loop.extent)
        indices = (indices[:, :, None] + steps[:, None, :]).reshape(len(indices), -1)
    if indices.min() < 0:
        raise LoweringError(f"stage {loc!r} addresses element {indices.min()} of a scratchpad")
    words = pack_uops(dict(zip(("dst", "src", "wgt"), indices, strict=True)), config)
    return tuple(words.tolist())


def _instruction(
    op: str, attrs: dict[str, int], count: int, outer: Loop, inner: Loop
) -> Instruction:
    common: dict[str, Any] = {
        "uop_bgn": 0,
        "uop_end": count,
        "iter_out": outer.extent,
        "iter_in": inner.extent,
        "dst_factor_out": outer.steps[0],
        "dst_factor_in": inner.steps[0],
        "src_factor_out": outer.steps[1],
        "src_factor_in": inner.steps[1],
    }
    if op in (GEMM, RESET):
        wgt: dict[str, Any] = {"wgt_factor_out": outer.steps[2], "wgt_factor_in": inner.steps[2]}
        return Gemm(reset=op == RESET, **common, **wgt)
    if op == REQ:
        return Alu(alu_opcode=int(AluOp.REQ), imm=attrs["imm"], **common)
    if op == ALU_IMM:
        return Alu(alu_opcode=attrs["op"], use_imm=True, imm=attrs["imm"], **common)
    assert op == ALU, op
    return Alu(alu_opcode=attrs["op"], **common)
