"""The cycle simulator with the memory of a ULX3S: what that board takes, cycle by cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from runtime.device import DeviceError
from runtime.devices.allocating import in_pages
from runtime.devices.hosted import HostedDevice
from vta_hw.spec import isa
from vta_hw.spec.config import INSN_BYTES, VtaConfig
from vta_hw.spec.isa import Instruction
from vta_hw.spec.program import Program
from vta_hw.spec.result import RunResult
from vta_hw.spec.sdram import ULX3S_CLOCK_HZ, ULX3S_SDRAM, SdramTiming

_Key = tuple[int, frozenset[tuple[str, int]]]


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
        # A program is kept beside its place so that its id stays its own.
        self._places: dict[_Key, tuple[Program, int]] = {}
        self._streams_from = self.memory_bytes

    def run(self, program: Program, addresses: Mapping[str, int]) -> RunResult:
        """Run a program; its stream has the same place each time."""
        instructions = self.bound(program, addresses)
        key = (id(program), frozenset(addresses.items()))
        if key not in self._places:
            self._places[key] = program, self._place(len(instructions) * INSN_BYTES)
        return self._run(instructions, self.dram, self._places[key][1])

    def run_stream(self, stream: bytes, image: np.ndarray) -> RunResult:
        """Run raw instructions on `image` alone."""
        instructions = isa.decode_all(stream, self.config)
        return self._run(instructions, image, self.memory_bytes - in_pages(len(stream)))

    def _extend(self, end: int) -> None:
        if end > self._streams_from:
            self._drop_streams()
        super()._extend(end)

    def _drop_streams(self) -> None:
        self._places.clear()
        self._streams_from = self.memory_bytes

    def _place(self, size_bytes: int) -> int:
        size = in_pages(size_bytes)
        if self._streams_from - size < self._used_bytes:
            self._drop_streams()
        at = self._streams_from - size
        if at < self._used_bytes:
            raise DeviceError(
                f"device {self.name!r} has no room for {size_bytes} bytes of instructions beside "
                f"the {self._used_bytes} in use of {self.memory_bytes}; use a smaller network"
            )
        self._streams_from = at
        return at

    def _run(self, instructions: Sequence[Instruction], dram: np.ndarray, at: int) -> RunResult:
        from vta_sim.cycle import simulate

        result = simulate(self.config, instructions, dram, insn_base=at, sdram=self._timing)
        return result if self.timeline else replace(result, timeline=None)
