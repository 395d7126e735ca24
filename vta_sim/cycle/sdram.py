"""When an SDRAM serves bursts: the schedule of ``docs/sdram.md``, one burst after the other."""

from __future__ import annotations

from dataclasses import dataclass, field

from vta_hw.spec.sdram import SdramTiming

_QUEUE = 2
"""Cycles from the entry of a burst to the first in which its job can be decided about."""

_READ_DELAY = 2
"""Cycles from the one that sees a word to the one that has its beat on the bus."""

_LONG_AGO = -(1 << 60)


@dataclass
class Sdram:
    """The state of a controller and its chip, between two bursts.

    Bursts are served in the order in which they enter, those that have `beat_words` per beat.
    `settled` is the cycle in which the controller said that it has closed all rows.
    """

    timing: SdramTiming
    beat_words: int
    settled: int
    _free: int = field(init=False)  # the first cycle in which a job can be decided about
    _refresh: int = field(init=False)  # and the one from which on the next refresh is owed
    _rows: list[int | None] = field(init=False)
    _activated: int = _LONG_AGO
    _written: int = _LONG_AGO
    _was_read: int = _LONG_AGO
    _bus: int = _LONG_AGO  # the last beat that was handed on

    def __post_init__(self) -> None:
        self._free = self.settled - 1 + self.timing.rfc
        self._refresh = self.settled + 1 + self.timing.refresh_interval
        self._rows = [None] * (1 << self.timing.part.bank_bits)

    def read(self, entered: int, address: int, beats: int) -> tuple[int, int]:
        """Cycles on the bus of the first and the last beat of a burst that enters in `entered`."""
        released = self._move(entered, address, beats, write=False)
        first = released + self.timing.read_latency + _READ_DELAY
        first = max(first, self._bus + 1)
        self._bus = first + beats - 1
        return first, self._bus

    def write(self, entered: int, address: int, beats: int) -> int:
        """Cycle on the bus of the response to a burst that enters in `entered`."""
        return self._move(entered, address, beats, write=True) + 1

    def _move(self, entered: int, address: int, beats: int, *, write: bool) -> int:
        """Move the words of a burst: the cycle of its release, or of the last word written."""
        part = self.timing.part
        row_words = part.row_bytes // part.word_bytes
        left = beats * self.beat_words
        word = address // (part.word_bytes * self.beat_words) * self.beat_words
        ready = entered + _QUEUE
        while True:
            words = min(left, row_words - word % row_words)
            begin = self._open(ready, word // row_words, write)
            end = begin + words - 1
            if write:
                self._written = end
            else:
                self._was_read = end
            self._free = ready = end
            left -= words
            word += words
            if not left:
                # The rest comes as fast as it is handed on.
                return end if write else begin + max(0, words - beats)

    def _open(self, ready: int, row: int, write: bool) -> int:
        """Make the row ready for a job that can be decided about from `ready` on: first word."""
        timing, part = self.timing, self.timing.part
        self._catch_up(ready)
        decided = max(self._free, ready)
        bank, row = row % (1 << part.bank_bits), (row >> part.bank_bits) % (1 << part.row_bits)
        begin = decided + 1
        if self._rows[bank] != row:
            if self._rows[bank] is not None:
                begin = self._may_close(begin) + timing.rp
            self._activated = begin
            self._rows[bank] = row
            begin += timing.rcd
        return max(begin, self._was_read + timing.write_after_read) if write else begin

    def _may_close(self, earliest: int) -> int:
        timing = self.timing
        return max(earliest, self._activated + timing.ras, self._written + timing.wr)

    def _catch_up(self, ready: int) -> None:
        """Do the refreshes that come before a job that can be decided about from `ready` on."""
        timing = self.timing
        while self._refresh <= max(self._free, ready):
            decided = max(self._free, self._refresh)
            self._free = self._may_close(decided + 1) + timing.rp + timing.rfc
            self._rows = [None] * len(self._rows)
            self._refresh += timing.refresh_interval
