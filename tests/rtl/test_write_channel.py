"""The write channel: bursts, beats and responses; what comes after a reset is not its own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rtl.bench import parameters, rng, run_cocotb
from tests.rtl.load_bench import begin
from vta_hw.spec.config import VtaConfig

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from cocotb.triggers import FallingEdge, ReadOnly  # noqa: E402

from vta_hw.rtl.write_channel import WriteChannel  # noqa: E402

INPUTS = (
    "burst__valid", "burst__payload", "reserve", "beat", "beat_payload",
    *(f"axi__{name}" for name in ("awready", "wready", "bvalid", "bid", "bresp")),
)  # fmt: skip


@cocotb.test()
async def drops_late_responses(dut: Any) -> None:
    """Bursts are opened, the channel is reset, their responses come, and others in between."""
    random, most = rng(), parameters()["max_reads"]
    await begin(dut, INPUTS)
    dut.axi__awready.value = dut.axi__wready.value = 1
    dropped = 0
    for _ in range(parameters()["turns"]):
        late, is_open = random.randint(1, most), 0
        response = (False, False)
        dut.burst__valid.value = 1
        for _ in range(late):
            await FallingEdge(dut.clk)
        dut.burst__valid.value = 0
        assert int(dut.open.value)
        dut.rst.value = 1
        await FallingEdge(dut.clk)
        dut.rst.value = 0
        for _ in range(40):
            answer = random.random() < 0.5 and bool(is_open or late)
            error = random.random() < 0.5
            wants = not late and random.random() < 0.5
            dut.axi__bvalid.value, dut.axi__bresp.value = int(answer), 2 * error
            dut.burst__valid.value = int(wants)
            await ReadOnly()
            assert int(dut.open.value) == (is_open > 0)
            assert (int(dut.response.value), int(dut.error.value)) == response
            assert int(dut.burst__ready.value) == (is_open < most)
            response = (False, False)
            if answer and is_open:
                is_open, response = is_open - 1, (True, error)
            elif answer:
                late, dropped = late - 1, dropped + 1
            is_open += wants and int(dut.burst__ready.value)
            await FallingEdge(dut.clk)
        dut.axi__bvalid.value = dut.burst__valid.value = 0
        dut.rst.value = 1
        await FallingEdge(dut.clk)
        dut.rst.value = 0
    assert dropped >= parameters()["turns"]


@pytest.mark.parametrize(("bus", "max_reads"), [(5, 4), (6, 1)])
def test_late_responses(bus: int, max_reads: int, request: pytest.FixtureRequest) -> None:
    settings = [f"LOG_BUS_WIDTH={bus}", f"MAX_READS={max_reads}"]
    run_cocotb(
        WriteChannel(VtaConfig.load("tiny").override(settings)),
        __name__, ["drops_late_responses"],
        seed=int(request.config.getoption("--seed")),
        parameters={"max_reads": max_reads, "turns": 40},
    )  # fmt: skip
