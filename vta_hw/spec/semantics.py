"""What every instruction does: the definition that simulators, compiler and hardware are held to.

`check` says whether an instruction is legal in the present state, `execute` also carries it out.
Integer operations are in `vta_hw.spec.arith`, re-exported here. Timing and dependency tokens are
not part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vta_hw.spec.arith import (
    ALU,
    INT8_MIN,
    INT32_MIN,
    AluRule,
    IntArray,
    add,
    maximum,
    minimum,
    mul,
    pack_req_shift,
    rdhm,
    req,
    req_imm,
    req_mode,
    req_sub_operation,
    rsr,
    shr,
    unpack_req_shift,
    wrap32,
)
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import (
    REQUANT_OPS,
    TOKEN_FLAGS,
    Alu,
    AluOp,
    FaultClass,
    Finish,
    Gemm,
    Instruction,
    Load,
    Rounding,
    Store,
    stage_of,
    unpack_uops,
)
from vta_hw.spec.matmul import accumulate

__all__ = [
    "ALU",
    "AluRule",
    "IntArray",
    "MicroOps",
    "Scratchpads",
    "add",
    "check",
    "execute",
    "maximum",
    "micro_ops",
    "minimum",
    "mul",
    "pack_req_shift",
    "rdhm",
    "req",
    "req_imm",
    "req_mode",
    "req_sub_operation",
    "rsr",
    "shr",
    "unpack_req_shift",
    "wrap32",
]

ADDRESS_LIMIT = 1 << 32
"""Byte addresses have 32 bits; no sum of base register and offset may pass this."""

_LOADABLE = frozenset({MemType.UOP, MemType.WGT, MemType.INP, MemType.ACC, MemType.ACC_8BIT})
_ROUNDING_MODES = frozenset(Rounding)
_BLOCK_OPS = 1 << 18  # micro-ops whose indices are held at once


class Scratchpads:
    """The on-chip memories of one VTA, all zero at first.

    `uop` holds uint32 words [depth]; `inp` int8 [depth, batch, block_in]; `wgt` int8 [depth,
    block_out, block_in]; `acc` int32 [depth, batch, block_out].
    """

    def __init__(self, config: VtaConfig) -> None:
        self.config = config
        self.depth = {memory: config.depth(memory) for memory in MemType}
        self.elem_bytes = {memory: config.elem_bytes(memory) for memory in MemType}
        batch, block_in, block_out = config.batch, config.block_in, config.block_out
        self.uop = np.zeros(self.depth[MemType.UOP], "<u4")
        self.inp = np.zeros((self.depth[MemType.INP], batch, block_in), np.int8)
        self.wgt = np.zeros((self.depth[MemType.WGT], block_out, block_in), np.int8)
        self.acc = np.zeros((self.depth[MemType.ACC], batch, block_out), "<i4")

    def memory(self, memory: MemType) -> IntArray:
        """The array that LOAD and STORE of this type access (OUT and ACC_8BIT: `acc`)."""
        match memory:
            case MemType.UOP:
                return self.uop
            case MemType.WGT:
                return self.wgt
            case MemType.INP:
                return self.inp
            case MemType.ACC | MemType.OUT | MemType.ACC_8BIT:
                return self.acc


@dataclass(frozen=True, slots=True)
class MicroOps:
    """Indices of consecutive micro-op executions of a GEMM or ALU instruction, in order."""

    dst: IntArray
    src: IntArray
    wgt: IntArray


def micro_ops(insn: Gemm | Alu, pads: Scratchpads, block: int = _BLOCK_OPS) -> Iterator[MicroOps]:
    """The indices that `insn` computes, in the order outer loop, inner loop, micro-op.

    They come in pieces of about `block` executions, each a whole number of inner-loop rounds.
    Micro-ops beyond the end of their memory are left out; `check` refuses such an instruction.
    """
    uops = _uops(insn, pads)
    count = len(uops["dst"])
    if not count:
        return
    wgt_out, wgt_in = _wgt_factors(insn)
    rounds = max(1, block // count)
    total = insn.iter_out * insn.iter_in
    for start in range(0, total, rounds):
        outer, inner = np.divmod(np.arange(start, min(start + rounds, total)), insn.iter_in)
        yield MicroOps(
            _indices(uops["dst"], outer * insn.dst_factor_out + inner * insn.dst_factor_in),
            _indices(uops["src"], outer * insn.src_factor_out + inner * insn.src_factor_in),
            _indices(uops["wgt"], outer * wgt_out + inner * wgt_in),
        )


def _uops(insn: Gemm | Alu, pads: Scratchpads) -> dict[str, IntArray]:
    return unpack_uops(pads.uop[insn.uop_bgn : insn.uop_end], pads.config)


def _wgt_factors(insn: Gemm | Alu) -> tuple[int, int]:
    return (insn.wgt_factor_out, insn.wgt_factor_in) if isinstance(insn, Gemm) else (0, 0)


def _indices(base: IntArray, steps: IntArray) -> IntArray:
    return (steps[:, None] + base).reshape(-1)


# -- legality -------------------------------------------------------------------------------------


def check(
    insn: Instruction,
    pads: Scratchpads,
    config: VtaConfig,
    dram_limit: int,
    bases: Mapping[MemType, int] | None = None,
) -> FaultClass | None:
    """The fault that `insn` causes in the present state of `pads`, or None; changes nothing.

    `dram_limit` is the end of legal DRAM addresses in bytes; `bases` the base register per memory
    type (absent: 0; ACC_8BIT uses that of ACC).
    """
    match insn:
        case Load():
            return _check_load(insn, pads, dram_limit, bases or {})
        case Store():
            return _check_store(insn, pads, dram_limit, bases or {})
        case Gemm():
            return _check_gemm(insn, pads)
        case Alu():
            return _check_alu(insn, pads, config)
        case Finish():
            return None
        case _:
            return FaultClass.BAD_OPCODE


def _bad_flags(insn: Instruction) -> bool:
    legal = TOKEN_FLAGS[stage_of(insn)]
    flags = ("pop_prev", "pop_next", "push_prev", "push_next")
    return any(getattr(insn, flag) and flag not in legal for flag in flags)


def _check_load(
    insn: Load, pads: Scratchpads, dram_limit: int, bases: Mapping[MemType, int]
) -> FaultClass | None:
    if _bad_flags(insn) or (insn.pad_min and insn.memory_type == MemType.UOP):
        return FaultClass.BAD_FLAGS
    if insn.memory_type not in _LOADABLE:
        return FaultClass.BAD_MEMORY_TYPE
    if insn.x_size == 0:
        return None
    memory = MemType(insn.memory_type)
    rows, columns = insn.sram_shape
    if insn.sram_base + rows * columns > pads.depth[memory]:
        return FaultClass.SRAM_RANGE
    return _check_dram(insn, memory, pads, dram_limit, bases)


def _check_store(
    insn: Store, pads: Scratchpads, dram_limit: int, bases: Mapping[MemType, int]
) -> FaultClass | None:
    if _bad_flags(insn):
        return FaultClass.BAD_FLAGS
    if insn.x_size == 0:
        return None
    if insn.memory_type != MemType.OUT:
        return FaultClass.BAD_MEMORY_TYPE
    if insn.y_pad_0 or insn.y_pad_1 or insn.x_pad_0 or insn.x_pad_1:
        return FaultClass.BAD_PAD
    if insn.sram_base + insn.y_size * insn.x_size > pads.depth[MemType.OUT]:
        return FaultClass.SRAM_RANGE
    return _check_dram(insn, MemType.OUT, pads, dram_limit, bases)


def _check_dram(
    insn: Load | Store,
    memory: MemType,
    pads: Scratchpads,
    dram_limit: int,
    bases: Mapping[MemType, int],
) -> FaultClass | None:
    if insn.y_size == 0:
        return None
    elements = (insn.y_size - 1) * insn.x_stride + insn.x_size
    end = address(insn, memory, pads, bases) + elements * pads.elem_bytes[memory]
    return FaultClass.DRAM_RANGE if end > min(dram_limit, ADDRESS_LIMIT) else None


def address(
    insn: Load | Store, memory: MemType, pads: Scratchpads, bases: Mapping[MemType, int]
) -> int:
    """Byte address of the first element in DRAM."""
    register = MemType.ACC if memory is MemType.ACC_8BIT else memory
    return bases.get(register, 0) + insn.dram_base * pads.elem_bytes[memory]


def _check_alu(insn: Alu, pads: Scratchpads, config: VtaConfig) -> FaultClass | None:
    if insn.alu_opcode in REQUANT_OPS and not config.has("requant"):
        return FaultClass.BAD_ALU_OPCODE
    sources = 1
    if insn.alu_opcode == AluOp.REQ:
        sources = ALU[AluOp.REQ].sources
        if insn.use_imm or req_sub_operation(insn.imm) or req_mode(insn.imm) not in _ROUNDING_MODES:
            return FaultClass.BAD_ALU_OPCODE
    acc = pads.depth[MemType.ACC]
    factors = {
        "dst": (insn.dst_factor_out, insn.dst_factor_in, acc),
        "src": (insn.src_factor_out, insn.src_factor_in, acc - sources + 1),
    }
    return _check_indices(insn, pads, factors)


def _check_gemm(insn: Gemm, pads: Scratchpads) -> FaultClass | None:
    depth = pads.depth
    factors = {"dst": (insn.dst_factor_out, insn.dst_factor_in, depth[MemType.ACC])}
    if not insn.reset:
        factors["src"] = (insn.src_factor_out, insn.src_factor_in, depth[MemType.INP])
        factors["wgt"] = (insn.wgt_factor_out, insn.wgt_factor_in, depth[MemType.WGT])
    return _check_indices(insn, pads, factors)


def _check_indices(
    insn: Gemm | Alu, pads: Scratchpads, factors: Mapping[str, tuple[int, int, int]]
) -> FaultClass | None:
    if not insn.iter_out or not insn.iter_in or insn.uop_bgn >= insn.uop_end:
        return None
    uops = _uops(insn, pads)
    if insn.uop_end > pads.depth[MemType.UOP]:
        # The first round ends here; an index found bad in it came before.
        first = any((uops[name] >= limit).any() for name, (_, _, limit) in factors.items())
        return FaultClass.INDEX_RANGE if first else FaultClass.UOP_RANGE
    for name, (outer, inner, limit) in factors.items():
        last = (insn.iter_out - 1) * outer + (insn.iter_in - 1) * inner
        if int(uops[name].max()) + last >= limit:
            return FaultClass.INDEX_RANGE
    return None


# -- effect ---------------------------------------------------------------------------------------


def execute(
    insn: Instruction,
    pads: Scratchpads,
    dram: IntArray,
    config: VtaConfig,
    bases: Mapping[MemType, int] | None = None,
    dram_limit: int | None = None,
) -> FaultClass | None:
    """Carry out any instruction on `pads` and `dram` (uint8, one axis), or say why it is bad.

    A bad instruction changes nothing here (hardware leaves SRAM undefined after a fault). See
    `check` for `bases` and `dram_limit` (default: all of `dram`). FINISH does nothing.
    """
    limit = len(dram) if dram_limit is None else dram_limit
    fault = check(insn, pads, config, limit, bases)
    if fault is not None:
        return fault
    match insn:
        case Load(x_size=0) | Store(x_size=0) | Store(y_size=0) | Finish():
            pass
        case Load():
            _load(insn, pads, dram, bases or {})
        case Store():
            _store(insn, pads, dram, bases or {})
        case Gemm():
            for ops in micro_ops(insn, pads):
                if insn.reset:
                    pads.acc[ops.dst] = 0
                else:
                    accumulate(pads.acc, pads.inp, pads.wgt, ops.dst, ops.src, ops.wgt)
        case Alu(alu_opcode=AluOp.REQ):
            held = _Held()
            for ops in micro_ops(insn, pads):
                _requantise(insn, pads.acc, ops, held)
        case Alu():
            for ops in micro_ops(insn, pads):
                _alu(insn, pads.acc, ops)
    return None


def _load(insn: Load, pads: Scratchpads, dram: IntArray, bases: Mapping[MemType, int]) -> None:
    memory = MemType(insn.memory_type)
    target = pads.memory(memory)
    rows, columns = insn.sram_shape
    dtype = np.dtype(np.int8) if memory is MemType.ACC_8BIT else target.dtype
    tile = np.full((rows, columns, *target.shape[1:]), _pad_value(insn, memory), dtype)
    if insn.y_size:
        elem = pads.elem_bytes[memory]
        data = _rows(
            dram,
            address(insn, memory, pads, bases),
            (insn.y_size, insn.x_size * elem),
            insn.x_stride * elem,
        )
        inside = tile[insn.y_pad_0 :, insn.x_pad_0 :][: insn.y_size, : insn.x_size]
        inside[...] = np.ascontiguousarray(data).view(dtype).reshape(inside.shape)
    target[insn.sram_base : insn.sram_base + rows * columns] = tile.reshape(-1, *target.shape[1:])


def _pad_value(insn: Load, memory: MemType) -> int:
    if not insn.pad_min:
        return 0
    return INT32_MIN if memory is MemType.ACC else INT8_MIN


def _store(insn: Store, pads: Scratchpads, dram: IntArray, bases: Mapping[MemType, int]) -> None:
    elem = pads.elem_bytes[MemType.OUT]
    end = insn.sram_base + insn.y_size * insn.x_size
    data = pads.acc[insn.sram_base : end].astype(np.int8).view(np.uint8)
    data = data.reshape(insn.y_size, insn.x_size * elem)
    start = address(insn, MemType.OUT, pads, bases)
    if insn.x_stride >= insn.x_size:
        _rows(dram, start, data.shape, insn.x_stride * elem)[...] = data
        return
    for y, row in enumerate(data):  # rows overlap: later ones win
        at = start + y * insn.x_stride * elem
        dram[at : at + len(row)] = row


def _rows(dram: IntArray, start: int, shape: tuple[int, ...], pitch_bytes: int) -> IntArray:
    return np.lib.stride_tricks.as_strided(dram[start:], shape, (pitch_bytes, 1))


def _alu(insn: Alu, acc: IntArray, ops: MicroOps) -> None:
    rule = ALU[AluOp(insn.alu_opcode)]
    written_at, order, distinct = _writes(acc, ops.dst)
    if insn.use_imm:
        if distinct:
            acc[ops.dst] = rule.apply(acc[ops.dst], insn.imm)
            return
    elif distinct and not _reads_back(written_at[ops.src], order):
        acc[ops.dst] = rule.apply(acc[ops.dst], acc[ops.src])
        return
    if rule.fold is not None and (insn.use_imm or (written_at[ops.src] < 0).all()):
        _fold(rule.fold, acc, ops.dst, insn.imm if insn.use_imm else acc[ops.src])
        return
    for dst, src in zip(ops.dst, ops.src, strict=True):
        acc[dst] = rule.apply(acc[dst], insn.imm if insn.use_imm else acc[src])


def _writes(acc: IntArray, dst: IntArray) -> tuple[IntArray, IntArray, bool]:
    """Per ACC element its last write (-1: none); the numbers of all writes; if no dst repeats."""
    order = np.arange(len(dst))
    written_at = np.full(len(acc), -1)
    written_at[dst] = order
    return written_at, order, bool((written_at[dst] == order).all())


def _reads_back(written_at: IntArray, read_at: IntArray) -> bool:
    """Whether a read, by number of the step that makes it, comes after the write to its element."""
    return bool(((written_at >= 0) & (written_at < read_at)).any())


@dataclass(slots=True)
class _Held:
    """REQ's parameters of the latest step: they are read again only when `src` changes."""

    src: int = -1
    vectors: tuple[IntArray, ...] = ()


def _requantise(insn: Alu, acc: IntArray, ops: MicroOps, held: _Held) -> None:
    changes = np.diff(ops.src, prepend=held.src) != 0
    written_at, order, distinct = _writes(acc, ops.dst)
    read_at = np.maximum.accumulate(np.where(changes, order, -1))
    sources = [ops.src + i for i in range(ALU[AluOp.REQ].sources)]
    if distinct and not any(_reads_back(written_at[source], read_at) for source in sources):
        parameters = [acc[source] for source in sources]
        for parameter, vector in zip(parameters, held.vectors, strict=False):
            parameter[read_at < 0] = vector
        held.src, held.vectors = int(ops.src[-1]), tuple(p[-1].copy() for p in parameters)
        bias, multiplier, packed = parameters
        acc[ops.dst] = req(acc[ops.dst], bias, multiplier, packed, insn.imm)
        return
    for dst, src in zip(ops.dst, ops.src, strict=True):
        if src != held.src:
            held.src = int(src)
            held.vectors = tuple(acc[src + i].copy() for i in range(len(sources)))
        bias, multiplier, packed = held.vectors
        acc[dst] = req(acc[dst], bias, multiplier, packed, insn.imm)


def _fold(fold: np.ufunc, acc: IntArray, dst: IntArray, operand: IntArray | int) -> None:
    """Apply an operation whose order does not matter, several times on some destinations."""
    by_dst = np.argsort(dst, kind="stable")
    vectors: Any = np.broadcast_to(operand, (len(dst), *acc.shape[1:])).astype(np.int32)
    ends = dst[by_dst]
    starts = np.flatnonzero(np.diff(ends, prepend=-1))
    folded = fold.reduceat(vectors[by_dst], starts, axis=0, dtype=np.int32)
    acc[ends[starts]] = fold(acc[ends[starts]], folded)
