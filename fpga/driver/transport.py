"""The way to a board: its memory, the registers of its core, and what it says it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from vta_hw.spec.registers import REGISTER_BYTES


@dataclass(frozen=True)
class Identity:
    """What a board says of itself.

    `memory_bytes` can be addressed from the transport's `base_address` on by the core; `clock_hz`
    is that of core and memory, 0 where the board does not know it.
    """

    board: str
    memory_bytes: int
    clock_hz: int
    version: int


class Transport(ABC):
    """Access to one board; every method raises `DeviceError` when the board does not answer.

    Addresses are bytes from the start of the board's memory. Memory is not read or written while
    the core runs.
    """

    name: str
    """What the user called the board, for messages: a port, or a device file."""

    survives_bus_errors = True
    """Whether a register that answers with an error costs a `DeviceError`, and not the process."""

    @property
    @abstractmethod
    def identity(self) -> Identity:
        """What the board said when the transport was opened."""

    @property
    def base_address(self) -> int:
        """Where the core sees address 0 of the memory, a multiple of a page: its base registers."""
        return 0

    @abstractmethod
    def read_register(self, offset: int) -> int:
        """The 32-bit register of the core at byte `offset` (`vta_hw.spec.registers`)."""

    def read_registers(self, offset: int, count: int) -> list[int]:
        """`count` registers that follow each other; a link may do that in fewer round trips."""
        return [self.read_register(offset + REGISTER_BYTES * i) for i in range(count)]

    @abstractmethod
    def write_register(self, offset: int, value: int) -> None:
        """Write a 32-bit register; it has been written when this returns."""

    @abstractmethod
    def read_memory(self, address: int, size_bytes: int) -> np.ndarray:
        """A copy of memory as uint8."""

    @abstractmethod
    def write_memory(self, address: int, data: np.ndarray) -> None:
        """Put uint8 into memory; it is there when this returns."""

    @abstractmethod
    def reset(self) -> None:
        """Stop the core, whatever it does, and forget its registers; memory keeps its contents."""

    @abstractmethod
    def close(self) -> None:
        """Give the board back; nothing else may be called afterwards."""
