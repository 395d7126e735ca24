"""Where the instruction streams lie on a device whose memory has an end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from runtime.device import DeviceError
from runtime.devices.allocating import in_pages
from vta_hw.spec.program import Program

T = TypeVar("T")

_Key = tuple[int, frozenset[tuple[str, int]]]


class StreamPlaces(Generic[T]):
    """Gives streams places from the end of memory down, and remembers what was put there.

    A program's stream stays for its next run with the same addresses, until the room is wanted:
    then all places are given up at once.
    """

    def __init__(self, name: str, memory_bytes: int) -> None:
        """`name` is the device's, for messages."""
        self._name = name
        self._memory_bytes = memory_bytes
        self._begin = memory_bytes
        # A program is kept beside what was made of it so that its id stays its own.
        self._kept: dict[_Key, tuple[Program, T]] = {}

    def find(self, program: Program, addresses: Mapping[str, int]) -> T | None:
        """What was kept for this program with these addresses."""
        _, found = self._kept.get(_key(program, addresses), (program, None))
        return found

    def keep(self, program: Program, addresses: Mapping[str, int], what: T) -> None:
        """Remember `what` until all places are given up."""
        self._kept[_key(program, addresses)] = program, what

    def take(self, size_bytes: int, used_bytes: int) -> int:
        """The address of a place for a stream, above the `used_bytes` of memory."""
        size = in_pages(size_bytes)
        if self._begin - size < used_bytes:
            self.clear()
        at = self._begin - size
        if at < used_bytes:
            raise DeviceError(
                f"device {self._name!r} has no room for {size_bytes} bytes of instructions beside "
                f"the {used_bytes} in use of {self._memory_bytes}; use a smaller network"
            )
        self._begin = at
        return at

    def give_back(self, at: int, size_bytes: int) -> None:
        """Free the place that was taken last."""
        assert at == self._begin
        self._begin = at + in_pages(size_bytes)

    def make_room(self, end: int) -> None:
        """Memory below `end` is wanted for something else."""
        if end > self._begin:
            self.clear()

    def clear(self) -> None:
        """Give up all places."""
        self._kept.clear()
        self._begin = self._memory_bytes


def _key(program: Program, addresses: Mapping[str, int]) -> _Key:
    return id(program), frozenset(addresses.items())
