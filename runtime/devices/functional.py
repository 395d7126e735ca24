"""The functional simulator as a device: exact results, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from runtime.devices.simulated import SimulatedDevice
from vta_hw.spec.isa import Instruction
from vta_hw.spec.result import RunResult

if TYPE_CHECKING:
    from vta_sim.native.functional import FunctionalProgram


class FunctionalDevice(SimulatedDevice):
    """`vta_sim.native.functional` as a device; its plain engine is `vta_sim.functional`."""

    name = "functional"
    can_report_uninitialised = True

    def _prepare(self, encoded: np.ndarray, dram: np.ndarray) -> FunctionalProgram:
        from vta_sim.native.functional import FunctionalProgram

        return FunctionalProgram(self.config, encoded, dram)

    def _run_plain(self, stream: bytes | Sequence[Instruction], dram: np.ndarray) -> RunResult:
        from vta_sim import functional

        return functional.run(
            self.config, stream, dram, report_uninitialised=self.report_uninitialised
        )
