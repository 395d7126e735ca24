"""A board at the other end of a serial port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from fpga.driver.link_session import LinkCounts, LinkSession, NoAnswer
from fpga.driver.serial_port import Line, SerialPort
from fpga.driver.transport import Identity, Transport
from fpga.protocol import (
    RUN_LIMIT_BITS,
    VERSION,
    Answer,
    FrameError,
    Greeting,
    Op,
    Request,
    Statistics,
    Status,
)
from vta_hw.spec.errors import DeviceError
from vta_hw.spec.registers import REGISTER_BYTES

BAUD = 3_000_000
RUN_LIMIT_MS = 120_000
"""Longer than a driver waits for a run: the board looks after itself when the host is gone."""
_GREETING_RETRIES = 2

T = TypeVar("T")

Progress = Callable[[int, int], None]
"""Takes the bytes that are done, and all bytes of the transfer."""


class SerialLink(Transport):
    """A board that speaks `fpga.protocol`.

    Parameters
    ----------
    port
        A serial port's name, or a `Line` that is open already.
    baud
        Of the line.
    expected_board
        The name that the board must give; None: any.
    timeout_s, retries
        How long an answer may take, and how often a request is sent again (`LinkSession`).
    run_limit_ms
        How long a run may take before the board resets its core; 0: for ever.
    progress
        Called during transfers of memory; may be set later.

    Before the board has said who it is nothing is changed on it; a wrong one is refused with
    `DeviceError`, as is a port that cannot be had.
    """

    def __init__(
        self,
        port: str | Line,
        *,
        baud: int = BAUD,
        expected_board: str | None = None,
        timeout_s: float = 0.5,
        retries: int = 8,
        run_limit_ms: int = RUN_LIMIT_MS,
        progress: Progress | None = None,
    ) -> None:
        if not 0 <= run_limit_ms < 1 << RUN_LIMIT_BITS:
            raise DeviceError(
                f"run_limit_ms must be in [0, {1 << RUN_LIMIT_BITS}), not {run_limit_ms}"
            )
        line = SerialPort(port, baud) if isinstance(port, str) else port
        self.name = line.name
        self.progress = progress
        self._line, self._baud = line, baud
        try:
            self._session = LinkSession(line, baud, timeout_s=timeout_s, retries=retries)
            greeting = self._identify(expected_board)
            self._identity = Identity(
                greeting.board, greeting.memory_bytes, greeting.clock_hz, greeting.version
            )
            self._block_bytes = greeting.block_bytes
            self._session.window_bytes = greeting.buffer_bytes
            self.set_run_limit(run_limit_ms)
        except BaseException:
            line.close()
            raise

    @property
    def identity(self) -> Identity:
        """What the board said when the link was opened."""
        return self._identity

    @property
    def counts(self) -> LinkCounts:
        """What this end of the link has seen: retries among others."""
        return self._session.counts

    def statistics(self) -> Statistics:
        """What the board's end of the link has seen."""
        answer = self._ask(Request(0, Op.STATISTICS), "its statistics")
        return self._decoded(Statistics.decode, answer)

    def set_run_limit(self, milliseconds: int) -> None:
        """From now on the board resets its core in runs that take longer; 0: in none."""
        self._ask(Request(0, Op.SET_RUN_LIMIT, milliseconds), f"a run limit of {milliseconds} ms")

    def read_register(self, offset: int) -> int:
        """See `Transport`."""
        request = Request(0, Op.READ_REGISTER, offset, REGISTER_BYTES)
        answer = self._ask(request, f"register {offset:#x}")
        self._expect(answer, REGISTER_BYTES)
        return int.from_bytes(answer.data, "little")

    def read_registers(self, offset: int, count: int) -> list[int]:
        """See `Transport`; all of them are under way at once."""
        values = [0] * count
        failure = Status.OK

        def done(place: int, answer: Answer) -> bool:
            nonlocal failure
            if answer.status is not Status.OK:
                failure = failure or answer.status
                return False
            self._expect(answer, REGISTER_BYTES)
            values[place] = int.from_bytes(answer.data, "little")
            return True

        offsets = (offset + REGISTER_BYTES * i for i in range(count))
        self._session.ask_all(
            (Request(0, Op.READ_REGISTER, at, REGISTER_BYTES) for at in offsets), done
        )
        if failure is not Status.OK:
            raise self._refused(failure, f"registers from {offset:#x} on")
        return values

    def write_register(self, offset: int, value: int) -> None:
        """See `Transport`. It is written once, however often it has to be sent."""
        data = value.to_bytes(REGISTER_BYTES, "little")
        request = Request(0, Op.WRITE_REGISTER, offset, REGISTER_BYTES, data)
        self._ask(request, f"register {offset:#x}")

    def read_memory(self, address: int, size_bytes: int) -> np.ndarray:
        """See `Transport`."""
        result = np.empty(size_bytes, np.uint8)

        def take(offset: int, count: int, answer: Answer) -> None:
            self._expect(answer, count)
            result[offset : offset + count] = np.frombuffer(answer.data, np.uint8)

        self._transfer(Op.READ_MEMORY, address, np.empty(0, np.uint8), size_bytes, take)
        return result

    def write_memory(self, address: int, data: np.ndarray) -> None:
        """See `Transport`."""
        if data.dtype != np.uint8 or data.ndim != 1:
            raise TypeError(f"data must be a vector of uint8, not {data.ndim}-D {data.dtype}")
        self._transfer(Op.WRITE_MEMORY, address, data, len(data), lambda *_: None)

    def reset(self) -> None:
        """See `Transport`."""
        self._ask(Request(0, Op.RESET), "a reset")

    def close(self) -> None:
        """Give the port back; may be called twice."""
        self._line.close()

    def _identify(self, expected_board: str | None) -> Greeting:
        try:
            answer = self._session.ask(Request(0, Op.IDENTIFY), _GREETING_RETRIES)
        except NoAnswer as error:
            raise DeviceError(self._stranger()) from error
        version = Greeting.version_of(answer.data)
        if version is None or answer.status is not Status.OK:
            raise DeviceError(self._stranger())
        if version != VERSION:
            raise DeviceError(
                f"board on {self.name!r} speaks version {version} of the link and this kit version "
                f"{VERSION}; load a bitstream that this kit has built"
            )
        greeting = self._decoded(Greeting.decode, answer)
        if expected_board is not None and greeting.board != expected_board:
            raise DeviceError(
                f"board on {self.name!r} is a {greeting.board!r}, not a {expected_board!r}; name "
                f"its port, or that board"
            )
        return greeting

    def _stranger(self) -> str:
        counts = self._session.counts
        if not counts.bytes_received:
            return (
                f"nothing answers on {self.name!r} at {self._baud} baud; check that the board has "
                f"power and that its bitstream is loaded"
            )
        what = "echoes what is sent" if counts.echoes else "does not speak the kit's link"
        return (
            f"what is connected to {self.name!r} {what} ({counts.bytes_received} bytes came at "
            f"{self._baud} baud); name the board's port, or load its bitstream"
        )

    def _ask(self, request: Request, what: str) -> Answer:
        answer = self._session.ask(request)
        if answer.status is not Status.OK:
            raise self._refused(answer.status, what)
        return answer

    def _transfer(
        self,
        op: Op,
        address: int,
        data: np.ndarray,
        size_bytes: int,
        take: Callable[[int, int, Answer], None],
    ) -> None:
        """Move memory in blocks, many of them under way; `take` gets offset, count and answer."""
        if address < 0 or size_bytes < 0 or address + size_bytes > self.identity.memory_bytes:
            raise DeviceError(
                f"bytes {address:#x} to {address + size_bytes:#x} are not within the memory of the "
                f"board on {self.name!r}, which has {self.identity.memory_bytes:#x} bytes"
            )
        block = self._block_bytes
        starts = range(0, size_bytes, block)
        moved, failure = 0, Status.OK

        def requests() -> Iterator[Request]:
            for start in starts:
                count = min(block, size_bytes - start)
                yield Request(0, op, address + start, count, data[start : start + count].tobytes())

        def done(place: int, answer: Answer) -> bool:
            nonlocal moved, failure
            if answer.status is not Status.OK:
                failure = failure or answer.status
                return False
            start = starts[place]
            count = min(block, size_bytes - start)
            take(start, count, answer)
            moved += count
            if self.progress is not None:
                self.progress(moved, size_bytes)
            return True

        self._session.ask_all(requests(), done)
        if failure is not Status.OK:
            raise self._refused(failure, f"memory from {address:#x} on")

    def _refused(self, status: Status, what: str) -> DeviceError:
        board = f"board on {self.name!r}"
        match status:
            case Status.BUSY:
                return DeviceError(
                    f"{board} does not give access to {what} while its core runs; wait for the end "
                    f"of the run, or reset the board"
                )
            case Status.BAD_ADDRESS:
                return DeviceError(f"{board} does not have {what}; name an address that it has")
            case Status.BUS_ERROR:
                return DeviceError(
                    f"{board} got no answer inside itself for {what} and has reset its core: a run "
                    f"took too long, or its hardware is broken; raise the run limit, or load the "
                    f"bitstream again"
                )
            case _:
                return DeviceError(
                    f"{board} does not take the request for {what}; load a bitstream that this kit "
                    f"has built"
                )

    def _expect(self, answer: Answer, size_bytes: int) -> None:
        if len(answer.data) != size_bytes:
            raise DeviceError(
                f"board on {self.name!r} answered with {len(answer.data)} bytes, not "
                f"{size_bytes}; load a bitstream that this kit has built"
            )

    def _decoded(self, decode: Callable[[bytes], T], answer: Answer) -> T:
        try:
            return decode(answer.data)
        except FrameError as error:
            raise DeviceError(
                f"board on {self.name!r} answers in a form that this kit does not know ({error}); "
                f"load a bitstream that this kit has built"
            ) from error
