"""The array of multipliers as it goes into an ECP5, with its factors' registers in their cells."""

from __future__ import annotations

import pytest

from tests.rtl.bench import parameters, rng, run_cocotb
from tests.rtl.gates import gates
from vta_hw.spec.config import VtaConfig

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from cocotb.clock import Clock  # noqa: E402
from cocotb.triggers import FallingEdge  # noqa: E402

from vta_hw.rtl.mac_array import DELAY, MacArray  # noqa: E402

TINY = VtaConfig.load("tiny")
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF)


def _signed(byte: int) -> int:
    return byte - 0x100 if byte & 0x80 else byte


@cocotb.test()
async def multiplies(dut):
    random, length = rng(), parameters()["block_in"]
    channels = parameters()["block_out"]
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    dut.rst.value, dut.enable.value = 1, 0
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.rst.value = 0

    def draw(count: int) -> list[int]:
        extreme = random.random() < 0.3
        return [random.choice(EXTREMES) if extreme else random.getrandbits(8) for _ in range(count)]

    coming: list[list[int] | None] = [None] * DELAY
    sums: list[int] | None = None
    for _ in range(parameters()["cycles"]):
        inp, wgt = draw(length), draw(length * channels)
        enable = random.random() < 0.7
        dut.inp.value = int.from_bytes(bytes(inp), "little")
        dut.wgt.value = int.from_bytes(bytes(wgt), "little")
        dut.enable.value = int(enable)
        products = [
            sum(
                _signed(a) * _signed(b)
                for a, b in zip(inp, wgt[length * c : length * (c + 1)], strict=True)
            )
            for c in range(channels)
        ]
        coming = [*coming[1:], products if enable else None]
        await FallingEdge(dut.clk)
        sums = coming[0] or sums
        if sums is not None:
            found = int(dut.sums.value)
            assert [found >> 32 * c & 0xFFFFFFFF for c in range(channels)] == [
                product & 0xFFFFFFFF for product in sums
            ]


def test_the_array_as_synthesised(request: pytest.FixtureRequest):
    run_cocotb(
        MacArray(TINY),
        __name__,
        ["multiplies"],
        seed=request.config.getoption("--seed"),
        parameters={"block_in": TINY.block_in, "block_out": TINY.block_out, "cycles": 2000},
        transform=lambda text: gates(text, least_multipliers=TINY.macs_per_cycle),
    )
