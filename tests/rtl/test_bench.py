"""The way cocotb is run here: passes, fails, and says so when a coroutine did not run."""

from __future__ import annotations

import pytest

from tests.rtl.bench import parameters, rng, run_cocotb

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
hdl = pytest.importorskip("amaranth.hdl", reason="needs the extra 'rtl'")

from amaranth.lib import wiring  # noqa: E402
from amaranth.lib.wiring import In, Out  # noqa: E402
from cocotb.clock import Clock  # noqa: E402
from cocotb.triggers import FallingEdge, RisingEdge  # noqa: E402


class Accumulator(wiring.Component):
    """Adds its input in every cycle."""

    def __init__(self):
        super().__init__({"value": In(8), "total": Out(8)})

    def elaborate(self, platform):
        m = hdl.Module()
        m.d.sync += self.total.eq(self.total + self.value)
        return m


@cocotb.test()
async def adds(dut):
    assert parameters() == {"steps": 20}
    random = rng()
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    dut.rst.value = 1
    await RisingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    total = 0
    for _ in range(parameters()["steps"]):
        number = random.randrange(256)
        dut.value.value = number
        total = (total + number) % 256
        await FallingEdge(dut.clk)
        assert dut.total.value == total


@cocotb.test()
async def is_wrong(dut):
    raise AssertionError("on purpose")


def test_passes():
    run_cocotb(Accumulator(), __name__, ["adds"], seed=3, parameters={"steps": 20})


def test_failure_is_reported():
    with pytest.raises(AssertionError, match="on purpose"):
        run_cocotb(Accumulator(), __name__, ["is_wrong"])


def test_missing_coroutine_is_reported():
    with pytest.raises(AssertionError, match="ran|results"):
        run_cocotb(Accumulator(), __name__, ["adds_more"])
