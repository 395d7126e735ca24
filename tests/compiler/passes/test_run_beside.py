"""Rounds between another kernel's products: where they may be, in order, and in the other half."""

from __future__ import annotations

import numpy as np

from compiler.passes.insert_tokens import Access, conflict
from compiler.passes.run_beside import run_beside
from tests.compiler.passes.shorthand import TINY
from vta_hw.spec.config import MemType
from vta_hw.spec.footprint import Touch
from vta_hw.spec.isa import Alu, AluOp, Gemm, Instruction, Load, Store

SIZES = {"inp": 4, "acc": 256, "uop": 8, "dram": 4000}
HALF = 128
ROUNDS_AT = 2000


class Kernels:
    """Two kernels: tiles whose results are read by rounds."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.first: list[Access] = []
        self.second: list[Access] = []

    def _access(
        self, name: str, insn: Instruction, reads: tuple[Touch, ...], writes: tuple[Touch, ...]
    ) -> Access:
        self.names.append(name)
        return Access(insn, reads, writes, len(self.names) - 1)

    def tile(self, number: int, pieces: int = 4) -> None:
        """Products, zeroing for the next ones, an operation, and a store of 16 elements."""
        begin = number % 2 * HALF
        sums = Touch("acc", begin, begin + 15)
        other = Touch("acc", HALF - begin, HALF - begin + 15)
        reads = (sums, Touch("inp", 0, 3))
        out = [
            self._access(f"g{number}{piece}", Gemm(uop_end=1), reads, (sums,))
            for piece in range(pieces)
        ]
        zero = Load(memory_type=int(MemType.ACC), x_size=16, y_pad_0=1)
        out.append(self._access(f"z{number + 1}", zero, (), (other,)))
        out.append(
            self._access(f"a{number}", Alu(alu_opcode=AluOp.MAX, uop_end=1), (sums,), (sums,))
        )
        store = Store(memory_type=int(MemType.OUT), y_size=1, x_size=16, x_stride=16)
        place = Touch("dram", 16 * number, 16 * number + 15)
        out.append(self._access(f"s{number}", store, (sums,), (place,)))
        self.first += out

    def round(self, number: int, tile: int, half: int) -> None:
        """A round that reads what a tile has stored."""
        begin = half * HALF + 32
        image, window = Touch("acc", begin, begin + 15), Touch("acc", begin + 16, begin + 19)
        load = Load(memory_type=int(MemType.ACC_8BIT), y_size=1, x_size=16, x_stride=16)
        place = Touch("dram", 16 * tile, 16 * tile + 15)
        fill = Load(memory_type=int(MemType.ACC_8BIT), x_size=4, y_pad_0=1)
        store = Store(memory_type=int(MemType.OUT), y_size=1, x_size=4, x_stride=4)
        result = Touch("dram", ROUNDS_AT + 4 * number, ROUNDS_AT + 4 * number + 3)
        work = Alu(alu_opcode=AluOp.MAX, uop_end=1)
        self.second += [
            self._access(f"F{number}", fill, (), (window,)),
            self._access(f"L{number}", load, (place,), (image,)),
            self._access(f"M{number}", work, (window, image), (window,)),
            self._access(f"S{number}", store, (window,), (result,)),
        ]

    def order(self) -> list[str]:
        """The names in the order that the pass makes."""
        merged = run_beside(self.first, self.second, SIZES, TINY)
        return [self.names[access.origin] for access in merged]


def test_a_round_goes_between_the_products_of_the_tile_after_the_next() -> None:
    """Loads behind the first products, work behind those that wait; the next zeroing before it."""
    kernels = Kernels()
    for tile in range(4):
        kernels.tile(tile)
    kernels.round(0, tile=0, half=1)
    third = ["g20", "L0", "F0", "g21", "z3", "g22", "M0", "S0", "g23", "a2", "s2", "g30"]
    order = kernels.order()
    assert order[order.index("g20") :][: len(third)] == third


def test_zeroing_stays_behind_what_uses_the_elements() -> None:
    """Here the tile before ends between the products of the one that takes the round."""
    kernels = Kernels()
    for tile in range(4):
        kernels.tile(tile)
    first = kernels.first
    at = [kernels.names[access.origin] for access in first].index("a1")
    operation, store = first[at : at + 2]
    del first[at : at + 2]
    first[at + 2 : at + 2] = [operation, store]
    kernels.round(0, tile=0, half=1)
    order = kernels.order()
    assert order.index("g22") > order.index("z3") > order.index("s1") > order.index("g21")


def test_a_round_does_not_work_in_the_half_of_the_products() -> None:
    kernels = Kernels()
    for tile in range(4):
        kernels.tile(tile)
    kernels.round(0, tile=0, half=0)
    order = kernels.order()
    assert order.index("g30") < order.index("L0") < order.index("g31")


def test_one_round_for_a_tile_and_the_others_behind() -> None:
    kernels = Kernels()
    for tile in range(5):
        kernels.tile(tile)
    for number in range(4):
        kernels.round(number, tile=0, half=(number + 1) % 2)
    order = kernels.order()
    for number, tile in enumerate((2, 3, 4)):
        assert order.index(f"g{tile}0") < order.index(f"L{number}") < order.index(f"g{tile}1")
    assert order[-4:] == ["F3", "L3", "M3", "S3"]


def test_tiles_of_few_pieces_take_none() -> None:
    kernels = Kernels()
    for tile in range(4):
        kernels.tile(tile, pieces=3)
    kernels.round(0, tile=0, half=1)
    assert kernels.order() == kernels.names


def test_what_is_not_ready_stays_behind() -> None:
    kernels = Kernels()
    for tile in range(4):
        kernels.tile(tile)
    kernels.round(0, tile=3, half=1)
    assert kernels.order() == kernels.names


def test_conflicts_keep_their_order(rng: np.random.Generator) -> None:
    for _ in range(30):
        kernels, tiles = Kernels(), int(rng.integers(2, 8))
        for tile in range(tiles):
            kernels.tile(tile, int(rng.integers(3, 9)))
        for number in range(int(rng.integers(1, 8))):
            kernels.round(number, int(rng.integers(tiles)), int(rng.integers(2)))
        before = [*kernels.first, *kernels.second]
        after = run_beside(kernels.first, kernels.second, SIZES, TINY)
        assert sorted(a.origin for a in after) == sorted(a.origin for a in before)
        place = {access.origin: n for n, access in enumerate(after)}
        for n, older in enumerate(before):
            for newer in before[n + 1 :]:
                if conflict(older, newer):
                    assert place[older.origin] < place[newer.origin]
