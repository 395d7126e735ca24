"""The cycle simulator with the memory of a ULX3S: what that board takes, cycle by cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from runtime.devices.allocating import in_pages
from runtime.devices.hosted import HostedDevice
from runtime.devices.stream_places import StreamPlaces
from vta_hw.spec import isa
from vta_hw.spec.config import INSN_BYTES, VtaConfig
from vta_hw.spec.isa import Instruction
from vta_hw.spec.program import Program
from vta_hw.spec.result import RunResult
from vta_hw.spec.sdram import ULX3S_CLOCK_HZ, ULX3S_SDRAM, SdramTiming


class CycleUlx3sDevice(HostedDevice):
    """`vta_sim.cycle` before the SDRAM of ``docs/sdram.md``.

    The time of an access depends on its address, so that memory is laid out as the driver of a
    board does it: what is allocated from address 0 up, streams from the end of memory down.
    """

    name = "cycle-ulx3s"
    has_clock = True
    memory_bytes = ULX3S_SDRAM.size_bytes

    def __init__(
        self, config: VtaConfig, *, report_uninitialised: bool = False, timeline: bool = False
    ) -> None:
        """A device without any allocated DRAM."""
        super().__init__(config, report_uninitialised=report_uninitialised, timeline=timeline)
        self._timing = SdramTiming.of(ULX3S_SDRAM, ULX3S_CLOCK_HZ)
        self._places = StreamPlaces[int](self.name, self.memory_bytes)

    def run(self, program: Program, addresses: Mapping[str, int]) -> RunResult:
        """Run a program; its stream has the same place each time."""
        instructions = self.bound(program, addresses)
        at = self._places.find(program, addresses)
        if at is None:
            at = self._places.take(len(instructions) * INSN_BYTES, self._used_bytes)
            self._places.keep(program, addresses, at)
        return self._run(instructions, self.dram, at)

    def run_stream(self, stream: bytes, image: np.ndarray) -> RunResult:
        """Run raw instructions on `image` alone, which lies at address 0.

        On a board it lies behind what is allocated: cycles are the same where nothing is.
        """
        instructions = isa.decode_all(stream, self.config)
        at = self._places.take(len(stream), in_pages(image.size))
        result = self._run(instructions, image, at)
        self._places.give_back(at, len(stream))
        return result

    def _extend(self, end: int) -> None:
        self._places.make_room(end)
        super()._extend(end)

    def _run(self, instructions: Sequence[Instruction], dram: np.ndarray, at: int) -> RunResult:
        from vta_sim.cycle import simulate

        result = simulate(self.config, instructions, dram, insn_base=at, sdram=self._timing)
        return result if self.timeline else replace(result, timeline=None)
