"""The functional simulator as a device: exact results, no clock."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from runtime.devices.hosted import HostedDevice
from vta_hw.spec.program import Program
from vta_hw.spec.result import RunResult
from vta_sim import functional


class FunctionalDevice(HostedDevice):
    """`vta_sim.functional` as a device."""

    name = "functional"
    can_report_uninitialised = True

    def run(self, program: Program, addresses: Mapping[str, int]) -> RunResult:
        """Run a program; it is bound once per set of addresses."""
        return functional.run(
            self.config,
            self.bound(program, addresses),
            self.dram,
            report_uninitialised=self.report_uninitialised,
        )

    def run_stream(self, stream: bytes, image: np.ndarray) -> RunResult:
        """Run raw instructions on `image` alone."""
        return functional.run(
            self.config, stream, image, report_uninitialised=self.report_uninitialised
        )
