"""The memory that programs run against on a core in simulation, in plain Python."""

from __future__ import annotations

from collections import Counter, deque
from random import Random
from typing import Protocol

import numpy as np

from vta_hw.spec.config import PAGE_BYTES

OKAY, SLVERR, DECERR = 0, 2, 3


class Ports(Protocol):
    """A core's ports: `get` is valid between `settle` and `tick`."""

    def get(self, name: str) -> int:
        """The value of a port in this cycle."""

    def set(self, name: str, value: int) -> None:
        """Drive a port in this cycle."""

    async def settle(self) -> None:
        """Let outputs follow inputs."""

    async def tick(self) -> None:
        """Go on to the next cycle."""


class Memory:
    """DRAM behind the bus: rules M1 and M2, or with `stalls` a slower one that obeys AXI.

    `broken` is a range of addresses that answer with `error`. `dead` is a channel that answers no
    more after so many transfers.
    """

    def __init__(
        self,
        data: np.ndarray,
        beat_bytes: int,
        latency: int,
        stalls: Random | None = None,
        broken: range = range(0),
        error: int = SLVERR,
        dead: tuple[str, int] | None = None,
    ) -> None:
        self.data = data
        self._beat_bytes = beat_bytes
        self._latency = latency
        self._stalls = stalls
        self._broken = broken
        self._error = error
        self._dead = dead
        self._cycle = 0
        self._reads: deque[tuple[int, int, bool]] = deque()  # (not before, address, last)
        self._addresses: deque[tuple[int, int]] = deque()  # (address, beats)
        self._responses: deque[tuple[int, int]] = deque()  # (not before, response)
        self._written = self._failed = 0
        self._offered = {"r": False, "b": False}
        self.beats: dict[str, list[int]] = {"r": [], "w": []}
        self.transfers: Counter[str] = Counter()

    def _stalled(self, channel: str) -> bool:
        if self._dead is not None and self._dead[0] == channel:
            return self.transfers[channel] >= self._dead[1]
        return self._stalls is not None and self._stalls.random() < 0.4

    def drive(self, ports: Ports) -> None:
        """Set the memory's side of the bus for this cycle."""
        for channel in ("ar", "aw", "w"):
            ready = not self._stalled(channel)
            if channel == "w" and (self._stalls or self._dead):
                # Allowed by AXI: to take data only once the address has been taken.
                ready = ready and bool(self._addresses)
            ports.set(f"m_axi_{channel}ready", int(ready))
        for channel, waiting in (("r", self._reads), ("b", self._responses)):
            due = bool(waiting) and waiting[0][0] <= self._cycle
            if not self._offered[channel]:
                self._offered[channel] = due and not self._stalled(channel)
            ports.set(f"m_axi_{channel}valid", int(self._offered[channel]))
        if self._offered["r"]:
            _, address, last = self._reads[0]
            beat = bytes(self.data[address : address + self._beat_bytes])
            ports.set("m_axi_rdata", int.from_bytes(beat, "little"))
            ports.set("m_axi_rlast", int(last))
            ports.set("m_axi_rresp", self._error if address in self._broken else OKAY)
        if self._offered["b"]:
            ports.set("m_axi_bresp", self._responses[0][1])

    def sample(self, ports: Ports) -> None:
        """Take what passes on the bus in this cycle."""
        if self._offered["r"] and ports.get("m_axi_rready"):
            self._reads.popleft()
            self._offered["r"] = False
            self.transfers["r"] += 1
            self.beats["r"].append(self._cycle)
        if self._offered["b"] and ports.get("m_axi_bready"):
            self._responses.popleft()
            self._offered["b"] = False
            self.transfers["b"] += 1
        for channel in ("ar", "aw"):
            if self._passes(ports, channel):
                address = ports.get(f"m_axi_{channel}addr")
                beats = ports.get(f"m_axi_{channel}len") + 1
                self._check(address, beats)
                if channel == "aw":
                    self._addresses.append((address, beats))
                for beat in range(beats if channel == "ar" else 0):
                    place = address + beat * self._beat_bytes
                    self._reads.append((self._cycle + self._latency, place, beat == beats - 1))
        if self._passes(ports, "w"):
            self._write(ports)
        self._cycle += 1

    def _passes(self, ports: Ports, channel: str) -> bool:
        names = f"m_axi_{channel}valid", f"m_axi_{channel}ready"
        passes = all(ports.get(name) for name in names)
        self.transfers[channel] += passes
        return passes

    def _check(self, address: int, beats: int) -> None:
        last = address + beats * self._beat_bytes - 1
        assert address % self._beat_bytes == 0
        assert address // PAGE_BYTES == last // PAGE_BYTES
        assert last < len(self.data), f"{last:#x} is beyond the memory"

    def _write(self, ports: Ports) -> None:
        assert self._addresses, "data without an address"
        self.beats["w"].append(self._cycle)
        address, beats = self._addresses[0]
        place = address + self._written * self._beat_bytes
        self._failed |= place in self._broken
        beat = ports.get("m_axi_wdata").to_bytes(self._beat_bytes, "little")
        strobes = ports.get("m_axi_wstrb")
        for offset, byte in enumerate(beat):
            if strobes >> offset & 1:
                self.data[place + offset] = byte
        self._written += 1
        assert ports.get("m_axi_wlast") == (self._written == beats)
        if self._written == beats:
            response = self._error if self._failed else OKAY
            self._responses.append((self._cycle + self._latency, response))
            self._addresses.popleft()
            self._written = self._failed = 0
