"""The cost of a check grows with the program, not with its square."""

from __future__ import annotations

import cProfile
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Instruction
from vta_sim.hazards import PAIRS_MAX, Report, check_stream

DEFAULT = VtaConfig.load("default")
UOPS = 256
LOOP: dict[str, Any] = {"iter_out": 28, "iter_in": 28, "dst_factor_out": 28, "dst_factor_in": 1}


def tiles(count: int, rng: np.random.Generator) -> list[Instruction]:
    """Tiles of a 30x30 input, 512 weights and 28x28 accumulators, one after the other."""
    out: list[Instruction] = [
        isa.Load(memory_type=MemType.UOP, y_size=1, x_size=UOPS, x_stride=UOPS)
    ]
    pads: dict[str, Any] = {f"{axis}_pad_{end}": 1 for axis in "xy" for end in (0, 1)}
    for tile in range(count):
        later = tile > 0
        at = 900 * int(rng.integers(50))
        begin, end = int(rng.integers(100)), int(rng.integers(101, UOPS))
        out += [
            isa.Load(
                memory_type=MemType.INP, dram_base=4096 + at, y_size=28, x_size=28, x_stride=56,
                pop_next=later, **pads,
            ),
            isa.Load(
                memory_type=MemType.WGT, dram_base=4096, y_size=1, x_size=512, x_stride=512,
                push_next=True,
            ),
            isa.Gemm(
                uop_bgn=begin, uop_end=end, **LOOP, src_factor_out=30, src_factor_in=1,
                pop_prev=True, push_prev=True, pop_next=later,
            ),
            isa.Alu(
                uop_end=1, alu_opcode=isa.AluOp.MAX, use_imm=True, imm=0,
                **{**LOOP, "iter_out": int(rng.integers(1, 28))},
            ),
            isa.Alu(uop_end=1, alu_opcode=isa.AluOp.MIN, use_imm=True, **LOOP, push_next=True),
            isa.Store(
                memory_type=MemType.OUT, dram_base=200_000 + at, y_size=28, x_size=28, x_stride=56,
                pop_prev=True, push_prev=True,
            ),
        ]  # fmt: skip
    return [*out, isa.Finish(pop_prev=False, pop_next=True)]


def checked(program: list[Instruction]) -> tuple[Report, int]:
    """The report, and the calls of functions that it took: work, whatever else the machine does."""
    words = [
        isa.encode_uop(isa.MicroOp(dst=n % 16, src=n % 40, wgt=n % 200), DEFAULT)
        for n in range(UOPS)
    ]
    dram = np.zeros(1 << 24, np.uint8)
    dram[: 4 * UOPS] = np.array(words, "<u4").view(np.uint8)
    profile = cProfile.Profile()
    report = profile.runcall(check_stream, DEFAULT, program, dram)
    return report, sum(entry.callcount for entry in profile.getstats())


def without_tokens(program: list[Instruction]) -> list[Instruction]:
    none = dict.fromkeys(("pop_prev", "pop_next", "push_prev", "push_next"), False)
    return [replace(insn, **none) for insn in program]


@pytest.mark.parametrize("tokens", (True, False), ids=("clean", "tokenless"))
def test_four_times_the_instructions_are_four_times_the_work(
    rng: np.random.Generator, tokens: bool
) -> None:
    work = []
    for count in (300, 1200):
        program = tiles(count, rng)
        report, calls = checked(program if tokens else without_tokens(program))
        assert report.clean == tokens, report.findings
        work.append(calls)
    assert work[1] < 5 * work[0]


def test_a_program_full_of_races_reports_the_first_and_that_there_are_more(
    rng: np.random.Generator,
) -> None:
    report, _ = checked(without_tokens(tiles(300, rng)))
    assert report.more and len(report.hazards) == PAIRS_MAX
