"""Loads of the load stage stand as early as conflicts and their own order let them."""

from __future__ import annotations

import numpy as np

from compiler.passes.hoist_loads import hoist_loads
from compiler.passes.insert_tokens import Access, conflict
from vta_hw.spec.config import MemType
from vta_hw.spec.footprint import Touch
from vta_hw.spec.isa import Gemm, Instruction, Load, Store

SIZES = {"inp": 20, "acc": 20, "dram": 104}
LOAD = Load(memory_type=int(MemType.INP), y_size=1, x_size=4, x_stride=4)
STORE = Store(memory_type=int(MemType.OUT), y_size=1, x_size=4, x_stride=4)


def load(at: int, source: int = 100) -> tuple[Instruction, tuple[Touch, ...], tuple[Touch, ...]]:
    return LOAD, (Touch("dram", source, source + 3),), (Touch("inp", at, at + 3),)


def gemm(at: int) -> tuple[Instruction, tuple[Touch, ...], tuple[Touch, ...]]:
    sums = (Touch("acc", at, at + 3),)
    return Gemm(uop_end=1), (Touch("inp", at, at + 3), *sums), sums


def store(at: int) -> tuple[Instruction, tuple[Touch, ...], tuple[Touch, ...]]:
    return STORE, (Touch("acc", at, at + 3),), (Touch("dram", at, at + 3),)


def order(
    *parts: tuple[Instruction, tuple[Touch, ...], tuple[Touch, ...]],
) -> tuple[list[Access], list[int]]:
    stream = [Access(*part, origin) for origin, part in enumerate(parts)]
    return stream, [access.origin for access in hoist_loads(stream, SIZES)]


def test_loads_pass_products_of_the_other_half_and_stop_at_their_own() -> None:
    _, places = order(load(0), gemm(0), load(8), gemm(8), load(0), gemm(0))
    assert places == [0, 2, 1, 4, 3, 5]


def test_a_load_stays_behind_the_store_that_it_reads() -> None:
    _, places = order(load(0), gemm(0), store(0), gemm(8), load(16, source=2))
    assert places == [0, 1, 2, 4, 3]


def test_loads_keep_their_order_and_so_do_conflicts(rng: np.random.Generator) -> None:
    for _ in range(50):
        parts = []
        for _ in range(20):
            at = 4 * int(rng.integers(4))
            kind = rng.integers(3)
            parts.append((load(at, int(rng.integers(16))), gemm(at), store(at))[kind])
        stream, places = order(*parts)
        assert sorted(places) == list(range(len(parts)))
        loads = [origin for origin in places if parts[origin][0] is LOAD]
        assert loads == sorted(loads)
        for second in stream:
            for first in stream[: second.origin]:
                if conflict(first, second):
                    assert places.index(first.origin) < places.index(second.origin)
