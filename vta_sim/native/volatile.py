"""Programs that may change their own micro-ops: nothing about them is known before they run."""

from __future__ import annotations

import numpy as np

from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.errors import ProgramError
from vta_hw.spec.isa import Opcode
from vta_hw.spec.semantics import IntArray


class VolatileProgramError(ProgramError):
    """A program that may change its own micro-ops: only the plain simulators can run it."""


def refuse_volatile(table: IntArray, config: VtaConfig) -> None:
    """Raise `VolatileProgramError` for such a program."""
    if reads_its_own_stores(table, config):
        raise VolatileProgramError(
            "the program loads micro-ops from where it stores results; run it on the plain engine"
        )


def reads_its_own_stores(table: IntArray, config: VtaConfig) -> bool:
    """Whether a LOAD UOP reaches between the first and last byte of some STORE."""
    loads = (table["opcode"] == Opcode.LOAD) & (table["memory_type"] == MemType.UOP)
    stores = (table["opcode"] == Opcode.STORE) & (table["memory_type"] == MemType.OUT)
    begins, ends = _extents(table[stores], config.elem_bytes(MemType.OUT))
    if not len(begins):
        return False
    order = np.argsort(begins, kind="stable")
    begins, reach = begins[order], np.maximum.accumulate(ends[order])
    firsts, lasts = _extents(table[loads], config.elem_bytes(MemType.UOP))
    # Of the stores that begin before a load ends, one must reach beyond where it begins.
    before = np.searchsorted(begins, lasts)
    return bool((reach[np.maximum(before, 1) - 1] > firsts)[before > 0].any())


def _extents(rows: IntArray, element_bytes: int) -> tuple[IntArray, IntArray]:
    """First bytes, and ends, of transfers that move anything."""
    rows = rows[(rows["x_size"] > 0) & (rows["y_size"] > 0)]
    begins = rows["address"]
    elements = (rows["y_size"].astype(np.int64) - 1) * rows["x_stride"] + rows["x_size"]
    return begins, begins + elements * element_bytes
