"""Rows cut into bursts: every byte once and in order, no window crossed, no burst too short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.formal.proof import Proof, check
from vta_hw.spec.config import VtaConfig

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from amaranth.hdl import Cat, Mux, Signal, Value

from vta_hw.rtl.bursts import RowBursts, row_job

pytestmark = pytest.mark.slow
# Bits of the bus, the most bytes of a row (in windows of that bus: a row may touch one more), and
# how many cycles: after the start, one burst in each.
SHAPES = [(5, 3 * 1024, 7), (9, 2 * 4096, 6)]
LOG_BUS, MOST, DEPTH = SHAPES[0]


def _proof(log_bus: int, most: int, fault: str = "", only: str | None = None) -> Proof:
    bus = 1 << (log_bus - 3)
    window = min(256 * bus, 4096)
    proof = Proof(only)
    m = proof.m
    config = VtaConfig.load("tiny").override([f"LOG_BUS_WIDTH={log_bus}"])
    m.submodules.unit = unit = RowBursts(config, most)
    job, asks = proof.free("job", row_job(most)), proof.free("asks")
    takes = proof.free("takes")
    m.d.comb += [
        unit.start.valid.eq(asks),
        unit.start.payload.eq(job),
        unit.burst.ready.eq(takes | (fault == "sees a READY that is not there")),
    ]
    proof.given((job.row_bytes >= 1) & (job.row_bytes <= most))
    if fault == "row too long":
        m.d.comb += unit.start.payload.row_bytes.eq(job.row_bytes + 1)
    if fault == "stride forgotten":
        m.d.comb += unit.start.payload.stride.eq(0)
    if fault == "row too many":
        m.d.comb += unit.start.payload.rows.eq(job.rows | 1)
    burst, valid = unit.burst.payload, unit.burst.valid
    _cover_the_rows(proof, unit, (job, asks), takes, bus)

    last_beat = Signal(32)
    m.d.comb += last_beat.eq(burst.address + burst.length * bus)
    if fault == "smaller windows":
        window //= 2
    same_window = burst.address // window == last_beat // window
    proof.must("aligned", ~valid | (burst.address % bus == 0))
    proof.must("inside_a_window", ~valid | same_window)
    at_its_end = (last_beat + bus)[:32] % window == 0
    proof.must("cut_only_at_windows", ~valid | burst.last | at_its_end)
    waited = proof.before(valid & ~takes)
    word = Value.cast(burst)
    proof.must("stays", ~waited | (valid & (word == proof.before(word))))
    return proof


def _cover_the_rows(
    proof: Proof, unit: RowBursts, start: tuple[Any, Any], takes: Any, bus: int
) -> None:
    """Follow the bytes: the next one's address, and how many are left of the row."""
    m = proof.m
    job, asks = start
    burst, valid = unit.burst.payload, unit.burst.valid
    row, next_row, position, stride = (Signal(32, name=n) for n in ("row", "next", "at", "stride"))
    size, left = Signal.like(job.row_bytes), Signal.like(job.row_bytes)
    rows, is_first = Signal(16), Signal()
    covered = Signal(len(left) + 2)
    m.d.comb += [
        covered.eq(burst.length * bus + burst.end + 1 - burst.begin),
        next_row.eq(row + stride),
    ]
    with m.If(asks & unit.start.ready):
        m.d.sync += [row.eq(job.address), position.eq(job.address), stride.eq(job.stride)]
        m.d.sync += [size.eq(job.row_bytes), left.eq(job.row_bytes), rows.eq(job.rows)]
        m.d.sync += is_first.eq(1)
    with m.If(valid & takes):
        m.d.sync += [position.eq(position + covered), left.eq(left - covered), is_first.eq(0)]
        with m.If(covered == left):
            m.d.sync += [row.eq(next_row), position.eq(next_row), left.eq(size)]
            m.d.sync += [rows.eq(rows - 1), is_first.eq(1)]
    ends = covered == left
    proof.must("there_in_time", valid == (rows != 0))
    proof.must("one_after_the_other", unit.start.ready == ~valid)
    proof.must("follows", ~valid | ((burst.address + burst.begin)[:32] == position))
    some = Mux(burst.length == 0, burst.begin <= burst.end, 1)
    proof.must("within_the_row", ~valid | (some & (covered <= left)))
    proof.must("first_and_last", ~valid | (Cat(burst.first, burst.last) == Cat(is_first, ends)))
    proof.must("final", ~valid | (burst.final == (ends & (rows == 1))))
    taken = proof.total(valid & takes, 4, "taken")
    proof.reach("row_of_four", valid & takes & ends & (taken == 3) & (row == job.address))
    proof.reach("two_rows", valid & takes & burst.final & (taken == 3) & (row != job.address))
    proof.reach("wraps", valid & ~is_first & (position == 0))


@pytest.mark.parametrize(("log_bus", "most", "depth"), SHAPES)
def test_rows_are_covered(log_bus: int, most: int, depth: int, tmp_path: Path):
    assert check(_proof(log_bus, most), "bmc", depth, tmp_path)


def test_rows_of_many_bursts_are_reached(tmp_path: Path):
    assert check(_proof(LOG_BUS, MOST), "cover", DEPTH, tmp_path)


@pytest.mark.parametrize(
    ("fault", "refuted"),
    [
        ("sees a READY that is not there", "stays"),
        ("row too long", "first_and_last"),
        ("row too long", "within_the_row"),
        ("stride forgotten", "follows"),
        ("row too many", "there_in_time"),
        ("row too many", "final"),
        ("smaller windows", "inside_a_window"),
    ],
)
def test_faults_are_found(fault: str, refuted: str, tmp_path: Path):
    proof = _proof(LOG_BUS, MOST, fault, refuted)
    assert check(proof, "bmc", DEPTH, tmp_path).refuted == {refuted}
