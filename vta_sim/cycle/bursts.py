"""How transfers are cut into bursts (rules B1 and B2), and what their beats bring."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vta_hw.spec import machine
from vta_hw.spec.config import INSN_BYTES, MemType, VtaConfig
from vta_hw.spec.isa import Load, Store
from vta_hw.spec.semantics import IntArray


class Burst(NamedTuple):
    """The address of its first byte that counts, and its beats."""

    address: int
    beats: int


def row_bursts(start: int, length: int, bus: int, window: int) -> list[Burst]:
    """The bursts of a row of `length` bytes from address `start` on (rule B1)."""
    end = start + length
    bursts = []
    while start < end:
        stop = min(end, (start // window + 1) * window)
        bursts.append(Burst(start, (stop - 1) // bus - start // bus + 1))
        start = stop
    return bursts


def transfer_bursts(insn: Load | Store, address: int, rows: int, config: VtaConfig) -> list[Burst]:
    """The bursts of `rows` rows, the first of which lies at `address` (rule B1)."""
    elem = config.elem_bytes(MemType(insn.memory_type))
    bus, window = machine.bus_bytes(config), machine.burst_window(config)
    length, pitch = insn.x_size * elem, insn.x_stride * elem
    bursts: list[Burst] = []
    for row in range(rows):
        bursts += row_bursts(address + row * pitch, length, bus, window)
    return bursts


def chunk(insn_base: int, first: int, count: int) -> int:
    """Instructions of the fetch burst that begins with instruction `first` of `count` (rule B2)."""
    place = insn_base // INSN_BYTES + first
    return min(machine.FETCH_CHUNK - place % machine.FETCH_CHUNK, count - first)


def replicates(insn: Load) -> bool:
    """Whether rule D2 holds for a LOAD."""
    return (
        insn.memory_type in (MemType.ACC, MemType.ACC_8BIT)
        and insn.x_stride == 0
        and insn.x_size == 1
        and insn.y_size > 1
        and not (insn.y_pad_0 or insn.y_pad_1 or insn.x_pad_0 or insn.x_pad_1)
    )


def filled_vectors(insn: Load) -> int:
    """Vectors that a LOAD fills: its padding, or with rule D2 the copies of its element."""
    if replicates(insn):
        return insn.y_size - 1
    rows, columns = insn.sram_shape
    return rows * columns - insn.y_size * insn.x_size


def filled_places(insn: Load) -> IntArray:
    """Where these vectors lie on chip, in the order of filling (rule L4)."""
    if replicates(insn):
        return insn.sram_base + np.arange(1, insn.y_size)
    padding = np.ones(insn.sram_shape, bool)
    padding[insn.y_pad_0 :, insn.x_pad_0 :][: insn.y_size, : insn.x_size] = False
    places: IntArray = insn.sram_base + np.flatnonzero(padding)
    return places


def acc_halves(insn: Load, address: int, rows: int, config: VtaConfig) -> list[int]:
    """For each beat of a LOAD of ACC the halves whose slots it takes, one bit each (rule G2)."""
    elem = config.elem_bytes(MemType(insn.memory_type))
    bus, top = machine.bus_bytes(config), config.depth_bits(MemType.ACC) - 1
    halves: list[int] = []
    for row in range(rows):
        start = address + row * insn.x_stride * elem
        beats = np.arange(start // bus, (start + insn.x_size * elem - 1) // bus + 1)
        place = insn.sram_base + (insn.y_pad_0 + row) * insn.sram_shape[1] + insn.x_pad_0
        # Elements are completed by the beat with their last byte.
        ends = np.minimum((beats + 1) * bus - start, insn.x_size * elem) // elem
        begins = np.maximum(beats * bus - start, 0) // elem
        first, last = (place + begins) >> top, (place + ends - 1) >> top
        taken = np.where(ends > begins, 1 << first | 1 << last, 0)
        halves += taken.tolist()
    return halves
