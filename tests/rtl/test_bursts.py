"""Rows cut into bursts, against a plain model (rule B1)."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from tests.rtl.bench import parameters, rng, run_cocotb
from tests.rtl.load_bench import begin
from vta_hw.spec.config import VtaConfig

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from cocotb.triggers import FallingEdge, ReadOnly  # noqa: E402

from vta_hw.rtl.bursts import RowBursts, row_burst, row_job  # noqa: E402

FIELDS = ("address", "length", "begin", "end", "first", "last", "final")
Burst = tuple[int, ...]


def bursts_of(address: int, stride: int, rows: int, size: int, bus: int) -> list[Burst]:
    """What is expected, as `FIELDS`."""
    window = min(256 * bus, 4096)
    found: list[Burst] = []
    for row in range(rows):
        low = address + row * stride
        high = low + size
        beats = range(low // bus, -(-high // bus))
        starts = [n for n in beats if n == beats[0] or n * bus % window == 0]
        for start, end in zip(starts, [*starts[1:], beats[-1] + 1], strict=True):
            first, last = start == beats[0], end == beats[-1] + 1
            found.append(
                (
                    start * bus, end - start - 1,
                    low % bus if first else 0, (high - 1) % bus if last else bus - 1,
                    int(first), int(last), int(last and row == rows - 1),
                )
            )  # fmt: skip
    return found


def unpack(word: int, layout: Any) -> Burst:
    return tuple(word >> layout[name].offset & ((1 << layout[name].width) - 1) for name in FIELDS)


def random_rows(random: Random, most: int) -> dict[str, int]:
    return {
        "address": random.randrange(1 << random.choice([13, 31])),
        "stride": random.choice([0, 1, random.randrange(9000)]),
        "rows": random.randint(0, 4),
        "row_bytes": random.choice([1, most, random.randint(1, most)]),
    }


@cocotb.test()
async def cuts(dut: Any) -> None:
    given = parameters()
    config = VtaConfig.load("tiny").override(given["set"])
    bus, most = 1 << (config.log_bus_width - 3), given["most"]
    random = rng()
    job_layout, burst_layout = row_job(most), row_burst(config)
    await begin(dut, ("start__valid", "start__payload", "burst__ready"))
    for _ in range(given["jobs"]):
        rows = random_rows(random, most)
        await ReadOnly()
        assert int(dut.start__ready.value) and not int(dut.burst__valid.value)
        await FallingEdge(dut.clk)
        dut.start__valid.value = 1
        dut.start__payload.value = sum(rows[name] << job_layout[name].offset for name in rows)
        await FallingEdge(dut.clk)
        dut.start__valid.value = 0
        expected = bursts_of(rows["address"], rows["stride"], rows["rows"], rows["row_bytes"], bus)
        while expected:
            taken = random.random() < 0.7
            dut.burst__ready.value = int(taken)
            await ReadOnly()
            # The next one is there in the cycle after the one before was taken.
            assert int(dut.burst__valid.value) and not int(dut.start__ready.value)
            assert unpack(int(dut.burst__payload.value), burst_layout) == expected[0]
            await FallingEdge(dut.clk)
            if taken:
                expected.pop(0)
        dut.burst__ready.value = 0


@pytest.mark.parametrize(("bus", "most"), [(5, 5000), (6, 20000), (9, 4), (9, 9000)])
def test_rows_are_cut_at_windows(bus: int, most: int, request: pytest.FixtureRequest):
    settings = [f"LOG_BUS_WIDTH={bus}"]
    run_cocotb(
        RowBursts(VtaConfig.load("tiny").override(settings), most), __name__, ["cuts"],
        seed=int(request.config.getoption("--seed")),
        parameters={"set": settings, "most": most, "jobs": 150},
    )  # fmt: skip
