"""LOAD and STORE on the compiled engines: every shape of rows, padding and strides."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from tests.vta_sim.engines import Launch, functional_differences, timing_differences
from tests.vta_sim.native_sweep import machine
from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Finish, Gemm, Instruction, Load, MicroOp, Store

LOADED = (MemType.UOP, MemType.WGT, MemType.INP, MemType.ACC, MemType.ACC_8BIT)
SHAPES: tuple[dict[str, Any], ...] = (
    {"y_size": 1, "x_size": 5},
    {"y_size": 3, "x_size": 4, "x_stride": 4},
    {"y_size": 3, "x_size": 4, "x_stride": 7},
    {"y_size": 3, "x_size": 4, "x_stride": 2},
    {"y_size": 4, "x_size": 1, "x_stride": 0},
    {"y_size": 4, "x_size": 3, "x_stride": 0},
    {"y_size": 0, "x_size": 5},
    {"y_size": 0, "x_size": 5, "dram_base": 0xFFFFFFFF},
    {"y_size": 5, "x_size": 0, "x_stride": 3},
    {"y_size": 65535, "x_size": 0, "sram_base": 65535, "dram_base": 0xFFFFFFFF},
    {"y_size": 0, "x_size": 0},
    {"y_size": 0, "x_size": 1, "sram_base": 2},
)
PADS: tuple[dict[str, int], ...] = (
    {},
    {"y_pad_0": 2},
    {"y_pad_1": 1},
    {"x_pad_0": 3},
    {"x_pad_1": 2},
    {"y_pad_0": 1, "y_pad_1": 2, "x_pad_0": 1, "x_pad_1": 2},
)


def _random_memory(rng, size: int = 20001) -> bytes:
    return rng.integers(0, 256, size).astype("u1").tobytes()


def _launch(config: VtaConfig, insns: list[Instruction], dram: bytes) -> Launch:
    return Launch(config, isa.encode_all([*insns, Finish()], config), dram)


def _run(config: VtaConfig, insns: list[Instruction], dram: bytes) -> list[str]:
    chosen = _launch(config, insns, dram)
    return [*functional_differences(chosen), *timing_differences(chosen)]


def _loaded(config: VtaConfig, *memories: MemType) -> list[Instruction]:
    """Something in the elements that tests use, so that what a LOAD leaves alone is seen."""
    return [
        Load(memory_type=memory, y_size=2, x_size=min(32, config.depth(memory) // 2), dram_base=1)
        for memory in memories
    ]


@pytest.mark.parametrize("name", ["tiny", "batch2", "block1"])
@pytest.mark.parametrize("memory", LOADED)
def test_loads_of_all_shapes(name, memory, rng):
    config = machine(name)
    dram = _random_memory(rng)
    on_chip = MemType.ACC if memory is MemType.ACC_8BIT else memory
    loads: list[Instruction] = []
    for shape, pads, least in product(SHAPES, PADS, (False, True)):
        if memory is MemType.UOP and least:
            continue
        load = Load(**{"memory_type": memory, "sram_base": 1, **shape, **pads, "pad_min": least})
        loads.append(load)
        found = functional_differences(_launch(config, [*_loaded(config, on_chip), load], dram))
        assert found == [], f"{shape} {pads} pad_min={least}"
    assert timing_differences(_launch(config, loads, dram), executes=False) == []


@pytest.mark.parametrize("memory", [*LOADED, MemType.OUT])
@pytest.mark.parametrize("excess", [0, 1])
def test_transfers_to_the_ends_of_both_memories(memory, excess, rng):
    """Whole on-chip memories, and DRAM of a size that is no multiple of anything."""
    config = machine("tiny")
    size, depth = config.elem_bytes(memory), config.depth(memory)
    form = Store if memory is MemType.OUT else Load
    for odd in (0, 1, size - 1):
        dram = _random_memory(rng, size * depth + odd)
        whole = form(memory_type=memory, y_size=1, x_size=depth)
        rows = form(memory_type=memory, y_size=depth // 2, x_size=2, x_stride=2)
        last = form(
            memory_type=memory, sram_base=depth - 1, dram_base=depth - 1, y_size=1, x_size=1
        )
        far = form(memory_type=memory, dram_base=excess, y_size=1, x_size=depth)
        high = form(memory_type=memory, sram_base=excess, y_size=1, x_size=depth)
        for insn in (whole, rows, last, far, high):
            assert _run(config, [*_loaded(config, MemType.ACC), insn], dram) == []


@pytest.mark.parametrize("memory", [*LOADED, MemType.OUT])
def test_sizes_beyond_32_bits_are_refused_alike(memory, rng):
    config = machine("tiny")
    form = Store if memory is MemType.OUT else Load
    largest: dict[str, Any] = {
        "y_size": 65535,
        "x_size": 65535,
        "x_stride": 65535,
        "dram_base": 0xFFFFFFFF,
    }
    pads = {} if form is Store else dict.fromkeys(("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1"), 15)
    for names in (largest, {**largest, **pads}, {**largest, "sram_base": 65535}):
        assert _run(config, [form(memory_type=memory, **names)], _random_memory(rng)) == []
    tall: dict[str, Any] = {"y_size": 256, "x_size": 1, "x_stride": 65535}
    for base in (0, 0xFFFFFFFF):
        insn = form(memory_type=memory, dram_base=base, **tall)
        assert _run(config, [insn], _random_memory(rng)) == []


@pytest.mark.parametrize("name", ["tiny", "batch2", "block1", "default"])
def test_stores_whose_rows_overlap(name, rng):
    """Where rows overlap later ones win; with stride 0 only the last is left."""
    config = machine(name)
    dram = _random_memory(rng, 30000)
    stores: list[Instruction] = []
    for rows, columns, stride in product((0, 1, 2, 5), (0, 1, 3, 8), (0, 1, 2, 3, 8, 9)):
        shape: dict[str, Any] = {"y_size": rows, "x_size": columns, "x_stride": stride}
        store = Store(**{"memory_type": MemType.OUT, "sram_base": 2, "dram_base": 9, **shape})
        stores.append(store)
        found = functional_differences(
            _launch(config, [*_loaded(config, MemType.ACC), store], dram)
        )
        assert found == [], f"{shape}"
    assert timing_differences(_launch(config, stores, dram), executes=False) == []


def test_types_pads_and_flags_that_are_refused(rng):
    config = machine("tiny")
    dram = _random_memory(rng)
    sizes: tuple[dict[str, Any], ...] = (
        {"y_size": 1, "x_size": 1},
        {"y_size": 1, "x_size": 0},
        {"y_size": 0, "x_size": 1},
    )
    for memory, size in product(range(8), sizes):
        for form in (Load, Store):
            assert _run(config, [form(memory_type=memory, **size)], dram) == []
            for flag in ("pop_prev", "pop_next", "push_prev", "push_next"):
                insn = form(**{"memory_type": memory, **size, flag: True})
                assert _run(config, [insn], dram) == []
        assert _run(config, [Load(memory_type=memory, pad_min=True, **size)], dram) == []
        for pad in ("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1"):
            assert _run(config, [Store(**{"memory_type": memory, **size, pad: 1})], dram) == []


def test_weights_are_arranged_anew_after_each_load(rng):
    """A LOAD WGT between two GEMMs, of some of the elements that they use; pads too."""
    config = machine("default")
    uops = [MicroOp(dst=i, src=i, wgt=i) for i in range(6)]
    words = b"".join(isa.encode_uop(uop, config).to_bytes(4, "little") for uop in uops)
    dram = words + _random_memory(rng)
    gemm = Gemm(uop_end=6, iter_out=1, iter_in=1)
    start: list[Instruction] = [
        Load(memory_type=MemType.UOP, y_size=1, x_size=6),
        Load(memory_type=MemType.INP, dram_base=7, y_size=1, x_size=6, push_next=True),
        Load(memory_type=MemType.WGT, dram_base=3, y_size=1, x_size=6, push_next=True),
        Gemm(uop_end=6, iter_out=1, iter_in=1, pop_prev=True),
        Gemm(uop_end=6, iter_out=1, iter_in=1, pop_prev=True, push_prev=True),
    ]
    for load in (
        Load(memory_type=MemType.WGT, sram_base=2, dram_base=20, y_size=1, x_size=1),
        Load(memory_type=MemType.WGT, sram_base=1, y_size=2, x_size=1, x_stride=9, x_pad_1=1),
        Load(memory_type=MemType.WGT, sram_base=0, y_size=0, x_size=2, y_pad_0=3, pad_min=True),
    ):
        names = {f: getattr(load, f) for f in ("sram_base", "dram_base", "y_size", "x_size")}
        assert names["x_size"]
        turned = isa.decode(isa.encode(load, config) | 1 << 4 | 1 << 6, config)  # pop, push next
        insns = [*start, turned, Gemm(uop_end=6, iter_out=1, iter_in=1, pop_prev=True), gemm]
        assert _run(config, insns, dram) == []
