"""The store engine with its write channel: AXI handshakes, beats, bytes and answers of its jobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.formal.proof import Proof, check
from vta_hw.spec.config import VtaConfig

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from amaranth.hdl import Cat, Mux, Signal

from vta_hw.rtl.signatures import STORE_JOB
from vta_hw.rtl.store_engine import StoreEngine

pytestmark = pytest.mark.slow
MAX_OPEN = 2
LOG_BUS = 6
BUS, WINDOW, ELEMENT = 8, 2048, 4
# The first beat is read STORE_READ_DELAY after the start and on the bus two cycles later.
DEPTH = 16


def _proof(fault: str = "", only: str | None = None) -> Proof:
    proof = Proof(only)
    m = proof.m
    limit = MAX_OPEN + (fault == "too many bursts")
    config = VtaConfig.load("tiny").override([f"MAX_READS={limit}", f"LOG_BUS_WIDTH={LOG_BUS}"])
    m.submodules.unit = unit = StoreEngine(config)
    axi: Any = unit.axi
    # Two jobs at most are looked at; both may be long enough to be cut at a window.
    asks, job = proof.free("asks"), proof.free("job", STORE_JOB)
    begins = asks & unit.work.start.ready
    jobs = proof.total(begins, 2, "jobs")
    proof.given(~asks | (jobs < 2))
    proof.given((job.rows >= 1) & (job.rows <= 2) & (job.columns >= 1) & (job.columns <= 3))
    proof.given((job.sram < 32) & (job.address % ELEMENT == 0) & (job.stride % ELEMENT == 0))
    awready, wready, bvalid = (proof.free(name) for name in ("awready", "wready", "bvalid"))
    bresp = proof.free("bresp", 2)
    m.d.comb += [
        unit.work.start.valid.eq(asks),
        unit.work.start.payload.eq(job),
        unit.out.data.eq(proof.free("data", len(unit.out.data))),
        axi.awready.eq(awready | (fault == "sees an AWREADY that is not there")),
        axi.wready.eq(wready | (fault == "sees a WREADY that is not there")),
        axi.bvalid.eq(bvalid),
        axi.bresp.eq(bresp),
    ]
    if fault == "rows too long":
        m.d.comb += unit.work.start.payload.columns.eq(job.columns + 1)
    if fault == "never an error":
        m.d.comb += axi.bresp.eq(0)
    _handshakes(proof, axi, awready, wready)
    ends = axi.wvalid & wready & (axi.wlast ^ (fault == "other last beats"))
    ended, accepted = (
        proof.total(ends, 3, "ended"),
        proof.total(axi.awvalid & awready, 3, "accepted"),
    )
    answered = proof.total(bvalid, 3, "answered")
    # The memory answers bursts whose address and data it has taken in earlier cycles.
    proof.given(~bvalid | ((accepted != answered) & (ended != answered)))
    presented = (accepted + axi.awvalid)[:3]
    proof.must("open_limit", (presented - answered)[:3] <= MAX_OPEN)
    proof.must("address_before_data", ~axi.wvalid | (presented != ended))
    _lengths(proof, axi, accepted, ended, ends, wready)
    _jobs(proof, unit, begins, job, axi, wready, bvalid, bresp)
    proof.reach("limit_met", (presented - answered)[:3] == MAX_OPEN)
    proof.reach("data_before_address_is_taken", axi.wvalid & wready & (accepted == ended))
    return proof


def _handshakes(proof: Proof, axi: Any, awready: Any, wready: Any) -> None:
    address, beat = Cat(axi.awaddr, axi.awlen), Cat(axi.wdata, axi.wstrb, axi.wlast)
    for name, valid, ready, payload in (
        ("address", axi.awvalid, awready, address),
        ("beat", axi.wvalid, wready, beat),
    ):
        waited = proof.before(valid & ~ready)
        proof.must(f"{name}_valid_stays", ~waited | valid)
        proof.must(f"{name}_stays", ~waited | (payload == proof.before(payload)))
    last = axi.awaddr + axi.awlen * BUS
    inside = (axi.awaddr % BUS == 0) & (axi.awaddr // WINDOW == last // WINDOW)
    proof.must("inside_a_window", ~axi.awvalid | inside)
    constants = (axi.awsize == 3) & (axi.awburst == 1) & ~axi.awlock & ~axi.awid & axi.bready
    proof.must("constants", constants)


def _lengths(proof: Proof, axi: Any, accepted: Any, ended: Any, ends: Any, wready: Any) -> None:
    """The beats of burst number `number`, whichever that is."""
    m = proof.m
    number = proof.constant("number", 3)
    length, seen = Signal(8), Signal(8, name="beats")
    presents = axi.awvalid & (accepted == number)
    known = Signal(8)
    m.d.comb += known.eq(length)
    with m.If(presents):
        m.d.comb += known.eq(axi.awlen)
        m.d.sync += length.eq(axi.awlen)
    beat = axi.wvalid & wready & (ended == number)
    with m.If(beat):
        m.d.sync += seen.eq(seen + 1)
    proof.must("last_is_the_last", ~beat | (ends == (seen == known)))
    inner = (seen != 0) & (seen != known)
    proof.must("inner_beats_are_whole", ~(beat & inner) | axi.wstrb.all())
    proof.must("beats_have_bytes", ~axi.wvalid | axi.wstrb.any())


def _jobs(
    proof: Proof, unit: Any, begins: Any, job: Any, axi: Any, wready: Any, bvalid: Any, bresp: Any
) -> None:
    """Of the first job: its bytes are written and answered when it is done, not one more."""
    m = proof.m
    started, done = proof.total(begins, 2, "started"), proof.total(unit.work.done, 2, "done")
    strobes = sum(axi.wstrb[i] for i in range(BUS))
    moved = proof.total((axi.wvalid & wready).replicate(4) & strobes, 8, "moved")
    expected = proof.total(begins.replicate(8) & (job.rows * job.columns * ELEMENT)[:8], 8, "bytes")
    first = Signal(8)
    with m.If(begins & (started == 0)):
        m.d.sync += first.eq((job.rows * job.columns * ELEMENT)[:8])
    open_bursts = proof.total(unit.write_burst - bvalid, 3, "open_bursts")
    failed = Signal()
    with m.If(bvalid & (bresp != 0)):
        m.d.sync += failed.eq(1)
    proof.must("no_more_bytes_than_asked_for", moved <= expected)
    proof.must("done_of_a_job", ~unit.work.done | (done < started))
    proof.must("done_after_its_bytes", ~(unit.work.done & (done == 0)) | (moved >= first))
    faulty = unit.work.done & (unit.work.fault != 0)
    proof.must("fault_only_of_errors", ~faulty | proof.before(failed))
    told = unit.work.done & (done + 1 == started) & (open_bursts == 0)
    none_yet = proof.total(faulty, 2, "faults") == 0
    proof.must("errors_are_told", ~(told & none_yet & proof.before(failed)) | faulty)
    active = unit.write_burst | (open_bursts != 0) | proof.before(bvalid)
    proof.must("moving", ~active | unit.moving)
    proof.reach("half_a_beat", axi.wvalid & ~axi.wstrb.all() & axi.wlast & (done == 1))
    proof.reach("two_jobs_done", (done == 1) & unit.work.done)
    proof.reach("fault", faulty)


def _element_proof(fault: str = "", only: str | None = None) -> Proof:
    """One job; any element of it, whichever that is, is written once, where it belongs."""
    proof = Proof(only)
    m = proof.m
    config = VtaConfig.load("tiny").override([f"MAX_READS={MAX_OPEN}", f"LOG_BUS_WIDTH={LOG_BUS}"])
    m.submodules.unit = unit = StoreEngine(config)
    axi: Any = unit.axi
    job, started = proof.constant("job", STORE_JOB), Signal()
    m.d.sync += started.eq(1)
    proof.given((job.rows >= 1) & (job.rows <= 2) & (job.columns >= 1) & (job.columns <= 4))
    proof.given((job.sram < 32) & (job.address % ELEMENT == 0) & (job.stride % ELEMENT == 0))
    # No row lies over the other one.
    proof.given((job.stride >= 4 * ELEMENT) & (job.stride < 1 << 16))
    awready, wready, bvalid = (proof.free(name) for name in ("awready", "wready", "bvalid"))
    data = proof.free("data", 8 * BUS)
    m.d.comb += [
        unit.work.start.valid.eq(~started),
        unit.work.start.payload.eq(job),
        unit.out.data.eq(data),
        axi.awready.eq(awready),
        axi.wready.eq(wready),
        axi.bvalid.eq(bvalid),
    ]
    if fault == "an element too far":
        m.d.comb += unit.work.start.payload.sram.eq(job.sram + 1)
    if fault == "a stride too long":
        m.d.comb += unit.work.start.payload.stride.eq(job.stride + ELEMENT)
    if fault == "a row too few":
        m.d.comb += unit.work.start.payload.rows.eq(1)
    row, column = proof.constant("row"), proof.constant("column", 2)
    value = proof.constant("value", 8 * ELEMENT)
    proof.given((row < job.rows) & (column < job.columns))
    element = job.sram + Mux(row, job.columns, 0) + column
    for place in range(BUS // ELEMENT):
        reads = proof.before(unit.out.enable & (unit.out.index + place == element))
        proof.given(~reads | (data.word_select(place, 8 * ELEMENT) == value))

    target, position, beat_address = Signal(32), Signal(32), Signal(32)
    m.d.comb += target.eq(job.address + Mux(row, job.stride, 0) + column * ELEMENT)
    # The data follow the addresses in order, and no more than two bursts are open.
    addresses = [Signal(32, name=f"address_{i}") for i in range(MAX_OPEN)]
    taken = proof.total(axi.awvalid & awready, 3, "taken")
    with m.If(axi.awvalid):
        m.d.sync += [
            address.eq(Mux(taken[0] == number, axi.awaddr, address))
            for number, address in enumerate(addresses)
        ]
    goes = axi.wvalid & wready
    burst = proof.total(goes & axi.wlast, 3, "burst")
    kept = Mux(burst[0], addresses[1], addresses[0])
    m.d.comb += beat_address.eq(Mux(axi.awvalid & (taken == burst), axi.awaddr, kept) + position)
    with m.If(goes):
        m.d.sync += position.eq(Mux(axi.wlast, 0, position + BUS))
    answered = proof.total(bvalid, 3, "answered")
    proof.given(~bvalid | ((taken != answered) & (burst != answered)))
    lane = target[2]
    strobes = Mux(lane, axi.wstrb[4:], axi.wstrb[:4])
    hit = goes & (beat_address[3:] == target[3:]) & strobes.any()
    hits = proof.total(hit, 3, "hits")
    proof.must(
        "value", ~hit | (strobes.all() & (Mux(lane, axi.wdata[32:], axi.wdata[:32]) == value))
    )
    proof.must("at_most_once", ~hit | (hits == 0))
    proof.must("written", ~unit.work.done | (hits == 1))
    proof.reach("second_row_written", hit & row & (column == 3) & (job.columns == 4) & lane)
    proof.reach("row_after_two_bursts", unit.work.done & (burst == 3))
    proof.reach("first_row_in_two_bursts", hit & ~row & (burst == 1))
    return proof


def test_protocol_and_amounts(tmp_path: Path):
    assert check(_proof(), "bmc", DEPTH, tmp_path)


@pytest.mark.long
def test_elements_go_where_they_belong(tmp_path: Path):
    assert check(_element_proof(), "bmc", DEPTH, tmp_path)


@pytest.mark.parametrize("build", [_proof, _element_proof])
def test_ends_are_reached(build: Callable[[], Proof], tmp_path: Path):
    assert check(build(), "cover", DEPTH, tmp_path)


@pytest.mark.parametrize(
    ("fault", "refuted"),
    [
        ("too many bursts", "open_limit"),
        ("sees an AWREADY that is not there", "address_valid_stays"),
        ("sees a WREADY that is not there", "beat_stays"),
        ("sees a WREADY that is not there", "last_is_the_last"),
        ("other last beats", "last_is_the_last"),
        ("rows too long", "no_more_bytes_than_asked_for"),
        ("never an error", "errors_are_told"),
    ],
)
def test_faults_are_found(fault: str, refuted: str, tmp_path: Path):
    assert check(_proof(fault, refuted), "bmc", DEPTH, tmp_path).refuted == {refuted}


@pytest.mark.parametrize(
    ("fault", "refuted"),
    [
        ("an element too far", "value"),
        ("a stride too long", "written"),
        ("a row too few", "written"),
    ],
)
def test_misplaced_elements_are_found(fault: str, refuted: str, tmp_path: Path):
    assert check(_element_proof(fault, refuted), "bmc", DEPTH, tmp_path).refuted == {refuted}
