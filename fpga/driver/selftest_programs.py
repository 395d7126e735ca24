"""Programs of the self-test: each shows one part of a machine, through parts shown before it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fpga.driver.sketch import Sketch
from vta_hw.spec.arith import INT8_MAX, INT8_MIN, INT32_MAX, INT32_MIN, pack_req_shift, req_imm
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import REQUANT_OPS, Alu, AluOp, Rounding

UOP_TABLE = 64
"""Entries of UOP that a sketch keeps for its own micro-ops, in the test of LOAD UOP."""

_BOX = {"y_size": 2, "x_size": 3, "x_stride": 4}
_BOX_SOURCE = 8
_PADS = {"y_pad_0": 1, "y_pad_1": 2, "x_pad_0": 2, "x_pad_1": 1}
_BOX_COUNT = (2 + 1 + 2) * (3 + 2 + 1)
"""A box with gaps between its rows and pads on all sides: what it takes in DRAM and in SRAM."""

_IMMEDIATES = {AluOp.SHR: (3, -3, 31, 32, -33), AluOp.RSR: (3, -3, 31, 32, -33)}
_IMMEDIATES_OF_OTHERS = (-32768, -1, 0, 7, 32767)
_ALU_VECTORS = 2
_EDGES = (INT32_MIN, INT32_MAX, 0, -1, 1, 1 << 30, -(1 << 30), 0x5555AAAA)


def fetch(config: VtaConfig) -> Sketch:
    """Nothing but FINISH, behind an instruction without work."""
    return Sketch(config)


def store(config: VtaConfig, rng: np.random.Generator) -> Sketch:
    """LOAD ACC_8BIT and STORE: rows, boxes, and entries all over ACC."""
    sketch = Sketch(config)
    memory = MemType.ACC_8BIT
    rows = sketch.place("rows", memory, _int8(rng, config, memory, 8))
    sketch.load(memory, 0, rows, 8)
    sketch.store(0, sketch.room("copied rows", 8), 8)
    _load_box(sketch, rng, memory)
    sketch.store(0, sketch.room("a box with its pads", _BOX_COUNT), _BOX_COUNT)
    sketch.store(0, sketch.room("a box stored with gaps", _BOX_SOURCE), 0, **_BOX)
    spots = _spots(config.depth(MemType.ACC))
    _load_spots(sketch, rng, memory, spots)
    out = sketch.room(f"ACC entries {_listed(spots)}", len(spots))
    for index, spot in enumerate(spots):
        sketch.store(spot, out + index, 1)
    return sketch


def load_acc(config: VtaConfig, rng: np.random.Generator) -> Sketch:
    """LOAD ACC: all 32 bits, pads included."""
    sketch = Sketch(config)
    _load_box(sketch, rng, MemType.ACC)
    sketch.store_whole("a box with its pads", 0, _BOX_COUNT)
    if config.has("pad_min"):
        _load_box(sketch, rng, MemType.ACC, pad_min=True)
        sketch.store_whole("a box with pads of the least value", 0, _BOX_COUNT)
    return sketch


def load_uop(config: VtaConfig, rng: np.random.Generator) -> Sketch:
    """LOAD UOP: additions whose operands the loaded micro-ops name, from entries all over UOP."""
    sketch = Sketch(config)
    spots = [spot for spot in _spots(config.depth(MemType.UOP)) if spot >= UOP_TABLE]
    count = len(spots) + _BOX_SOURCE
    values = sketch.place("values", MemType.ACC, _int32(rng, config, 2 * count))
    sources = (count + rng.permutation(count)).tolist()
    words = sketch.packed_uops(range(count), sources, [0] * count)
    base = sketch.place("loaded micro-ops", MemType.UOP, words)
    sketch.load(MemType.ACC, 0, values, 2 * count)
    for index, spot in enumerate(spots):
        sketch.load(MemType.UOP, spot, base + index, 1)
    for spot in spots:
        sketch.add(_additions(range(spot, spot + 1)))
    if config.depth(MemType.UOP) >= UOP_TABLE + _BOX_COUNT:
        sketch.load(MemType.UOP, UOP_TABLE, base + len(spots), 0, **_BOX, **_PADS)
        sketch.add(_additions(range(UOP_TABLE, UOP_TABLE + _BOX_COUNT)))
    sketch.store_whole(f"sums by UOP entries {_listed(spots)}, then by a box", 0, count)
    return sketch


def load_inp(config: VtaConfig, rng: np.random.Generator) -> Sketch:
    """LOAD INP: entries times the identity, from all over INP."""
    sketch = Sketch(config)
    chunks = max(1, config.block_in // config.block_out)
    identity = np.eye(config.block_in, dtype=np.int8).reshape(-1, config.block_in)
    weights = np.zeros((chunks, config.block_out, config.block_in), np.int8)
    for chunk in range(chunks):
        part = identity[chunk * config.block_out : (chunk + 1) * config.block_out]
        weights[chunk, : len(part)] = part
    sketch.load(MemType.WGT, 0, sketch.place("identity", MemType.WGT, weights), chunks)

    def show(name: str, entries: list[int]) -> None:
        count = len(entries) * chunks
        sketch.zero(0, count)
        sources = [entry for entry in entries for _ in range(chunks)]
        wanted = list(range(chunks)) * len(entries)
        sketch.gemm(sketch.uops(range(count), sources, wanted))
        sketch.store(0, sketch.room(name, count), count)

    for pad_min in (False, True)[: 1 + config.has("pad_min")]:
        _load_box(sketch, rng, MemType.INP, pad_min=pad_min)
        show(f"a box with its {'least ' * pad_min}pads", list(range(_BOX_COUNT)))
    spots = _spots(config.depth(MemType.INP))
    _load_spots(sketch, rng, MemType.INP, spots)
    show(f"INP entries {_listed(spots)}", spots)
    return sketch


def load_wgt(config: VtaConfig, rng: np.random.Generator) -> Sketch:
    """LOAD WGT: one-hot vectors times entries, from all over WGT."""
    sketch = Sketch(config)
    groups = -(-config.block_in // config.batch)
    ones = np.zeros((groups * config.batch, config.block_in), np.int8)
    ones[: config.block_in] = np.eye(config.block_in, dtype=np.int8)
    sketch.load(MemType.INP, 0, sketch.place("one-hot vectors", MemType.INP, ones), groups)

    def show(name: str, entries: list[int]) -> None:
        count = len(entries) * groups
        sketch.zero(0, count)
        firsts = [index * groups for index in range(len(entries))]
        uops = sketch.uops(firsts, [0] * len(entries), entries)
        sketch.gemm(uops, iter_in=groups, dst_factor_in=1, src_factor_in=1)
        sketch.store(0, sketch.room(name, count), count)

    depth = config.depth(MemType.WGT)
    fits = min(depth, config.depth(MemType.ACC) // groups)
    if fits >= _BOX_COUNT:
        _load_box(sketch, rng, MemType.WGT)
        show("a box with its pads", list(range(_BOX_COUNT)))
    spots = _spots(depth)[-fits:]
    _load_spots(sketch, rng, MemType.WGT, spots)
    show(f"WGT entries {_listed(spots)}", spots)
    return sketch


def alu_ops(config: VtaConfig) -> list[AluOp]:
    """The ALU operations that the config has."""
    return [op for op in AluOp if op not in REQUANT_OPS or config.has("requant")]


def alu(config: VtaConfig, rng: np.random.Generator, op: AluOp) -> Sketch:
    """One ALU operation with immediates and on registers, all 32 bits of its results."""
    sketch = Sketch(config)
    count = _ALU_VECTORS
    values = sketch.place("first operands", MemType.ACC, _edges(rng, config, count))
    if op is AluOp.REQ:
        for mode in Rounding:
            sketch.load(MemType.ACC, 0, values, count)
            params = sketch.place("parameters", MemType.ACC, _req_params(rng, config, mode))
            sketch.load(MemType.ACC, count, params, 3)
            zero_point = int(rng.integers(INT8_MIN, INT8_MAX + 1))
            sketch.alu(op, 0, count, count, src_step=0, imm=req_imm(zero_point, mode))
            sketch.store_whole(f"{op.name} {mode.name.lower()}", 0, count)
        return sketch
    for imm in _IMMEDIATES.get(op, _IMMEDIATES_OF_OTHERS):
        sketch.load(MemType.ACC, 0, values, count)
        sketch.alu_imm(op, imm, 0, count)
        sketch.store_whole(f"{op.name} by {imm}", 0, count)
    second = _edges(rng, config, count)[::-1]
    if op in _IMMEDIATES:
        second = rng.integers(-40, 41, second.shape).astype("<i4")
    operands = sketch.place("second operands", MemType.ACC, second)
    for step in (1, 0):
        sketch.load(MemType.ACC, 0, values, count)
        sketch.load(MemType.ACC, count, operands, count)
        sketch.alu(op, 0, count, count, src_step=step)
        kind = "registers" if step else "a register that is held"
        sketch.store_whole(f"{op.name} by {kind}", 0, count)
    return sketch


def gemm(config: VtaConfig, rng: np.random.Generator, size: int) -> Sketch:
    """A product of `size` x `size` blocks each, shifted into int8 and clamped."""
    sketch = Sketch(config)
    inputs = _int8(rng, config, MemType.INP, size * size)
    weights = _int8(rng, config, MemType.WGT, size * size)
    sketch.load(MemType.INP, 0, sketch.place("inputs", MemType.INP, inputs), size * size)
    sketch.load(MemType.WGT, 0, sketch.place("weights", MemType.WGT, weights), size * size)
    sketch.zero(0, size * size)
    _products(sketch, rows=size, depth=size, columns=size)
    _clamp(sketch, size * size, config.block_in * size)
    sketch.store(0, sketch.room("products", size * size), size * size)
    return sketch


def gemm_sizes(config: VtaConfig, bytes_max: int) -> Iterator[int]:
    """Growing sizes for `gemm` that fit the memories, and so many bytes of DRAM."""
    kinds = (MemType.INP, MemType.WGT, MemType.ACC)
    size = 1
    while True:
        blocks = size * size
        moved = blocks * sum(map(config.elem_bytes, (MemType.INP, MemType.WGT, MemType.OUT)))
        if any(blocks > config.depth(kind) for kind in kinds) or moved > bytes_max:
            return
        yield size
        size *= 2


def network(config: VtaConfig) -> Sketch:
    """Two dense layers, requantised: the second reads from DRAM what the first has stored.

    It is the same program on every machine of a config.
    """
    sketch = Sketch(config)
    rng = np.random.default_rng(2)
    out_bytes, inp_bytes = config.elem_bytes(MemType.OUT), config.elem_bytes(MemType.INP)
    hidden = 2 * max(1, inp_bytes // out_bytes)
    source = sketch.place("network input", MemType.INP, _int8(rng, config, MemType.INP, 2))
    middle = sketch.room("first layer", hidden)
    _dense(sketch, rng, source, 2, middle, hidden)
    _dense(
        sketch,
        rng,
        middle * out_bytes // inp_bytes,
        hidden * out_bytes // inp_bytes,
        sketch.room("second layer", 2),
        2,
    )
    return sketch


# -- parts ----------------------------------------------------------------------------------------


def _dense(
    sketch: Sketch, rng: np.random.Generator, source: int, depth: int, target: int, columns: int
) -> None:
    """One dense layer from `source` to `target`, places in DRAM."""
    config = sketch.config
    weights = _int8(rng, config, MemType.WGT, depth * columns)
    sketch.load(MemType.INP, 0, source, depth)
    sketch.load(MemType.WGT, 0, sketch.place("layer weights", MemType.WGT, weights), len(weights))
    sketch.zero(0, columns)
    _products(sketch, rows=1, depth=depth, columns=columns)
    if config.has("requant"):
        for column in range(columns):
            params = _req_params(rng, config, Rounding.DOUBLE)
            at = sketch.place("layer parameters", MemType.ACC, params)
            sketch.load(MemType.ACC, columns, at, 3)
            sketch.alu(AluOp.REQ, column, columns, 1, imm=req_imm(-3, Rounding.DOUBLE))
    else:
        _clamp(sketch, columns, config.block_in * depth)
    sketch.store(0, target, columns)


def _products(sketch: Sketch, rows: int, depth: int, columns: int) -> None:
    """Add products of INP [rows, depth] and WGT [columns, depth] to ACC [columns, rows]."""
    indices = range(depth)
    sketch.gemm(
        sketch.uops([0] * depth, indices, indices),
        iter_out=columns,
        iter_in=rows,
        dst_factor_out=rows,
        dst_factor_in=1,
        src_factor_in=depth,
        wgt_factor_out=depth,
    )


def _clamp(sketch: Sketch, count: int, terms: int) -> None:
    """Bring sums of so many products of int8 into int8, most of them without a clamp."""
    sketch.alu_imm(AluOp.SHR, 6 + terms.bit_length() // 2, 0, count)
    sketch.alu_imm(AluOp.MAX, INT8_MIN, 0, count)
    sketch.alu_imm(AluOp.MIN, INT8_MAX, 0, count)


def _additions(uops: range) -> Alu:
    return Alu(uop_bgn=uops.start, uop_end=uops.stop, iter_out=1, iter_in=1, alu_opcode=AluOp.ADD)


def _load_box(
    sketch: Sketch, rng: np.random.Generator, memory: MemType, *, pad_min: bool = False
) -> None:
    data = _random(rng, sketch.config, memory, _BOX_SOURCE)
    base = sketch.place(f"a box of {memory.name}", memory, data)
    sketch.load(memory, 0, base, 0, **_BOX, **_PADS, pad_min=pad_min)


def _load_spots(
    sketch: Sketch, rng: np.random.Generator, memory: MemType, spots: list[int]
) -> None:
    data = _random(rng, sketch.config, memory, len(spots))
    base = sketch.place(f"entries of {memory.name}", memory, data)
    for index, spot in enumerate(spots):
        sketch.load(memory, spot, base + index, 1)


def _spots(depth: int) -> list[int]:
    """Entries that differ in each bit of their address from another one: 0, 1, 2, 4 ..., last."""
    return sorted({0, *(1 << bit for bit in range((depth - 1).bit_length())), depth - 1})


def _listed(spots: list[int]) -> str:
    return ", ".join(map(str, spots))


def _random(rng: np.random.Generator, config: VtaConfig, memory: MemType, count: int) -> np.ndarray:
    if memory is MemType.ACC:
        return _int32(rng, config, count)
    return _int8(rng, config, memory, count)


def _int8(rng: np.random.Generator, config: VtaConfig, memory: MemType, count: int) -> np.ndarray:
    shape = (count, config.elem_bytes(memory))
    return rng.integers(INT8_MIN, INT8_MAX + 1, shape).astype(np.int8)


def _int32(rng: np.random.Generator, config: VtaConfig, count: int) -> np.ndarray:
    shape = (count, config.batch * config.block_out)
    return rng.integers(INT32_MIN, INT32_MAX + 1, shape).astype("<i4")


def _edges(rng: np.random.Generator, config: VtaConfig, count: int) -> np.ndarray:
    """Vectors that begin with the numbers at which arithmetic goes wrong first."""
    vectors = _int32(rng, config, count)
    flat = vectors.reshape(-1)
    edges = _EDGES[: flat.size]
    flat[: len(edges)] = edges
    return vectors


def _req_params(rng: np.random.Generator, config: VtaConfig, mode: Rounding) -> np.ndarray:
    """Bias, multiplier and shifts of REQ, lane by lane."""
    lanes = config.batch * config.block_out
    bias = rng.integers(-(1 << 12), 1 << 12, lanes)
    multiplier = rng.integers(1 << 30, 1 << 31, lanes)
    if mode is Rounding.FLOAT:
        scales = np.ldexp(rng.uniform(0.5, 1, lanes), -rng.integers(4, 20, lanes))
        multiplier = scales.astype("<f4").view("<i4").astype(np.int64)
    low = rng.integers(INT8_MIN, -64, lanes)
    high = rng.integers(64, INT8_MAX + 1, lanes)
    packed = pack_req_shift(rng.integers(4, 12, lanes), rng.integers(0, 3, lanes), low, high)
    return np.stack([bias, multiplier, packed.astype(np.int64)]).astype("<i4")
