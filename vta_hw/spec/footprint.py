"""What one legal instruction reads and writes: entries of on-chip memories, bytes of DRAM.

A no-op (x_size 0, a loop that runs zero times, no micro-ops) touches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Alu, AluOp, Gemm, Instruction, Load, Store, unpack_uops

IntArray = npt.NDArray[Any]

REQ_SOURCES = 3
"""REQ reads acc[src], acc[src+1] and acc[src+2]."""

PADS = ("uop", "wgt", "inp", "acc")
"""The on-chip memories of footprints; OUT and ACC_8BIT address `acc`."""


@dataclass(frozen=True, slots=True, eq=False)
class Touch:
    """Distinct places of one memory: all of first..last, or the sorted `indices` among them."""

    memory: str
    first: int
    last: int
    indices: IntArray | None = None
    at: slice | IntArray = field(init=False, repr=False)
    """What a table with one row per place is indexed with."""

    def __post_init__(self) -> None:
        at = slice(self.first, self.last + 1) if self.indices is None else self.indices
        object.__setattr__(self, "at", at)

    @property
    def places(self) -> IntArray:
        """The places, in increasing order."""
        return np.arange(self.first, self.last + 1) if self.indices is None else self.indices


def meet(a: Touch, b: Touch) -> bool:
    """Whether two touches have a place in common."""
    if a.memory != b.memory or a.last < b.first or b.last < a.first:
        return False
    if a.indices is None:
        return b.indices is None or _any_within(b.indices, a)
    if b.indices is None:
        return _any_within(a.indices, b)
    # Where each place of `b` stands, or would stand, among those of `a`.
    at = a.indices.searchsorted(b.indices)
    return bool((a.indices[np.minimum(at, len(a.indices) - 1)] == b.indices).any())


def _any_within(indices: IntArray, span: Touch) -> bool:
    """Whether some of the sorted indices are in first..last."""
    at = int(indices.searchsorted(span.first))
    return at < len(indices) and bool(indices[at] <= span.last)


@dataclass(frozen=True, slots=True)
class Rows:
    """The DRAM side of a transfer: `count` rows of `length` bytes, `pitch` bytes apart.

    `start` is the byte offset of the first row from the base register or symbol.
    """

    start: int
    pitch: int
    length: int
    count: int

    def starts(self, address: int) -> IntArray:
        """Byte address of each row, if the base register or symbol lies at `address`."""
        return address + self.start + self.pitch * np.arange(self.count)

    def units(self, address: int, unit: int) -> Touch:
        """All units of `unit` bytes that have a byte in a row, numbered from address 0."""
        if self.pitch <= self.length or self.count == 1:
            first, last = address + self.start, self.pitch * (self.count - 1) + self.length - 1
            return Touch("dram", first // unit, (first + last) // unit)
        if self.pitch % unit == 0:
            return self._like_rows(address, unit)
        begins = self.starts(address)
        return spans("dram", begins // unit, (begins + self.length - 1) // unit + 1)

    def _like_rows(self, address: int, unit: int) -> Touch:
        """The units if all rows begin at the same place within one: each has as many."""
        first, end = (address + self.start) // unit, address + self.start + self.length - 1
        width, step = end // unit - first + 1, self.pitch // unit
        last = first + step * (self.count - 1) + width - 1
        if width >= step:
            return Touch("dram", first, last)
        rows = np.arange(first, last + 1, step)
        return Touch("dram", first, last, (rows[:, None] + np.arange(width)).ravel())


@dataclass(frozen=True, slots=True)
class Footprint:
    """On-chip reads and writes, at most one `Touch` per memory in each, and rows of DRAM.

    `rows` are written by a STORE and read by a LOAD.
    """

    reads: tuple[Touch, ...] = ()
    writes: tuple[Touch, ...] = ()
    rows: Rows | None = None


NOTHING = Footprint()


def footprint(insn: Instruction, uops: IntArray, config: VtaConfig) -> Footprint:
    """What a legal instruction touches. `uops` are the words of its micro-ops (GEMM, ALU)."""
    match insn:
        case Load() | Store() if insn.x_size:
            return _transfer(insn, config)
        case Gemm() if _runs(insn):
            return _gemm(insn, unpack_uops(uops, config))
        case Alu() if _runs(insn):
            return _alu(insn, unpack_uops(uops, config))
    return NOTHING


def _runs(insn: Gemm | Alu) -> bool:
    return bool(insn.iter_out and insn.iter_in and insn.uop_bgn < insn.uop_end)


def _micro_ops(insn: Gemm | Alu) -> Touch:
    return Touch("uop", insn.uop_bgn, insn.uop_end - 1)


def spans(memory: str, begins: IntArray, ends: IntArray) -> Touch:
    """The places begins[i] .. ends[i] - 1 of all i; none of these spans may be empty."""
    order = np.argsort(begins, kind="stable")
    begins, reach = begins[order], np.maximum.accumulate(ends[order])
    heads = np.flatnonzero(np.append(True, begins[1:] > reach[:-1]))
    firsts, lengths = begins[heads], np.append(reach[heads[1:] - 1], reach[-1]) - begins[heads]
    if len(heads) == 1:
        return Touch(memory, int(firsts[0]), int(firsts[0] + lengths[0]) - 1)
    before = np.cumsum(lengths) - lengths
    indices = np.arange(int(lengths.sum())) + np.repeat(firsts - before, lengths)
    return Touch(memory, int(indices[0]), int(indices[-1]), indices)


def _transfer(insn: Load | Store, config: VtaConfig) -> Footprint:
    memory = MemType(insn.memory_type)
    pad = "acc" if memory in (MemType.OUT, MemType.ACC_8BIT) else memory.name.lower()
    rows, columns = insn.sram_shape if isinstance(insn, Load) else (insn.y_size, insn.x_size)
    chip: tuple[Touch, ...] = ()
    if rows:
        chip = (Touch(pad, insn.sram_base, insn.sram_base + rows * columns - 1),)
    size = config.elem_bytes(memory)
    dram = None
    if insn.y_size:
        pitch, length = insn.x_stride * size, insn.x_size * size
        dram = Rows(insn.dram_base * size, pitch, length, insn.y_size)
    return (
        Footprint(writes=chip, rows=dram) if isinstance(insn, Load) else Footprint(chip, (), dram)
    )


def _gemm(insn: Gemm, fields: Mapping[str, IntArray]) -> Footprint:
    dst = _touch("acc", _operand(insn, fields, "dst"))
    if insn.reset:
        return Footprint((_micro_ops(insn),), (dst,))
    inp = _touch("inp", _operand(insn, fields, "src"))
    wgt = _touch("wgt", _operand(insn, fields, "wgt"))
    return Footprint((_micro_ops(insn), inp, wgt, dst), (dst,))


def _alu(insn: Alu, fields: Mapping[str, IntArray]) -> Footprint:
    dst = _operand(insn, fields, "dst")
    written = _touch("acc", dst)
    if insn.use_imm:
        return Footprint((_micro_ops(insn), written), (written,))
    src = _operand(insn, fields, "src")
    sources = REQ_SOURCES if insn.alu_opcode == AluOp.REQ else 1
    read = _touch("acc", _union([dst, *(src + part for part in range(sources))]))
    return Footprint((_micro_ops(insn), read), (written,))


def _operand(insn: Gemm | Alu, fields: Mapping[str, IntArray], name: str) -> IntArray:
    """Distinct indices of one operand, sorted."""
    base = fields[name]
    loops = [
        (getattr(insn, f"{name}_factor_out"), insn.iter_out),
        (getattr(insn, f"{name}_factor_in"), insn.iter_in),
    ]
    end = int(base.max()) + sum(factor * (count - 1) for factor, count in loops) + 1
    seen = np.zeros(end, bool)
    seen[base] = True
    for factor, count in loops:
        done = 1
        while factor and done < count:
            # What `done` rounds touch, and the same so many rounds later.
            more = min(done, count - done)
            seen[factor * more :] |= seen[: end - factor * more].copy()
            done += more
    return np.flatnonzero(seen)


def _union(arrays: Sequence[IntArray]) -> IntArray:
    """Sorted distinct values of non-empty arrays of small non-negative integers."""
    seen = np.zeros(1 + max(int(array.max()) for array in arrays), bool)
    for array in arrays:
        seen[array] = True
    return np.flatnonzero(seen)


def _touch(memory: str, indices: IntArray) -> Touch:
    first, last = int(indices[0]), int(indices[-1])
    return Touch(memory, first, last, None if last - first == len(indices) - 1 else indices)
