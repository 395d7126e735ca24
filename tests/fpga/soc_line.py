"""A line to a simulated system on chip whose time is that of the simulation."""

from __future__ import annotations

from collections.abc import Callable

from fpga.simulation.soc import SocSimulation
from tests.fpga.link_model import clean
from vta_hw.spec.sdram import ULX3S_CLOCK_HZ

_SLICE_CYCLES = 5_000


class SocLine:
    """A `fpga.driver.serial_port.Line`; `outward` and `inward` may change what passes.

    Nothing is simulated while nothing happens, but time passes for the host.
    """

    def __init__(
        self,
        soc: SocSimulation,
        outward: Callable[[bytes], bytes] = clean,
        inward: Callable[[bytes], bytes] = clean,
    ) -> None:
        self.name = "simulated board"
        self._soc = soc
        self._outward, self._inward = outward, inward
        self._sent = b""
        self._idle_s = 0.0

    def now(self) -> float:
        """Seconds that the simulation has run, and those in which nothing happened."""
        return self._soc.cycles / ULX3S_CLOCK_HZ + self._idle_s

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._sent += self._outward(data)

    def read(self, timeout_s: float) -> bytes:
        """What has come, at least a byte; nothing if that takes longer than `timeout_s`."""
        end = self.now() + timeout_s
        while True:
            sent, self._sent = self._sent, b""
            came = self._inward(self._soc.run(sent, _SLICE_CYCLES))
            if came:
                return came
            if not self._soc.busy:
                self._idle_s += max(0.0, end - self.now())
            if self.now() >= end:
                return b""

    def close(self) -> None:
        """Nothing is held."""
