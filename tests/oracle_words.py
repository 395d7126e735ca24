"""Bit layout of instructions and micro-ops for the oracle, written from the reference's tables.

Nothing here comes from `vta_hw.spec.isa`: a field table that is wrong there shows up as a
disagreement between the oracle and the simulators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from vta_hw.spec.config import VtaConfig

LOAD, STORE, GEMM, FINISH, ALU = range(5)
UOP, WGT, INP, ACC, OUT, ACC_8BIT = range(6)
MIN, MAX, ADD, SHR, MUL, RDHM, RSR, REQ = range(8)
STAGE_LOAD, STAGE_COMPUTE, STAGE_STORE = range(3)

Fields = tuple[tuple[str, int], ...]
Values = dict[str, int]

_COMMON: Fields = (
    ("opcode", 3),
    ("pop_prev", 1),
    ("pop_next", 1),
    ("push_prev", 1),
    ("push_next", 1),
)
_MEMORY: Fields = (
    *_COMMON,
    ("memory_type", 3),
    ("sram_base", 16),
    ("dram_base", 32),
    ("y_size", 16),
    ("x_size", 16),
    ("x_stride", 16),
    ("y_pad_0", 4),
    ("y_pad_1", 4),
    ("x_pad_0", 4),
    ("x_pad_1", 4),
)


@dataclass(frozen=True)
class Geometry:
    """Sizes of one machine, derived from a config's raw log2 values; `bits` are log2 of depths."""

    batch: int
    block_in: int
    block_out: int
    bits: Mapping[int, int]
    elem_bytes: Mapping[int, int]
    extensions: frozenset[str]
    queue: int

    @classmethod
    def of(cls, config: VtaConfig) -> Geometry:
        """The geometry of `config`, by the reference's depth formulas."""
        batch, block_in, block_out = config.log_batch, config.log_block_in, config.log_block_out
        acc_bits = config.log_acc_buff - batch - block_out - 5 + 3
        out_bytes = 1 << (batch + block_out)
        return cls(
            batch=1 << batch,
            block_in=1 << block_in,
            block_out=1 << block_out,
            bits={
                UOP: config.log_uop_buff - 5 + 3,
                INP: config.log_inp_buff - batch - block_in,
                WGT: config.log_wgt_buff - block_out - block_in,
                ACC: acc_bits,
                OUT: acc_bits,
                ACC_8BIT: acc_bits,
            },
            elem_bytes={
                UOP: 4,
                INP: 1 << (batch + block_in),
                WGT: 1 << (block_out + block_in),
                ACC: 4 * out_bytes,
                OUT: out_bytes,
                ACC_8BIT: out_bytes,
            },
            extensions=frozenset(config.extensions),
            queue=1 << config.log_cmd_queue,
        )

    def depth(self, memory: int) -> int:
        """Entries of a memory; OUT and ACC_8BIT live in ACC."""
        return 1 << self.bits[memory]

    def fields(self, opcode: int) -> Fields:
        """The field table of an opcode, in packing order."""
        if opcode in (LOAD, STORE):
            return _MEMORY
        if opcode not in (GEMM, ALU):
            return _COMMON
        uop, acc, inp, wgt = (self.bits[m] for m in (UOP, ACC, INP, WGT))
        src, third = (inp, wgt) if opcode == GEMM else (acc, 0)
        table: Fields = (
            *_COMMON,
            ("reset", 1),
            ("uop_bgn", uop),
            ("uop_end", uop + 1),
            ("iter_out", 14),
            ("iter_in", 14),
            ("dst_factor_out", acc),
            ("dst_factor_in", acc),
            ("src_factor_out", src),
            ("src_factor_in", src),
        )
        if opcode == GEMM:
            return (*table, ("wgt_factor_out", third), ("wgt_factor_in", third))
        return (*table, ("alu_opcode", 3), ("use_imm", 1), ("imm", 16))

    def uop_fields(self) -> Fields:
        """The field table of a micro-op."""
        acc, inp, wgt = (self.bits[m] for m in (ACC, INP, WGT))
        return (("dst", acc), ("src", max(acc, inp)), ("wgt", wgt))

    def extension_bits(self, opcode: int) -> dict[str, int]:
        """Bit positions of the extensions' own bits that this machine looks at."""
        bits = {}
        if opcode == LOAD and "pad_min" in self.extensions:
            bits["pad_min"] = 58
        if opcode in (LOAD, GEMM, ALU) and "overlap" in self.extensions:
            bits["overlap"] = 59 if opcode == LOAD else 63
        return bits


@cache
def positions(fields: Fields, unit: int) -> dict[str, tuple[int, int]]:
    """name -> (lowest bit, width): packed upwards, no field crosses a multiple of `unit`."""
    out, at = {}, 0
    for name, width in fields:
        if at // unit != (at + width - 1) // unit:
            at = (at // unit + 1) * unit
        out[name] = (at, width)
        at += width
    return out


def pack(values: Mapping[str, int], fields: Fields, unit: int) -> int:
    """The word with these fields; absent ones are 0, values are cut to their width."""
    word = 0
    for name, (low, width) in positions(fields, unit).items():
        word |= (values.get(name, 0) & ((1 << width) - 1)) << low
    return word


def unpack(word: int, fields: Fields, unit: int) -> Values:
    """All fields of a word, unsigned."""
    return {
        name: word >> low & ((1 << width) - 1)
        for name, (low, width) in positions(fields, unit).items()
    }


def encode(values: Mapping[str, int], geometry: Geometry) -> int:
    """The 128-bit word of an instruction; `junk` fills the bits that this machine ignores."""
    opcode = values["opcode"]
    fields = geometry.fields(opcode)
    word = pack(values, fields, 64)
    used = pack({name: -1 for name, _ in fields}, fields, 64)
    for name, bit in geometry.extension_bits(opcode).items():
        word |= values.get(name, 0) << bit
        used |= 1 << bit
    return word | values.get("junk", 0) & ~used & ((1 << 128) - 1)


def decode(word: int, geometry: Geometry) -> Values:
    """The fields of a 128-bit word, extension bits included."""
    opcode = word & 7
    values = unpack(word, geometry.fields(opcode), 64)
    for name, bit in geometry.extension_bits(opcode).items():
        values[name] = word >> bit & 1
    return values


def stage_of(values: Mapping[str, int]) -> int:
    """Where fetch sends an instruction; LOADs of unknown types go to the load stage."""
    if values["opcode"] == STORE:
        return STAGE_STORE
    if values["opcode"] == LOAD and values["memory_type"] not in (UOP, ACC, ACC_8BIT):
        return STAGE_LOAD
    return STAGE_COMPUTE
