"""FPGAs of the family ECP5: what there is of each resource, and what the tools call them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Ecp5Part:
    """One FPGA in its package.

    `resources` counts in the units of `vta_hw.rtl.resources.ECP5`: LUT of 4 inputs, FF, BRAM of
    18 Kbit, DSP of 18 x 18 bits. `device`, `package` and `speed` are the words of nextpnr-ecp5.
    """

    name: str
    device: str
    package: str
    speed: int
    resources: Mapping[str, int]


LFE5U_85F = Ecp5Part(
    name="LFE5U-85F-6BG381C",
    device="85k",
    package="CABGA381",
    speed=6,
    resources={"LUT": 83_640, "FF": 83_640, "BRAM": 208, "DSP": 156},
)
