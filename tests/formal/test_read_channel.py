"""The read channel: grants, the AXI handshake, and beats that reach the client they are for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.formal.proof import Proof, check
from vta_hw.spec.config import VtaConfig

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from amaranth.hdl import Cat, Signal

from vta_hw.rtl.read_channel import ReadChannel
from vta_hw.rtl.signatures import READ_CLIENTS, READ_REQUEST

pytestmark = pytest.mark.slow
MAX_READS = 2
# Enough for the queue of owners, three places long, to wrap around twice.
DEPTH = 12


def _proof(fault: str = "", only: str | None = None) -> Proof:
    proof = Proof(only)
    m = proof.m
    limit = MAX_READS + (fault == "too many bursts")
    config = VtaConfig.load("tiny").override([f"MAX_READS={limit}", "LOG_BUS_WIDTH=5"])
    m.submodules.unit = unit = ReadChannel(config)
    axi = unit.axi
    clients = [getattr(unit, name) for name in READ_CLIENTS]
    asks = proof.free("asks", len(clients))
    wants = [proof.free(f"request_{name}", READ_REQUEST) for name in READ_CLIENTS]
    names = ("arready", "rvalid", "rlast")
    arready, rvalid, rlast = (proof.free(name) for name in names)
    rdata, rresp = proof.free("rdata", len(axi.rdata)), proof.free("rresp", 2)
    for number, (client, want) in enumerate(zip(clients, wants, strict=True)):
        m.d.comb += [client.request.valid.eq(asks[number]), client.request.payload.eq(want)]
    m.d.comb += [
        axi.arready.eq(arready | (fault == "sees a READY that is not there")),
        axi.rvalid.eq(rvalid),
        axi.rlast.eq(rlast & (fault != "sees no last beat")),
        axi.rdata.eq(rdata),
        axi.rresp.eq(rresp),
    ]
    # What the memory may do: beats only for bursts that it has accepted. A burst may have any
    # length here; the channel does not count beats.
    accepted = proof.total(axi.arvalid & arready, 8, "accepted")
    closes = rvalid & rlast
    closed = proof.total(closes, 8, "closed")
    proof.given(~rvalid | (accepted > closed))

    grants = Cat(asks[i] & client.request.ready for i, client in enumerate(clients))
    granted = proof.total(grants.any(), 8, "granted")
    opened = (granted - closed)[:8]
    _grants(proof, grants, asks, opened, axi.arvalid & ~arready, fault)
    _address(proof, axi, arready, grants, wants)
    _routing(proof, unit, (grants, granted), (rvalid, closed, rlast, rdata, rresp), fault)
    moves = grants.any() | (opened != 0) | proof.before(rvalid)
    proof.must("moving", unit.moving == moves)
    proof.must("counts", (unit.read_burst == grants.any()) & (unit.read_beat == rvalid))
    proof.reach("limit_met_twice", (opened == MAX_READS) & (closed == 2) & rvalid)
    proof.reach("granted_while_accepted", axi.arvalid & arready & grants.any())
    return proof


def _grants(
    proof: Proof, grants: Cat, asks: Signal, opened: Signal, waits: Signal, fault: str
) -> None:
    if fault == "rising priority":
        asks = asks[::-1]
        grants = grants[::-1]
    first = asks & (~asks + 1)
    possible = (opened < MAX_READS) & ~waits
    proof.must("open_limit", opened <= MAX_READS)
    proof.must("never_denied", ~(possible & asks.any()) | grants.any())
    proof.must("never_at_the_limit", possible | ~grants.any())
    proof.must("by_priority", ~grants.any() | (grants == first[: len(asks)]))


def _address(proof: Proof, axi: Any, arready: Signal, grants: Cat, wants: list) -> None:
    payload = Cat(axi.araddr, axi.arlen)
    waited = proof.before(axi.arvalid & ~arready)
    proof.must("address_valid_stays", ~waited | axi.arvalid)
    proof.must("address_stays", ~waited | (payload == proof.before(payload)))
    for number, want in enumerate(wants):
        asked = proof.before(Cat(want.address, want.length))
        is_there = axi.arvalid & (payload == asked)
        proof.must(f"address_of_grant_{number}", ~proof.before(grants[number]) | is_there)
    proof.must("address_only_of_grants", ~axi.arvalid | waited | proof.before(grants.any()))
    constants = (axi.arsize == 2) & (axi.arburst == 1) & ~axi.arlock & ~axi.arid & axi.rready
    proof.must("constants", constants)


def _routing(proof: Proof, unit: ReadChannel, granted: tuple, beat: tuple, fault: str) -> None:
    m = proof.m
    grants, count = granted
    rvalid, closed, rlast, rdata, rresp = beat
    # Whichever burst this is: so it holds for all.
    number = proof.constant("number", 8)
    owner = Signal(len(READ_CLIENTS))
    with m.If(grants.any() & (count == number)):
        m.d.sync += owner.eq(grants)
    came = proof.before(rvalid)
    of_number = proof.before(rvalid & (closed == number))
    clients = [getattr(unit, name) for name in READ_CLIENTS]
    if fault == "two clients are swapped":
        clients[1:3] = clients[2:0:-1]
    beats = Cat(client.beat for client in clients)
    proof.must("beats_to_the_owner", ~of_number | (beats == owner))
    proof.must("beats_in_time", beats.any() == came)
    payload = proof.before(Cat(rdata, rlast, rresp != 0))
    for index, client in enumerate(clients):
        given = Cat(client.data, client.last, client.error)
        proof.must(f"beat_of_client_{index}", ~client.beat | (given == payload))


def test_rules(tmp_path: Path):
    assert check(_proof(), "bmc", DEPTH, tmp_path)


def test_limits_are_reached(tmp_path: Path):
    assert check(_proof(), "cover", DEPTH, tmp_path)


@pytest.mark.parametrize(
    ("fault", "refuted"),
    [
        ("too many bursts", "open_limit"),
        ("sees a READY that is not there", "address_valid_stays"),
        ("sees no last beat", "never_denied"),
        ("rising priority", "by_priority"),
        ("two clients are swapped", "beats_to_the_owner"),
    ],
)
def test_faults_are_found(fault: str, refuted: str, tmp_path: Path):
    assert check(_proof(fault, refuted), "bmc", DEPTH, tmp_path).refuted == {refuted}
