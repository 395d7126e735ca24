"""The hints of the extension `overlap`, true and false."""

from __future__ import annotations

import pytest

from tests.vta_sim.helpers import TINY
from tests.vta_sim.test_hazards import check, pairs, races
from vta_hw.spec.isa import MicroOp
from vta_sim.hazards import Clash, Race

# Micro-op 0 works on acc 0, micro-op 1 on acc 1.
UOPS = (MicroOp(dst=0, src=0), MicroOp(dst=1, src=1))
PROGRAM = """
    load uop y=1 x=2 stride=2
    gemm uop={}..{} iter=1/1
    alu max uop=1..2 iter=1/1 imm=0 overlap
    finish
    """


def test_a_true_hint_is_clean() -> None:
    report = check(PROGRAM.format(0, 1), *UOPS)
    assert report.clean, report.findings


def test_a_false_hint_is_reported() -> None:
    report = check(PROGRAM.format(1, 2), *UOPS)
    clash = Clash("acc", ((1, 1),), first_writes=True, second_writes=True)
    assert races(report) == [Race(1, 2, True, (clash,))]
    assert report.findings == (
        "instruction 2 (alu max uop=1..2 iter=1/1 imm=0 overlap) claims by its overlap bit not to "
        "conflict with instruction 1 (gemm uop=1..2 iter=1/1), the first, but does on acc 1, which "
        "the first writes and the second writes; clear the bit",
    )


def test_hints_mean_nothing_without_the_extension() -> None:
    plain = TINY.override(["EXTENSIONS=requant"])
    text = PROGRAM.format(1, 2).replace(" overlap", "")
    assert check(text, *UOPS, config=plain).clean


def chain(*hints: str) -> str:
    """GEMM on acc 1, then instructions of other units, each with or without the hint."""
    lines = ["load uop y=1 x=2 stride=2", "gemm uop=1..2 iter=1/1"]
    for line, hint in zip(
        (
            "load acc sram=9 y=1 x=1 stride=1",
            "alu max uop=0..1 iter=1/1 imm=0",
            "load acc sram=1 y=1 x=1 stride=1",
        ),
        hints,
        strict=True,
    ):
        lines.append(f"{line} {hint}")
    return "\n".join([*lines, "finish"])


@pytest.mark.parametrize(
    ("hints", "expected"),
    [
        # The claim reaches back over hinted instructions to the GEMM, which has no bit.
        (("overlap", "overlap", "overlap"), [(1, 4)]),
        # An instruction without the bit has waited for the GEMM.
        (("", "overlap", "overlap"), []),
        (("overlap", "", "overlap"), []),
        (("overlap", "overlap", ""), []),
    ],
)
def test_the_claim_ends_at_the_latest_instruction_without_the_bit(
    hints: tuple[str, ...], expected: list[tuple[int, int]]
) -> None:
    assert pairs(check(chain(*hints), *UOPS)) == expected


def test_the_claim_includes_the_latest_instruction_without_the_bit() -> None:
    text = """
        load uop y=1 x=2 stride=2
        load acc sram=1 y=1 x=1 stride=1
        alu max uop=1..2 iter=1/1 imm=0 overlap
        finish
        """
    assert pairs(check(text, *UOPS)) == [(1, 2)]


def test_the_claim_holds_within_one_unit() -> None:
    text = """
        load uop y=1 x=2 stride=2
        alu max uop=1..2 iter=1/1 imm=0
        alu min uop=1..2 iter=1/1 imm=0 overlap
        finish
        """
    assert check(text, *UOPS).clean


def test_micro_ops_being_replaced_are_a_conflict() -> None:
    text = """
        load uop y=1 x=2 stride=2
        gemm uop=0..1 iter=1/1
        load uop sram={} y=1 x=1 stride=1 overlap
        finish
        """
    clash = Clash("uop", ((0, 0),), first_writes=False, second_writes=True)
    assert races(check(text.format(0), *UOPS)) == [Race(1, 2, True, (clash,))]
    assert check(text.format(1), *UOPS).clean


def test_a_first_instruction_may_carry_the_hint() -> None:
    text = """
        load uop y=1 x=2 stride=2 overlap
        gemm uop=0..1 iter=1/1 overlap
        finish
        """
    assert pairs(check(text, *UOPS)) == [(0, 1)]


def test_the_claim_does_not_depend_on_tokens() -> None:
    # The ALU starts after a token that the GEMM sent round by the load stage; it claims all the
    # same that it would not have to.
    text = """
        load uop y=1 x=2 stride=2
        gemm uop=1..2 iter=1/1 push_prev
        load inp pop_next push_next
        alu max uop=1..2 iter=1/1 imm=0 pop_prev overlap
        finish
        """
    assert pairs(check(text, *UOPS)) == [(1, 3)]


def test_stages_stay_ordered_beside_hints() -> None:
    # The ALU retires after the GEMM, so the token that it pushes speaks for both.
    text = """
        load uop y=1 x=2 stride=2
        gemm uop=0..1 iter=1/1
        alu max uop=1..2 iter=1/1 imm=0 overlap push_prev
        load inp y=1 x=2 stride=2 pop_next
        finish
        """
    report = check(text, *UOPS)
    assert pairs(report) == []
    assert pairs(check(text.replace(" pop_next", ""), *UOPS)) == [(1, 3)]
