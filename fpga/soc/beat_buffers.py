"""The beats on their way to the SDRAM and from there."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vta_hw.rtl.memories import parted_memory
from vta_hw.rtl.signatures import LENGTH_BITS, bus_bits
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.machine import BURST_BEATS_MAX, bus_bytes
from vta_hw.spec.sdram import SdramTiming


class WriteBuffer(wiring.Component):
    """Holds the beats of as many write bursts as may be open, and gives them out by words.

    Members
    -------
    valid, ready, beat, strobe
        Beats come in.
    word, mask
        The oldest word; bytes with a mask bit are not to be written. It is there three cycles
        after its beat came in.
    take
        Go on to the next word.
    """

    def __init__(self, config: VtaConfig, timing: SdramTiming) -> None:
        self._depth = config.max_reads * BURST_BEATS_MAX
        self._word_bits, self._word_bytes = timing.part.data_bits, timing.part.word_bytes
        self._words = bus_bytes(config) // self._word_bytes
        super().__init__(
            {
                "valid": In(1),
                "ready": Out(1),
                "beat": In(bus_bits(config)),
                "strobe": In(bus_bytes(config)),
                "word": Out(self._word_bits),
                "mask": Out(self._word_bytes),
                "take": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The memory is read in every cycle, at the place of the beat that the next one needs."""
        m = Module()
        storage = parted_memory(len(self.beat) + len(self.strobe), self._depth)
        m.submodules.storage = storage
        write, read = storage.write_port(), storage.read_port()
        first, behind = Signal(range(self._depth)), Signal(range(self._depth))
        level = Signal(range(self._depth + 1))
        place = Signal(range(self._words))
        accepted, used = Signal(), Signal()
        m.d.comb += [
            self.ready.eq(level != self._depth),
            accepted.eq(self.valid & self.ready),
            used.eq(self.take & (place == self._words - 1)),
            write.en.eq(accepted),
            write.addr.eq(behind),
            write.data.eq(Cat(self.beat, self.strobe)),
            read.en.eq(1),
            read.addr.eq(first + used),
        ]
        m.d.sync += [
            behind.eq(behind + accepted),
            first.eq(first + used),
            level.eq(level + accepted - used),
        ]
        with m.If(self.take):
            m.d.sync += place.eq(place + 1)
        beat, strobe = read.data[: len(self.beat)], read.data[len(self.beat) :]
        m.d.comb += [
            self.word.eq(beat.word_select(place, self._word_bits)),
            self.mask.eq(~strobe.word_select(place, self._word_bytes)),
        ]
        return m


class ReadBuffer(wiring.Component):
    """Makes beats of words, and hands those of a burst on without a gap.

    Members
    -------
    asked, ends, release, beats
        In this cycle a word is asked for; it is the burst's last; from here on the burst's words
        come soon enough for one beat per cycle; its beats, less one.
    word
        What was asked for `SdramTiming.read_latency` cycles ago.
    started, room
        A burst of `beats` begins; there is room for a whole burst. Only then one may begin.
    valid, ready, beat, last
        Beats go out: the first one five cycles after `release`, or right behind the burst before.
    arriving
        Words are under way.
    """

    def __init__(self, config: VtaConfig, timing: SdramTiming) -> None:
        self._latency = timing.read_latency
        self._word_bits = timing.part.data_bits
        self._words = bus_bytes(config) // timing.part.word_bytes
        super().__init__(
            {
                "asked": In(1),
                "ends": In(1),
                "release": In(1),
                "beats": In(LENGTH_BITS),
                "word": In(self._word_bits),
                "started": In(1),
                "start_beats": In(LENGTH_BITS),
                "room": Out(1),
                "valid": Out(1),
                "ready": In(1),
                "beat": Out(bus_bits(config)),
                "last": Out(1),
                "arriving": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Follow what was asked for through the pins, and keep beats until they are released."""
        m = Module()
        depth = 2 * BURST_BEATS_MAX
        storage = parted_memory(len(self.beat) + 1, depth)
        m.submodules.storage = storage
        write, read = storage.write_port(), storage.read_port()
        asked = Signal(self._latency)
        ends, release = Signal(self._latency), Signal(self._latency)
        m.d.sync += [
            asked.eq(Cat(self.asked, asked)),
            ends.eq(Cat(self.ends, ends)),
            release.eq(Cat(self.release, release)),
        ]
        beats: Value = self.beats
        for stage in range(self._latency):
            held = Signal(LENGTH_BITS, name=f"beats_{stage}")
            m.d.sync += held.eq(beats)
            beats = held
        m.d.comb += self.arriving.eq(asked.any())
        self._assemble(m, asked[-1], ends[-1], write)

        released, reserved = Signal(range(depth + 1)), Signal(range(depth + 1))
        place = Signal(range(depth))
        goes, taken = Signal(), Signal()
        more, begun = Signal(range(BURST_BEATS_MAX + 1)), Signal(range(BURST_BEATS_MAX + 1))
        m.d.comb += [
            goes.eq((released != 0) & (~self.valid | self.ready)),
            taken.eq(self.valid & self.ready),
            read.en.eq(goes),
            read.addr.eq(place),
            self.beat.eq(read.data),
            self.last.eq(read.data[-1]),
            self.room.eq(reserved <= depth - BURST_BEATS_MAX),
        ]
        with m.If(release[-1]):
            m.d.comb += more.eq(beats + 1)
        with m.If(self.started):
            m.d.comb += begun.eq(self.start_beats + 1)
        m.d.sync += [
            released.eq(released + more - goes),
            reserved.eq(reserved + begun - taken),
            place.eq(place + goes),
        ]
        with m.If(goes):
            m.d.sync += self.valid.eq(1)
        with m.Elif(self.ready):
            m.d.sync += self.valid.eq(0)
        return m

    def _assemble(self, m: Module, comes: Value, ends: Value, write: Any) -> None:
        """The last word of a beat completes it."""
        earlier = Signal(self._word_bits * (self._words - 1))
        place, behind = Signal(range(self._words)), Signal(range(2 * BURST_BEATS_MAX))
        complete = Signal()
        m.d.comb += [
            complete.eq(comes & (place == self._words - 1)),
            write.en.eq(complete),
            write.addr.eq(behind),
            write.data.eq(Cat(earlier, self.word, ends)),
        ]
        with m.If(comes):
            m.d.sync += [
                place.eq(place + 1),
                earlier.eq(Cat(earlier, self.word)[self._word_bits :]),
            ]
        m.d.sync += behind.eq(behind + complete)
