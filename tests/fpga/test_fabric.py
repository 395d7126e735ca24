"""The ways in which a core can use an FPGA: none of them changes what it does, or when."""

from __future__ import annotations

import random

import numpy as np
import pytest

from vta_hw.spec.config import VtaConfig

hdl = pytest.importorskip("amaranth.hdl", reason="needs the extra 'rtl'")

from amaranth.sim import Simulator  # noqa: E402

from vta_hw.rtl.alu_lane import low_product  # noqa: E402
from vta_hw.rtl.fabric import PLAIN, Fabric, fabric_of  # noqa: E402
from vta_hw.rtl.mac_array import MacArray  # noqa: E402
from vta_hw.rtl.verilog import SHELL, verilog  # noqa: E402

WIDE = Fabric(wide_multipliers=True)
SMALL = (
    "LOG_UOP_BUFF_SIZE=8", "LOG_INP_BUFF_SIZE=10", "LOG_WGT_BUFF_SIZE=11", "LOG_ACC_BUFF_SIZE=11",
)  # fmt: skip
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF)


def test_two_products_come_out_of_one_whatever_their_factors_are():
    """All of int8 x int8 x int8, as `_PairedProducts` computes it, and the widths it needs."""
    values = np.arange(-128, 128, dtype=np.int64)
    low, high = values[:, None], values[None, :]
    both = low + (high << 16)
    assert both.min() >= -(1 << 24) and both.max() < 1 << 24, "it has 25 bits, signed"
    for factor in values:
        product = factor * both + (1 << 15)
        assert product.min() >= -(1 << 32) and product.max() < 1 << 32, "it has 33 bits, signed"
        assert np.array_equal(product >> 16, np.broadcast_to(factor * high, product.shape))
        field = product & 0xFFFF
        signed = ((field ^ 0x8000) ^ 0x8000) - 0x8000
        assert np.array_equal(signed, np.broadcast_to(factor * low, product.shape))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("tiny", []),
        ("rect", [*SMALL, "LOG_BATCH=1", "LOG_BLOCK_IN=0", "LOG_BLOCK_OUT=2"]),
        ("rect", [*SMALL, "LOG_BLOCK_IN=2", "LOG_BLOCK_OUT=0"]),
    ],
)
def test_arrays_with_and_without_give_the_same_in_every_cycle(name, settings, request):
    config = VtaConfig.load(name).override(settings)
    arrays = MacArray(config), MacArray(config)
    m = hdl.Module()
    for array, fabric in zip(arrays, (PLAIN, WIDE), strict=True):
        m.submodules += hdl.Fragment.get(array, fabric)
    seed = int(request.config.getoption("--seed"))
    print(f"seed {seed}")
    source = random.Random(seed)

    def number(width: int) -> int:
        chosen = [source.choice([*EXTREMES, source.randrange(256)]) for _ in range(width // 8)]
        return int.from_bytes(bytes(chosen), "little")

    async def compare(ctx):
        for _ in range(400):
            given = {"inp": number(len(arrays[0].inp)), "wgt": number(len(arrays[0].wgt))}
            given["enable"] = source.random() < 0.7
            for array in arrays:
                for port, value in given.items():
                    ctx.set(getattr(array, port), value)
            await ctx.tick()
            assert ctx.get(arrays[0].sums) == ctx.get(arrays[1].sums)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(compare)
    simulator.run()


def test_the_low_half_of_a_product(request):
    factors = hdl.Signal(hdl.signed(32)), hdl.Signal(hdl.signed(32))
    result = hdl.Signal(32)
    m = hdl.Module()
    m.d.comb += result.eq(low_product(*factors))
    source = random.Random(int(request.config.getoption("--seed")))
    edges = [0, 1, -1, 2**31 - 1, -(2**31), 2**24, 2**24 - 1, 2**17, 2**17 - 1, -(2**17)]
    pairs = [(a, b) for a in edges for b in edges]
    pairs += [(source.randint(-(2**31), 2**31 - 1), source.randint(-(2**31), 2**31 - 1))] * 200

    async def compare(ctx):
        for pair in pairs:
            for factor, value in zip(factors, pair, strict=True):
                ctx.set(factor, value)
            assert ctx.get(result) == pair[0] * pair[1] % 2**32, pair

    simulator = Simulator(m)
    simulator.add_testbench(compare)
    simulator.run()


def test_programs_know_nothing_of_it():
    config = VtaConfig.load("pynq")
    assert "fabric" not in str(config.to_dict()).lower()
    assert fabric_of(None) is PLAIN and fabric_of("no platform") is PLAIN
    assert fabric_of(WIDE) is WIDE
    assert len({f.key for f in (PLAIN, WIDE, Fabric(nine_bit_lanes=True))}) == 3


def test_a_shell_without_one_has_nothing_of_it():
    text = verilog(VtaConfig.load("tiny"), SHELL)
    assert text == verilog(VtaConfig.load("tiny"), SHELL, PLAIN)
    assert "use_dsp" not in text and "ram_style" not in text
