"""Cuts the products of a tile in two, so that what follows them need not look further back.

The first part runs beside the last tile's requantisation; the second waits for it (it has to wait
for the first part anyway), and from then on the last tile's accumulators are free: see
`mark_overlap`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compiler.loop.nodes import Task
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Gemm

_STEPS_LEAST = 512
"""Micro-ops executed from which on a cut is worth the few cycles that it costs."""


def split_products(tasks: Sequence[Task], config: VtaConfig) -> list[Task]:
    """Tasks with long GEMMs in two; unchanged without the extension `overlap`."""
    if not config.has("overlap"):
        return list(tasks)
    out: list[Task] = []
    for task in tasks:
        insn, count = task.insn, len(task.uops)
        if not isinstance(insn, Gemm) or insn.reset or count < 2 or _steps(insn) < _STEPS_LEAST:
            out.append(task)
            continue
        for uops in (task.uops[: count // 2], task.uops[count // 2 :]):
            part = replace(insn, uop_bgn=0, uop_end=len(uops))
            out.append(replace(task, insn=part, uops=uops))
    return out


def _steps(insn: Gemm) -> int:
    return (insn.uop_end - insn.uop_bgn) * insn.iter_in * insn.iter_out
