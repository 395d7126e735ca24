"""The SDRAM controller: opens rows, moves words, refreshes; one job after the other.

Its schedule is that of ``docs/sdram.md``, to the cycle: the cycle simulator counts with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from vta_hw.spec.sdram import INITIAL_REFRESHES, REFRESHES_OWED_MAX, SdramPart, SdramTiming


class Command(IntEnum):
    """RAS, CAS and WE of each command, active low, the first one in the highest bit."""

    MODE = 0b000
    REFRESH = 0b001
    PRECHARGE = 0b010
    ACTIVATE = 0b011
    WRITE = 0b100
    READ = 0b101
    NOP = 0b111


ALL_BANKS = 10
"""The address bit that makes a PRECHARGE one of all banks."""


def mode_word(part: SdramPart) -> int:
    """The mode register: one word for each command, and the part's CAS latency."""
    return part.cas_clocks << 4


class SdramPins(wiring.Signature):
    """The chip's pins, seen from the FPGA; CKE and CS are held active outside.

    `command` is RAS, CAS, WE (see `Command`); `drive` says that `dq_out` is on the data pins.
    """

    def __init__(self, part: SdramPart) -> None:
        super().__init__(
            {
                "command": Out(3, init=Command.NOP),
                "bank": Out(part.bank_bits),
                "address": Out(part.row_bits),
                "mask": Out(part.word_bytes, init=(1 << part.word_bytes) - 1),
                "dq_out": Out(part.data_bits),
                "drive": Out(1),
                "dq_in": In(part.data_bits),
            }
        )


@dataclass(frozen=True)
class JobShape:
    """The layout of a job: words of one row, in a burst of so many beats.

    `words` and `beats` are one less than their number. Of a burst cut at rows, the last job is
    `final`.
    """

    part: SdramPart
    beats_max: int

    @property
    def layout(self) -> data.StructLayout:
        """As a payload."""
        part = self.part
        return data.StructLayout(
            {
                "write": 1,
                "bank": part.bank_bits,
                "row": part.row_bits,
                "column": part.column_bits,
                "words": part.column_bits,
                "beats": (self.beats_max - 1).bit_length(),
                "final": 1,
            }
        )


class _State(enum.Enum, shape=4):  # type: ignore[call-arg]
    POWER_UP = 0
    MODE = 1
    READY = 2
    PRECHARGE = 3
    ACTIVATE = 4
    COLUMN = 5
    PRECHARGE_ALL = 6
    REFRESH = 7


class SdramController(wiring.Component):
    """Gives the commands of one job after the other.

    Members
    -------
    job
        Taken when the controller decides about it; may be offered while the one before moves words.
    room
        Whether a read job may be taken.
    issue, writes
        In this cycle a word is written, or asked for; which of them.
    word, mask
        What is written, taken in cycles with `issue` and `writes`; bytes with a mask bit are kept.
    release
        With `issue` of a read: from now on its burst's beats can be handed on, one per cycle.
    ends
        With `issue`: the last word of a burst.
    beats
        Of the burst of the words at hand, less one.
    read_word
        What was asked for `SdramTiming.read_latency` cycles ago.
    settle, settled
        While `settle` is high and there is no job, rows are closed and refreshed once; then
        `settled` is high for one cycle, from which the refresh interval counts anew.
    idle
        No job is being done.
    pins
        To the chip, all of them registers.
    """

    def __init__(self, timing: SdramTiming, beats_max: int) -> None:
        self._timing = timing
        part = timing.part
        super().__init__(
            {
                "job": In(stream.Signature(JobShape(part, beats_max).layout)),
                "room": In(1),
                "issue": Out(1),
                "writes": Out(1),
                "word": In(part.data_bits),
                "mask": In(part.word_bytes),
                "release": Out(1),
                "ends": Out(1),
                "beats": Out((beats_max - 1).bit_length()),
                "read_word": Out(part.data_bits),
                "settle": In(1),
                "settled": Out(1),
                "idle": Out(1),
                "pins": Out(SdramPins(part)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Timers, what is known of the rows, the state machine, and the registers at the pins."""
        m = Module()
        timing, part = self._timing, self._timing.part
        self._state = Signal(_State)
        self._next = Signal(_State)
        self._pause = Signal(range(timing.power_up + 1), init=timing.power_up)
        self._rest = Signal(init=1)  # registered: whether `_pause` is not over
        self._left = Signal(range(INITIAL_REFRESHES + 1), init=INITIAL_REFRESHES)
        self._up = Signal()  # the mode register is written
        self._command = Signal(3, init=Command.NOP)
        self._command_address = Signal(part.row_bits)
        self._now = Signal(self.job.p.shape())
        self._open = Signal(1 << part.bank_bits)
        self._rows = Array(Signal(part.row_bits, name=f"row_{i}") for i in range(len(self._open)))
        self._closing = Signal()  # the request of `settle` is being done
        m.d.comb += [self._command.eq(Command.NOP), self._command_address.eq(self._now.row)]
        self._count(m)
        self._refresh_timer(m)
        deciding = self._columns(m)
        self._rows_and_refresh(m)
        self._decide(m, deciding)
        self._register_pins(m)
        return m

    def _pause_for(self, m: Module, cycles: int) -> None:
        """The next state acts `cycles` after this one, 1 at least."""
        m.d.sync += [self._pause.eq(cycles - 1), self._rest.eq(cycles > 1)]

    def _count(self, m: Module) -> None:
        """Counters that forbid something for some cycles."""
        timing = self._timing
        m.d.comb += self.idle.eq((self._state == _State.READY) & ~self.job.valid)
        with m.If(self._pause != 0):
            m.d.sync += [self._pause.eq(self._pause - 1), self._rest.eq(self._pause != 1)]
        with m.Else():
            m.d.sync += self._rest.eq(0)
        self._activated = _Holdoff(m, "activated", timing.ras)
        self._written = _Holdoff(m, "written", timing.wr)
        self._was_read = _Holdoff(m, "was_read", timing.write_after_read)

    def _refresh_timer(self, m: Module) -> None:
        """How many refreshes are owed; `settled` starts the interval anew."""
        interval = self._timing.refresh_interval
        timer = Signal(range(interval), init=interval - 1)
        self._owed = Signal(range(REFRESHES_OWED_MAX + 1))
        self._refreshed = Signal()
        expired = Signal()
        m.d.comb += expired.eq(timer == 0)
        with m.If(expired | self.settled):
            m.d.sync += timer.eq(interval - 1)
        with m.Else():
            m.d.sync += timer.eq(timer - 1)
        with m.If(self.settled | ~self._up):
            m.d.sync += self._owed.eq(0)
        with m.Else():
            m.d.sync += self._owed.eq(self._owed + expired - self._refreshed)

    def _columns(self, m: Module) -> Value:
        """Words of the job at hand, one per cycle; whether the next job may be decided about."""
        now = self._now
        last = now.words == 0
        acts = (self._state == _State.COLUMN) & ~self._rest
        m.d.comb += [
            self.writes.eq(now.write),
            self.issue.eq(acts & ~(now.write & self._was_read.holds)),
            self.ends.eq(self.issue & last & now.final),
            self.beats.eq(now.beats),
        ]
        released = Signal()
        m.d.comb += self.release.eq(
            self.issue & ~now.write & now.final & ~released & (now.words <= now.beats)
        )
        with m.If(self.issue):
            m.d.comb += [
                self._command.eq(Mux(now.write, Command.WRITE, Command.READ)),
                self._command_address.eq(now.column),
            ]
            m.d.sync += [
                now.column.eq(now.column + 1),
                now.words.eq(now.words - 1),
                released.eq((released | self.release) & ~last),
            ]
            with m.If(now.write):
                self._written.start(m)
            with m.Else():
                self._was_read.start(m)
            with m.If(last):
                m.d.sync += self._state.eq(_State.READY)
        ready = (self._state == _State.READY) & ~self._rest
        deciding = Signal()
        m.d.comb += deciding.eq(ready | (self.issue & last))
        return deciding

    def _decide(self, m: Module, deciding: Value) -> None:
        """What comes next: a refresh that is owed, a job, or what `settle` asks for."""
        job = self.job.payload
        is_open = self._open.bit_select(job.bank, 1)
        same = self._rows[job.bank] == job.row
        m.d.comb += self.job.ready.eq(deciding & (self._owed == 0) & (self.room | job.write))
        with m.If(deciding & (self._owed != 0)):
            m.d.sync += self._state.eq(_State.PRECHARGE_ALL)
        with m.Elif(self.job.valid & self.job.ready):
            m.d.sync += self._now.eq(job)
            with m.If(~is_open):
                m.d.sync += self._state.eq(_State.ACTIVATE)
            with m.Elif(same):
                m.d.sync += self._state.eq(_State.COLUMN)
            with m.Else():
                m.d.sync += self._state.eq(_State.PRECHARGE)
        with m.Elif(deciding & ~self.job.valid & self.settle & ~self.settled):
            m.d.sync += [self._state.eq(_State.PRECHARGE_ALL), self._closing.eq(1)]

    def _rows_and_refresh(self, m: Module) -> None:
        """Everything that is no column command."""
        timing, part, now = self._timing, self._timing.part, self._now
        may_close = ~(self._activated.holds | self._written.holds)
        m.d.sync += self.settled.eq(0)
        with m.If(~self._rest), m.Switch(self._state):
            with m.Case(_State.PRECHARGE), m.If(may_close):
                m.d.comb += [
                    self._command.eq(Command.PRECHARGE),
                    self._command_address.eq(0),
                ]
                m.d.sync += self._state.eq(_State.ACTIVATE)
                self._pause_for(m, timing.rp)
            with m.Case(_State.ACTIVATE):
                m.d.comb += self._command.eq(Command.ACTIVATE)
                m.d.sync += [
                    self._state.eq(_State.COLUMN),
                    self._open.bit_select(now.bank, 1).eq(1),
                    self._rows[now.bank].eq(now.row),
                ]
                self._activated.start(m)
                self._pause_for(m, timing.rcd)
            with m.Case(_State.POWER_UP):
                m.d.sync += self._state.eq(_State.PRECHARGE_ALL)
            with m.Case(_State.PRECHARGE_ALL), m.If(may_close):
                m.d.comb += [
                    self._command.eq(Command.PRECHARGE),
                    self._command_address.eq(1 << ALL_BANKS),
                ]
                m.d.sync += [self._state.eq(_State.REFRESH), self._open.eq(0)]
                self._pause_for(m, timing.rp)
            with m.Case(_State.REFRESH):
                m.d.comb += self._command.eq(Command.REFRESH)
                self._pause_for(m, timing.rfc)
                self._after_refresh(m)
            with m.Case(_State.MODE):
                m.d.comb += [
                    self._command.eq(Command.MODE),
                    self._command_address.eq(Const(mode_word(part), part.row_bits)),
                ]
                m.d.sync += [self._state.eq(_State.READY), self._up.eq(1)]
                self._pause_for(m, timing.mode)

    def _after_refresh(self, m: Module) -> None:
        with m.If(~self._up):
            m.d.sync += self._left.eq(self._left - 1)
            with m.If(self._left == 1):
                m.d.sync += self._state.eq(_State.MODE)
        with m.Else():
            m.d.sync += self._state.eq(_State.READY)
            m.d.comb += self._refreshed.eq(~self._closing & (self._owed != 0))
            with m.If(self._closing):
                m.d.sync += [self._closing.eq(0), self.settled.eq(1)]

    def _register_pins(self, m: Module) -> None:
        """Everything goes to the pins through a register, and comes from them through one."""
        pins, now = self.pins, self._now
        m.d.sync += [
            pins.command.eq(self._command),
            pins.bank.eq(Mux(self._state == _State.MODE, 0, now.bank)),
            pins.address.eq(self._command_address),
            pins.dq_out.eq(self.word),
            pins.drive.eq(self.issue & now.write),
            pins.mask.eq(Mux(now.write, self.mask, 0)),
            self.read_word.eq(pins.dq_in),
        ]


class _Holdoff:
    """Holds something off for `cycles` from the cycle of `start` on, which is counted as the first.

    What is held off comes at the earliest `cycles` after it.
    """

    def __init__(self, m: Module, name: str, cycles: int) -> None:
        self._line = Signal(cycles - 1, name=f"{name}_line") if cycles > 1 else None
        self.holds: Value = Const(0) if self._line is None else self._line[0]
        if self._line is not None:
            m.d.sync += self._line.eq(Cat(self._line[1:], Const(0)))

    def start(self, m: Module) -> None:
        """It begins in this cycle, anew if it had begun before."""
        if self._line is not None:
            m.d.sync += self._line.eq(-1)
