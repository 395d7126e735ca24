"""Whole programs on the core: memory and verdict as the functional simulator has them.

Cycles are compared elsewhere, with the cycle simulator; here the memory also stalls and fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.gen_programs import ILLEGAL, Generated, illegal_program, legal_program
from tests.rtl.bench import parameters, rng, run_cocotb
from tests.rtl.core_driver import Driver, Outcome, stream_base
from tests.rtl.core_memory import DECERR, SLVERR
from vta_hw.spec import asm, isa
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.machine import QUIET
from vta_hw.spec.registers import CONTROL_LAUNCH, COUNTERS, Register, Verdict
from vta_sim import functional

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from cocotb.clock import Clock  # noqa: E402
from cocotb.triggers import FallingEdge, RisingEdge  # noqa: E402

from vta_hw.rtl.core import Core  # noqa: E402


class CocotbPorts:
    """The core's ports as cocotb has them."""

    def __init__(self, dut: Any) -> None:
        self._dut = dut
        self._handles: dict[str, Any] = {}
        self._driven: dict[str, int] = {}

    def _handle(self, name: str) -> Any:
        if name not in self._handles:
            self._handles[name] = getattr(self._dut, name)
        return self._handles[name]

    def get(self, name: str) -> int:
        if name in self._driven:
            return self._driven[name]
        return int(self._handle(name).value)

    def set(self, name: str, value: int) -> None:
        if self._driven.get(name) != value:
            self._driven[name] = value
            self._handle(name).value = value

    async def settle(self) -> None:
        await FallingEdge(self._dut.clk)

    async def tick(self) -> None:
        await RisingEdge(self._dut.clk)


async def _driver(dut: Any, config: VtaConfig) -> Driver:
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    await RisingEdge(dut.clk)
    driver = Driver(CocotbPorts(dut), config)
    await driver.reset()
    return driver


def _compare(outcome: Outcome, made: Generated, config: VtaConfig) -> None:
    """With what the functional simulator makes of the same program."""
    dram = np.frombuffer(made.dram, np.uint8).copy()
    expected = functional.run(config, made.stream, dram)
    where = f"seed {made.seed}"
    fault = expected.fault
    kind = fault.kind if fault else "ok"
    assert outcome.verdict.name.lower() == kind, where
    assert outcome.index == (fault.index if fault else None), where
    different = np.flatnonzero(dram != outcome.dram)
    assert not different.size, f"{where}: byte {different[0]:#x} and {different.size - 1} others"
    for name, value in expected.counters.items():
        assert outcome.counters[name] == value, f"{where}: {name}"
    count = len(made.stream) // 16
    if outcome.verdict is Verdict.OK:
        assert all(sorted(seen) == list(range(count)) for seen in outcome.moments.values()), where


def _program(config: VtaConfig, seed: int) -> Generated:
    """For just this config: the generator shortens the queue at times."""
    kind = ILLEGAL[seed // 3 % len(ILLEGAL)]
    while True:
        made = illegal_program(config, seed, kind) if seed % 3 == 2 else legal_program(config, seed)
        if made.config == config:
            return made
        seed += 1 << 20


@cocotb.test()
async def random_programs(dut):
    """One after the other on a core that is not reset in between; every third one is illegal."""
    random, config = rng(), VtaConfig.load(parameters()["config"])
    driver = await _driver(dut, config)
    for seed in range(parameters()["first"], parameters()["first"] + parameters()["count"]):
        made = _program(config, seed)
        stalls = Random(seed) if parameters()["stalls"] else None
        latency = random.choice((1, 16, 32, 200))
        outcome = await driver.run(made.stream, made.dram, latency=latency, stalls=stalls)
        _compare(outcome, made, config)


@cocotb.test()
async def relaunches(dut):
    """A run does not depend on the one before, nor on a reset in its midst; launches are lost."""
    config = VtaConfig.load(parameters()["config"])
    driver = await _driver(dut, config)
    made, other = _program(config, 3), _program(config, 4)
    first = await driver.run(made.stream, made.dram)
    _compare(first, made, config)
    for cycles in (1, 40, 100, 333, 1000):
        await driver.launch(other.stream, other.dram)
        for _ in range(cycles):
            await driver.step()
            await RisingEdge(dut.clk)
        await driver.reset()
        await driver.launch(made.stream, made.dram)
        for register in (Register.CONTROL, Register.INSN_BASE, Register.DRAM_LIMIT):
            await driver.write(register, 1)
        again = await driver.finish()
        assert (again.cycles, again.moments) == (first.cycles, first.moments)
        assert again.counters == first.counters
        assert np.array_equal(again.dram, first.dram)


SMALL = """
    load inp y=1 x=8 stride=8 dram=128
    load wgt y=1 x=4 stride=4 dram=64 push_next
    load acc y=1 x=2 stride=2 dram=128 pop_prev push_next
    store out y=1 x=2 stride=2 dram=1024 pop_prev push_prev
    finish pop_next
"""
BROKEN = {0: range(512, 544), 1: range(1024, 1088), 2: range(2048, 2080), 3: range(4096, 4104)}
"""What those instructions of SMALL read or write, on `tiny`."""


@cocotb.test()
async def bus_errors(dut):
    """The instruction that meets one is named; after a relaunch all is well."""
    config = VtaConfig.load(parameters()["config"])
    driver = await _driver(dut, config)
    stream, dram = isa.encode_all(asm.assemble(SMALL, config), config), bytes(8192)
    base = stream_base(dram)
    for error, stalls in product((SLVERR, DECERR), (None, Random(1))):
        options = {"error": error, "stalls": stalls}
        for index, broken in BROKEN.items():
            outcome = await driver.run(stream, dram, broken=broken, **options)
            assert (outcome.verdict, outcome.index) == (Verdict.BUS, index)
            outcome = await driver.run(stream, dram)
            assert (outcome.verdict, outcome.index) == (Verdict.OK, None)
        for index in range(5):
            broken = range(base + 16 * index, base + 16 * index + 8)
            outcome = await driver.run(stream, dram, broken=broken, **options)
            assert outcome.verdict is Verdict.BUS
            # Named is what would have been dispatched next when the beat arrived.
            assert outcome.index is not None and outcome.index <= index


@cocotb.test()
async def dead_memory(dut):
    """A memory that stops to answer holds up the run, not the control port; a reset ends it."""
    config = VtaConfig.load(parameters()["config"])
    driver = await _driver(dut, config)
    stream, dram = isa.encode_all(asm.assemble(SMALL, config), config), bytes(8192)
    first = await driver.run(stream, dram)
    for channel, transfers in first.transfers.items():
        for passed in {0, transfers - 1}:
            await driver.launch(stream, dram, dead=(channel, passed))
            cycles = []
            for still in (2 * first.cycles, len(COUNTERS)):
                for _ in range(still):
                    await driver.step()
                    await RisingEdge(dut.clk)
                assert await driver.read(Register.CONTROL) == 1 << CONTROL_LAUNCH
                assert await driver.read(Register.VERDICT) == Verdict.OK, "that of the run before"
                cycles.append(await driver.read(Register.CYCLES))
            # In a run counters lag, by a cycle for each that there is.
            assert 2 * first.cycles - len(COUNTERS) < cycles[0] < cycles[1]
            assert not int(dut.irq.value)
            await driver.reset()
            again = await driver.run(stream, dram)
            assert (again.verdict, again.cycles) == (Verdict.OK, first.cycles)
            assert again.moments == first.moments
            assert np.array_equal(again.dram, first.dram)


@cocotb.test()
async def bad_launches(dut):
    """Nothing is fetched, and the run ends when its first cycle has come to rest."""
    config = VtaConfig.load(parameters()["config"])
    driver = await _driver(dut, config)
    stream, dram = isa.encode_all(asm.assemble(SMALL, config), config), bytes(8192)
    for misplace in (1, 4, 8, 15):
        outcome = await driver.run(stream, dram, misplace=misplace)
        assert (outcome.verdict, outcome.index) == (Verdict.BAD_LAUNCH, None)
        assert outcome.cycles == QUIET + 1 and not outcome.counters["read_bursts"]
    outcome = await driver.run(b"", dram)
    assert (outcome.verdict, outcome.index) == (Verdict.NO_FINISH, None)
    assert outcome.cycles == QUIET + 1 and not outcome.counters["read_bursts"]
    outcome = await driver.run(stream, dram)
    assert outcome.verdict is Verdict.OK


def _run(name: str, tests: Sequence[str], request: pytest.FixtureRequest, **settings: Any) -> None:
    seed = request.config.getoption("--seed")
    settings = {"config": name, "first": 1000 * seed, **settings}
    run_cocotb(Core(VtaConfig.load(name)), __name__, tests, seed=seed, parameters=settings)


@pytest.mark.slow
@pytest.mark.parametrize("stalls", [False, True])
def test_random_programs(stalls: bool, request: pytest.FixtureRequest):
    _run("tiny", ["random_programs"], request, count=3, stalls=stalls)


@pytest.mark.slow
def test_launches(request: pytest.FixtureRequest):
    _run("tiny", ["relaunches", "bus_errors", "dead_memory", "bad_launches"], request)
