"""The control port: one answer to each request, in time, unchanged until taken; course of a run."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from tests.formal.proof import Proof, check
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.registers import COUNTERS, Register, counter_address

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from amaranth.hdl import Cat, Value

from vta_hw.rtl.control_port import OKAY, SLVERR, ControlPort

pytestmark = pytest.mark.slow
# A launch, an end, and three more accesses of each kind.
DEPTH = 14
# A read is answered in the third cycle; what is under way shows within these.
INDUCTION = 6
MAPPED = {*Register, *(counter_address(name) + i for name in COUNTERS for i in (0, 4))}
_MASTER = {
    "aw": ("awvalid", "awaddr"),
    "w": ("wvalid", "wdata", "wstrb"),
    "ar": ("arvalid", "araddr"),
}


def _proof(fault: str = "", only: str | None = None, without: Collection[str] = ()) -> Proof:
    proof = Proof(only, without)
    m = proof.m
    m.submodules.unit = unit = ControlPort(VtaConfig.load("tiny"))
    axi: Any = unit.axi
    bus = {
        name: proof.free(name, len(getattr(axi, name)))
        for name in ("awaddr", "awvalid", "wdata", "wstrb", "wvalid", "bready", "araddr",
                     "arvalid", "rready")
    }  # fmt: skip
    m.d.comb += [getattr(axi, name).eq(signal) for name, signal in bus.items()]
    ends, settled = proof.free("ends"), proof.free("settled")
    m.d.comb += [
        unit.ended.eq(ends),
        unit.settled.eq(settled),
        unit.verdict.eq(proof.free("verdict", len(unit.verdict))),
        unit.verdict_index.eq(proof.free("verdict_index", len(unit.verdict_index))),
        unit.counter_value.eq(proof.free("counter_value", len(unit.counter_value))),
    ]
    match fault:
        case "sees no BREADY":
            m.d.comb += axi.bready.eq(0)
        case "sees a BREADY that is not there":
            m.d.comb += axi.bready.eq(1)
        case "sees a RREADY that is not there":
            m.d.comb += axi.rready.eq(1)
        case "sees an AWVALID that is not there":
            m.d.comb += axi.awvalid.eq(1)
        case "sees no data":
            m.d.comb += axi.wvalid.eq(0)
        case "sees an early end":
            m.d.comb += unit.ended.eq(1)
        case "sees no end":
            m.d.comb += unit.ended.eq(0)
        case "counters always settled":
            m.d.comb += unit.settled.eq(1)
        case "sees another address":
            m.d.comb += axi.araddr.eq(bus["araddr"] ^ 0x800)
    # The master keeps to the rules: VALID and what it goes with stay until READY.
    for channel, names in _MASTER.items():
        payload = Cat(bus[name] for name in names)
        waits = bus[names[0]] & ~getattr(axi, f"{channel}ready")
        proof.given(~proof.before(waits) | (payload == proof.before(payload)))
    _writes(proof, axi, bus)
    _reads(proof, axi, bus, unit.running | settled)
    _run(proof, unit, ends)
    return proof


def _writes(proof: Proof, axi: Any, bus: dict[str, Any]) -> None:
    addresses = proof.total(bus["awvalid"] & axi.awready, 4, "addresses")
    words = proof.total(bus["wvalid"] & axi.wready, 4, "words")
    answered = proof.total(axi.bvalid & bus["bready"], 4, "answered")
    waiting = (addresses != answered) & (words != answered)
    proof.must("a_write_per_answer", ~axi.bvalid | waiting)
    proof.must("write_is_answered", ~proof.before(waiting & ~axi.bvalid) | axi.bvalid)
    taken = (answered + axi.bvalid)[:4]
    proof.must("next_address_may_come", (addresses - taken)[:4] == ~axi.awready)
    proof.must("next_word_may_come", (words - taken)[:4] == ~axi.wready)
    waited = proof.before(axi.bvalid & ~bus["bready"])
    kept = axi.bvalid & (axi.bresp == proof.before(axi.bresp))
    proof.must("write_answer_stays", ~waited | kept)
    proof.must("write_answer_is_legal", (axi.bresp == OKAY) | (axi.bresp == SLVERR))
    proof.reach("three_writes", answered == 3)
    proof.reach("word_before_address", (words == 1) & (addresses == 0))
    proof.reach("write_refused", axi.bvalid & (axi.bresp == SLVERR))


def _reads(proof: Proof, axi: Any, bus: dict[str, Any], may: Value) -> None:
    begins = bus["arvalid"] & axi.arready
    begun = proof.total(begins, 4, "begun")
    answered = proof.total(axi.rvalid & bus["rready"], 4, "read")
    # The counters take one cycle, the address and the word one each.
    steps = [proof.before(begins)]
    steps.append(proof.before(steps[0]))
    due = proof.before(steps[1])
    waited = proof.before(axi.rvalid & ~bus["rready"])
    proof.must("read_may_come", axi.arready == ((begun == answered) & may))
    proof.must("read_is_answered_in_time", axi.rvalid == (due | waited))
    under_way = (begun - answered)[:4]
    proof.must("none_is_lost", under_way == (steps[0] | steps[1] | axi.rvalid))
    payload = Cat(axi.rdata, axi.rresp)
    proof.must("read_answer_stays", ~waited | (payload == proof.before(payload)))
    word = proof.before(proof.before(proof.before(bus["araddr"][2:])))
    mapped = Cat(word == address >> 2 for address in sorted(MAPPED)).any()
    refused = axi.rresp == SLVERR
    legal = ((axi.rresp == OKAY) & mapped) | (refused & ~mapped & (axi.rdata == 0))
    proof.must("read_of_what_is_mapped", ~due | legal)
    proof.reach("two_reads", answered == 2)


def _run(proof: Proof, unit: ControlPort, ends: Any) -> None:
    launches = proof.before(unit.clear)
    settings = Value.cast(unit.settings)
    same = settings == proof.before(settings)
    answer = unit.axi.bvalid & ~proof.before(unit.axi.bvalid) & (unit.axi.bresp == OKAY)
    proof.must("starts_once", unit.start == launches)
    proof.must("no_launch_while_running", ~unit.clear | (~unit.running & ~launches))
    proof.must("launched_by_a_write", ~unit.clear | answer)
    runs_on = proof.before(unit.running & ~ends)
    proof.must("runs_to_its_end", unit.running == (launches | runs_on))
    proof.must("settings_stay_while_running", ~proof.before(unit.clear | unit.running) | same)
    proof.must("settings_change_by_writes", same | answer | ~proof.later)
    ended = proof.total(unit.running & ends, 4, "ended")
    proof.must("irq_after_a_run", ~unit.irq | (ended != 0))
    proof.reach("irq", unit.irq)
    proof.reach("second_run", unit.running & (ended == 1))
    proof.reach("settings_set", (ended == 1) & (unit.settings.insn_count == 0x12345678))


def test_handshakes_and_runs(tmp_path: Path):
    assert check(_proof(), "bmc", DEPTH, tmp_path)


def test_handshakes_and_runs_for_ever(tmp_path: Path):
    # Whether a run has ended before can be seen only while the interrupt is enabled.
    proof = _proof(without=["irq_after_a_run"])
    assert check(proof, "prove", INDUCTION, tmp_path)


def test_runs_are_reached(tmp_path: Path):
    assert check(_proof(), "cover", DEPTH, tmp_path)


@pytest.mark.parametrize(
    ("fault", "refuted"),
    [
        ("sees no BREADY", "a_write_per_answer"),
        ("sees a BREADY that is not there", "write_answer_stays"),
        ("sees an AWVALID that is not there", "next_address_may_come"),
        ("sees a RREADY that is not there", "none_is_lost"),
        ("sees no data", "write_is_answered"),
        ("sees a RREADY that is not there", "read_is_answered_in_time"),
        ("counters always settled", "read_may_come"),
        ("sees another address", "read_of_what_is_mapped"),
        ("sees an early end", "runs_to_its_end"),
        ("sees an early end", "irq_after_a_run"),
        ("sees no end", "runs_to_its_end"),
    ],
)
def test_faults_are_found(fault: str, refuted: str, tmp_path: Path):
    assert check(_proof(fault, refuted), "bmc", DEPTH, tmp_path).refuted == {refuted}
