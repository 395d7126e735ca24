"""What boards' configs take of their parts."""

from __future__ import annotations

import re

import pytest

from tests.models import REPO
from vta_hw.spec.config import VtaConfig

pytest.importorskip("amaranth.hdl", reason="needs the extra 'rtl'")

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fpga.boards import zynq_estimate
from fpga.boards.parts import LUT_MEMORY
from fpga.boards.zynq import BOARDS
from vta_hw.rtl import resources
from vta_hw.rtl.alu_lane import low_product
from vta_hw.rtl.fabric import PLAIN, Fabric
from vta_hw.rtl.mac_array import MacArray
from vta_hw.rtl.resources import ULTRASCALE_PLUS, XILINX7, SynthesisError, Yosys
from vta_hw.rtl.verilog import to_verilog

TINY = VtaConfig.load("tiny")


class Products(wiring.Component):
    """An array, and the product of a lane of the ALU."""

    def __init__(self) -> None:
        self.array = MacArray(TINY)
        super().__init__(
            {**self.array.signature.members, "a": In(32), "b": In(32), "product": Out(32)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.array = array = self.array
        for name in ("inp", "wgt", "enable"):
            m.d.comb += getattr(array, name).eq(getattr(self, name))
        m.d.comb += self.sums.eq(array.sums)
        m.d.sync += self.product.eq(low_product(self.a, self.b))
        return m


@pytest.mark.slow
def test_a_wide_multiplier_makes_two_products():
    try:
        yosys = resources.find_yosys()
    except SynthesisError as error:
        pytest.skip(str(error))
    text = to_verilog(Products(), "products", Fabric(wide_multipliers=True))
    used = resources.used(resources.synthesise(text, XILINX7, yosys, "products"), XILINX7)
    # Sums of two factors before, and the constant behind, need no LUTs either: see DSP48E1.
    assert used["DSP"] == TINY.macs_per_cycle // 2 + 2


def _cells(figures: dict[str, int]):
    return lambda text, target, yosys, limit_seconds=None: figures


def test_shares_are_those_of_the_part(monkeypatch: pytest.MonkeyPatch):
    cells = {"LUT6": 42_000, "RAM64M": 140, "RAM32M": 1, "RAMB36E1": 112, "DSP48E1": 177, "FDRE": 9}
    monkeypatch.setattr(resources, "find_yosys", lambda: Yosys(("yosys",), "Yosys 9"))
    monkeypatch.setattr(resources, "synthesise", _cells(cells))
    board = BOARDS["pynq-z1"]
    found = zynq_estimate.estimate(board, TINY)
    assert found.used == {"LUT": 42_564, LUT_MEMORY: 564, "FF": 9, "BRAM": 112, "DSP": 177}
    assert found.shares["BRAM"] == 0.8 and found.shares["DSP"] > 0.8
    assert found.exceeded == ["LUT", "DSP"]
    line = zynq_estimate.table([found]).splitlines()[2]
    assert line.startswith("| `pynq-z1` | `tiny` | 42,564 (80%) | 9 (0%) | 112 (80%) | 177 (80%) |")
    assert line.endswith("| 564 (3%) | Yosys 9 |")


def test_the_least_of_a_config():
    pynq, board = VtaConfig.load("pynq"), BOARDS["pynq-z1"]
    # 256 products in pairs and 16 lanes' with two multipliers each.
    assert zynq_estimate.least(board, pynq)["DSP"] == 128 + 32
    assert zynq_estimate.least(BOARDS["zcu104"], pynq)["DSP"] == 256 + 48
    # A product of all 64 bits in each lane, and UOP twice.
    default = zynq_estimate.least(board, VtaConfig.load("default"))
    assert default["DSP"] == 128 + 64
    assert default["BRAM"] >= zynq_estimate.least(board, pynq)["BRAM"] + 7


def test_families_have_the_same_luts_and_their_own_blocks():
    common = {name for name in XILINX7.cells if name[:3] in ("LUT", "FDR", "FDS")}
    assert common <= ULTRASCALE_PLUS.cells.keys()
    assert resources.used({"RAMB18E2": 3, "DSP48E2": 2, "RAM64M8": 1}, ULTRASCALE_PLUS) == {
        "LUT": 8, "FF": 0, "BRAM": 1.5, "DSP": 2,
    }  # fmt: skip
    assert ULTRASCALE_PLUS.synthesis.format(top="t").split()[:3] == [
        "synth_xilinx", "-family", "xcup",
    ]  # fmt: skip
    assert BOARDS["zcu104"].fabric == PLAIN


def test_the_page_has_every_board_within_its_share():
    page = (REPO / "docs" / "zynq.md").read_text()
    for name, board in BOARDS.items():
        part_and_config = (board.part.name, f"`{board.config}`")
        (facts,) = [line for line in page.splitlines() if all(x in line for x in part_and_config)]
        assert f"`{name}`" in facts and f"`{board.control_address:#x}`" in facts
        assert f" {board.clock_mhz} MHz " in facts and f" {board.system.control_port} " in facts
    rows = [line for line in page.splitlines() if line.count("%)") > 4]
    # Both PYNQ boards have the same part and config.
    assert len(rows) == len({board.part.name for board in BOARDS.values()})
    for row in rows:
        shares = [int(share) for share in re.findall(r"\((\d+)%\)", row)]
        assert len(shares) == 5 and max(shares) <= 100 * zynq_estimate.SHARE_MOST
