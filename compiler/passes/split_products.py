"""Cuts the products of a tile in pieces, so that what follows them need not look further back.

The first piece runs beside the last tile's requantisation; the second waits for it (it has to wait
for the first piece anyway), and from then on the last tile's accumulators are free: see
`mark_overlap`. A tail of several operations gets a piece for each: see `interleave_tails`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from compiler.loop.nodes import Task
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Alu, Gemm, altered

PIECES_BESIDE = 4
"""Pieces of a tile that a round of another kernel runs beside: a unit begins one instruction with
each, and a round has two of loads and one of the ALU."""
_STEPS_LEAST = 128
"""Micro-ops executed in a piece, at least: a cut costs a few cycles."""


def split_products(
    tasks: Sequence[Task], config: VtaConfig, beside: Sequence[range] = ()
) -> list[Task]:
    """Tasks with long GEMMs in pieces; unchanged without the extension `overlap`.

    Two pieces, or as many as the last tile's tail has operations and half as many again. Tasks in
    the ranges `beside` are of kernels that another runs beside: `PIECES_BESIDE` at least.
    """
    if not config.has("overlap"):
        return list(tasks)
    out: list[Task] = []
    for task, wanted in zip(tasks, _wanted(tasks, beside), strict=True):
        insn = task.insn
        count = 1
        if isinstance(insn, Gemm) and not insn.reset:
            count = min(wanted, len(task.uops), _steps(insn) // _STEPS_LEAST)
        out += _pieces(task, count) if count > 1 else [task]
    return out


def _wanted(tasks: Sequence[Task], beside: Sequence[range]) -> list[int]:
    """Into how many pieces each of a tile's GEMMs is cut, by the tail before them."""
    out = [1] * len(tasks)
    least = [2] * len(tasks)
    for places in beside:
        least[places.start : places.stop] = [PIECES_BESIDE] * len(places)
    tail, run = 0, list[int]()
    for place, task in enumerate(tasks):
        if isinstance(task.insn, Gemm) and not task.insn.reset:
            run.append(place)
        elif isinstance(task.insn, Alu):
            _share(out, run, tail, least)
            tail, run = (1, []) if run else (tail + 1, run)
    _share(out, run, tail, least)
    return out


def _share(out: list[int], run: Sequence[int], tail: int, least: Sequence[int]) -> None:
    """Give the GEMMs of a tile their parts of what a tail of operations needs."""
    for place in run:
        out[place] = -(-max(least[place], tail + -(-tail // 2)) // len(run))


def _pieces(task: Task, count: int) -> list[Task]:
    assert isinstance(task.insn, Gemm)
    cuts = [len(task.uops) * n // count for n in range(count + 1)]
    out = []
    for first, last in pairwise(cuts):
        part = altered(task.insn, uop_bgn=0, uop_end=last - first)
        out.append(task.with_insn(part, task.uops[first:last]))
    return out


def _steps(insn: Gemm) -> int:
    return (insn.uop_end - insn.uop_bgn) * insn.iter_in * insn.iter_out
