"""What is worked out once per program: which loops its GEMM and ALU instructions are.

Instructions with equal loops over equal micro-ops share a `Pattern`. On the way every instruction
is checked again, in the order in which it will take effect.
"""

from __future__ import annotations

from vta_hw.spec.config import UOP_BITS, MemType
from vta_hw.spec.isa import Opcode
from vta_sim.lang.kinds import Array, i32, i64, kernel, struct, u8, u32, u64
from vta_sim.lang.ops import at, copy, reinterpret, release, resize
from vta_sim.native.legality import fault_of, steps
from vta_sim.native.machine import Machine
from vta_sim.native.table import Insn
from vta_sim.native.uops import load_uops

ALL_FINE = -1
NO_PATTERN = -1
_UOP_BYTES = UOP_BITS // 8
_PRIME = 0x100000001B3
_POOL_LEAST = 1 << 12


@struct
class Pattern:
    """A loop over micro-ops: instruction `insn` has it; `uops` is where its words lie."""

    insn: i64
    uops: i64
    count: i64
    hash: u64


@struct
class Planner:
    """Patterns found, by hash in `buckets`; their micro-ops in `pool`.

    `seen` are the bytes that each LOAD UOP read, one row after the other.
    """

    patterns: Array[Pattern]
    pattern_count: i64
    buckets: Array[i32]
    bucket_mask: i64
    pool: Array[u32]
    pool_count: i64
    pool_room: i64
    seen: Array[u8]
    seen_count: i64
    seen_room: i64


@kernel
def make_plan(m: Machine, p: Planner, order: Array[i32], count: i64) -> i64:
    """Take the instructions of `order` through the UOP memory; the first bad one, or `ALL_FINE`."""
    for at_step in range(count):
        index = order[at_step]
        insn = m.insns[index]
        if fault_of(m, insn):
            return index
        insn.plan = NO_PATTERN
        if insn.opcode == Opcode.LOAD and insn.memory_type == MemType.UOP:
            note_rows(m, p, insn)
            load_uops(m, insn)
        elif (insn.opcode == Opcode.GEMM or insn.opcode == Opcode.ALU) and steps(insn):
            insn.plan = pattern_of(m, p, index)
    return ALL_FINE


@kernel
def note_rows(m: Machine, p: Planner, insn: Insn) -> None:
    """Keep the bytes that a LOAD UOP reads."""
    size = insn.x_size * _UOP_BYTES
    if p.seen_count + size * insn.y_size > p.seen_room:
        p.seen_room = 2 * p.seen_room + size * insn.y_size + _POOL_LEAST
        p.seen = resize(p.seen, p.seen_room)
    for row in range(insn.y_size):
        source = at(m.dram, insn.address + row * insn.x_stride * _UOP_BYTES)
        copy(at(p.seen, p.seen_count), source, size)
        p.seen_count += size


@kernel
def pattern_of(m: Machine, p: Planner, index: i64) -> i64:
    """The number of the pattern of an instruction, a new one if it is."""
    insn = m.insns[index]
    count = insn.uop_end - insn.uop_bgn
    mixed = hash_of(m, insn)
    slot = convert_slot(mixed, p.bucket_mask)
    while p.buckets[slot] != NO_PATTERN:
        found = p.patterns[p.buckets[slot]]
        alike = found.hash == mixed and found.count == count
        if alike and same_loop(m.insns[found.insn], insn) and same_uops(m, p, found, insn):
            return p.buckets[slot]
        slot = slot + 1 & p.bucket_mask
    number = p.pattern_count
    p.buckets[slot] = number
    p.pattern_count += 1
    if p.pool_count + count > p.pool_room:
        p.pool_room = 2 * p.pool_room + count + _POOL_LEAST
        p.pool = resize(p.pool, p.pool_room)
    new = p.patterns[number]
    new.insn = index
    new.uops = p.pool_count
    new.count = count
    new.hash = mixed
    target = reinterpret(u8, at(p.pool, p.pool_count))
    copy(target, reinterpret(u8, at(m.uop, insn.uop_bgn)), _UOP_BYTES * count)
    p.pool_count += count
    return number


@kernel
def convert_slot(mixed: u64, mask: i64) -> i64:
    """Where the search for a hash begins."""
    return (mixed ^ mixed >> 32) & mask


@kernel
def hash_of(m: Machine, insn: Insn) -> u64:
    """A hash of an instruction's loops and of its micro-ops."""
    mixed: u64 = insn.opcode
    mixed = (mixed ^ insn.reset) * _PRIME
    mixed = (mixed ^ insn.iter_out) * _PRIME
    mixed = (mixed ^ insn.iter_in) * _PRIME
    mixed = (mixed ^ insn.dst_factor_out) * _PRIME
    mixed = (mixed ^ insn.dst_factor_in) * _PRIME
    mixed = (mixed ^ insn.src_factor_out) * _PRIME
    mixed = (mixed ^ insn.src_factor_in) * _PRIME
    mixed = (mixed ^ insn.wgt_factor_out) * _PRIME
    mixed = (mixed ^ insn.wgt_factor_in) * _PRIME
    for place in range(insn.uop_bgn, insn.uop_end):
        mixed = (mixed ^ m.uop[place]) * _PRIME
    return mixed


@kernel
def same_loop(a: Insn, b: Insn) -> bool:
    """Whether two instructions go through their micro-ops in the same way."""
    return (
        a.opcode == b.opcode
        and a.reset == b.reset
        and a.iter_out == b.iter_out
        and a.iter_in == b.iter_in
        and a.dst_factor_out == b.dst_factor_out
        and a.dst_factor_in == b.dst_factor_in
        and a.src_factor_out == b.src_factor_out
        and a.src_factor_in == b.src_factor_in
        and a.wgt_factor_out == b.wgt_factor_out
        and a.wgt_factor_in == b.wgt_factor_in
    )


@kernel
def same_uops(m: Machine, p: Planner, found: Pattern, insn: Insn) -> bool:
    """Whether a pattern's micro-ops are those of an instruction; there are as many."""
    for place in range(found.count):
        if p.pool[found.uops + place] != m.uop[insn.uop_bgn + place]:
            return False
    return True


@kernel
def free_plan(p: Planner) -> None:
    """Free what `make_plan` took."""
    release(p.pool)
    release(p.seen)


@kernel
def uops_unchanged(
    insns: Array[Insn], dram: Array[u8], order: Array[i32], count: i64, seen: Array[u8]
) -> bool:
    """Whether the LOAD UOPs `order` would read what they read when `seen` was made."""
    place = 0
    for at_step in range(count):
        insn = insns[order[at_step]]
        size = insn.x_size * _UOP_BYTES
        for row in range(insn.y_size):
            begin = insn.address + row * insn.x_stride * _UOP_BYTES
            for byte in range(size):
                if dram[begin + byte] != seen[place + byte]:
                    return False
            place += size
    return True
