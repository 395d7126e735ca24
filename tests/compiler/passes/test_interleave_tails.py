"""Tails between the next tile's products: conflicts keep their order, each piece has its part."""

from __future__ import annotations

import numpy as np

from compiler.loop.nodes import Task
from compiler.passes.insert_tokens import Access, conflict
from compiler.passes.interleave_tails import interleave_tails
from compiler.passes.split_products import split_products
from tests.compiler.passes.shorthand import TINY
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.footprint import Touch
from vta_hw.spec.isa import Alu, AluOp, Gemm, Instruction, Load, Store

PYNQ = VtaConfig.load("pynq")
SIZES = {"inp": 4, "acc": 160, "dram": 1000}
SUMS = {0: (0, 15), 1: (128, 143)}
OPERANDS = {0: (16, 31), 1: (144, 159)}


class Stream:
    """Instructions with names, on two halves of ACC."""

    def __init__(self) -> None:
        self.accesses: list[Access] = []
        self.names: list[str] = []

    def add(
        self, name: str, insn: Instruction, reads: tuple[Touch, ...], writes: tuple[Touch, ...]
    ) -> None:
        self.accesses.append(Access(insn, reads, writes, len(self.names)))
        self.names.append(name)

    def tile(self, number: int, pieces: int, operations: int, with_operand: bool = False) -> None:
        """Products, a tail of operations (its operand is loaded behind the first), a store."""
        half = number % 2
        sums, operand = (Touch("acc", *place[half]) for place in (SUMS, OPERANDS))
        for piece in range(pieces):
            self.add(f"g{number}{piece}", Gemm(uop_end=1), (sums, Touch("inp", 0, 3)), (sums,))
        for step in range(operations):
            if with_operand and step == 1:
                load = Load(memory_type=int(MemType.ACC_8BIT), y_size=1, x_size=16, x_stride=16)
                self.add(f"l{number}", load, (Touch("dram", 900, 915),), (operand,))
            reads = (sums, operand) if with_operand and step else (sums,)
            self.add(f"a{number}{step}", Alu(alu_opcode=AluOp.ADD, uop_end=1), reads, (sums,))
        store = Store(memory_type=int(MemType.OUT), y_size=1, x_size=16, x_stride=16)
        place = Touch("dram", 16 * number, 16 * number + 15)
        self.add(f"s{number}", store, (sums,), (place,))

    def order(self, config: VtaConfig = TINY) -> list[str]:
        return [
            self.names[access.origin] for access in interleave_tails(self.accesses, SIZES, config)
        ]


def test_each_piece_gets_its_part_of_the_tail_and_the_last_ones_none() -> None:
    stream = Stream()
    stream.tile(0, 1, 3)
    stream.tile(1, 6, 1)
    order = "g00 a00 g10 a01 g11 a02 s0 g12 g13 g14 g15 a10 s1"
    assert stream.order() == order.split()


def test_without_overlap_nothing_moves() -> None:
    stream = Stream()
    stream.tile(0, 1, 3)
    stream.tile(1, 6, 1)
    assert stream.order(PYNQ) == stream.names


def test_operands_are_loaded_behind_the_first_piece_of_their_own_tile() -> None:
    stream = Stream()
    stream.tile(0, 2, 1)
    stream.tile(1, 3, 2, with_operand=True)
    order = stream.order()
    assert order.index("l1") == order.index("g10") + 1


def test_what_reads_the_tails_result_waits_for_it() -> None:
    stream = Stream()
    stream.tile(0, 1, 3)
    load = Load(memory_type=int(MemType.INP), y_size=1, x_size=4, x_stride=4)
    stream.add("next", load, (Touch("dram", 0, 3),), (Touch("inp", 0, 3),))
    stream.tile(1, 6, 1)
    assert stream.order() == stream.names


def test_a_tail_without_products_before_it_stays() -> None:
    stream = Stream()
    for tile in range(3):
        stream.tile(tile, 0, 2)
    stream.tile(3, 4, 1)
    assert stream.order() == stream.names


def test_conflicts_keep_their_order(rng: np.random.Generator) -> None:
    for _ in range(50):
        stream = Stream()
        for tile in range(int(rng.integers(2, 6))):
            pieces, operations = int(rng.integers(0, 6)), int(rng.integers(1, 5))
            stream.tile(tile, pieces, operations, bool(rng.integers(2)))
        after = interleave_tails(stream.accesses, SIZES, TINY)
        assert sorted(a.origin for a in after) == list(range(len(stream.names)))
        place = {access.origin: n for n, access in enumerate(after)}
        for second in stream.accesses:
            for first in stream.accesses[: second.origin]:
                if conflict(first, second):
                    assert place[first.origin] < place[second.origin]


def _gemm(steps: int, uops: int = 32) -> Task:
    insn = Gemm(uop_end=uops, iter_out=1, iter_in=steps // uops)
    return Task(insn, None, tuple(range(uops)))


def _pieces(tasks: list[Task]) -> list[int]:
    return [len(task.uops) for task in split_products(tasks, TINY) if isinstance(task.insn, Gemm)]


def test_pieces_by_the_length_of_the_last_tail() -> None:
    tail = [Task(Alu(uop_end=1), None)] * 4
    assert _pieces([_gemm(1 << 14)]) == [16, 16]
    assert _pieces([*tail, _gemm(1 << 14)]) == [5, 5, 6, 5, 5, 6]
    assert _pieces([*tail, *[_gemm(1 << 14)] * 3]) == [16, 16] * 3
    assert _pieces([*tail, _gemm(300)]) == [16, 16]
    assert _pieces([*tail, _gemm(1 << 14, uops=1)]) == [1]
