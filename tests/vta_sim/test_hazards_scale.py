"""The cost of a check grows with the program, not with its square."""

from __future__ import annotations

import time
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


def timed(program: list[Instruction]) -> tuple[Report, float]:
    words = [
        isa.encode_uop(isa.MicroOp(dst=n % 16, src=n % 40, wgt=n % 200), DEFAULT)
        for n in range(UOPS)
    ]
    dram = np.zeros(1 << 24, np.uint8)
    dram[: 4 * UOPS] = np.array(words, "<u4").view(np.uint8)
    start = time.process_time()
    report = check_stream(DEFAULT, program, dram)
    return report, time.process_time() - start


@pytest.mark.slow
def test_a_hundred_thousand_instructions_take_less_than_ten_seconds(
    rng: np.random.Generator,
) -> None:
    program = tiles(16_667, rng)
    report, seconds = timed(program)
    print(f"{len(program)} instructions in {seconds:.1f} s")
    assert report.clean, report.findings
    assert seconds < 10

    tokenless: list[Instruction] = []
    for insn in program:
        flags = dict.fromkeys(("pop_prev", "pop_next", "push_prev", "push_next"), False)
        tokenless.append(replace(insn, **flags))
    report, seconds = timed(tokenless)
    print(f"without tokens: {seconds:.1f} s")
    assert report.more and len(report.hazards) == PAIRS_MAX
    assert seconds < 15
