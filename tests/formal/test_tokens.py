"""Token counters: exact, and never beyond their limits (with TOKEN_MAX reduced)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.formal.proof import Proof, check

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from amaranth.hdl import Cat

from vta_hw.rtl import tokens

pytestmark = pytest.mark.slow
MOST = 3
# Every count is met within MOST cycles, and its neighbours one later; the rest are repetitions.
DEPTH = 3 * MOST


def _proof(monkeypatch: pytest.MonkeyPatch, fault: str = "", only: str | None = None) -> Proof:
    monkeypatch.setattr(tokens, "TOKEN_MAX", MOST)
    proof = Proof(only)
    m = proof.m
    m.submodules.unit = unit = tokens.TokenCounters()
    push = proof.free("push", tokens.QUEUES)
    pop = proof.free("pop", tokens.QUEUES)
    m.d.comb += [unit.push.eq(push), unit.pop.eq(pop)]
    for queue in range(tokens.QUEUES):
        pushes = proof.total(push[queue], 8, "pushes")
        pops = proof.total(pop[queue], 8, "pops")
        count = (pushes - pops)[:8]
        if fault != "pushed when full":
            proof.given(~push[queue] | ~unit.full[queue])
        if fault != "popped at 0":
            proof.given(~pop[queue] | unit.available[queue])
        if fault == "loses a push beside a pop":
            m.d.comb += unit.push[queue].eq(push[queue] & ~pop[queue])
        if fault == "crosses queues":
            m.d.comb += unit.push[queue].eq(push[(queue + 1) % tokens.QUEUES])
        proof.must(f"limits_{queue}", count <= MOST)
        proof.must(f"available_{queue}", unit.available[queue] == (count != 0))
        proof.must(f"full_{queue}", unit.full[queue] == (count == MOST))
        both = proof.before(push[queue] & pop[queue])
        outputs = Cat(unit.available[queue], unit.full[queue])
        same = proof.before(outputs) == outputs
        proof.must(f"both_keep_it_{queue}", ~both | same)
        proof.reach(f"fills_and_empties_{queue}", (pushes == MOST + 1) & (pops == MOST + 1))
        proof.reach(f"both_at_most_less_one_{queue}", both & (count == MOST - 1))
    return proof


def test_counts_are_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert check(_proof(monkeypatch), "bmc", DEPTH, tmp_path)


def test_limits_are_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert check(_proof(monkeypatch), "cover", DEPTH, tmp_path)


@pytest.mark.parametrize(
    ("fault", "refuted"),
    [
        ("pushed when full", "full_0"),
        ("popped at 0", "available_1"),
        ("popped at 0", "limits_2"),
        ("loses a push beside a pop", "both_keep_it_3"),
        ("loses a push beside a pop", "available_2"),
        ("crosses queues", "available_0"),
        ("crosses queues", "full_3"),
    ],
)
def test_faults_are_found(
    fault: str, refuted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    outcome = check(_proof(monkeypatch, fault, refuted), "bmc", DEPTH, tmp_path)
    assert outcome.refuted == {refuted}
