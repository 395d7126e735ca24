"""A serial port as the link wants it: bytes in, bytes out, errors that say what to do."""

from __future__ import annotations

import errno
import time
from contextlib import suppress
from typing import Any, Protocol

from vta_hw.spec.errors import DeviceError

_POLL_S = 0.02
"""How finely the end of a wait is kept."""
_WRITE_TIMEOUT_S = 5.0

_ABSENT = {errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.ENOTDIR}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_TAKEN = {errno.EBUSY, errno.EAGAIN}


class Line(Protocol):
    """Two directions of bytes, either of which may lose or change some."""

    name: str
    """For messages."""

    def now(self) -> float:
        """The time in seconds, by the clock that `read` waits by."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def read(self, timeout_s: float) -> bytes:
        """What has come, at least a byte; nothing if that takes longer than `timeout_s`."""

    def close(self) -> None:
        """Give it back."""


class SerialPort:
    """A `Line` on a serial port, which no other program may use meanwhile.

    Raises `DeviceError` when the port cannot be opened, and when it vanishes.
    """

    def __init__(self, name: str, baud: int) -> None:
        self.name = name
        self._port = _open(name, baud)

    def now(self) -> float:
        """Of a clock that never goes back."""
        return time.monotonic()

    def write(self, data: bytes) -> None:
        """Hand bytes to the operating system."""
        try:
            self._port.write(data)
        except OSError as error:
            raise self._lost(error) from error

    def read(self, timeout_s: float) -> bytes:
        """See `Line`."""
        deadline = self.now() + timeout_s
        try:
            while True:
                if first := self._port.read(1):
                    return bytes(first + self._port.read(self._port.in_waiting))
                if self.now() >= deadline:
                    return b""
        except OSError as error:
            raise self._lost(error) from error

    def close(self) -> None:
        """Give the port back; may be called twice."""
        with suppress(OSError):
            self._port.close()

    def _lost(self, error: OSError) -> DeviceError:
        return DeviceError(
            f"serial port {self.name!r} broke down in use ({error}); check the board's cable and "
            f"power, and open it again"
        )


def _open(name: str, baud: int) -> Any:
    try:
        import serial
    except ImportError as error:
        raise DeviceError(
            f"serial port {name!r} needs pyserial, which is not installed; install the kit with "
            f"its extra 'fpga'"
        ) from error
    try:
        port = serial.Serial(
            name, baud, timeout=_POLL_S, write_timeout=_WRITE_TIMEOUT_S, exclusive=True
        )
    except (OSError, ValueError) as error:
        raise DeviceError(_refusal(name, baud, error)) from error
    # USB converters otherwise keep what has come for up to 16 ms; not all can be told.
    with suppress(OSError, ValueError, AttributeError, NotImplementedError):
        port.set_low_latency_mode(True)
    port.reset_input_buffer()
    return port


def _refusal(name: str, baud: int, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number in _ABSENT:
        return f"there is no serial port {name!r}; connect the board, or name {_present()}"
    if number in _FORBIDDEN:
        return (
            f"serial port {name!r} may not be opened by this user; join the group that owns it "
            f"(often dialout or uucp) and log in again"
        )
    if number in _TAKEN:
        return f"serial port {name!r} is in use by another program; end that one first"
    return f"{name!r} is no serial port that runs at {baud} baud ({error}); name {_present()}"


def _present() -> str:
    from serial.tools.list_ports import comports

    found = sorted(port.device for port in comports())
    return f"one of {', '.join(found)}" if found else "another one (none is connected now)"
