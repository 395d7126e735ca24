"""Hints `overlap`: true, as the hazard checker sees it, and of use, as the cycle simulator does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import vta
from compiler.passes.insert_tokens import NO_INSTRUCTION, Access
from compiler.passes.mark_overlap import mark_overlap
from tests.models import DIGITS
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.footprint import Touch
from vta_hw.spec.isa import Alu, Gemm, Instruction, Load, Store
from vta_hw.spec.program import Program
from vta_sim.hazards import check_program

DEFAULT = VtaConfig.load("default")
SIZES = {"acc": 64, "uop": 64}


def acc(*places: int) -> tuple[Touch, ...]:
    indices = np.array(places)
    return (Touch("acc", min(places), max(places), indices),)


def gemm(*dst: int) -> Access:
    return Access(Gemm(uop_end=1, iter_out=1, iter_in=1), acc(*dst), acc(*dst), 0)


def alu(*dst: int) -> Access:
    return Access(Alu(uop_end=1, iter_out=1, iter_in=1), acc(*dst), acc(*dst), 0)


def load(*dst: int) -> Access:
    return Access(Load(memory_type=3, x_size=1, y_size=1), (), acc(*dst), 0)


def hints(*stream: Access, config: VtaConfig = DEFAULT) -> list[bool]:
    instructions = [access.insn for access in stream]
    accesses = dict(enumerate(stream))
    made = mark_overlap(instructions, range(len(stream)), accesses, SIZES, config)
    return [bool(getattr(insn, "overlap", False)) for insn in made]


def test_what_touches_other_elements_may_run_beside() -> None:
    assert hints(gemm(1), alu(2), load(3)) == [False, True, True]


def test_a_conflict_takes_the_hint_and_what_follows_looks_no_further_back() -> None:
    assert hints(gemm(1), alu(1), gemm(2), load(1)) == [False, False, True, False]
    assert hints(gemm(1), alu(1), load(3)) == [False, False, True]
    # The last one meets only the first, from which the second has cut it off.
    assert hints(gemm(3), alu(3), load(2), load(1)) == [False, False, True, True]


def test_instructions_of_one_unit_do_not_run_beside_each_other_anyway() -> None:
    assert hints(gemm(1), gemm(1), gemm(1)) == [False, True, True]


def test_another_one_gives_up_its_hint_if_it_has_to_wait_anyway() -> None:
    """The second GEMM waits for the first; when it may run, the ALU instruction is long done."""
    assert hints(alu(1), gemm(2), gemm(2), load(1)) == [False, True, False, True]
    # With one GEMM between, nothing says that the ALU instruction is done when it begins.
    assert hints(alu(1), gemm(2), load(1)) == [False, True, False]


def test_best_one_that_follows_its_own_unit_gives_up_its_hint() -> None:
    """The second GEMM would wait for the LOAD before it, which has only just begun."""
    stream = (alu(1), gemm(2), load(5), load(6), gemm(2), load(1))
    assert hints(*stream) == [False, True, True, False, True, True]


def test_readers_of_one_element_do_not_conflict() -> None:
    reads = Access(Alu(uop_end=1, iter_out=1, iter_in=1), acc(1, 2), acc(2), 0)
    other = Access(Gemm(uop_end=1, iter_out=1, iter_in=1), acc(1, 3), acc(3), 0)
    assert hints(reads, other) == [False, True]


def test_other_stages_and_no_ops_have_none() -> None:
    no_op = Load(memory_type=0)
    instructions: list[Instruction] = [gemm(1).insn, Store(memory_type=4), no_op]
    made = mark_overlap(instructions, [0, 1, NO_INSTRUCTION], {0: gemm(1)}, SIZES, DEFAULT)
    assert made[1] == instructions[1]
    assert made[2] == replace(no_op, overlap=True)


def test_without_the_extension_nothing_changes() -> None:
    assert hints(gemm(1), alu(2), config=VtaConfig.load("pynq")) == [False, False]


@pytest.mark.parametrize("name", ["default", "mac64", "tiny", "batch4"])
def test_hints_of_a_network_are_true_and_save_cycles(name: str) -> None:
    package = vta.compile(DIGITS, config=name).package
    (program,) = package.programs
    (places,) = package.placements
    marked = [bool(getattr(insn, "overlap", False)) for insn in program.instructions]
    assert any(marked) and not all(marked)
    report = check_program(program, places)
    assert report.clean, report
    inputs = vta.random_inputs(package)
    cycles = []
    for made in (program, _without_hints(program)):
        outcome = vta.load(replace(package, programs=(made,)), device="cycle").run(inputs)
        assert outcome.result.cycles is not None
        cycles.append(outcome.result.cycles)
    # On the large array every layer of this network is a single tile.
    assert cycles[0] < cycles[1] + (name == "default")


def _without_hints(program: Program) -> Program:
    plain = [
        replace(i, overlap=False) if isinstance(i, Gemm | Alu | Load) else i
        for i in program.instructions
    ]
    return replace(program, instructions=tuple(plain))
