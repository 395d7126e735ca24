"""What devices share whose DRAM is memory of this process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from runtime.device import DeviceError
from runtime.devices.allocating import AllocatingDevice, as_bytes, in_pages
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Instruction
from vta_hw.spec.program import Program
from vta_hw.spec.semantics import ADDRESS_LIMIT

DRAM_BYTES_MAX = ADDRESS_LIMIT
_BOUND_PROGRAMS_MAX = 64

_Placement = frozenset[tuple[str, int]]


class HostedDevice(AllocatingDevice):
    """A device over a DRAM in this process that grows as it is allocated."""

    memory_bytes = DRAM_BYTES_MAX

    _arguments: tuple[Any, ...]
    _options: Mapping[str, Any]

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        """A device that knows what it was made of, so that `fork` can make another one."""
        device = super().__new__(cls)
        device._arguments, device._options = arguments, options
        return device

    def __init__(
        self, config: VtaConfig, *, report_uninitialised: bool = False, timeline: bool = False
    ) -> None:
        """A device without any allocated DRAM."""
        super().__init__(config, report_uninitialised=report_uninitialised, timeline=timeline)
        self._dram = np.zeros(0, np.uint8)
        # A program is kept beside its instructions so that its id stays its own.
        self._bound: OrderedDict[
            tuple[int, _Placement], tuple[Program, tuple[Instruction, ...]]
        ] = OrderedDict()

    @property
    def dram(self) -> np.ndarray:
        """All of the allocated DRAM, not a copy; good until the next `alloc`."""
        return self._dram[: self._used_bytes]

    def write(self, address: int, data: bytes | np.ndarray) -> None:
        """Put bytes into allocated DRAM."""
        data = as_bytes(data)
        self._check(address, data.size)
        self._dram[address : address + data.size] = data

    def read(self, address: int, size_bytes: int) -> np.ndarray:
        """A copy of allocated DRAM."""
        self._check(address, size_bytes)
        return self._dram[address : address + size_bytes].copy()

    def view(self, address: int, size_bytes: int) -> np.ndarray:
        """Allocated DRAM itself, until `generation` changes."""
        self._check(address, size_bytes)
        return self._dram[address : address + size_bytes]

    def fork(self) -> Self:
        """Another device made in the same way, with a copy of DRAM; not one that records waves."""
        if self._options.get("waves") is not None:
            raise DeviceError(
                f"device {self.name!r} records waves, which two cannot do into one file; run it "
                f"with one worker or without waves"
            )
        twin = type(self)(*self._arguments, **self._options)
        twin._extend(self._used_bytes)
        twin._dram[: self._used_bytes] = self.dram
        twin._used_bytes = self._used_bytes
        # Programs and their instructions never change: what was bound is good for both.
        twin._bound = self._bound.copy()
        return twin

    def with_stream(self, stream: bytes) -> tuple[np.ndarray, int]:
        """All of DRAM, not a copy, with a stream on the page behind what is allocated: its address.

        Both are good until the next `alloc`.
        """
        address = self._used_bytes
        end = address + in_pages(len(stream))
        if end > DRAM_BYTES_MAX:
            raise DeviceError(
                f"device {self.name!r} has no room for {len(stream)} bytes of instructions beside "
                f"the {address} in use; use a smaller network"
            )
        self._extend(end)
        self._dram[address : address + len(stream)] = np.frombuffer(stream, np.uint8)
        return self._dram[:end], address

    def bound(self, program: Program, addresses: Mapping[str, int]) -> tuple[Instruction, ...]:
        """The program's instructions for these addresses, made once; other configs are refused."""
        self._check_config(program)
        key = (id(program), frozenset(addresses.items()))
        if key not in self._bound:
            self._bound[key] = (program, program.bound(addresses))
            if len(self._bound) > _BOUND_PROGRAMS_MAX:
                self._bound.popitem(last=False)
        self._bound.move_to_end(key)
        return self._bound[key][1]

    def _extend(self, end: int) -> None:
        if end <= self._dram.size:
            return
        try:
            grown = np.zeros(min(DRAM_BYTES_MAX, max(end, 2 * self._dram.size)), np.uint8)
        except MemoryError as error:
            raise DeviceError(
                f"this machine has no memory for {end} bytes of DRAM; run a smaller network"
            ) from error
        grown[: self._used_bytes] = self._dram[: self._used_bytes]
        self._dram = grown
        self.generation += 1
