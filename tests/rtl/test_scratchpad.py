"""The on-chip memories against a dictionary."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rtl.bench import parameters, rng, run_cocotb
from tests.rtl.load_bench import begin
from vta_hw.spec.config import MemType, VtaConfig

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from cocotb.triggers import FallingEdge, ReadOnly  # noqa: E402

from vta_hw.rtl.fabric import PLAIN, Fabric  # noqa: E402
from vta_hw.rtl.scratchpad import Scratchpad  # noqa: E402


class Contents:
    """What a memory holds, part by part; parts never written are unknown."""

    def __init__(self, depth: int, parts: int, unit: int) -> None:
        self.depth, self.parts, self.unit = depth, parts, unit
        self.known: dict[tuple[int, int], int] = {}

    def write(self, index: int, count: int, which: int, data: int) -> set[int]:
        touched = set(range(index, index + count))
        for n in range(count):
            for part in range(self.parts):
                if which >> part & 1:
                    place = (n * self.parts + part) * self.unit
                    self.known[index + n, part] = data >> place & ((1 << self.unit) - 1)
        return touched

    def element(self, index: int) -> int | None:
        """None if not all of it is known."""
        parts = [self.known.get((index, part)) for part in range(self.parts)]
        if None in parts:
            return None
        return sum(part << n * self.unit for n, part in enumerate(parts) if part)


@cocotb.test()
async def remembers(dut: Any) -> None:
    given = parameters()
    config = VtaConfig.load(given["config"]).override(given["set"])
    memory, readers = MemType(given["memory"]), given["readers"]
    random = rng()
    bus, element = 1 << config.log_bus_width, 8 * config.elem_bytes(memory)
    lanes, parts = max(bus // element, 1), max(element // bus, 1)
    contents = Contents(config.depth(memory), parts, min(bus, element))
    # A part of the memory that is met often, its end included.
    low = contents.depth - min(contents.depth, 24)
    reads = [f"read__{n}__" for n in range(readers)]
    await begin(
        dut,
        (
            *(f"write__{name}" for name in ("enable", "index", "count", "parts", "data")),
            *(prefix + name for prefix in reads for name in ("enable", "index")),
        ),
    )
    expected: list[int | None] = [None] * readers
    compared = 0
    for _ in range(given["cycles"]):
        writes = random.random() < 0.7
        index = random.randrange(low, contents.depth)
        count = random.randint(1, min(lanes, contents.depth - index))
        which = random.choice([1 << random.randrange(parts), (1 << parts) - 1])
        data = random.getrandbits(lanes * element)
        dut.write__enable.value = int(writes)
        dut.write__index.value = index
        dut.write__count.value = count
        dut.write__parts.value = which
        dut.write__data.value = data
        asked = [random.randrange(low, contents.depth) for _ in reads]
        enabled = [random.random() < 0.7 for _ in reads]
        for prefix, where, enable in zip(reads, asked, enabled, strict=True):
            getattr(dut, prefix + "index").value = where
            getattr(dut, prefix + "enable").value = int(enable)
        await ReadOnly()
        for prefix, value in zip(reads, expected, strict=True):
            if value is not None:
                assert int(getattr(dut, prefix + "data").value) == value
                compared += 1
        found = [contents.element(where) for where in asked]
        touched = contents.write(index, count, which, data) if writes else set()
        for n in range(readers):
            if enabled[n]:
                expected[n] = None if asked[n] in touched else found[n]
        await FallingEdge(dut.clk)
    assert compared > given["cycles"] // 4


LANES = Fabric(nine_bit_lanes=True)
CASES = [
    ("tiny", [], MemType.UOP, 2, PLAIN),
    ("tiny", ["LOG_BUS_WIDTH=9"], MemType.INP, 1, PLAIN),
    ("rect", ["LOG_BUS_WIDTH=5"], MemType.INP, 1, PLAIN),
    ("tiny", [], MemType.WGT, 1, PLAIN),
    ("tiny", ["LOG_BUS_WIDTH=9", "LOG_UOP_BUFF_SIZE=5"], MemType.UOP, 2, PLAIN),
    ("tiny", [], MemType.WGT, 1, LANES),
    ("tiny", ["LOG_BUS_WIDTH=5"], MemType.WGT, 1, LANES),
]


@pytest.mark.parametrize(("name", "settings", "memory", "readers", "fabric"), CASES)
def test_remembers(
    name: str,
    settings: list[str],
    memory: MemType,
    readers: int,
    fabric: Fabric,
    request: pytest.FixtureRequest,
):
    config = VtaConfig.load(name).override(settings)
    run_cocotb(
        Scratchpad(config, memory, readers), __name__, ["remembers"],
        seed=int(request.config.getoption("--seed")),
        parameters={
            "config": name, "set": settings, "memory": int(memory), "readers": readers,
            "cycles": 3000,
        },
        fabric=fabric,
    )  # fmt: skip
