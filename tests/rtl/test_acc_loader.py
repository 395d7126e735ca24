"""The loader of ACC against a model: every cycle, every slot, every value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.rtl.bench import parameters, rng, run_cocotb
from tests.rtl.load_bench import run_jobs
from tests.rtl.load_model import Cycle, Job, random_job
from vta_hw.spec.config import MemType, VtaConfig

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from vta_hw.rtl.acc_loader import AccLoader  # noqa: E402
from vta_hw.rtl.signatures import LOAD_JOB  # noqa: E402


def lanes_of(raw: bytes, job: Job) -> bytes:
    """An element of memory as it lies in ACC."""
    if not job.eight_bit:
        return raw
    return np.frombuffer(raw, np.int8).astype("<i4").tobytes()


@cocotb.test()
async def loads(dut: Any) -> None:
    given = parameters()
    config = VtaConfig.load(given["config"]).override(given["set"])
    random = rng()
    bus = 1 << (config.log_bus_width - 3)
    width = config.elem_bytes(MemType.ACC)
    replica: dict[int, bytes] = {}
    partial: dict[int, bytes] = {}

    def check_beat(dut: Any, cycle: Cycle, beat: bytes) -> None:
        job = cycle.beat_job
        assert job
        expected = {}
        for index, _, place in cycle.beat or ():
            raw = partial.pop(index, b"") + beat[place : place + min(bus, job.element)]
            if len(raw) < job.element:
                partial[index] = raw
            else:
                expected[index] = lanes_of(raw, job)
        found = {}
        if int(dut.acc__beat.value):
            first = int(dut.acc__index.value)
            data = int(dut.acc__data.value).to_bytes(len(dut.acc__data) // 8, "little")
            for n in range(int(dut.acc__count.value)):
                found[first + n] = data[n * width : (n + 1) * width]
        assert found == expected
        if job.replicate and expected:
            (replica[0],) = expected.values()

    def check(dut: Any, cycle: Cycle, beat: bytes, dram: bytes) -> None:
        if cycle.beat is not None:
            check_beat(dut, cycle, beat)
        else:
            assert int(dut.acc__beat.value) == 0
        wanted = cycle.fill_wanted
        assert int(dut.acc__fill.value) == (wanted is not None)
        job = cycle.fill_job
        if wanted is not None and job:
            assert int(dut.acc__fill_index.value) == wanted
            least = -128 if job.eight_bit else -(1 << 31)
            padding = np.full(width // 4, least if job.least else 0, "<i4").tobytes()
            value = int(dut.acc__fill_data.value).to_bytes(width, "little")
            assert value == (replica[0] if job.replicate else padding)

    jobs = [
        random_job(
            random,
            config,
            random.choice([MemType.ACC, MemType.ACC_8BIT]),
            most=random.choice([3, 40, 120]),
        )
        for _ in range(given["jobs"])
    ]
    await run_jobs(dut, random, jobs, LOAD_JOB, bus, check, grants=True)


CASES = [("tiny", 5), ("tiny", 6), ("tiny", 9), ("batch4", 6), ("rect", 8)]


@pytest.mark.parametrize(("name", "bus"), CASES)
def test_against_model(name: str, bus: int, request: pytest.FixtureRequest):
    settings = [f"LOG_BUS_WIDTH={bus}"]
    run_cocotb(
        AccLoader(VtaConfig.load(name).override(settings)), __name__, ["loads"],
        seed=int(request.config.getoption("--seed")),
        parameters={"config": name, "set": settings, "jobs": 50},
    )  # fmt: skip
