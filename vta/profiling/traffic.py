"""Bytes that a layer must move, whatever its schedule: what it touches in DRAM, each byte once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from vta_hw.spec.config import MemType
from vta_hw.spec.footprint import IntArray, footprint
from vta_hw.spec.isa import Load, Store
from vta_hw.spec.program import Program

_NO_MICRO_OPS = np.zeros(0, np.uint32)


@dataclass(frozen=True)
class Traffic:
    """Bytes of a layer: of inputs, weights and parameters read, and of results written."""

    read_bytes: int = 0
    write_bytes: int = 0


def traffic_of(program: Program, addresses: Mapping[str, int]) -> dict[str, Traffic]:
    """Per layer what its transfers touch; micro-ops and instructions say how, and do not count.

    `addresses` has the byte address of every symbol.
    """
    reads: dict[str, list[IntArray]] = {}
    writes: dict[str, list[IntArray]] = {}
    for index, insn in enumerate(program.bound(addresses)):
        if isinstance(insn, Load | Store) and insn.memory_type != MemType.UOP:
            rows = footprint(insn, _NO_MICRO_OPS, program.config).rows
            if rows is not None:
                begins = rows.starts(0)
                spans = np.stack((begins, begins + rows.length), axis=1)
                kind = reads if isinstance(insn, Load) else writes
                kind.setdefault(program.layer(index), []).append(spans)
    return {
        name: Traffic(_covered(reads.get(name, ())), _covered(writes.get(name, ())))
        for name in {*reads, *writes}
    }


def _covered(parts: Iterable[IntArray]) -> int:
    """Bytes that lie in at least one span, given as rows of (begin, end)."""
    spans = np.concatenate([np.zeros((1, 2), np.int64), *parts])
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    # How far everything before reaches; what a span adds begins there or at its own beginning.
    reach = np.maximum.accumulate(spans[:, 1])
    begins = np.maximum(spans[1:, 0], reach[:-1])
    return int(np.maximum(spans[1:, 1] - begins, 0).sum())
