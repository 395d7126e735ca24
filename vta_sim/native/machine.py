"""What compiled functions know of the machine and of the program that it runs."""

from __future__ import annotations

import numpy as np

from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import MicroOp
from vta_hw.spec.semantics import ADDRESS_LIMIT, IntArray
from vta_sim.lang.build import Record
from vta_sim.lang.kinds import Array, i64, inline_array, struct, u8, u32
from vta_sim.native.table import Insn

MEMORIES = len(MemType)
UOP_FIELDS = ("dst", "src", "wgt")


@struct
class UopField:
    """Where a field of a micro-op lies in its word."""

    low: i64
    mask: i64


@struct
class Machine:
    """A program, DRAM, and the UOP memory, whose contents decide what is legal and how long.

    `depth` and `elem_bytes` go by `MemType`, `fields` are dst, src and wgt of a micro-op.
    """

    insns: Array[Insn]
    count: i64
    dram: Array[u8]
    dram_limit: i64
    uop: Array[u32]
    depth: Array[i64] = inline_array(MEMORIES)
    elem_bytes: Array[i64] = inline_array(MEMORIES)
    fields: Array[UopField] = inline_array(len(UOP_FIELDS))
    has_requant: bool
    has_overlap: bool


def machine_of(config: VtaConfig, table: IntArray, dram: IntArray, limit: int) -> Record:
    """A machine at rest: UOP is zero."""
    record = Record(Machine)
    record["insns"] = table
    record["count"] = len(table)
    record["dram"] = dram
    record["dram_limit"] = min(limit, ADDRESS_LIMIT)
    record["uop"] = np.zeros(config.depth(MemType.UOP), np.uint32)
    record["depth"] = [config.depth(memory) for memory in MemType]
    record["elem_bytes"] = [config.elem_bytes(memory) for memory in MemType]
    slots = {slot.name: slot for slot in isa.layout(MicroOp, config)}
    record["fields"] = [(slots[name].low, slots[name].mask) for name in UOP_FIELDS]
    record["has_requant"] = config.has("requant")
    record["has_overlap"] = config.has("overlap")
    return record
