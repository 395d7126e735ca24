"""Every cycle has the reason that the rules of docs/timing.md give it.

The spans of the cases follow from the rules by arithmetic, as those of `tests/cosim/rules.py` do:
`tiny` with a 64-bit bus and latency 10, instruction i is dispatched in d(i) = 16 + 2 i and ready in
21 + 2 i. What comes first everywhere: instruction 0, LOAD UOP, issues in 21, is done in 35, retires
in 37; so the next one in the compute stage issues in 38.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.gen_programs import legal_program
from tests.vta_sim.engines import Launch
from tests.vta_sim.native_sweep import machine
from vta_hw.spec import asm, isa
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Gemm, Instruction, MicroOp
from vta_hw.spec.words import from_stream
from vta_sim.stalls import REASON_DOCS, REASONS, Reason, Stalls, attribute, kind_of
from vta_sim.timing.simulate import Timing, time_program

TINY = machine("tiny")
LATENCY, DRAM_BYTES = 10, 1 << 13
PROGRAMS = 8
PROLOGUE = [(0, "fetch"), (21, "load_uop")]
# The lower half of ACC, and the upper one.
UOPS = (MicroOp(), MicroOp(dst=128, src=128))


def _timed(
    launch: Launch, latency: int | None = None
) -> tuple[Sequence[Instruction], Timing, Stalls]:
    config, stream = launch.config, launch.stream
    timing = time_program(
        *(config, from_stream(stream), launch.memory()),
        insn_base=0,
        bases=launch.bases,
        latency=latency,
        timeline=True,
    )
    instructions = isa.decode_all(stream, config)
    return instructions, timing, attribute(config, instructions, timing)


def _run(text: str) -> tuple[Sequence[Instruction], Timing, Stalls]:
    words = b"".join(isa.encode_uop(uop, TINY).to_bytes(4, "little") for uop in UOPS)
    stream = isa.encode_all(asm.assemble(f"load uop y=1 x=2\n{text}", TINY), TINY)
    return _timed(Launch(TINY, stream, words.ljust(DRAM_BYTES, b"\0")), LATENCY)


def _spans(stalls: Stalls) -> list[tuple[int, str]]:
    return [
        (start, REASONS[reason])
        for start, reason in zip(stalls.starts.tolist(), stalls.reasons.tolist(), strict=True)
    ]


CASES = {
    # Slots in 40 .. 89, retired in 91; FINISH issues in 92 and retires in 94, and 8 cycles later
    # the run ends.
    "products": (
        """
        gemm uop=0..1 iter=1/50
        finish
        """,
        [(38, "gemm_interval"), (40, "gemm"), (90, "gemm_interval"), (92, "issue"), (95, "end")],
        103,
    ),
    # WGT: issued in 23, granted in 25, its 2 beats come in 36 and 37, done in 38, retired in 40.
    # INP: issued 4 later, granted in 29, 32 beats in 40 .. 71, done in 72, retired in 74.
    # STORE: issued in 129, reads OUT from 135 on, the response to 2 beats arrives in 149.
    "transfers": (
        """
        load wgt y=1 x=1
        load inp y=1 x=64 stride=64 push_next
        gemm uop=0..1 iter=1/50 pop_prev push_next
        store out dram=1024 y=1 x=4 pop_prev push_prev
        finish pop_next
        """,
        [
            *[(38, "load_wgt"), (39, "load_inp"), (75, "gemm_interval"), (77, "gemm")],
            *[(127, "gemm_interval"), (129, "store"), (152, "issue"), (155, "end")],
        ],
        163,
    ),
    # Each waits for the one before: ALU issues in 92, slots in 94 .. 133, retires in 135.
    "ALU between products": (
        """
        gemm uop=0..1 iter=1/50
        alu add uop=1..2 iter=1/40 dst=0/1 imm=1
        gemm uop=0..1 iter=1/50
        finish
        """,
        [
            *[(38, "gemm_interval"), (40, "gemm"), (90, "gemm_interval"), (92, "alu")],
            *[(136, "gemm_interval"), (138, "gemm"), (188, "gemm_interval")],
            *[(190, "issue"), (193, "end")],
        ],
        201,
    ),
    # The ALU works beside the first product, in the other half, and does not show.
    "ALU beside products": (
        """
        gemm uop=0..1 iter=1/50
        alu add uop=1..2 iter=1/40 dst=0/1 imm=1 overlap
        gemm uop=0..1 iter=1/50 overlap
        finish
        """,
        [
            *[(38, "gemm_interval"), (40, "gemm"), (90, "gemm_interval"), (94, "gemm")],
            *[(144, "gemm_interval"), (146, "issue"), (149, "end")],
        ],
        157,
    ),
    # The ALU, issued in 42, has slots in 44 .. 143 and is done long after the first product. The
    # second one may issue when the first has left; that retires in order, before the ALU.
    "ALU longer than the products": (
        """
        gemm uop=0..1 iter=1/50
        alu add uop=1..2 iter=1/100 dst=0/1 imm=1 overlap
        gemm uop=0..1 iter=1/10 overlap
        finish
        """,
        [
            *[(38, "gemm_interval"), (40, "gemm"), (90, "gemm_interval"), (94, "gemm")],
            *[(104, "alu"), (146, "gemm_interval"), (147, "issue"), (150, "end")],
        ],
        158,
    ),
    # The product may run beside the ALU, but waits for inputs, whose LOAD waits for the ALU: from
    # 38 to 81 (slots in 40 .. 79). INP issues in 82, done in 96, retires in 98.
    "inputs that wait for the ALU": (
        """
        alu add uop=1..2 iter=1/40 dst=0/1 imm=1 push_prev
        load inp y=1 x=1 pop_next push_next
        gemm uop=0..1 iter=1/50 pop_prev overlap
        finish
        """,
        [
            *[(38, "alu"), (82, "load_inp"), (99, "gemm_interval"), (101, "gemm")],
            *[(151, "gemm_interval"), (153, "issue"), (156, "end")],
        ],
        164,
    ),
    # INP is done in 37 and retires in 39: WGT, issued after it and under way, is not waited for.
    "a load behind the one that is awaited": (
        """
        load inp y=1 x=1 push_next
        load wgt y=1 x=4 stride=4
        gemm uop=0..1 iter=1/50 pop_prev
        finish
        """,
        [
            *[(38, "load_inp"), (40, "gemm_interval"), (42, "gemm"), (92, "gemm_interval")],
            *[(94, "issue"), (97, "end")],
        ],
        105,
    ),
    # The first LOAD has a burst granted in each of the cycles 25 .. 124; the second one, issued in
    # 27, is taken in 125, so that the awaited one may issue in 126. It is granted in 128, done in
    # 140 and retires in 142.
    "a load that finds no room": (
        """
        load inp y=100 x=1 stride=1
        load inp sram=128 y=1 x=1
        load inp sram=129 y=1 x=1 push_next
        gemm uop=0..1 iter=1/50 pop_prev
        finish
        """,
        [
            *[(38, "load_inp"), (143, "gemm_interval"), (145, "gemm"), (195, "gemm_interval")],
            *[(197, "issue"), (200, "end")],
        ],
        208,
    ),
    # Zeroed by GEMM (issue in 38, slots in 40 .. 59, retired in 61), then by a LOAD of padding:
    # issued in 62, taken in 63, filled in 64 .. 83, retired in 85.
    "zeroing": (
        """
        gemm reset uop=0..1 iter=1/20
        load acc x=2 ypad=10/0
        gemm uop=0..1 iter=1/5
        finish
        """,
        [
            *[(38, "reset"), (86, "gemm_interval"), (88, "gemm")],
            *[(93, "gemm_interval"), (95, "issue"), (98, "end")],
        ],
        106,
    ),
    # LOAD ACC: issued in 38, granted in 40, the beats of its 4 elements come in 51 .. 58 and every
    # second one completes an element: it arrives in 53, 55, 57 and 59 and takes GEMM's slot. GEMM
    # is not in its way, issues no sooner than in 42, and would have had slots in 44 .. 143.
    "slots taken by a LOAD": (
        """
        load acc sram=64 y=1 x=4 stride=4
        gemm uop=0..1 iter=1/100 overlap
        finish
        """,
        [
            *[(38, "load_acc"), (39, "issue"), (42, "gemm_interval"), (44, "gemm")],
            *[(53, "acc_conflict"), (54, "gemm"), (55, "acc_conflict"), (56, "gemm")],
            *[(57, "acc_conflict"), (58, "gemm"), (59, "acc_conflict"), (60, "gemm")],
            *[(148, "gemm_interval"), (150, "issue"), (153, "end")],
        ],
        161,
    ),
    # Issues in 38, 42 and 46: nothing is to be done, but the next head is decoded in 4 cycles.
    "no-ops": (
        """
        load uop x=0
        load uop x=0
        finish
        """,
        [(38, "issue"), (49, "end")],
        57,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_spans(case: tuple[str, list[tuple[int, str]], int]):
    text, expected, cycles = case
    _, timing, stalls = _run(text)
    assert _spans(stalls) == [*PROLOGUE, *expected]
    assert stalls.cycles == timing.result.cycles == cycles


def test_counts_of_a_part():
    _, _, stalls = _run(CASES["products"][0])
    whole = stalls.count()
    assert sum(whole.values()) == stalls.cycles
    assert whole[Reason.GEMM] == 50
    part = {reason: cycles for reason, cycles in stalls.count(30, 45).items() if cycles}
    assert part == {Reason.LOAD_UOP: 8, Reason.GEMM_INTERVAL: 2, Reason.GEMM: 5}
    assert not any(stalls.count(45, 45).values())


def test_only_good_runs_are_attributed():
    stream = isa.encode_all(asm.assemble("load inp y=1 x=1", TINY), TINY)
    with pytest.raises(ValueError, match="ended well"):
        _timed(Launch(TINY, stream, bytes(DRAM_BYTES)))


def test_all_reasons_are_documented():
    assert set(REASON_DOCS) == set(Reason)


def _has_witness(
    reason: Reason, first: int, last: int, instructions: Sequence[Instruction], timing: Timing
) -> bool:
    """Whether in all these cycles something goes on that the reason can stand for."""
    line = timing.result.timeline
    assert line is not None
    if reason is Reason.FETCH:
        return bool((line.dispatch + 5 > last).any())
    if reason in (Reason.ISSUE, Reason.END):
        return True
    kind = Reason.GEMM_INTERVAL if reason in (Reason.GEMM, Reason.ACC_CONFLICT) else reason
    covered = np.zeros(last - first + 1, bool)
    for index, insn in enumerate(instructions):
        if kind_of(insn) is kind:
            begin, end = int(line.issue[index]) - first, int(line.retire[index]) - first + 1
            covered[max(begin, 0) : max(end, 0)] = True
    return bool(covered.all())


@pytest.mark.parametrize("name", ["tiny", "default", "mac64", "pynq"])
def test_random_programs(name: str, rng: np.random.Generator):
    """Sums are those of the machine's counters, and each reason has an instruction behind it."""
    for seed in rng.integers(0, 1 << 31, PROGRAMS).tolist():
        made = legal_program(VtaConfig.load(name), seed, long_loops=True)
        # A program that loads what it stores, micro-ops too, is not timed beforehand.
        launch = Launch(made.config, made.stream, made.dram).with_stores_apart()
        instructions, timing, stalls = _timed(launch)
        counts, counters = stalls.count(), timing.result.counters
        assert stalls.starts[0] == 0 and (np.diff(stalls.starts) > 0).all()
        assert sum(counts.values()) == timing.result.cycles
        assert counts[Reason.GEMM] == counters["gemm_ops"]
        if not any(isinstance(insn, Gemm) and insn.reset for insn in instructions):
            assert counts[Reason.ACC_CONFLICT] == counters["gemm_port_cycles"]
        ends = [*stalls.starts[1:].tolist(), stalls.cycles]
        for (first, reason), end in zip(_spans(stalls), ends, strict=True):
            assert _has_witness(Reason(reason), first, end - 1, instructions, timing), seed
