"""FPGA parts of the Zynq families: what they have, and how Yosys synthesises for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vta_hw.rtl.resources import ULTRASCALE_PLUS, XILINX7, Target

LUT_MEMORY = "LUT as memory"
"""Of the LUTs, those that can be RAM or shift registers."""


@dataclass(frozen=True)
class Part:
    """A part by the name that Vivado knows.

    `family` is Vivado's too. `available` has how many there are of `vta_hw.rtl.resources.RESOURCES`
    (LUTs of 6 inputs, block RAM of 36 Kbit) and of `LUT_MEMORY`.
    """

    name: str
    family: str
    target: Target
    available: Mapping[str, int]


# Counts are those that Vivado's utilisation reports name as available; also in AMD's DS190
# (Zynq-7000 overview) and DS891 (Zynq UltraScale+ overview).
XC7Z020 = Part(
    "xc7z020clg400-1",
    "zynq",
    XILINX7,
    {"LUT": 53_200, LUT_MEMORY: 17_400, "FF": 106_400, "BRAM": 140, "DSP": 220},
)
XCZU3EG = Part(
    "xczu3eg-sbva484-1-i",
    "zynquplus",
    ULTRASCALE_PLUS,
    {"LUT": 70_560, LUT_MEMORY: 28_800, "FF": 141_120, "BRAM": 216, "DSP": 360},
)
XCZU7EV = Part(
    "xczu7ev-ffvc1156-2-e",
    "zynquplus",
    ULTRASCALE_PLUS,
    # It also has 96 UltraRAM, which nothing here uses.
    {"LUT": 230_400, LUT_MEMORY: 101_760, "FF": 460_800, "BRAM": 312, "DSP": 1_728},
)
