"""Timings of programs that this process has timed before.

Timing depends on the instructions, on the bytes that LOAD UOP reads, on configuration, latency and
the end of DRAM, and on where in a page the instructions lie; on nothing else. Another process times
anew.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import numpy as np

from vta_hw.spec.cache import content_key
from vta_hw.spec.config import PAGE_BYTES, MemType, VtaConfig
from vta_hw.spec.isa import Load, Opcode
from vta_hw.spec.semantics import IntArray
from vta_hw.spec.words import field_of, opcodes, slot_of
from vta_sim.timing.simulate import Timing, time_program

_KEPT_MAX = 256

_kept: OrderedDict[str, Timing] = OrderedDict()
_lock = Lock()


def timing_of(
    config: VtaConfig, words: IntArray, dram: IntArray, *, insn_base: int, timeline: bool = False
) -> Timing:
    """As `vta_sim.timing.simulate.time_program`, with base registers 0; equal programs once.

    Timings with a timeline, which may be large, are not kept.
    """
    if timeline:
        return time_program(config, words, dram, insn_base=insn_base, timeline=True)
    key = content_key(
        repr((config.hash, dram.size, insn_base % PAGE_BYTES)),
        np.ascontiguousarray(words).tobytes(),
        _uop_bytes(config, words, dram),
    )
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    timing = time_program(config, words, dram, insn_base=insn_base)
    with _lock:
        _kept[key] = timing
        if len(_kept) > _KEPT_MAX:
            _kept.popitem(last=False)
    return timing


def _uop_bytes(config: VtaConfig, words: IntArray, dram: IntArray) -> bytes:
    """What the LOAD UOPs of a program read; those that reach beyond DRAM read nothing."""
    loads = words[opcodes(words, config) == Opcode.LOAD]
    loads = loads[field_of(loads, slot_of(Load, "memory_type", config)) == MemType.UOP]
    names = ("dram_base", "y_size", "x_size", "x_stride")
    columns = [field_of(loads, slot_of(Load, name, config)).tolist() for name in names]
    size = config.elem_bytes(MemType.UOP)
    parts = []
    for base, rows, length, stride in zip(*columns, strict=True):
        if rows and (base + (rows - 1) * stride + length) * size <= dram.size:
            begin = base * size
            for row in range(rows):
                at = begin + row * stride * size
                parts.append(dram[at : at + length * size].tobytes())
    return b"".join(parts)
