"""GEMM on the compiled functional engine: every form of its loops, in the order that they have."""

from __future__ import annotations

import tracemalloc
from itertools import product
from typing import Any

import numpy as np
import pytest

from tests.vta_sim.engines import Launch, functional_differences, timing_differences
from tests.vta_sim.native_sweep import machine
from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Finish, Gemm, Instruction, Load, MicroOp
from vta_hw.spec.words import from_stream
from vta_sim.native.functional import FunctionalProgram

_FACTORS = tuple(
    f"{name}_factor_{level}" for level in ("out", "in") for name in ("dst", "src", "wgt")
)
_OPERANDS = (MemType.INP, MemType.WGT, MemType.ACC)


def _loads(config: VtaConfig, uops: list[MicroOp]) -> tuple[list[Instruction], bytes]:
    """LOADs of all of INP, WGT and ACC, and of micro-ops; and the bytes before the others' data."""
    words = b"".join(isa.encode_uop(uop, config).to_bytes(4, "little") for uop in uops)
    image = words + bytes(-len(words) % 4096)
    count = len(uops)
    insns: list[Instruction] = [
        Load(memory_type=MemType.UOP, y_size=1, x_size=count, x_stride=count)
    ]
    for memory in _OPERANDS:
        base, depth = len(image) // config.elem_bytes(memory), config.depth(memory)
        insns.append(
            Load(memory_type=memory, dram_base=base, y_size=1, x_size=depth, x_stride=depth)
        )
    return insns, image


def launch(config: VtaConfig, uops: list[MicroOp], gemms: list[Gemm], seed: int = 0) -> Launch:
    """GEMMs over random memories, and over micro-ops from the beginning of UOP on."""
    insns, image = _loads(config, uops)
    sizes = [
        config.depth(m) * config.elem_bytes(m) for m in (MemType.INP, MemType.WGT, MemType.ACC)
    ]
    data = np.random.default_rng(seed).integers(0, 256, max(sizes), np.uint8)
    data[::7] = 0x80  # the least of all numbers, often
    stream = isa.encode_all([*insns, *gemms, Finish()], config)
    return Launch(config, stream, image + data.tobytes())


def gemm(count: int, **values: Any) -> Gemm:
    """A GEMM over `count` micro-ops; each loop has one round unless `values` say else."""
    chosen: dict[str, Any] = {"uop_end": count, "iter_out": 1, "iter_in": 1, **values}
    return Gemm(**chosen)


def _random_uops(
    config: VtaConfig, rng: np.random.Generator, count: int, far: int
) -> list[MicroOp]:
    depths = [config.depth(m) for m in (MemType.ACC, MemType.INP, MemType.WGT)]
    columns = [rng.integers(0, max(1, depth - far), count).tolist() for depth in depths]
    return [MicroOp(dst=d, src=s, wgt=w) for d, s, w in zip(*columns, strict=True)]


@pytest.mark.parametrize("name", ["tiny", "rect", "batch2", "block1"])
def test_factors_that_are_zero_in_each_position(name, rng):
    config = machine(name)
    uops = _random_uops(config, rng, 3, 20)
    gemms = [
        gemm(3, iter_out=3, iter_in=4, **dict(zip(_FACTORS, factors, strict=True)))
        for factors in product((0, 1), repeat=len(_FACTORS))
    ]
    assert functional_differences(launch(config, uops, gemms)) == []


def test_accumulators_that_repeat_and_loops_that_overlap(rng):
    config = machine("tiny")
    for trial in range(30):
        few = int(rng.integers(1, 4))
        uops = [
            MicroOp(dst=int(d), src=int(s), wgt=int(g))
            for d, s, g in rng.integers(0, few, (int(rng.integers(1, 12)), 3))
        ]
        steps = {name: int(rng.integers(0, 3)) for name in _FACTORS}
        made = gemm(len(uops), iter_out=int(rng.integers(1, 6)), iter_in=int(rng.integers(1, 6)))
        made = Gemm(**{**_values(made), **steps})
        assert functional_differences(launch(config, uops, [made, made], trial)) == []


def _values(insn: Gemm) -> dict[str, Any]:
    return {name: getattr(insn, name) for name in ("uop_end", "iter_out", "iter_in")}


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("rounds", [(0, 5), (5, 0), (0, 0)])
def test_loops_that_run_zero_times_look_at_no_index(rounds, reset):
    config = machine("tiny")
    outer, inner = rounds
    made = gemm(1, iter_out=outer, iter_in=inner, dst_factor_out=255, src_factor_in=255)
    beyond = Gemm(reset=reset, uop_bgn=255, uop_end=256, iter_out=outer, iter_in=inner)
    backwards = Gemm(reset=reset, uop_bgn=9, uop_end=4, iter_out=16383, iter_in=16383)
    chosen = launch(config, [MicroOp(dst=255, src=255, wgt=63)], [made, beyond, backwards])
    assert functional_differences(chosen) == []
    assert timing_differences(chosen) == []


@pytest.mark.parametrize("factors", [{}, {"src_factor_in": 1}, {"wgt_factor_in": 1}])
def test_sums_wrap_over_many_rounds(factors):
    """2^14 rounds of up to 2^16: past 2^31, whatever the loops are regrouped to."""
    config = machine("tiny")
    uops = [
        MicroOp(dst=5, src=1, wgt=2),
        MicroOp(dst=6, src=1, wgt=2),
        MicroOp(dst=5, src=3, wgt=1),
    ]
    made = gemm(3, iter_out=16383, iter_in=20, **factors)
    assert functional_differences(launch(config, uops, [made])) == []


def test_loops_of_more_rows_and_terms_than_are_held():
    config = machine("default")
    uops = [MicroOp(dst=i, src=2 * i, wgt=3 * i) for i in range(40)]
    gemms = [
        gemm(40, iter_out=900, iter_in=3, dst_factor_out=1, dst_factor_in=1),
        gemm(40, iter_out=900, iter_in=3, src_factor_out=1, src_factor_in=1),
        gemm(40, iter_out=2, iter_in=900, dst_factor_out=7, dst_factor_in=2, wgt_factor_out=9),
    ]
    assert functional_differences(launch(config, uops, gemms)) == []


@pytest.mark.parametrize(
    "values",
    [
        {"iter_out": 128, "iter_in": 512, "dst_factor_out": 1, "dst_factor_in": 1},
        {"iter_out": 64, "iter_in": 1023},
    ],
    ids=["rows", "terms"],
)
def test_a_plan_stays_small_when_every_micro_op_has_weights_of_its_own(values):
    """It took as much memory as there are steps: 1 MB for each micro-op."""
    config = machine("default")
    uops = [MicroOp(dst=i, src=0, wgt=i) for i in range(200)]
    chosen = launch(config, uops, [gemm(200, **values)])
    tracemalloc.start()
    try:
        FunctionalProgram(config, from_stream(chosen.stream), chosen.memory())
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 40 << 20


def test_the_last_elements_of_all_memories():
    for name in ("tiny", "default", "rect", "batch4", "block32"):
        config = machine(name)
        last = [config.depth(m) - 1 for m in (MemType.ACC, MemType.INP, MemType.WGT)]
        uops = [MicroOp(dst=last[0], src=last[1], wgt=last[2]), MicroOp()]
        made = [
            gemm(2),
            gemm(1, reset=True),
            Gemm(
                uop_bgn=1,
                uop_end=2,
                iter_out=2,
                iter_in=1,
                dst_factor_out=last[0],
                src_factor_out=last[1],
                wgt_factor_out=last[2],
            ),
        ]
        assert functional_differences(launch(config, uops, made)) == [], name


@pytest.mark.parametrize("memory", ["dst", "src", "wgt"])
@pytest.mark.parametrize("reset", [False, True])
def test_an_index_one_beyond_a_memory(memory, reset):
    config = machine("tiny")
    depth = {"dst": 256, "src": 256, "wgt": 64}[memory]
    uops = [MicroOp(), MicroOp(**{memory: depth - 1})]
    made = gemm(2, iter_out=2, reset=reset, **{f"{memory}_factor_out": 1})
    chosen = launch(config, uops, [made])
    assert functional_differences(chosen) == []
    assert timing_differences(chosen) == []
