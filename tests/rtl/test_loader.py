"""The loaders of UOP, INP and WGT against a model, every cycle and every write."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rtl.bench import parameters, rng, run_cocotb
from tests.rtl.load_bench import run_jobs
from tests.rtl.load_model import Cycle, random_job
from vta_hw.spec.config import MemType, VtaConfig

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from vta_hw.rtl.loader import Loader  # noqa: E402
from vta_hw.rtl.signatures import LOAD_JOB  # noqa: E402


def configured() -> tuple[VtaConfig, MemType]:
    given = parameters()
    return VtaConfig.load(given["config"]).override(given["set"]), MemType(given["memory"])


@cocotb.test()
async def loads(dut: Any) -> None:
    config, memory = configured()
    random = rng()
    bus = 1 << (config.log_bus_width - 3)
    element = config.elem_bytes(memory)
    unit = min(bus, element)
    parts = max(element // bus, 1)

    def check(dut: Any, cycle: Cycle, beat: bytes, dram: bytes) -> None:
        expected = {}
        if cycle.beat is not None:
            for index, part, place in cycle.beat:
                expected[index, part] = beat[place : place + unit]
        elif cycle.fill is not None:
            value = b"\x80" if cycle.fill_job and cycle.fill_job.least else b"\0"
            expected = {(cycle.fill, part): value * unit for part in range(parts)}
        found = {}
        if int(dut.write__enable.value):
            data = int(dut.write__data.value).to_bytes(max(element, bus), "little")
            which = int(dut.write__parts.value)
            first = int(dut.write__index.value)
            for n in range(int(dut.write__count.value)):
                for part in range(parts):
                    if which >> part & 1:
                        at = n * element + part * unit
                        found[first + n, part] = data[at : at + unit]
        assert found == expected

    jobs = [
        random_job(
            random, config, memory, most=random.choice([3, 40, 250]), least=memory != MemType.UOP
        )
        for _ in range(parameters()["jobs"])
    ]
    await run_jobs(dut, random, jobs, LOAD_JOB, bus, check)


CASES = [
    ("tiny", 6, MemType.INP),
    ("tiny", 5, MemType.WGT),
    ("tiny", 9, MemType.INP),
    ("default", 9, MemType.UOP),
    ("default", 6, MemType.UOP),
    ("rect", 7, MemType.WGT),
    ("rect", 7, MemType.INP),
    ("batch4", 6, MemType.INP),
]


@pytest.mark.parametrize(("name", "bus", "memory"), CASES)
def test_against_model(name: str, bus: int, memory: MemType, request: pytest.FixtureRequest):
    settings = [f"LOG_BUS_WIDTH={bus}"]
    run_cocotb(
        Loader(VtaConfig.load(name).override(settings), memory), __name__, ["loads"],
        seed=int(request.config.getoption("--seed")),
        parameters={"config": name, "set": settings, "memory": int(memory), "jobs": 60},
    )  # fmt: skip
