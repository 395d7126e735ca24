"""Sessions with a board as files: what was asked and answered, to be played again without it.

A file has one JSON object per line: first ``{"session": 1, ...}`` with what the transport says of
itself, then one per call with its arguments and its result or the error it raised. Memory that was
read is kept whole (compressed, in base64); of what was written, digest and length are.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from fpga.driver.transport import Identity, Transport
from runtime.device import DeviceError

FORMAT = 1
"""Number of this form of the files."""


class RecordingError(DeviceError):
    """A recording that cannot be read or written, or that another session was made of."""


class RecordingTransport(Transport):
    """Another transport, and a record of all that goes through it.

    Each line is in the file when its call returns, so that a session that dies leaves what it did.
    """

    def __init__(self, inner: Transport, path: str | Path) -> None:
        """Starts the file anew; `inner` is closed with this."""
        self.name = inner.name
        self.survives_bus_errors = inner.survives_bus_errors
        self._inner = inner
        self._path = Path(path)
        try:
            self._file: TextIO = self._path.open("w", encoding="ascii")
        except OSError as error:
            raise RecordingError(
                f"recording {str(path)!r} cannot be written: {error.strerror or error}; name "
                f"another file"
            ) from error
        self._put(
            {
                "session": FORMAT,
                "name": inner.name,
                "identity": asdict(inner.identity),
                "base_address": inner.base_address,
                "survives_bus_errors": inner.survives_bus_errors,
            }
        )

    @property
    def identity(self) -> Identity:
        """That of the recorded transport."""
        return self._inner.identity

    @property
    def base_address(self) -> int:
        """That of the recorded transport."""
        return self._inner.base_address

    def read_register(self, offset: int) -> int:
        """Pass it on, and record it."""
        call = _call("read_register", offset=offset)
        return self._passed(call, lambda: self._inner.read_register(offset), int)

    def read_registers(self, offset: int, count: int) -> list[int]:
        """Pass it on as one call, and record it as one."""
        call = _call("read_registers", offset=offset, count=count)
        return self._passed(call, lambda: self._inner.read_registers(offset, count), list)

    def write_register(self, offset: int, value: int) -> None:
        """Pass it on, and record it."""
        call = _call("write_register", offset=offset, value=value)
        self._passed(call, lambda: self._inner.write_register(offset, value), _nothing)

    def read_memory(self, address: int, size_bytes: int) -> np.ndarray:
        """Pass it on, and record what was read."""
        call = _call("read_memory", address=address, size=size_bytes)
        return self._passed(call, lambda: self._inner.read_memory(address, size_bytes), _packed)

    def write_memory(self, address: int, data: np.ndarray) -> None:
        """Pass it on, and record a digest of it."""
        call = _call("write_memory", address=address, **_digest(data))
        self._passed(call, lambda: self._inner.write_memory(address, data), _nothing)

    def reset(self) -> None:
        """Pass it on, and record it."""
        self._passed(_call("reset"), self._inner.reset, _nothing)

    def close(self) -> None:
        """Close the board and the file."""
        self._file.close()
        self._inner.close()

    def _passed(
        self, call: dict[str, Any], act: Callable[[], Any], form: Callable[..., Any]
    ) -> Any:
        try:
            result = act()
        except DeviceError as error:
            self._put({**call, "error": str(error)})
            raise
        except BaseException as error:
            # An interrupt cannot be played again; the line says where it came.
            self._put({**call, "interrupted": type(error).__name__})
            raise
        self._put({**call, "result": form(result)})
        return result

    def _put(self, line: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
            self._file.flush()
        except OSError as error:
            raise RecordingError(
                f"recording {str(self._path)!r} cannot be written: {error.strerror or error}; make "
                f"room for it"
            ) from error


class ReplayTransport(Transport):
    """A recorded session in place of a board: the same calls get the same answers, others raise.

    Strict: a call that differs from the recorded one in anything ends the replay. Waiting is not
    recorded: a session in which the driver's patience ended may differ in how often it looked.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        self._lines = _lines(Path(path))
        self._number, head = next(self._lines, (1, {}))
        if head.get("session") != FORMAT:
            raise self._broken(f"it does not begin with a session of format {FORMAT}")
        try:
            self._identity = Identity(**head["identity"])
            self._base = int(head["base_address"])
            self.survives_bus_errors = bool(head["survives_bus_errors"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._broken(f"its session lacks what a board says of itself ({error})") from None

    @property
    def identity(self) -> Identity:
        """That of the board which was recorded."""
        return self._identity

    @property
    def base_address(self) -> int:
        """That of the board which was recorded."""
        return self._base

    def read_register(self, offset: int) -> int:
        """As recorded."""
        return int(self._answer(_call("read_register", offset=offset)))

    def read_registers(self, offset: int, count: int) -> list[int]:
        """As recorded."""
        words = self._answer(_call("read_registers", offset=offset, count=count))
        return [int(word) for word in words]

    def write_register(self, offset: int, value: int) -> None:
        """As recorded."""
        self._answer(_call("write_register", offset=offset, value=value))

    def read_memory(self, address: int, size_bytes: int) -> np.ndarray:
        """As recorded."""
        packed = self._answer(_call("read_memory", address=address, size=size_bytes))
        try:
            data = np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8).copy()
        except (ValueError, TypeError, zlib.error) as error:
            raise self._broken(f"what was read from memory cannot be unpacked ({error})") from None
        if data.size != size_bytes:
            raise self._broken(f"{data.size} bytes of memory are there, not {size_bytes}")
        return data

    def write_memory(self, address: int, data: np.ndarray) -> None:
        """As recorded; the data must have the digest of those that were written."""
        self._answer(_call("write_memory", address=address, **_digest(data)))

    def reset(self) -> None:
        """As recorded."""
        self._answer(_call("reset"))

    def close(self) -> None:
        """Nothing more is read; a session need not be played to its end."""
        self._lines.close()

    def _answer(self, call: Mapping[str, Any]) -> Any:
        # Past the end, the line that would come next is named.
        self._number, line = next(self._lines, (self._number + 1, {}))
        recorded = {k: v for k, v in line.items() if k not in ("result", "error", "interrupted")}
        if recorded != call:
            there = _shown(recorded) if recorded else "the end of the session"
            raise self._broken(f"the driver does {_shown(call)} where the recording has {there}")
        if "error" in line:
            raise DeviceError(str(line["error"]))
        if "result" not in line:
            raise self._broken("the recorded session was interrupted here")
        return line["result"]

    def _broken(self, text: str) -> RecordingError:
        return RecordingError(
            f"recording {self.name!r}, line {self._number}: {text}; replay it with the options and "
            f"the version of the kit that it was made with"
        )


def _lines(path: Path) -> Generator[tuple[int, dict[str, Any]], None, None]:
    """The objects of a file with their line numbers, read as they are wanted."""
    try:
        with path.open(encoding="ascii") as file:
            for number, text in enumerate(file, 1):
                try:
                    line = json.loads(text)
                except ValueError:
                    line = None
                if not isinstance(line, dict):
                    raise RecordingError(
                        f"recording {str(path)!r}, line {number}: this is no JSON object; the file "
                        f"is cut off or no recording"
                    )
                yield number, line
    except UnicodeDecodeError as error:
        raise RecordingError(f"{str(path)!r} is no recording of a session; name one") from error
    except OSError as error:
        raise RecordingError(
            f"recording {str(path)!r} cannot be read: {error.strerror or error}; name a file that "
            f"exists"
        ) from error


def _call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"call": name, **arguments}


def _shown(call: Mapping[str, Any]) -> str:
    arguments = ", ".join(f"{k}={v}" for k, v in call.items() if k != "call")
    return f"{call.get('call')}({arguments})"


def _digest(data: np.ndarray) -> dict[str, Any]:
    return {"size": int(data.size), "sha256": hashlib.sha256(data.tobytes()).hexdigest()}


def _packed(data: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(data.tobytes(), 9)).decode()


def _nothing(_: object) -> None:
    return None
