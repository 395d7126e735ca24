"""How a GEMM instruction's micro-ops are regrouped for the CPU.

Sums of 32-bit integers that wrap may be made in any order, and GEMM reads no accumulator but the
one it adds to. So the micro-ops and the two loops around them become *blocks* of *sets*: in a set
every *row* (an accumulator, and where its input begins) adds the same *terms* (an input further on
times a weight). Rows of a set share the weights, terms of a row the accumulator.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vta_hw.spec.semantics import IntArray
from vta_sim.lang.kinds import StructType, i32, i64, struct

# Rows or terms that are held at once; a loop that would need more of them becomes one of blocks.
_EXPANDED_MAX = 1 << 16


@struct
class GemmLoop:
    """A loop over blocks: how often, and the steps of its indices, in elements."""

    count: i64
    acc: i64
    inp: i64
    wgt: i64


@struct
class GemmSet:
    """Rows and terms by their places in the tables; whether no accumulator is in it twice."""

    rows: i64
    row_count: i64
    terms: i64
    term_count: i64
    distinct: i64


@struct
class GemmRow:
    """Vectors of BLOCK_OUT into ACC and of BLOCK_IN into INP."""

    acc: i32
    inp: i32


@struct
class GemmTerm:
    """Vectors of BLOCK_IN into INP, and elements into WGT."""

    inp: i32
    wgt: i32


@struct
class GemmPlan:
    """Two loops of blocks, and the sets of each block."""

    outer: GemmLoop
    inner: GemmLoop
    sets: i64
    set_count: i64


_SET, _PLAN = StructType(GemmSet).dtype, StructType(GemmPlan).dtype
_ROW, _TERM = StructType(GemmRow).dtype, StructType(GemmTerm).dtype


@dataclass
class GemmTables:
    """The tables of all plans of a program while they grow."""

    batch: int
    sets: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    rows: list[IntArray] = field(default_factory=list)
    terms: list[IntArray] = field(default_factory=list)
    _row_count: int = 0
    _term_count: int = 0

    def add(self, insn: IntArray, uops: dict[str, IntArray]) -> tuple[object, ...]:
        """Plan a GEMM instruction, a row of the table, with these micro-ops; a `GemmPlan`."""
        loops = [
            (
                int(insn[f"iter_{level}"]),
                *(int(insn[f"{name}_factor_{level}"]) for name in ("dst", "src", "wgt")),
            )
            for level in ("out", "in")
        ]
        groups = _groups(uops)
        held = sum(max(len(starts), len(terms)) for starts, terms in groups)
        blocks = []
        row_steps, term_steps = np.zeros((1, 2), np.int64), np.zeros((1, 2), np.int64)
        for count, dst, src, wgt in loops:
            steps = np.arange(count)[:, None]
            if dst == 0 and count * len(term_steps) * held <= _EXPANDED_MAX:
                term_steps = _sums(term_steps, steps * (src, wgt))
            elif dst and wgt == 0 and count * len(row_steps) * held <= _EXPANDED_MAX:
                row_steps = _sums(row_steps, steps * (dst, src))
            else:
                blocks.append((count, dst * self.batch, src * self.batch, wgt))
        first = len(self.sets)
        for starts, terms in groups:
            self._add_set(_sums(starts, row_steps), _sums(terms, term_steps))
        blocks = [(1, 0, 0, 0)] * (2 - len(blocks)) + blocks
        return (*blocks, first, len(self.sets) - first)

    def _add_set(self, rows: IntArray, terms: IntArray) -> None:
        distinct = len(np.unique(rows[:, 0])) == len(rows)
        lanes = np.arange(self.batch)[None, :, None]
        rows = (rows[:, None, :] * self.batch + lanes).reshape(-1, 2)
        terms = terms * (self.batch, 1)
        counts = (self._row_count, len(rows), self._term_count, len(terms))
        self.sets.append((*counts, int(distinct)))
        self.rows.append(rows.astype(np.int32))
        self.terms.append(terms.astype(np.int32))
        self._row_count += len(rows)
        self._term_count += len(terms)

    def finished(self) -> dict[str, IntArray]:
        """The tables as compiled functions read them."""
        none = [np.zeros((0, 2), np.int32)]
        return {
            "sets": np.array(self.sets or [(0,) * 5], np.int64).view(_SET).reshape(-1),
            "rows": np.ascontiguousarray(np.concatenate(self.rows or none)).view(_ROW),
            "terms": np.ascontiguousarray(np.concatenate(self.terms or none)).view(_TERM),
        }


def plan_rows(plans: list[tuple[object, ...]]) -> IntArray:
    """Plans as a table."""
    return np.array(plans, _PLAN)


def _sums(left: IntArray, right: IntArray) -> IntArray:
    """Every row of one plus every row of the other."""
    found: IntArray = (left[:, None, :] + right[None, :, :]).reshape(-1, left.shape[1])
    return found


def _groups(uops: dict[str, IntArray]) -> list[tuple[IntArray, IntArray]]:
    """Micro-ops as sets: (dst, src) of the rows, and (src beyond it, wgt) of the shared terms."""
    order = np.lexsort((uops["src"], uops["wgt"], uops["dst"]))
    dst, src, wgt = (uops[name][order] for name in ("dst", "src", "wgt"))
    begins = np.flatnonzero(np.diff(dst, prepend=-1))
    found: dict[bytes, tuple[list[tuple[int, int]], IntArray]] = {}
    for begin, end in zip(begins, [*begins[1:], len(dst)], strict=True):
        terms = np.stack((src[begin:end] - src[begin], wgt[begin:end]), axis=1)
        starts, _ = found.setdefault(terms.tobytes(), ([], terms))
        starts.append((int(dst[begin]), int(src[begin])))
    return [(np.array(starts), terms) for starts, terms in found.values()]
