"""Instructions as rows of numbers, which compiled functions read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import numpy as np

from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import FORMATS, TOKEN_FLAGS, Opcode, Stage
from vta_hw.spec.semantics import ADDRESS_LIMIT, IntArray
from vta_hw.spec.words import field_of
from vta_hw.spec.words import opcodes as opcodes_of
from vta_sim.lang.kinds import StructType, i32, i64, struct


@struct
class Insn:
    """One decoded instruction: the fields of `vta_hw.spec.isa`, and what follows from them alone.

    `known` says whether the opcode exists; `pops` and `pushes` have a bit per `TokenQueue`;
    `address` is that of a transfer's first byte; `plan` belongs to `vta_sim.native.plan`.
    """

    dram_base: i64
    address: i64
    opcode: i32
    known: i32
    stage: i32
    pops: i32
    pushes: i32
    bad_flags: i32
    plan: i32
    pop_prev: i32
    pop_next: i32
    push_prev: i32
    push_next: i32
    memory_type: i32
    sram_base: i32
    y_size: i32
    x_size: i32
    x_stride: i32
    y_pad_0: i32
    y_pad_1: i32
    x_pad_0: i32
    x_pad_1: i32
    pad_min: i32
    overlap: i32
    reset: i32
    uop_bgn: i32
    uop_end: i32
    iter_out: i32
    iter_in: i32
    dst_factor_out: i32
    dst_factor_in: i32
    src_factor_out: i32
    src_factor_in: i32
    wgt_factor_out: i32
    wgt_factor_in: i32
    alu_opcode: i32
    use_imm: i32
    imm: i32


INSN = StructType(Insn).dtype

_DECODED = {item.name for form in FORMATS.values() for item in fields(form)}
if missing := _DECODED - set(INSN.names or ()):
    raise ImportError(f"the table of instructions lacks the fields {sorted(missing)}")

_COMPUTE_LOADS = (MemType.UOP, MemType.ACC, MemType.ACC_8BIT)


def decode(words: IntArray, config: VtaConfig, bases: Mapping[MemType, int]) -> IntArray:
    """The table of a stream given as its 64-bit words, shape (n, 2), low word first."""
    table = np.zeros(len(words), INSN)
    opcodes = opcodes_of(words, config)
    table["opcode"] = opcodes
    for opcode in set(opcodes.tolist()) | {int(Opcode.FINISH)}:
        form = FORMATS[Opcode(opcode)] if opcode in FORMATS else isa.Finish
        rows = np.flatnonzero(opcodes == opcode)
        chosen = words[rows]
        for slot in isa.layout(form, config):
            table[slot.name][rows] = field_of(chosen, slot)
        table["known"][rows] = opcode in FORMATS
    _route(table)
    _place(table, config, bases)
    return table


def _route(table: IntArray) -> None:
    """Stages, token masks, illegal flags: the rules of `isa.stage_of` and `isa.TOKEN_FLAGS`."""
    loads = table["opcode"] == Opcode.LOAD
    compute_loads = loads & np.isin(table["memory_type"], _COMPUTE_LOADS)
    table["stage"] = Stage.COMPUTE
    table["stage"][loads & ~compute_loads] = Stage.LOAD
    table["stage"][table["opcode"] == Opcode.STORE] = Stage.STORE
    for stage, legal in TOKEN_FLAGS.items():
        rows = np.flatnonzero(table["stage"] == stage)
        for flag in ("pop_prev", "pop_next", "push_prev", "push_next"):
            column = "pops" if flag.startswith("pop") else "pushes"
            if flag in legal:
                table[column][rows] |= table[flag][rows] << int(legal[flag])
            else:
                table["bad_flags"][rows] |= table[flag][rows]


def _place(table: IntArray, config: VtaConfig, bases: Mapping[MemType, int]) -> None:
    transfers = np.isin(table["opcode"], (Opcode.LOAD, Opcode.STORE))
    for memory in MemType:
        register = MemType.ACC if memory is MemType.ACC_8BIT else memory
        base = bases.get(register, 0)
        rows = np.flatnonzero((table["memory_type"] == memory) & transfers)
        # What lies beyond is refused whatever it is; kept small, sums cannot leave 64 bits.
        address = base + table["dram_base"][rows] * config.elem_bytes(memory)
        table["address"][rows] = np.minimum(address, 2 * ADDRESS_LIMIT)
