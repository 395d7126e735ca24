"""The cycle simulator as a device: exact results, and when everything happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from runtime.devices.hosted import HostedDevice
from vta_hw.spec.config import PAGE_BYTES
from vta_hw.spec.isa import Instruction
from vta_hw.spec.program import Program
from vta_hw.spec.result import RunResult
from vta_sim.cycle import simulate


class CycleDevice(HostedDevice):
    """`vta_sim.cycle` as a device.

    Instructions lie on a page of their own: from a page on, their address is of no effect.
    """

    name = "cycle"
    has_clock = True

    def run(self, program: Program, addresses: Mapping[str, int]) -> RunResult:
        """Run a program; it is bound once per set of addresses."""
        return self._simulate(self.bound(program, addresses), self.dram)

    def run_stream(self, stream: bytes, image: np.ndarray) -> RunResult:
        """Run raw instructions on `image` alone."""
        return self._simulate(stream, image)

    def _simulate(self, stream: bytes | Sequence[Instruction], dram: np.ndarray) -> RunResult:
        behind = -(-dram.size // PAGE_BYTES) * PAGE_BYTES
        result = simulate(self.config, stream, dram, insn_base=behind)
        return result if self.timeline else replace(result, timeline=None)
