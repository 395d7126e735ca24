"""The board's end of the link in plain Python, and lines that lose, change and repeat bytes."""

from __future__ import annotations

import os
import select
import threading
import tty
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from random import Random

import numpy as np

from fpga.driver.serial_link import SerialLink
from fpga.protocol import (
    BLOCK_BYTES,
    CARRIES_DATA,
    CONTENT_BYTES,
    COUNTER_BITS,
    DEFAULT_RUN_LIMIT_MS,
    HEADER_BYTES,
    MAGIC,
    ONCE,
    REGISTER_SPACE_BYTES,
    RUN_LIMIT_BITS,
    VERSION,
    Answer,
    Deframer,
    Greeting,
    Op,
    Request,
    Statistics,
    Status,
    frame,
)
from vta_hw.spec.registers import READ_ONLY, REGISTER_BYTES, Register

GREETING = Greeting(MAGIC, VERSION, BLOCK_BYTES, 8176, 1 << 16, 64_000_000, "ulx3s")
LAUNCH = (int(Register.CONTROL), 1)
MAPPED = frozenset(int(register) for register in Register)


@dataclass
class DeviceModel:
    """What a board does with requests. `writes` is every register write that reached the core.

    Memory from `broken` on answers with an error.
    """

    greeting: Greeting = GREETING
    running: bool = False
    broken: int = 1 << 32
    registers: dict[int, int] = field(default_factory=dict)
    writes: list[tuple[int, int]] = field(default_factory=list)
    resets: int = 0
    run_limit_ms: int = DEFAULT_RUN_LIMIT_MS
    good: int = 0
    repeats: int = 0
    asked: set[int] = field(default_factory=set)
    """Ops of all requests so far."""
    _last: tuple[int, Status] | None = None

    def __post_init__(self) -> None:
        self.memory = bytearray(self.greeting.memory_bytes)
        self.deframer = Deframer()

    def feed(self, data: bytes) -> bytes:
        """What the board sends when these bytes come."""
        return b"".join(self.frames(data))

    def frames(self, data: bytes) -> Iterator[bytes]:
        """The same, frame by frame."""
        for content in self.deframer.feed(data):
            if not HEADER_BYTES <= len(content) <= CONTENT_BYTES:
                self.deframer.bad += 1
                continue
            self.good += 1
            yield frame(self.answer(Request.decode(content)).encode())

    @property
    def statistics(self) -> Statistics:
        modulus = 1 << COUNTER_BITS
        return Statistics(
            frames_good=self.good % modulus,
            frames_bad=self.deframer.bad % modulus,
            repeats=self.repeats % modulus,
        )

    def answer(self, request: Request) -> Answer:
        """Carry out a request, or do not."""
        self.asked.add(request.op)
        once = request.op in ONCE
        if once and self._last is not None and self._last[0] == request.sequence:
            self.repeats += 1
            return Answer(request.sequence, request.op, self._last[1])
        status, data = self._perform(request)
        self._last = (request.sequence, status) if once else None
        return Answer(request.sequence, request.op & 0x7F, status, data)

    def _perform(self, request: Request) -> tuple[Status, bytes]:
        size = request.count if request.op in CARRIES_DATA else 0
        if len(request.data) != size:
            return Status.BAD_REQUEST, b""
        match request.op:
            case Op.READ_REGISTER | Op.WRITE_REGISTER:
                return self._register(request)
            case Op.READ_MEMORY | Op.WRITE_MEMORY:
                return self._block(request)
        if request.count:
            return Status.BAD_REQUEST, b""
        match request.op:
            case Op.IDENTIFY:
                return Status.OK, self.greeting.encode()
            case Op.STATISTICS:
                return Status.OK, self.statistics.encode()
            case Op.SET_RUN_LIMIT if request.address < 1 << RUN_LIMIT_BITS:
                self.run_limit_ms = request.address
                return Status.OK, b""
            case Op.RESET:
                self.resets += 1
                self.registers.clear()
                self.running = False
                return Status.OK, b""
        return Status.BAD_REQUEST, b""

    def _register(self, request: Request) -> tuple[Status, bytes]:
        offset = request.address
        if request.count != REGISTER_BYTES:
            return Status.BAD_REQUEST, b""
        if offset % REGISTER_BYTES or offset >= REGISTER_SPACE_BYTES:
            return Status.BAD_ADDRESS, b""
        if offset not in MAPPED:
            return Status.BAD_ADDRESS, b""
        if request.op == Op.READ_REGISTER:
            return Status.OK, self.registers.get(offset, 0).to_bytes(REGISTER_BYTES, "little")
        if offset in READ_ONLY:
            return Status.BAD_ADDRESS, b""
        value = int.from_bytes(request.data, "little")
        self.writes.append((offset, value))
        self.registers[offset] = value
        return Status.OK, b""

    def _block(self, request: Request) -> tuple[Status, bytes]:
        begin, count = request.address, request.count
        if not 1 <= count <= BLOCK_BYTES:
            return Status.BAD_REQUEST, b""
        if begin + count > len(self.memory):
            return Status.BAD_ADDRESS, b""
        if self.running:
            return Status.BUSY, b""
        end = min(begin + count, max(begin, self.broken))
        status = Status.OK if end == begin + count else Status.BUS_ERROR
        if request.op == Op.READ_MEMORY:
            return status, bytes(self.memory[begin:end])
        self.memory[begin:end] = request.data[: end - begin]
        return status, b""


@dataclass
class Noise:
    """Changes what passes a line: with the probability `rate` per piece, one thing happens to it.

    `only` restricts it to some of `KINDS`. Frames are pieces when they are passed one by one.
    """

    KINDS = ("flip", "lose", "insert", "cut", "twice", "vanish")

    random: Random
    rate: float
    only: tuple[str, ...] = KINDS
    done: int = 0

    def __call__(self, piece: bytes) -> bytes:
        if not piece or self.random.random() >= self.rate:
            return piece
        self.done += 1
        return damage(piece, self.random.choice(self.only), self.random)


def damage(piece: bytes, kind: str, random: Random) -> bytes:
    """One kind of damage to some bytes."""
    at = random.randrange(len(piece))
    match kind:
        case "flip":
            changed = bytes([piece[at] ^ (1 << random.randrange(8))])
            return piece[:at] + changed + piece[at + 1 :]
        case "lose":
            return piece[:at] + piece[at + random.randint(1, 5) :]
        case "insert":
            return piece[:at] + random.randbytes(random.randint(1, 3)) + piece[at:]
        case "cut":
            return piece[:at]
        case "twice":
            return piece + piece
        case "vanish":
            return b""
    raise ValueError(kind)


def clean(piece: bytes) -> bytes:
    return piece


class ModelLine:
    """A `Line` to a `DeviceModel` without an operating system between; its clock counts reads."""

    name = "model"

    def __init__(
        self,
        model: DeviceModel,
        there: Callable[[bytes], bytes] = clean,
        back: Callable[[bytes], bytes] = clean,
    ) -> None:
        self._model, self._there, self._back = model, there, back
        self._waiting = b""
        self._now = 0.0
        self.closed = False

    def now(self) -> float:
        return self._now

    def write(self, data: bytes) -> None:
        self._waiting += b"".join(map(self._back, self._model.frames(self._there(data))))

    def read(self, timeout_s: float) -> bytes:
        if not self._waiting:
            self._now += timeout_s
        self._now += 1e-6
        data, self._waiting = self._waiting[:700], self._waiting[700:]
        return data

    def close(self) -> None:
        self.closed = True


class TimedLine:
    """A `Line` with a rate, to a board that takes no time, through a converter that takes some.

    What comes from the board is handed over `latency_s` after its last byte in a row, at the
    earliest; its clock is simulated.
    """

    name = "timed"

    def __init__(self, model: DeviceModel, baud: int, latency_s: float) -> None:
        self._model, self._byte_s, self._latency_s = model, 10 / baud, latency_s
        self._now = self._sent = self._answered = 0.0
        self._coming: deque[tuple[float, bytes]] = deque()
        self.most_kept = 0
        """Requests that the board had to keep at a time, in bytes with their lengths."""
        self._kept: deque[tuple[float, int]] = deque()

    def now(self) -> float:
        return self._now

    def write(self, data: bytes) -> None:
        self._sent = max(self._sent, self._now) + len(data) * self._byte_s
        while self._kept and self._kept[0][0] <= self._now:
            self._kept.popleft()
        for answer in self._model.frames(data):
            begin = max(self._answered, self._sent)
            self._answered = begin + len(answer) * self._byte_s
            self._coming.append((self._answered + self._latency_s, answer))
            self._kept.append((self._answered, len(data) - 4))
        self.most_kept = max(self.most_kept, sum(size for _, size in self._kept))

    def read(self, timeout_s: float) -> bytes:
        if not self._coming or self._coming[0][0] > self._now + timeout_s:
            self._now += timeout_s
            return b""
        self._now = max(self._now, self._coming[0][0])
        data = b""
        while self._coming and self._coming[0][0] <= self._now:
            data += self._coming.popleft()[1]
        return data

    def close(self) -> None:
        pass


class PtyBoard:
    """A board behind a pseudo-terminal, which an unchanged driver opens by its `port`."""

    def __init__(self, respond: Callable[[bytes], bytes]) -> None:
        self._respond = respond
        self._master, slave = os.openpty()
        tty.setraw(slave)
        self._slave = slave
        self.port = os.ttyname(slave)
        self.after_bytes: int | None = None
        """When as many have come from the host, the board is unplugged."""
        self._stop, self._stopper = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._master, self._stop], [], [])
            if self._stop in ready:
                break
            with suppress(OSError):
                data = os.read(self._master, 4096)
                if self.after_bytes is not None:
                    self.after_bytes -= len(data)
                    if self.after_bytes <= 0:
                        break
                self._write(self._respond(data))
        os.close(self._master)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._master, data) :]

    def unplug(self) -> None:
        os.write(self._stopper, b"x")
        self._thread.join()

    def close(self) -> None:
        self.unplug()
        for descriptor in (self._slave, self._stop, self._stopper):
            os.close(descriptor)


@contextmanager
def pty_board(respond: Callable[[bytes], bytes]) -> Iterator[PtyBoard]:
    board = PtyBoard(respond)
    try:
        yield board
    finally:
        board.close()


SIZES = (0, 1, 3, 64, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES - 7)


def exercise(
    link: SerialLink,
    model: DeviceModel,
    random: Random,
    steps: int,
    sizes: tuple[int, ...] = SIZES,
) -> None:
    """Random requests; raises when one of them does not do exactly what it says."""
    expected = bytearray(model.memory)
    launches = len(model.writes)
    for _ in range(steps):
        size = random.choice(sizes)
        address = random.randrange(len(expected) - size)
        match random.randrange(4):
            case 0:
                data = random.choice([random.randbytes(size), b"\x7e" * size])
                link.write_memory(address, np.frombuffer(data, np.uint8))
                expected[address : address + size] = data
                assert model.memory == expected
            case 1:
                got = link.read_memory(address, size).tobytes()
                assert got == expected[address : address + size]
            case 2:
                link.write_register(*LAUNCH)
                launches += 1
            case 3:
                value = random.getrandbits(32)
                link.write_register(Register.INP_BASE, value)
                launches += 1
                assert link.read_register(Register.INP_BASE) == value
        assert len(model.writes) == launches, "a write was not done exactly once"
