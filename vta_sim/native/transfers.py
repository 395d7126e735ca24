"""LOAD and STORE between DRAM and the scratchpads of an `Engine`."""

from __future__ import annotations

from vta_hw.spec.arith import INT8_MIN, INT32_MIN
from vta_hw.spec.config import MemType
from vta_sim.lang.kinds import Array, i8, i32, i64, inline, kernel, u8
from vta_sim.lang.ops import at, convert, copy, fill, load, reinterpret, splat, store
from vta_sim.native.engine import (
    ACC_LANES,
    BLOCK_IN,
    BLOCK_OUT,
    BYTES_GROUP,
    BYTES_OFFSET,
    GROUP,
    INP_LANES,
    Engine,
)
from vta_sim.native.legality import sram_columns, sram_rows
from vta_sim.native.table import Insn


@kernel
def load_memory(e: Engine, insn: Insn) -> None:
    """What a legal LOAD of any memory but UOP does."""
    if not insn.x_size:
        return
    if insn.memory_type == MemType.INP:
        load_rows(e, insn, MemType.INP)
    elif insn.memory_type == MemType.WGT:
        count = sram_rows(insn) * sram_columns(insn)
        fill(at(e.is_packed, insn.sram_base), 0, count)
        load_rows(e, insn, MemType.WGT)
    elif insn.memory_type == MemType.ACC:
        load_rows(e, insn, MemType.ACC)
    elif insn.memory_type == MemType.ACC_8BIT:
        load_rows(e, insn, MemType.ACC_8BIT)


@inline
def load_rows(e: Engine, insn: Insn, memory: int) -> None:
    """Padding first, then the rows over it; rows that follow each other everywhere are one."""
    columns = sram_columns(insn)
    rows = insn.y_size
    length = insn.x_size
    if insn.x_size < columns or rows < sram_rows(insn):
        pad_elements(e, memory, insn.sram_base, sram_rows(insn) * columns, insn.pad_min)
    elif insn.x_stride == columns:
        length = rows * columns
        rows = min(rows, 1)
    for row in range(rows):
        target = insn.sram_base + (insn.y_pad_0 + row) * columns + insn.x_pad_0
        source = at(e.dram, insn.address + row * insn.x_stride * element_bytes(memory))
        move_elements(e, memory, target, source, length)


@inline
def element_bytes(memory: int) -> int:
    """Bytes of an element in DRAM."""
    if memory == MemType.INP:
        size = INP_LANES
    elif memory == MemType.WGT:
        size = BLOCK_IN * BLOCK_OUT
    elif memory == MemType.ACC:
        size = 4 * ACC_LANES
    else:
        size = ACC_LANES
    return size


@inline
def move_elements(e: Engine, memory: int, target: int, source: Array[u8], count: int) -> None:
    """Elements from DRAM, in the form in which the scratchpad holds them.

    Pointers are locals: for all that LLVM knows, what is stored might change the structure.
    """
    if memory == MemType.INP:
        if GROUP == BYTES_GROUP:
            inputs = at(e.inp_bytes, target * INP_LANES)
            for place in range(0, count * INP_LANES, INP_LANES):
                store(inputs, place, load(source, place, INP_LANES) ^ BYTES_OFFSET)
        else:
            words = at(e.inp_words, target * INP_LANES)
            signed = reinterpret(i8, source)
            for place in range(0, count * INP_LANES, INP_LANES):
                store(words, place, load(signed, place, INP_LANES))
    elif memory == MemType.WGT:
        size = BLOCK_IN * BLOCK_OUT
        copy(at(e.wgt, target * size), source, count * size)
    elif memory == MemType.ACC:
        copy(at(e.acc, target * ACC_LANES), source, 4 * count * ACC_LANES)
    else:
        numbers = at(e.acc, target * ACC_LANES)
        signed = reinterpret(i8, source)
        for place in range(0, count * ACC_LANES, ACC_LANES):
            store(numbers, place, convert(i32, load(signed, place, ACC_LANES)))


@inline
def pad_elements(e: Engine, memory: int, first: int, count: int, pad_min: int) -> None:
    """Elements of zeros, or of the least value."""
    if memory == MemType.INP:
        least = INT8_MIN if pad_min else 0
        if GROUP == BYTES_GROUP:
            fill(at(e.inp_bytes, first * INP_LANES), least + BYTES_OFFSET, count * INP_LANES)
        else:
            words = splat(i64, INP_LANES, least)
            for place in range(first, first + count):
                store(e.inp_words, place * INP_LANES, words)
    elif memory == MemType.WGT:
        size = BLOCK_IN * BLOCK_OUT
        fill(at(e.wgt, first * size), INT8_MIN if pad_min else 0, count * size)
    else:
        bound = INT32_MIN if memory == MemType.ACC else INT8_MIN
        numbers = splat(i32, ACC_LANES, bound if pad_min else 0)
        for place in range(first, first + count):
            store(e.acc, place * ACC_LANES, numbers)


@kernel
def store_memory(e: Engine, insn: Insn) -> None:
    """What a legal STORE does: the low byte of each number, row by row."""
    rows = insn.y_size
    length = insn.x_size
    if insn.x_stride == insn.x_size:
        length = rows * length
        rows = min(rows, 1)
    for row in range(rows):
        first = insn.sram_base + row * insn.x_size
        narrow_elements(
            e, first, at(e.dram, insn.address + row * insn.x_stride * ACC_LANES), length
        )


@kernel
def narrow_elements(e: Engine, first: i64, target: Array[u8], count: i64) -> None:
    """ACC elements as bytes."""
    numbers = at(e.acc, first * ACC_LANES)
    for place in range(0, count * ACC_LANES, ACC_LANES):
        store(target, place, convert(u8, load(numbers, place, ACC_LANES)))
