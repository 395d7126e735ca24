"""A core in the same chip as this processor: registers and memory are mapped into this process.

On a Zynq the core's control port has a physical address, which UIO (/dev/uio0) or /dev/mem maps,
and its memory is a physically contiguous buffer of the processor's, made by u-dma-buf
(/dev/udmabuf0) or by `pynq.allocate`. Needs numpy and the standard library.

Addresses: the driver counts bytes from the start of the buffer. What the core is told (INSN_BASE,
the base registers, the end in DRAM_LIMIT) is physical, by `Transport.base_address`.

Order and caches: registers are device memory, so that accesses to them happen one by one and in
order. The buffer is mapped with the processor's cache, because uncached mappings are slow, and on
64-bit ARM refuse accesses that are not aligned. Cache lines are therefore written back after every
`write_memory` and dropped before every `read_memory`. That is a call into the kernel which ends
with a barrier, so the data are in memory before a launch that comes after it. If hardware keeps the
caches coherent (an ACP or HPC port, `dma-coherent` in the device tree) the calls do nothing and are
harmless.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fpga.driver.transport import Identity, Transport
from runtime.device import DeviceError
from vta_hw.spec import registers
from vta_hw.spec.registers import READ_ONLY, REGISTER_BYTES, Register

BOARD = "mmio"
_WINDOW_BYTES = 1 << registers.ADDRESS_BITS
_RUNNING = 1 << registers.CONTROL_LAUNCH
_STATUS = frozenset({Register.CONTROL, Register.IRQ_STATUS})
SYSFS = Path("/sys")
"""Where the kernel tells of its devices."""

_BUFFER_CLASSES = ("u-dma-buf", "udmabuf")


class Buffer(Protocol):
    """Memory that this process and the core both see.

    `data` is all of it as uint8, `address` the physical address of its first byte.
    """

    data: np.ndarray
    address: int

    def to_core(self, offset: int, size_bytes: int) -> None:
        """Make what was written here visible to the core."""

    def from_core(self, offset: int, size_bytes: int) -> None:
        """Make what the core has written visible here."""

    def close(self) -> None:
        """Give it back."""


class DmaBuffer:
    """A buffer of the kernel module u-dma-buf, by its device file."""

    def __init__(self, device: str | Path) -> None:
        """Where it lies and how large it is comes from its folder below `SYSFS`."""
        path = Path(device)
        folders = [SYSFS / "class" / kind / path.name for kind in _BUFFER_CLASSES]
        found = next((folder for folder in folders if folder.is_dir()), None)
        if found is None:
            raise DeviceError(
                f"{str(path)!r} is no buffer of u-dma-buf: there is no folder {str(folders[0])!r}; "
                f"load the kernel module, for instance with `modprobe u-dma-buf "
                f"udmabuf0=33554432`"
            )
        self._folder = found
        self.address = _number(found / "phys_addr")
        size = _number(found / "size")
        self.data = np.frombuffer(_map(path, size, 0), np.uint8)

    def to_core(self, offset: int, size_bytes: int) -> None:
        """Write the cache's lines back."""
        self._sync("sync_for_device", offset, size_bytes)

    def from_core(self, offset: int, size_bytes: int) -> None:
        """Drop the cache's lines."""
        self._sync("sync_for_cpu", offset, size_bytes)

    def close(self) -> None:
        """Unmap it, once nothing shows it any more."""
        self.data = np.zeros(0, np.uint8)

    def _sync(self, action: str, offset: int, size_bytes: int) -> None:
        # Direction 0 is both: a line may hold bytes of neighbours that went the other way.
        values = {"sync_offset": offset, "sync_size": size_bytes, "sync_direction": 0, action: 1}
        for name, value in values.items():
            path = self._folder / name
            try:
                path.write_text(str(value))
            except OSError as error:
                raise _unusable(path, error) from error


class PynqBuffer:
    """A buffer of PYNQ: what `pynq.allocate` gives."""

    def __init__(self, allocated: Any) -> None:
        """`allocated` has `physical_address`, `flush`, `invalidate`, and is an array."""
        self.address = int(allocated.physical_address)
        self._allocated = allocated
        self.data = np.asarray(allocated).reshape(-1).view(np.uint8)

    def to_core(self, offset: int, size_bytes: int) -> None:
        """Write the cache's lines back; PYNQ does it for the whole buffer."""
        self._allocated.flush()

    def from_core(self, offset: int, size_bytes: int) -> None:
        """Drop the cache's lines; PYNQ does it for the whole buffer."""
        self._allocated.invalidate()

    def close(self) -> None:
        """Forget it; who has allocated it frees it."""
        self.data = np.zeros(0, np.uint8)
        self._allocated = None


@dataclass(frozen=True)
class Window:
    """Where the core's registers are mapped from: a device file and an offset in it."""

    path: Path
    offset: int = 0

    @classmethod
    def parse(cls, text: str) -> Window:
        """``/dev/uio0``, or ``/dev/mem@0xA0000000`` with the physical address."""
        found = re.fullmatch(r"([^@]+)(?:@(0[xX][0-9a-fA-F]+|\d+))?", text)
        if found is None:
            raise DeviceError(
                f"registers {text!r} must be a device file, with @ and an address for /dev/mem, as "
                f"in /dev/uio0 or /dev/mem@0xA0000000"
            )
        offset = int(found[2], 0) if found[2] else 0
        if offset % mmap.ALLOCATIONGRANULARITY:
            raise DeviceError(
                f"registers {text!r} must lie at a multiple of {mmap.ALLOCATIONGRANULARITY:#x}"
            )
        return cls(Path(found[1]), offset)


class MappedTransport(Transport):
    """Registers and memory of a core in this chip.

    `clock_hz` is only shown; 0 stands for unknown. `resetter` stops the core, as downloading its
    bitstream again does. Without it `reset` can do no more than wait until the core has ended.
    """

    # The processor takes an error response on its bus as a fault of the program, or of the kernel.
    survives_bus_errors = False

    def __init__(
        self,
        window: Window,
        buffer: Buffer,
        *,
        clock_hz: int = 0,
        resetter: Callable[[], None] | None = None,
    ) -> None:
        self.name = f"{window.path},{buffer.address:#x}"
        mapped = _map(window.path, _WINDOW_BYTES, window.offset)
        # One access per element: numpy moves a uint32 as a whole.
        self._words = np.frombuffer(mapped, np.uint32)
        self._buffer = buffer
        self._resetter = resetter
        version = self.read_register(Register.ID) & 0xFF
        self._identity = Identity(BOARD, buffer.data.size, clock_hz, version)

    @classmethod
    def open(cls, spec: str) -> MappedTransport:
        """By device files: ``REGISTERS,MEMORY`` as in ``/dev/uio0,/dev/udmabuf0``."""
        window, comma, memory = spec.partition(",")
        if not (window and comma and memory):
            raise DeviceError(
                f"a core in this chip needs registers and memory, as in "
                f"mmio:/dev/uio0,/dev/udmabuf0, not {spec!r}"
            )
        return cls(Window.parse(window), DmaBuffer(memory))

    @property
    def identity(self) -> Identity:
        """The buffer's size; the version is that of the register map."""
        return self._identity

    @property
    def base_address(self) -> int:
        """The buffer's physical address."""
        return self._buffer.address

    def read_register(self, offset: int) -> int:
        """The register, from the hardware."""
        return int(self._words[offset // REGISTER_BYTES])

    def write_register(self, offset: int, value: int) -> None:
        """Write a register; the next access to one comes after it."""
        self._words[offset // REGISTER_BYTES] = value

    def read_memory(self, address: int, size_bytes: int) -> np.ndarray:
        """A copy of the buffer, as the core left it."""
        self._check(address, size_bytes)
        self._buffer.from_core(address, size_bytes)
        return self._buffer.data[address : address + size_bytes].copy()

    def write_memory(self, address: int, data: np.ndarray) -> None:
        """Put bytes into the buffer, where the core sees them."""
        self._check(address, data.size)
        self._buffer.data[address : address + data.size] = data
        self._buffer.to_core(address, data.size)

    def reset(self) -> None:
        """Stop the core if there is a way to, and clear its registers."""
        if self._resetter is not None:
            self._resetter()
        if self.read_register(Register.CONTROL) & _RUNNING:
            raise DeviceError(
                f"the core at {self.name} still runs and cannot be reset from here; load its "
                f"bitstream again"
            )
        for register in Register:
            if register not in READ_ONLY | _STATUS:
                self.write_register(register, 0)
        # A 1 clears it.
        self.write_register(Register.IRQ_STATUS, 1)

    def close(self) -> None:
        """Give the mappings back."""
        self._words = np.zeros(0, np.uint32)
        self._buffer.close()

    def _check(self, address: int, size_bytes: int) -> None:
        if not 0 <= address <= address + size_bytes <= self._buffer.data.size:
            raise DeviceError(
                f"bytes {address}..{address + size_bytes} lie outside the buffer of "
                f"{self._buffer.data.size} bytes"
            )


def _map(path: Path, size_bytes: int, offset: int) -> mmap.mmap:
    """A shared mapping; registers are uncached in UIO, and in /dev/mem by O_SYNC."""
    flags = os.O_RDWR | (os.O_SYNC if path.name == "mem" else 0)
    try:
        file = os.open(path, flags)
        try:
            return mmap.mmap(file, size_bytes, offset=offset)
        finally:
            os.close(file)
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from error


def _number(path: Path) -> int:
    """The number in a file of sysfs, decimal or hexadecimal."""
    try:
        text = path.read_text().strip()
        return int(text, 16 if text.lower().startswith("0x") else 10)
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: Exception) -> DeviceError:
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return DeviceError(
        f"{str(path)!r} cannot be used: {reason}; see that the device exists and that this user "
        f"may use it"
    )
