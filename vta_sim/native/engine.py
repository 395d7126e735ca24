"""The memories of the compiled functional simulator, as its functions see them."""

from __future__ import annotations

from vta_sim.lang.kinds import Array, i8, i16, i32, i64, parameter, struct, u8
from vta_sim.native.gemm_plan import GemmPlan, GemmRow, GemmSet, GemmTerm
from vta_sim.native.table import Insn

BATCH = parameter("BATCH")
BLOCK_IN = parameter("BLOCK_IN")
BLOCK_OUT = parameter("BLOCK_OUT")
INP_LANES = parameter("INP_LANES")
"""Numbers of one INP element: BATCH * BLOCK_IN."""
ACC_LANES = parameter("ACC_LANES")
"""Numbers of one ACC element: BATCH * BLOCK_OUT."""
REQ_LANES = parameter("REQ_LANES")
"""Numbers of an ACC element that REQ works on at once."""
GROUP = parameter("GROUP")
"""Products that one step of a dot product adds up: 4 of bytes, 2 or 1 of 16-bit numbers."""
LANE_BITS = parameter("LANE_BITS")
"""The binary logarithm of BLOCK_OUT."""
ROWS = parameter("ROWS")
"""Accumulators that one pass over the weights serves."""

BYTES_GROUP = 4
"""With this group inputs are held as unsigned bytes, 128 above their value."""
BYTES_OFFSET = 128


@struct
class Uops:
    """Micro-ops of a pattern: where its dst begin in `Engine.uops`; its src follow."""

    first: i64
    count: i64


@struct
class Engine:
    """Scratchpads, DRAM and the plan of one program.

    INP is in `inp_bytes` or `inp_words`, whichever GROUP wants. WGT is as loaded; an element that
    GEMM uses is rearranged in `packed_bytes` or `packed_words` first, once per LOAD (`is_packed`).
    `sums` is what the offset of input bytes adds too much per lane, negated.
    """

    dram: Array[u8]
    insns: Array[Insn]
    order: Array[i32]
    order_count: i64
    inp_bytes: Array[u8]
    inp_words: Array[i16]
    wgt: Array[i8]
    packed_bytes: Array[i8]
    packed_words: Array[i16]
    is_packed: Array[u8]
    sums: Array[i32]
    acc: Array[i32]
    scratch: Array[i8]
    uops: Array[i32]
    patterns: Array[Uops]
    plans: Array[GemmPlan]
    sets: Array[GemmSet]
    rows: Array[GemmRow]
    terms: Array[GemmTerm]
