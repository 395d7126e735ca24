"""The cycle simulator as a device: exact results, and when everything happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from runtime.devices.simulated import SimulatedDevice
from vta_hw.spec.config import PAGE_BYTES
from vta_hw.spec.isa import Instruction
from vta_hw.spec.result import RunResult

if TYPE_CHECKING:
    from vta_sim.native.functional import FunctionalProgram


class CycleDevice(SimulatedDevice):
    """`vta_sim.timing` and `vta_sim.native` as a device; its plain engine is `vta_sim.cycle`.

    A program is timed once. Its instructions take effect in the order in which the timing engine
    retires them. They lie on a page of their own: from a page on, their address is of no effect.
    """

    name = "cycle"
    has_clock = True

    def _prepare(self, encoded: np.ndarray, dram: np.ndarray) -> FunctionalProgram:
        from vta_sim.native.functional import FunctionalProgram
        from vta_sim.timing.cached import timing_of

        timing = timing_of(
            self.config, encoded, dram, insn_base=_behind(dram), timeline=self.timeline
        )
        return FunctionalProgram(
            self.config, encoded, dram, order=timing.executed, result=timing.result
        )

    def _run_plain(self, stream: bytes | Sequence[Instruction], dram: np.ndarray) -> RunResult:
        from vta_sim.cycle import simulate

        result = simulate(self.config, stream, dram, insn_base=_behind(dram))
        return result if self.timeline else replace(result, timeline=None)


def _behind(dram: np.ndarray) -> int:
    return -(-dram.size // PAGE_BYTES) * PAGE_BYTES
