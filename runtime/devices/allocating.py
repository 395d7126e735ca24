"""What devices share whose DRAM is given out from address 0 on, a page at a time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from runtime.device import Device, DeviceError
from vta_hw.spec.config import PAGE_BYTES, VtaConfig
from vta_hw.spec.program import Program


class AllocatingDevice(Device):
    """A device that never takes DRAM back; `memory_bytes` is all that it can have."""

    memory_bytes: int

    def __init__(
        self, config: VtaConfig, *, report_uninitialised: bool = False, timeline: bool = False
    ) -> None:
        """A device without any allocated DRAM."""
        super().__init__(config, report_uninitialised=report_uninitialised, timeline=timeline)
        self._used_bytes = 0

    def alloc(self, size_bytes: int) -> int:
        """Page-aligned DRAM; earlier addresses stay good."""
        address = self._used_bytes
        end = address + in_pages(size_bytes)
        if size_bytes < 0 or end > self.memory_bytes:
            raise DeviceError(
                f"device {self.name!r} has no room for {size_bytes} bytes beside the {address} in "
                f"use of {self.memory_bytes}; use a smaller network or fewer executors on one "
                f"device"
            )
        self._extend(end)
        self._used_bytes = end
        return address

    def check_room(self, sizes: Iterable[int], stream_bytes: int = 0) -> None:
        """Refuse allocations, and a stream behind them, that there is no room for."""
        wanted = sum(map(in_pages, sizes)) + in_pages(stream_bytes)
        if self._used_bytes + wanted > self.memory_bytes:
            beside = f" beside the {self._used_bytes} in use" if self._used_bytes else ""
            raise DeviceError(
                f"the network needs {wanted} bytes of memory{beside} and device {self.name!r} has "
                f"{self.memory_bytes}; use a smaller network or a device with more memory"
            )

    def _extend(self, end: int) -> None:
        """Make DRAM below `end` usable; it has been found to be within `memory_bytes`."""

    def _check(self, address: int, size_bytes: int) -> None:
        if not 0 <= address <= address + size_bytes <= self._used_bytes:
            raise DeviceError(
                f"bytes {address}..{address + size_bytes} lie outside the {self._used_bytes} bytes "
                f"allocated on device {self.name!r}; allocate them first"
            )

    def _check_config(self, program: Program) -> None:
        if program.config.program_hash != self.config.program_hash:
            raise DeviceError(
                f"a program for config {program.config.name!r} does not run on a device with "
                f"config {self.config.name!r}; compile it for that config"
            )


def in_pages(size_bytes: int) -> int:
    """`size_bytes` rounded up to whole pages."""
    return -(-size_bytes // PAGE_BYTES) * PAGE_BYTES


def as_bytes(data: bytes | np.ndarray) -> np.ndarray:
    """Bytes, or an array's bytes in C order, as uint8 with one axis; a view where that can be."""
    if isinstance(data, np.ndarray):
        return np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    return np.frombuffer(data, np.uint8)
