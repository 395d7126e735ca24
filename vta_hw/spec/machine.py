"""The fixed sizes and latencies of the machine, in instructions, entries or cycles.

The hardware is built with these and the cycle simulator counts with them; ``docs/timing.md`` says
what each one means. What a user may choose is in `VtaConfig` instead.
"""

from __future__ import annotations

from vta_hw.spec.config import PAGE_BYTES, MemType, VtaConfig
from vta_hw.spec.isa import AluOp

FETCH_CHUNK = 16
"""Instructions of one fetch burst; a chunk is aligned to as many."""

FETCH_BUFFER = 64
"""Instructions that fetch requests ahead of dispatch."""

DISPATCH_TO_READY = 5
"""Least cycles from the dispatch of an instruction to its issue."""

ISSUE_INTERVAL = 4
"""Least cycles between two issues of a stage: the next head is decoded and checked in them."""

STAGE_SLOTS = 8
"""Instructions of the load stage, or of the store stage, that are issued and not retired."""

DONE_TO_RETIRE = 2
"""Least cycles from the end of an instruction's work to its retirement."""

STORE_READ_DELAY = 6
"""Least cycles from the issue of a STORE to its first read of ACC: what was computed before its
token came is in place by then."""

ACC_READ_DELAY = 3
"""Cycles from the grant of an ACC slot to the read of the memory."""

ACC_WRITE_DELAY = 8
"""Cycles from the grant of an ACC slot to the write of the memory."""

ACC_HAZARD = ACC_WRITE_DELAY - ACC_READ_DELAY
"""Cycles after which a grant sees what an earlier grant of the same element writes."""

ACC_HALVES = 2
"""ACC is divided by its top index bit; each half takes one access per cycle."""

FIRST_SLOT = 2
"""Cycles from the issue of GEMM or ALU to the first request of a slot."""

FORWARDED_OPS = (AluOp.MIN, AluOp.MAX, AluOp.ADD, AluOp.SHR)
"""ALU operations that have their acc[dst] forwarded, and may ask for it at once."""

REQ_PARAMETERS = 3
"""Vectors that REQ reads from acc[src] on."""

QUIET = 8
"""Cycles without any movement after which a run has ended."""

BURST_BEATS_MAX = 256
"""AXI4's limit for one burst."""

OKAY, SLVERR, DECERR = 0, 2, 3
"""AXI's response codes: done, refused by who was asked, nobody there to be asked."""


def bus_bytes(config: VtaConfig) -> int:
    """Bytes of one beat."""
    return 1 << (config.log_bus_width - 3)


def burst_window(config: VtaConfig) -> int:
    """Bytes of the aligned windows that no burst crosses: 256 beats, at most 4 KiB."""
    return min(BURST_BEATS_MAX * bus_bytes(config), PAGE_BYTES)


def elements_per_beat(config: VtaConfig, memory: MemType) -> int:
    """Elements of `memory` that lie in one beat; 1 where an element is as long or longer."""
    return max(1, bus_bytes(config) // config.elem_bytes(memory))


def beats_per_element(config: VtaConfig, memory: MemType) -> int:
    """Beats that one element of `memory` takes; 1 where it is as short or shorter."""
    return max(1, config.elem_bytes(memory) // bus_bytes(config))
