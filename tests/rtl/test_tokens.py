"""The token counters against plain integers."""

from __future__ import annotations

import pytest

from tests.rtl.bench import rng, run_cocotb

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth.hdl", reason="needs the extra 'rtl'")

from cocotb.clock import Clock  # noqa: E402
from cocotb.triggers import FallingEdge, RisingEdge  # noqa: E402

from vta_hw.rtl.tokens import TokenCounters  # noqa: E402
from vta_hw.spec.isa import TOKEN_MAX, TokenQueue  # noqa: E402

MASK = (1 << len(TokenQueue)) - 1


def _mask(bits):
    return sum(int(bit) << place for place, bit in enumerate(bits))


async def _start(dut):
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    dut.push.value = dut.pop.value = 0
    dut.rst.value = 1
    await RisingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.rst.value = 0


async def _step(dut, counts, push, pop):
    """Check what the counters show, apply one cycle's pushes and pops, and follow them."""
    assert dut.available.value == _mask(count > 0 for count in counts)
    assert dut.full.value == _mask(count == TOKEN_MAX for count in counts)
    dut.push.value, dut.pop.value = push, pop
    await FallingEdge(dut.clk)
    for queue in TokenQueue:
        counts[queue] += (push >> queue & 1) - (pop >> queue & 1)


@cocotb.test()
async def random_traffic(dut):
    random = rng()
    await _start(dut)
    counts = [0] * len(TokenQueue)
    for step in range(6000):
        # A slow tide, so that every counter is for a while full and for a while empty.
        rising = [(step // 700 + queue) % 2 == 0 for queue in TokenQueue]
        push = _mask(
            counts[queue] < TOKEN_MAX and random.random() < (0.9 if rising[queue] else 0.3)
            for queue in TokenQueue
        )
        pop = _mask(
            counts[queue] > 0 and random.random() < (0.3 if rising[queue] else 0.9)
            for queue in TokenQueue
        )
        await _step(dut, counts, push, pop)


@cocotb.test()
async def both_at_once_change_nothing(dut):
    await _start(dut)
    counts = [0] * len(TokenQueue)
    await _step(dut, counts, MASK, 0)
    for _ in range(5):
        await _step(dut, counts, MASK, MASK)
    assert counts == [1] * len(TokenQueue)
    await _step(dut, counts, 0, MASK)
    assert dut.available.value == 0


@cocotb.test()
async def reset_clears(dut):
    await _start(dut)
    counts = [0] * len(TokenQueue)
    for _ in range(3):
        await _step(dut, counts, MASK, 0)
    await _start(dut)
    assert dut.available.value == 0


def test_token_counters(request):
    names = ["random_traffic", "both_at_once_change_nothing", "reset_clears"]
    run_cocotb(TokenCounters(), __name__, names, seed=request.config.getoption("--seed"))
