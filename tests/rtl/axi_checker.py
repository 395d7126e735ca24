"""AXI4 rules that a master must keep, checked cycle by cycle.

`ReadChecker` and `WriteChecker` take the signals of one clock edge after the other and raise
`AxiViolation`; `watch` feeds them from a running cocotb simulation. Rules are those of the AMBA AXI
specification (IHI 0022): stable handshakes, burst geometry, order of responses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BOUNDARY = 4096
_ADDRESS = ("addr", "len", "size", "burst", "id", "lock", "cache", "prot", "qos")
_READ = {"ar": _ADDRESS, "r": ("data", "resp", "last", "id")}
_WRITE = {"aw": _ADDRESS, "w": ("data", "strb", "last"), "b": ("resp", "id")}


class AxiViolation(AssertionError):
    """A rule of AXI was broken."""


@dataclass(frozen=True)
class Burst:
    """What an address channel announced."""

    address: int
    beats: int
    beat_bytes: int


class _Channels:
    """Keeps what every channel must keep: VALID and its payload stay until READY."""

    def __init__(self, channels: Mapping[str, tuple[str, ...]], bus_bytes: int) -> None:
        self._channels = channels
        self._bus_bytes = bus_bytes
        self._waiting: dict[str, dict[str, int]] = {}
        self.cycle = 0

    @property
    def signals(self) -> list[str]:
        """Names of the signals that `step` wants."""
        return [
            channel + name
            for channel, names in self._channels.items()
            for name in ("valid", "ready", *names)
        ]

    def _handshakes(self, values: Mapping[str, int]) -> dict[str, dict[str, int]]:
        """Payloads of the channels that transfer at this edge."""
        done = {}
        for channel, names in self._channels.items():
            valid, ready = values[f"{channel}valid"], values[f"{channel}ready"]
            payload = {name: values[channel + name] for name in names}
            held = self._waiting.pop(channel, None)
            if held is not None:
                self._require(valid, f"{channel}valid fell before {channel}ready rose")
                moved = [name for name in names if payload[name] != held[name]]
                self._require(not moved, f"{channel}{moved} changed while waiting for ready")
            if valid and ready:
                done[channel] = payload
            elif valid:
                self._waiting[channel] = payload
        self.cycle += 1
        return done

    def _burst(self, channel: str, payload: Mapping[str, int]) -> Burst:
        size, beats = 1 << payload["size"], payload["len"] + 1
        burst = Burst(payload["addr"], beats, size)
        self._require(payload["burst"] == 1, f"{channel}burst is not INCR")
        self._require(size == self._bus_bytes, f"{channel}size is {size} bytes, not the bus")
        self._require(payload["lock"] == 0, f"{channel}lock is set")
        first = burst.address // size * size
        end = first + beats * size - 1
        crosses = burst.address // BOUNDARY != end // BOUNDARY
        self._require(not crosses, f"burst at {burst.address:#x} of {beats} beats crosses 4 KiB")
        return burst

    def _require(self, holds: object, text: str) -> None:
        if not holds:
            raise AxiViolation(f"cycle {self.cycle}: {text}")


class ReadChecker(_Channels):
    """AR and R of a master; responses must come in order (one id)."""

    def __init__(self, bus_bytes: int, max_open: int | None = None) -> None:
        super().__init__(_READ, bus_bytes)
        self._max_open = max_open
        self._open: deque[int] = deque()
        self.beats = 0
        self.bursts: list[Burst] = []

    def step(self, values: Mapping[str, int]) -> None:
        """Take the signals at one rising edge."""
        done = self._handshakes(values)
        if "r" in done:
            self._require(self._open, "read data without an open burst")
            self._open[0] -= 1
            last = self._open[0] == 0
            self._require(bool(done["r"]["last"]) == last, "rlast is not on the last beat")
            if last:
                self._open.popleft()
            self.beats += 1
        if "ar" in done:
            burst = self._burst("ar", done["ar"])
            self.bursts.append(burst)
            self._open.append(burst.beats)
            if self._max_open is not None:
                self._require(len(self._open) <= self._max_open, "too many open read bursts")

    def finish(self) -> None:
        """Nothing may be open at the end."""
        self._require(not self._open and not self._waiting, "reads are open at the end")


class WriteChecker(_Channels):
    """AW, W and B of a master that presents the address no later than the data."""

    def __init__(self, bus_bytes: int, max_open: int | None = None) -> None:
        super().__init__(_WRITE, bus_bytes)
        self._max_open = max_open
        self._announced: deque[Burst] = deque()
        self._beat = 0
        self._open = 0
        self._early = False
        self.bursts: list[Burst] = []
        self.beats = 0

    def step(self, values: Mapping[str, int]) -> None:
        """Take the signals at one rising edge."""
        presented = bool(values["awvalid"])
        done = self._handshakes(values)
        if "b" in done:
            self._require(self._open > 0, "a write response without a finished burst")
            self._open -= 1
        if values["wvalid"]:
            known = self._announced or (presented and not self._early)
            self._require(known, "write data before its address is presented")
        if "w" in done:
            self._data(done["w"], values)
        if "aw" in done:
            burst = self._burst("aw", done["aw"])
            self.bursts.append(burst)
            if self._early:
                self._early = False
                self._open += 1
            else:
                self._announced.append(burst)
        if self._max_open is not None:
            total = self._open + len(self._announced)
            self._require(total <= self._max_open, "too many open write bursts")

    def _data(self, payload: Mapping[str, int], values: Mapping[str, int]) -> None:
        self._beat += 1
        self.beats += 1
        if not self._announced:
            # The address waits on the channel: its length is there to be seen.
            burst = Burst(values["awaddr"], values["awlen"] + 1, 1 << values["awsize"])
        else:
            burst = self._announced[0]
        last = self._beat == burst.beats
        self._require(bool(payload["last"]) == last, "wlast is not on the last beat")
        full = (1 << self._bus_bytes) - 1
        inner = 1 < self._beat < burst.beats
        self._require(not inner or payload["strb"] == full, "a beat inside a burst has gaps")
        self._require(payload["strb"] != 0, "a beat without any strobe")
        if not last:
            return
        self._beat = 0
        if self._announced:
            self._announced.popleft()
            self._open += 1
        else:
            # A slave may take all data of a burst before its address, which must stay presented.
            self._early = True

    def finish(self) -> None:
        """Nothing may be open at the end."""
        left = self._announced or self._open or self._waiting or self._beat or self._early
        self._require(not left, "writes are open at the end")


async def watch(checker: ReadChecker | WriteChecker, dut: Any, prefix: str, clock: Any) -> None:
    """In a cocotb simulation: check the signals named `prefix` + channel + name, for ever.

    Run it with ``cocotb.start_soon``; a violation fails the test. Call `finish` at the end. Whoever
    drives the channels may do so at either edge of the clock: sampled is after the falling one.
    """
    from cocotb.triggers import FallingEdge, ReadOnly

    handles = {name: getattr(dut, prefix + name) for name in checker.signals}
    while True:
        await FallingEdge(clock)
        await ReadOnly()
        checker.step({name: _number(handle.value) for name, handle in handles.items()})


def _number(value: Any) -> int:
    """Data of a channel without VALID may be undefined; it is not looked at."""
    return int(value) if value.is_resolvable else 0
