"""The queue of a stage: what comes out is what went in, in order; its room is exact."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.formal.proof import Proof, check
from vta_hw.spec.config import VtaConfig

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from amaranth.hdl import Signal, Value

from vta_hw.rtl.signatures import INSTRUCTION
from vta_hw.rtl.stage_queue import StageQueue

pytestmark = pytest.mark.slow
LOG_LEAST = 2
# It fills in 4 cycles; by the last cycle its pointers have gone around more than twice.
DEPTH = 12


def _proof(fault: str = "", only: str | None = None) -> Proof:
    size = 1 << LOG_LEAST
    built = LOG_LEAST + (fault == "too deep")
    proof = Proof(only)
    m = proof.m
    m.submodules.unit = unit = StageQueue(
        VtaConfig.load("tiny").override([f"LOG_CMD_QUEUE={built}"])
    )
    enters, word = proof.free("enters"), proof.free("word", INSTRUCTION)
    leaves = proof.free("leaves")
    m.d.comb += [
        unit.dispatch.valid.eq(enters),
        unit.dispatch.payload.eq(word),
        unit.issue.eq(leaves),
    ]
    if fault != "written when full":
        proof.given(~enters | unit.dispatch.room)
    if fault != "read when empty":
        proof.given(~leaves | unit.valid)
    if fault == "a bit is lost":
        m.d.comb += unit.dispatch.payload.eq(Value.cast(word) & ~(1 << 77))
    entered, left = proof.total(enters, 4, "entered"), proof.total(leaves, 4, "left")
    held = proof.total(enters - leaves, 4, "held")

    # Whichever number this is: so it holds for all, and with it their order.
    number = proof.constant("number", 4)
    went_in = Signal(INSTRUCTION)
    with m.If(enters & (entered == number)):
        m.d.sync += went_in.eq(word)
    if fault == "two are swapped":
        seen = unit.valid & ((left ^ (held == 2)) == number)
    else:
        seen = unit.valid & (left == number)
    proof.must("in_order", ~(seen & (entered > number)) | (unit.head == went_in))
    proof.must("never_more_than_fit", held <= size)
    proof.must("room", unit.dispatch.room == (held != size))
    proof.must("valid_only_if_held", ~unit.valid | (held != 0))
    # A word that entered in n is at the head from n + 2 on, or right after those before it.
    entered_long_ago = proof.before(entered)
    proof.must("valid_in_time", unit.valid == (proof.later & (entered_long_ago > left)))
    proof.must("head_stays", ~proof.before(unit.valid & ~leaves) | unit.valid)
    full_once = proof.total(held == size, 8, "full") != 0
    proof.reach("full_again", full_once & (left == size + 2) & (held == size))
    proof.reach("empty_again", full_once & (held == 0))
    proof.reach("both_when_full_less_one", enters & leaves & (held == size - 1))
    return proof


def test_order_and_room(tmp_path: Path):
    assert check(_proof(), "bmc", DEPTH, tmp_path)


def test_it_fills_and_empties(tmp_path: Path):
    assert check(_proof(), "cover", DEPTH, tmp_path)


@pytest.mark.parametrize(
    ("fault", "refuted"),
    [
        ("too deep", "room"),
        ("written when full", "never_more_than_fit"),
        ("read when empty", "valid_in_time"),
        ("a bit is lost", "in_order"),
        ("two are swapped", "in_order"),
    ],
)
def test_faults_are_found(fault: str, refuted: str, tmp_path: Path):
    assert check(_proof(fault, refuted), "bmc", DEPTH, tmp_path).refuted == {refuted}
