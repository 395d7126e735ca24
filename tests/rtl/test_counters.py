"""The counters of a run: sums of what they are told, while the run lasts."""

from __future__ import annotations

import pytest

from tests.rtl.bench import parameters, rng, run_cocotb
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.registers import COUNTERS

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from cocotb.clock import Clock  # noqa: E402
from cocotb.triggers import FallingEdge  # noqa: E402

from vta_hw.rtl.counters import Counters, amount_bits, amounts_layout  # noqa: E402


@cocotb.test()
async def adds_while_running(dut):
    random, config = rng(), VtaConfig.load(parameters()["config"])
    layout = amounts_layout(config)
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    for _ in range(3):
        dut.rst.value, dut.running.value, dut.amounts.value, dut.select.value = 1, 0, 0, 0
        await FallingEdge(dut.clk)
        dut.rst.value = 0
        expected = dict.fromkeys(COUNTERS, 0)
        for number in range(len(COUNTERS)):
            dut.select.value = number
            await FallingEdge(dut.clk)
            assert int(dut.value.value) == 0, number
        for _ in range(parameters()["steps"]):
            running = random.random() < 0.8
            amounts = {
                name: random.choice((0, 1, random.getrandbits(amount_bits(config, name))))
                for name in layout.members
            }
            dut.running.value = int(running)
            assert not running or not int(dut.settled.value) or not expected["cycles"]
            dut.amounts.value = layout.const(amounts).as_bits()
            if running:
                expected["cycles"] += 1
                for name, amount in amounts.items():
                    expected[name] += amount
            looked_at = random.choice(COUNTERS)
            dut.select.value = COUNTERS.index(looked_at)
            await FallingEdge(dut.clk)
            assert int(dut.value.value) <= expected[looked_at], "of the run before"
        dut.running.value = 0
        waited = 0
        while not int(dut.settled.value):
            await FallingEdge(dut.clk)
            waited += 1
        assert waited <= 2 * len(COUNTERS)
        writes = sum(expected[name] for name in ("gemm_ops", "gemm_reset_ops", "alu_ops"))
        for number, value in enumerate([*expected.values(), writes]):
            dut.select.value = number
            await FallingEdge(dut.clk)
            assert int(dut.value.value) == value % 2**64, number


@pytest.mark.parametrize("name", ["tiny", "batch4"])
def test_counters(name: str, request: pytest.FixtureRequest):
    run_cocotb(
        Counters(VtaConfig.load(name)),
        __name__,
        ["adds_while_running"],
        seed=request.config.getoption("--seed"),
        parameters={"config": name, "steps": 200},
    )
