"""LOAD and STORE at work: long rows between DRAM and the memories on the chip."""

from __future__ import annotations

import numpy as np

from vta.bench.programs import Array, Draft, Job, Region, loop, random_bytes
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Gemm, MicroOp

_REGION_BYTES = 1 << 20


def load_job(config: VtaConfig, memory: MemType, moved_bytes: int) -> Job:
    """Fill a memory by long rows from places in DRAM that change, half of it at a time.

    What stays there is looked at: ACC as it is; INP and WGT by what GEMM makes of each element and
    one that is odd everywhere, so that no wrong byte can go unnoticed.
    """
    depth, elem_bytes = config.depth(memory), config.elem_bytes(memory)
    row = max(1, depth // 2)
    places = max(2, _REGION_BYTES // (row * elem_bytes))
    count = max(2, moved_bytes // (row * elem_bytes))
    draft = Draft(config)
    source = draft.elements(memory, places * row)
    halves = max(1, depth // row)
    order = np.random.default_rng(int(memory)).permutation(count) % places
    for number, place in enumerate(order.tolist()):
        last = number + 1 == count and memory is not MemType.ACC
        base = number % halves * row
        draft.load(memory, source, row, first=place * row, sram_base=base, push_next=last)
    kept = [int(order[number]) for number in range(count - halves, count)]
    kept = [kept[(half - count) % halves] for half in range(halves)]
