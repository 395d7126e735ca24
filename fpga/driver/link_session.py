"""Requests and answers over a line that may lose or change bytes: windows, deadlines, repeats."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from fpga.driver.serial_port import Line
from fpga.protocol import (
    CONTENT_BYTES,
    CRC_BYTES,
    FLAG,
    SEQUENCE_BITS,
    Answer,
    Deframer,
    FrameError,
    Op,
    Request,
    frame,
)
from vta_hw.spec.errors import DeviceError

_BITS_PER_BYTE = 10
_STUFFED = 2
"""A frame is never longer than this many times what is in it."""
_SILENCE_S = 0.05
"""After a bad frame and as long a silence, the answer was in the bad frame."""
_MOST_PENDING = 32

Done = Callable[[int, Answer], bool]
"""Takes the place of a request among those asked, and its answer; false: begin no further one."""


@dataclass
class LinkCounts:
    """What a session has seen so far."""

    requests: int = 0
    """Requests that were answered."""
    retries: int = 0
    """Requests that were sent again."""
    bad_frames: int = 0
    """Frames from the board that were no answers."""
    stale_answers: int = 0
    """Answers to requests that had been answered or given up."""
    bytes_received: int = 0
    echoes: int = 0
    """Requests that came back as they were."""


@dataclass
class _Pending:
    place: int
    request: Request
    sends: int = 0
    turn: int = 0
    """Of its last sending among all sendings."""


class NoAnswer(DeviceError):
    """A request was sent as often as it may, and was not answered."""


class LinkSession:
    """The host's half of the protocol, on an open line.

    Every request is answered once, or `NoAnswer` is raised after `retries` repeats. A repeat keeps
    its sequence number and gets a new deadline: `timeout_s` after the last sign of progress, plus
    the time that what is under way takes on the line. Several requests are under way only where all
    may be carried out twice and in any order; what they take of the board's buffer is held below
    `window_bytes`.
    """

    def __init__(self, line: Line, baud: int, *, timeout_s: float, retries: int) -> None:
        self.window_bytes = 0
        """One request at a time, until it is known what the board can hold."""
        self.counts = LinkCounts()
        self._line = line
        self._baud = baud
        self._timeout_s, self._retries = timeout_s, retries
        self._sequence = random.getrandbits(SEQUENCE_BITS)
        self._deframer = Deframer()
        self._pending: dict[int, _Pending] = {}
        self._turn = 0
        self._progress_s = self._heard_s = 0.0
        self._suspicious = False
        # Ends whatever the board has of a frame that somebody else began.
        line.write(bytes([FLAG]))

    def ask(self, request: Request, retries: int | None = None) -> Answer:
        """The answer to one request, whose sequence number is put in here."""
        answers: list[Answer] = []

        def done(place: int, answer: Answer) -> bool:
            answers.append(answer)
            return True

        self.ask_all([request], done, retries)
        return answers[0]

    def ask_all(self, requests: Iterable[Request], done: Done, retries: int | None = None) -> None:
        """Hand each request's answer to `done` as it comes, in any order.

        Requests beyond the first must be of those that may be carried out twice and in any order.
        When `done` says so, what is under way is still waited for, and nothing else sent.
        """
        limit = self._retries if retries is None else retries
        waiting = enumerate(requests)
        following = next(waiting, None)
        self._pending.clear()
        self._suspicious = False
        self._progress_s = self._line.now()
        while following is not None or self._pending:
            while following is not None and self._has_room(following[1]):
                self._begin(*following)
                following = next(waiting, None)
            if data := self._line.read(max(0.0, self._deadline_s() - self._line.now())):
                self.counts.bytes_received += len(data)
                self._heard_s = self._line.now()
                for item, answer in self._answers(data, limit):
                    if not done(item.place, answer):
                        following = None
            if self._pending and self._line.now() >= self._deadline_s():
                self._repeat(list(self._pending.values()), limit)

    def _has_room(self, request: Request) -> bool:
        if not self._pending:
            return True
        taken = sum(_window_bytes(item.request) for item in self._pending.values())
        fits = taken + _window_bytes(request) <= self.window_bytes
        return fits and len(self._pending) < _MOST_PENDING

    def _begin(self, place: int, request: Request) -> None:
        self._sequence = (self._sequence + 1) % (1 << SEQUENCE_BITS)
        item = _Pending(place, replace(request, sequence=self._sequence))
        self._send(item)

    def _send(self, item: _Pending) -> None:
        """Send it, as the last one of those under way."""
        self._pending.pop(item.request.sequence, None)
        self._pending[item.request.sequence] = item
        item.sends += 1
        self._turn += 1
        item.turn = self._turn
        self._line.write(frame(item.request.encode()))
        self._progress_s = self._line.now()

    def _repeat(self, items: list[_Pending], limit: int) -> None:
        self._suspicious = False
        for item in items:
            if item.sends > limit:
                raise self._no_answer(item)
            self.counts.retries += 1
            self._send(item)

    def _no_answer(self, item: _Pending) -> NoAnswer:
        counts = self.counts
        op = Op(item.request.op).name
        return NoAnswer(
            f"board on {self._line.name!r} did not answer {op} in {item.sends} tries (of all "
            f"requests {counts.requests} were answered and {counts.retries} sent again, "
            f"{counts.bad_frames} bad frames came); check cable, power and bitstream"
        )

    def _deadline_s(self) -> float:
        under_way = sum(
            _window_bytes(item.request) + 2 * CRC_BYTES for item in self._pending.values()
        )
        byte_s = _STUFFED * _BITS_PER_BYTE / self._baud
        deadline = self._progress_s + self._timeout_s + byte_s * under_way
        if self._suspicious:
            deadline = min(deadline, self._heard_s + _SILENCE_S + byte_s * CONTENT_BYTES)
        return deadline

    def _answers(self, data: bytes, limit: int) -> Iterator[tuple[_Pending, Answer]]:
        """The answers in `data` that requests wait for; sends again what must have been lost."""
        bad = self._deframer.bad
        for content in self._deframer.feed(data):
            try:
                answer = Answer.decode(content)
            except FrameError:
                self.counts.bad_frames += 1
                self.counts.echoes += self._is_echo(content)
                continue
            item = self._pending.get(answer.sequence)
            if item is None or item.request.op != answer.op:
                self.counts.stale_answers += 1
                continue
            del self._pending[answer.sequence]
            self.counts.requests += 1
            self._progress_s = self._line.now()
            self._suspicious = False
            yield item, answer
            if item.sends == 1:
                # The board answers in order: it has not seen, or not answered, what went before.
                lost = [other for other in self._pending.values() if other.turn < item.turn]
                self._repeat(lost, limit)
        self.counts.bad_frames += self._deframer.bad - bad
        self._suspicious |= self._deframer.bad > bad

    def _is_echo(self, content: bytes) -> bool:
        return any(content == item.request.encode() for item in self._pending.values())


def _window_bytes(request: Request) -> int:
    """What a request under way counts for; answers are held down as much as requests."""
    answered = request.count if request.op == Op.READ_MEMORY else 0
    return request.buffered_bytes + answered
