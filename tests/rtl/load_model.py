"""A plain model of a loader, cycle by cycle, from the page on timing; and what drives it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, fields
from random import Random
from typing import Any

from vta_hw.spec.config import MemType, VtaConfig

PAGE = 4096
DRAM_BYTES = 1 << 17


@dataclass(frozen=True)
class Job:
    """A LOAD_JOB, with the bytes of its element."""

    element: int
    address: int
    stride: int
    rows: int
    columns: int
    sram: int
    fill_first: int = 0
    fill_between: int = 0
    fill_last: int = 0
    least: int = 0
    eight_bit: int = 0
    replicate: int = 0

    def pack(self, layout: Any) -> int:
        """The number whose bits are the job."""
        word = 0
        for item in fields(self)[1:]:
            place = layout[item.name]
            value = getattr(self, item.name)
            assert value < 1 << place.width, item.name
            word |= value << place.offset
        return word

    @property
    def reads(self) -> dict[int, int]:
        """The elements read, by index, with their addresses."""
        first = self.sram + self.fill_first
        pitch = self.columns + self.fill_between
        return {
            first + row * pitch + column: self.address + row * self.stride + column * self.element
            for row in range(self.rows)
            for column in range(self.columns)
        }

    @property
    def fills(self) -> list[int]:
        """The other elements, in order."""
        between = max(self.rows - 1, 0) * self.fill_between
        total = self.rows * self.columns + self.fill_first + between + self.fill_last
        reads = self.reads
        return [index for index in range(self.sram, self.sram + total) if index not in reads]

    def bursts(self, bus: int) -> list[tuple[int, int]]:
        """Address and beats of each burst (rule B1)."""
        window = min(256 * bus, PAGE)
        found = []
        for row in range(self.rows):
            begin = self.address + row * self.stride
            end = begin + self.columns * self.element
            beats = list(range(begin // bus * bus, end, bus))
            for beat in beats:
                if beat == beats[0] or beat % window == 0:
                    found.append((beat, 0))
                found[-1] = (found[-1][0], found[-1][1] + 1)
        return found

    def pieces(self, bus: int) -> list[list[tuple[int, int, int]]]:
        """For each beat what it brings: (index, part, place in the beat)."""
        beats: list[list[tuple[int, int, int]]] = []
        at = None
        for number, (index, address) in enumerate(self.reads.items()):
            for place in range(0, self.element, min(bus, self.element)):
                beat = (address + place) // bus
                if beat != at or (number % self.columns == 0 and place == 0):
                    beats.append([])
                    at = beat
                beats[-1].append((index, place // bus, (address + place) % bus))
        return beats


@dataclass
class _Active:
    job: Job
    bursts: deque[tuple[int, int]]
    beats: deque[list[tuple[int, int, int]]]
    fills: deque[int]
    error: bool = False
    last_beat: int | None = None


@dataclass(frozen=True)
class Cycle:
    """What is to be seen of a loader in one cycle."""

    ready: bool
    request: tuple[int, int] | None
    done: bool
    fault: bool
    moving: bool
    busy: bool
    port_wait: bool
    beat: list[tuple[int, int, int]] | None
    beat_job: Job | None
    fill: int | None
    fill_wanted: int | None
    fill_job: Job | None


@dataclass
class LoaderModel:
    """Rules L2 to L5, D1 and D2."""

    bus: int
    now: int = 0
    waiting: Job | None = None
    flight: deque[_Active] = field(default_factory=deque)
    last: _Active | None = None
    ended: tuple[bool, bool] = (False, False)

    def request(self) -> tuple[int, int] | None:
        """The burst that is asked for in this cycle."""
        return self.last.bursts[0] if self.last and self.last.bursts else None

    def cycle(self, start: Job | None, ready: bool, beat: bool, error: bool, grant: bool) -> Cycle:
        """One cycle with these inputs; `start` only if there is room, `beat` only if one is due."""
        was_ready = self.waiting is None
        request = self.request()
        done, fault = self.ended
        self.ended = (False, False)
        takes = self._takes()
        pieces, beat_job = self._beat(error) if beat else (None, None)
        wanted = self._fill_wanted()
        fill_job = self.last.job if self.last and wanted is not None else None
        filled = wanted is not None and not beat and grant
        if filled:
            assert self.last
            self.last.fills.popleft()
        if request and ready:
            assert self.last
            self.last.bursts.popleft()
        self._retire()
        if takes:
            assert self.waiting
            self._take(self.waiting)
        if start:
            self.waiting = start
        self.now += 1
        return Cycle(
            was_ready, request, done, fault, takes or filled, beat or filled,
            wanted is not None and not filled, pieces, beat_job,
            wanted if filled else None, None if beat else wanted, fill_job,
        )  # fmt: skip

    def _takes(self) -> bool:
        if not self.waiting or (self.last and (self.last.bursts or self.last.fills)):
            return False
        fills = self.waiting.fill_first or self.waiting.fill_last
        return not fills or not self.flight

    def _take(self, job: Job) -> None:
        self.last = _Active(
            job, deque(job.bursts(self.bus)), deque(job.pieces(self.bus)), deque(job.fills)
        )
        self.flight.append(self.last)
        self.waiting = None

    def _beat(self, error: bool) -> tuple[list[tuple[int, int, int]], Job]:
        oldest = self.flight[0]
        oldest.error |= error
        pieces = oldest.beats.popleft()
        if not oldest.beats:
            oldest.last_beat = self.now
        return pieces, oldest.job

    def _fill_wanted(self) -> int | None:
        if not self.last or not self.last.fills:
            return None
        over = self.last.last_beat is not None and self.last.last_beat < self.now
        return self.last.fills[0] if over or not self.last.job.replicate else None

    def _retire(self) -> None:
        if self.flight and not self.flight[0].beats and not self.flight[0].fills:
            self.ended = (True, self.flight.popleft().error)


def random_job(
    random: Random, config: VtaConfig, memory: MemType, *, most: int = 40, least: bool = True
) -> Job:
    """Any legal job of `memory`, of about `most` elements at most."""
    element, depth = config.elem_bytes(memory), config.depth(memory)
    room = min(depth, random.randint(1, most))
    eight_bit = int(memory is MemType.ACC_8BIT)
    low = int(least and random.random() < 0.3)
    if memory in (MemType.ACC, MemType.ACC_8BIT) and random.random() < 0.15 and room > 1:
        return Job(
            element, _address(random, element, element), 0, 1, 1,
            random.randint(0, depth - room), fill_last=room - 1, least=low,
            eight_bit=eight_bit, replicate=1,
        )  # fmt: skip
    while True:
        columns, rows = random.randint(1, room), random.randint(0, 6)
        left, right = _pads(random), _pads(random)
        above, below = _pads(random), _pads(random)
        width = left + columns + right
        total = (above + rows + below) * width
        if not 1 <= total <= room:
            # The more often it fails the likelier a small one.
            room = max(room, 1)
            continue
        first, last = above * width + left, below * width + right
        if not rows:
            first, last = total, 0
        stride = element * random.choice([0, 1, columns, random.randint(0, 200)])
        stride = min(stride, DRAM_BYTES // 16 // element * element)
        return Job(
            element, _address(random, element, rows * stride + columns * element), stride, rows,
            columns, random.randint(0, depth - total), first, left + right, last, low, eight_bit,
        )  # fmt: skip


def _pads(random: Random) -> int:
    return random.choice([0, 0, 0, 1, 2])


def _address(random: Random, element: int, span: int) -> int:
    """Often shortly before the end of a page."""
    near = random.randint(1, 3) * PAGE - random.randint(0, 3) * element
    anywhere = random.randrange(0, DRAM_BYTES - span) // element * element
    return random.choice([near, anywhere]) if near + span <= DRAM_BYTES else anywhere
