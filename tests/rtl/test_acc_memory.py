"""The ACC memory against a list of elements: slots, delays, beats over banks and halves, OUT."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from tests.rtl.bench import parameters, rng, run_cocotb

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from cocotb.clock import Clock  # noqa: E402
from cocotb.triggers import FallingEdge, RisingEdge  # noqa: E402

from vta_hw.rtl.acc_memory import AccMemory  # noqa: E402
from vta_hw.spec.config import VtaConfig  # noqa: E402

CYCLES = 3000
# Cycles after the grant. GEMM has its data when the writes of the cycle before are in them, the ALU
# one earlier with those of the same cycle; GEMM says a cycle early what is written.
GEMM_DATA, ALU_DATA, WRITE = 4, 3, 8


class Model:
    """ACC as a list, with what was granted in each of the last cycles."""

    def __init__(self, depth: int, lanes: int) -> None:
        self.acc: list[int | None] = [None] * depth
        self.out: list[int | None] = [None] * depth
        self.lanes = lanes
        self.granted: deque[list[dict[str, Any]]] = deque([[] for _ in range(WRITE)], WRITE)

    def half(self, index: int) -> int:
        return 2 * index // len(self.acc)

    def grants(self, asked: dict[str, Any]) -> dict[str, bool]:
        """Beat before GEMM before ALU before fill, in each half."""
        taken: set[int | None] = set()
        if "beat" in asked:
            first, count = asked["beat"]["index"], asked["beat"]["count"]
            taken = {self.half(index) for index in range(first, first + count)}
        granted = {}
        for who in ("gemm", "alu", "fill"):
            half = self.half(asked[who]["index"]) if who in asked else None
            granted[who] = half is not None and half not in taken
            taken.add(half)
        return granted

    def write(self, index: int, value: int) -> None:
        self.acc[index] = value
        bits = 0
        for lane in range(self.lanes):
            bits |= (value >> 32 * lane & 255) << 8 * lane
        self.out[index] = bits


def random_request(random: Any, model: Model, who: str, beat_most: int) -> dict[str, Any]:
    depth = len(model.acc)
    hot = [0, 1, depth // 2 - 1, depth // 2, depth - 1]
    index = random.choice(hot) if random.random() < 0.6 else random.randrange(depth)
    index = min(index, depth - 1)
    count = random.randint(1, min(beat_most, depth - index)) if who == "beat" else 1
    bits = 32 * model.lanes
    return {
        "who": who,
        "index": index,
        "count": count,
        "write": who in ("beat", "fill") or random.random() < 0.7,
        "values": [random.getrandbits(bits) for _ in range(count)],
    }


def drive(dut: Any, random: Any, asked: dict[str, Any], bits: int, beat_most: int) -> None:
    beat = asked.get("beat")
    dut.load__beat.value = beat is not None
    dut.load__index.value = beat["index"] if beat else 0
    dut.load__count.value = beat["count"] if beat else 0
    values = beat["values"] if beat else []
    values = values + [random.getrandbits(bits) for _ in range(beat_most - len(values))]
    dut.load__data.value = sum(value << bits * place for place, value in enumerate(values))
    fill = asked.get("fill")
    dut.load__fill.value = fill is not None
    dut.load__fill_index.value = fill["index"] if fill else 0
    dut.load__fill_data.value = fill["values"][0] if fill else random.getrandbits(bits)
    for unit in ("gemm", "alu"):
        request = asked.get(unit)
        getattr(dut, f"{unit}__valid").value = request is not None
        getattr(dut, f"{unit}__index").value = request["index"] if request else 0
        getattr(dut, f"{unit}__write").value = request["write"] if request else 1


def check_read(dut: Any, model: Model, cycle: int, unit: str, delay: int) -> None:
    for access in model.granted[-delay]:
        expected = model.acc[access["index"]]
        if access["who"] == unit and expected is not None:
            fresh = unit == "alu" and int(dut.alu__fresh.value) != 0
            found = int(getattr(dut, f"{unit}__{'write' if fresh else 'read'}_data").value)
            assert found == expected, (cycle, unit, access["index"])


@cocotb.test()
async def random_accesses(dut: Any) -> None:
    given = parameters()
    depth, lanes, beat_most = given["depth"], given["lanes"], given["beat_most"]
    bits, random, model = 32 * lanes, rng(), Model(given["depth"], given["lanes"])
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    dut.rst.value = 1
    dut.out__enable.value = 0
    drive(dut, random, {}, bits, beat_most)
    await RisingEdge(dut.clk)
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    held: dict[str, Any] = {}
    read_out: list[int | None] = []
    busy = dict.fromkeys(("beat", "fill", "gemm", "alu"), 1.0)
    for cycle in range(CYCLES):
        if cycle % 100 == 0:
            busy = {who: random.choice((0, 0.2, 0.6, 1)) for who in busy}
        # What was not granted stays; a fill gives way to a beat.
        asked = dict(held)
        for who in busy:
            if who not in asked and random.random() < busy[who]:
                asked[who] = random_request(random, model, who, beat_most)
        if "beat" in asked:
            asked.pop("fill", None)
        drive(dut, random, asked, bits, beat_most)
        written = {access["who"]: access for access in model.granted[-WRITE]}
        for unit, delay in (("gemm", WRITE - 1), ("alu", WRITE)):
            values = [a["values"][0] for a in model.granted[-delay] if a["who"] == unit]
            value = values[0] if values else random.getrandbits(bits)
            getattr(dut, f"{unit}__write_data").value = value
        out_index = random.randrange(depth)
        out_enable = random.random() < 0.7
        dut.out__index.value = out_index
        dut.out__enable.value = out_enable
        await FallingEdge(dut.clk)
        granted = model.grants(asked)
        found = {
            "gemm": bool(dut.gemm__grant.value),
            "alu": bool(dut.alu__grant.value),
            "fill": bool(dut.load__fill_grant.value),
        }
        assert found == granted, (cycle, asked)
        check_read(dut, model, cycle, "gemm", GEMM_DATA)
        data = int(dut.out__data.value)
        for place, expected in enumerate(read_out):
            assert expected in (None, data >> 8 * lanes * place & (1 << 8 * lanes) - 1), cycle
        if out_enable:
            read_out = model.out[out_index : out_index + beat_most]
        for access in written.values():
            if access["write"]:
                for place, value in enumerate(access["values"]):
                    model.write(access["index"] + place, value)
        check_read(dut, model, cycle, "alu", ALU_DATA)
        now = [asked[who] for who in asked if who == "beat" or granted[who]]
        held = {who: asked[who] for who in granted if who in asked and not granted[who]}
        model.granted.append(now)
        await RisingEdge(dut.clk)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("tiny", []),
        ("rect", ["LOG_ACC_BUFF_SIZE=9"]),
        ("tiny", ["LOG_BUS_WIDTH=9"]),
        pytest.param("batch4", ["LOG_BUS_WIDTH=9"], marks=pytest.mark.slow),
        # As many elements in a beat as in a half, as in ACC, more than in ACC; an ACC of two.
        pytest.param("tiny", ["LOG_BUS_WIDTH=9", "LOG_ACC_BUFF_SIZE=9"], marks=pytest.mark.slow),
        ("tiny", ["LOG_BUS_WIDTH=8", "LOG_ACC_BUFF_SIZE=7"]),
        pytest.param("tiny", ["LOG_BUS_WIDTH=8", "LOG_ACC_BUFF_SIZE=5"], marks=pytest.mark.slow),
        pytest.param("rect", ["LOG_ACC_BUFF_SIZE=6", "EXTENSIONS="], marks=pytest.mark.slow),
    ],
)
def test_random_accesses(name, settings, request):
    config = VtaConfig.load(name).override(settings)
    lanes = config.batch * config.block_out
    run_cocotb(
        AccMemory(config),
        __name__,
        ["random_accesses"],
        seed=request.config.getoption("--seed"),
        parameters={
            "depth": 1 << config.log_acc_buff >> (2 + config.log_batch + config.log_block_out),
            "lanes": lanes,
            "beat_most": max(1, (1 << config.log_bus_width) // (8 * lanes)),
        },
    )
