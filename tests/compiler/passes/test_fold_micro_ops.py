"""Nests of steps as instructions with micro-ops: they touch the same elements equally often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from compiler.errors import LoweringError
from compiler.loop.units import ALU, ALU_IMM, GEMM, REQ, RESET
from compiler.passes.fold_micro_ops import Folded, Loop, fold_micro_ops
from tests.compiler.passes.shorthand import TINY, refused
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import ITER_MAX, Alu, AluOp, Gemm, decode_uop, encode
from vta_hw.spec.semantics import Scratchpads, execute

Step = tuple[int, int, int]
OPS = {
    GEMM: {},
    RESET: {},
    ALU: {"op": int(AluOp.ADD)},
    ALU_IMM: {"op": int(AluOp.MAX), "imm": -3},
    REQ: {"imm": 5},
}


def steps_of_loops(base: Sequence[int], loops: Sequence[Loop]) -> list[Step]:
    """Element indices, in the order of the nest."""
    found = []
    for where in product(*(range(loop.extent) for loop in loops)):
        index = [
            b + sum(n * loop.steps[k] for n, loop in zip(where, loops, strict=True))
            for k, b in enumerate(base)
        ]
        found.append((index[0], index[1], index[2]))
    return found


def steps_of_instructions(folded: Sequence[Folded], config: VtaConfig) -> list[Step]:
    """Element indices, in the order in which the instructions run."""
    found = []
    for part in folded:
        insn = part.insn
        assert isinstance(insn, Gemm | Alu)
        encode(insn, config)  # every field fits
        wgt = (insn.wgt_factor_out, insn.wgt_factor_in) if isinstance(insn, Gemm) else (0, 0)
        uops = [decode_uop(word, config) for word in part.uops[insn.uop_bgn : insn.uop_end]]
        assert len(uops) == len(part.uops) <= config.depth(MemType.UOP)
        for i, j, uop in product(range(insn.iter_out), range(insn.iter_in), uops):
            found.append(
                (
                    uop.dst + i * insn.dst_factor_out + j * insn.dst_factor_in,
                    uop.src + i * insn.src_factor_out + j * insn.src_factor_in,
                    uop.wgt + i * wgt[0] + j * wgt[1],
                )
            )
    return found


def random_nest(
    rng: np.random.Generator, op: str, config: VtaConfig
) -> tuple[tuple[int, int, int], list[Loop]]:
    """A nest whose indices stay inside the memories."""
    limits = [config.depth(MemType.ACC)] * 2 + [0]
    if op == GEMM:
        limits[1:] = [config.depth(MemType.INP), config.depth(MemType.WGT)]
    if op in (RESET, ALU_IMM):
        limits[1:] = [0, 0]
    room = [max(1, int(limit)) - 1 for limit in limits]
    loops = []
    for _ in range(int(rng.integers(0, 6))):
        extent = int(rng.integers(1, 6))
        steps = [0, 0, 0]
        for k in range(3):
            reach = room[k] // (2 * max(1, extent - 1))
            if reach and rng.random() < 0.7:
                steps[k] = int(rng.choice([1, extent, int(rng.integers(0, reach + 1))]))
                if steps[k] * (extent - 1) > room[k]:
                    steps[k] = 0
            room[k] -= steps[k] * (extent - 1)
        loops.append(Loop(extent, (steps[0], steps[1], steps[2])))
    base = [int(rng.integers(0, left + 1)) for left in room]
    return (base[0], base[1], base[2]), loops


@pytest.mark.parametrize("name", ["tiny", "mac64", "batch4", "default"])
@pytest.mark.parametrize("op", OPS)
def test_the_same_elements_equally_often(op: str, name: str, rng: np.random.Generator) -> None:
    config = VtaConfig.load(name)
    several = 0
    for _ in range(60):
        base, loops = random_nest(rng, op, config)
        folded = fold_micro_ops(op, OPS[op], base, loops, config, "stage")
        several += len(folded) > 1 or len(folded[0].uops) > 1
        wanted = Counter(steps_of_loops(base, loops))
        assert Counter(steps_of_instructions(folded, config)) == wanted, f"{base} {loops}"
    assert several > 5


@pytest.mark.parametrize("op", [AluOp.MIN, AluOp.MAX, AluOp.ADD, AluOp.MUL])
def test_sums_of_alu_steps_do_not_depend_on_the_order(op: AluOp, rng: np.random.Generator) -> None:
    """Operations that take several steps on one element give what the loops give in their order."""
    _check_executed(ALU, {"op": int(op)}, rng, distinct=False)


@pytest.mark.parametrize("op", [AluOp.SHR, AluOp.RDHM, AluOp.RSR])
def test_other_alu_steps_take_each_element_once(op: AluOp, rng: np.random.Generator) -> None:
    _check_executed(ALU, {"op": int(op)}, rng, distinct=True)


def test_gemm_steps_do_not_depend_on_the_order(rng: np.random.Generator) -> None:
    _check_executed(GEMM, {}, rng, distinct=False)


def test_requantisation_takes_each_element_once(rng: np.random.Generator) -> None:
    _check_executed(REQ, {"imm": 7}, rng, distinct=True)


def _check_executed(
    op: str, attrs: dict[str, int], rng: np.random.Generator, *, distinct: bool
) -> None:
    checked = 0
    while checked < 25:
        base, loops = random_nest(rng, op, TINY)
        half = TINY.depth(MemType.ACC) // 2
        steps = steps_of_loops(base, loops)
        destinations = [dst for dst, _, _ in steps]
        if max(destinations) >= half:
            continue
        if op != GEMM:  # operands lie in the other half: no step reads what another wrote
            base = (base[0], half + base[1] // 2, 0)
            loops = [Loop(x.extent, (x.steps[0], x.steps[1] // 2, 0)) for x in loops]
            steps = steps_of_loops(base, loops)
            if max(src for _, src, _ in steps) + 3 > 2 * half:
                continue
        if distinct and len(set(destinations)) < len(destinations):
            continue
        checked += 1
        folded = fold_micro_ops(op, attrs, base, loops, TINY, "stage")
        one_by_one = [fold_micro_ops(op, attrs, step, [], TINY, "stage")[0] for step in steps]
        pads = [Scratchpads(TINY), Scratchpads(TINY)]
        for memory in ("acc", "inp", "wgt"):
            array = getattr(pads[0], memory)
            info = np.iinfo(array.dtype)
            array[...] = rng.integers(info.min, info.max, array.shape)
            getattr(pads[1], memory)[...] = array
        for state, parts in zip(pads, (folded, one_by_one), strict=True):
            for part in parts:
                state.uop[: len(part.uops)] = part.uops
                assert execute(part.insn, state, np.zeros(0, np.uint8), TINY) is None
        np.testing.assert_array_equal(pads[0].acc, pads[1].acc, f"{base} {loops}")


def test_loops_that_continue_each_other_become_one() -> None:
    """A whole row-major nest is one loop; no micro-op but the first is written out."""
    loops = [Loop(4, (30, 0, 0)), Loop(5, (6, 0, 0)), Loop(6, (1, 0, 0))]
    (part,) = fold_micro_ops(RESET, {}, (7, 0, 0), loops, TINY, "stage")
    insn = part.insn
    assert isinstance(insn, Gemm)
    assert (insn.iter_out, insn.iter_in, insn.dst_factor_in, len(part.uops)) == (1, 120, 1, 1)


def test_the_longest_loops_become_the_instructions() -> None:
    loops = [Loop(2, (100, 0, 0)), Loop(7, (0, 9, 0)), Loop(5, (8, 0, 0))]
    (part,) = fold_micro_ops(ALU, {"op": 2}, (0, 0, 0), loops, TINY, "stage")
    insn = part.insn
    assert isinstance(insn, Alu)
    assert sorted((insn.iter_out, insn.iter_in)) == [5, 7]
    assert len(part.uops) == 2


def test_lists_longer_than_the_memory_become_several_instructions() -> None:
    """An ALU instruction has no factor for the third operand: these loops are all written out."""
    loops = [Loop(n, (0, 0, step)) for n, step in ((5, 1), (3, 6), (7, 2), (3, 1), (2, 1))]
    folded = fold_micro_ops(ALU, {"op": 2}, (0, 0, 0), loops, TINY, "stage")
    assert [len(part.uops) for part in folded] == [126] * 5
    assert Counter(steps_of_instructions(folded, TINY)) == Counter(steps_of_loops((0, 0, 0), loops))


@pytest.mark.parametrize("extent", [ITER_MAX, ITER_MAX + 1, 16411, 2 * 16411])
def test_counts_beyond_the_field(extent: int) -> None:
    """16411 is prime: no pair of counts makes it, so it is written out."""
    config = VtaConfig.load("default")
    folded = fold_micro_ops(ALU_IMM, OPS[ALU_IMM], (3, 3, 0), [Loop(extent, (0, 0, 0))], config, "")
    assert len(steps_of_instructions(folded, config)) == extent


def test_no_loop_is_one_step() -> None:
    (part,) = fold_micro_ops(GEMM, {}, (1, 2, 3), [], TINY, "stage")
    assert steps_of_instructions([part], TINY) == [(1, 2, 3)]


def test_backward_steps_are_written_out() -> None:
    loops = [Loop(4, (-1, 0, 0))]
    folded = fold_micro_ops(RESET, {}, (3, 0, 0), loops, TINY, "stage")
    assert Counter(steps_of_instructions(folded, TINY)) == Counter(steps_of_loops((3, 0, 0), loops))


def test_elements_before_the_memory_are_refused() -> None:
    with refused("stage 'stage' addresses element -1 of a scratchpad", LoweringError):
        fold_micro_ops(RESET, {}, (2, 0, 0), [Loop(4, (-1, 0, 0))], TINY, "stage")


def test_requantisation_and_immediates_keep_their_attributes() -> None:
    (part,) = fold_micro_ops(REQ, {"imm": 5}, (1, 2, 0), [], TINY, "stage")
    assert part.insn == Alu(
        uop_bgn=0, uop_end=1, iter_out=1, iter_in=1, alu_opcode=int(AluOp.REQ), imm=5
    )
    (part,) = fold_micro_ops(ALU_IMM, {"op": 3, "imm": -20}, (1, 1, 0), [], TINY, "stage")
    assert part.insn == Alu(
        uop_bgn=0, uop_end=1, iter_out=1, iter_in=1, alu_opcode=3, use_imm=True, imm=-20
    )
