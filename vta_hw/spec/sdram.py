"""The SDR SDRAM behind the core on boards that have no processor: geometry, timing, schedule.

One definition for the controller that drives the chips (`fpga.soc`) and the cycle simulator that
counts with it (`vta_sim.cycle.sdram`); ``docs/sdram.md`` says what the schedule is.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from vta_hw.spec.errors import ConfigError


@dataclass(frozen=True)
class SdramPart:
    """A chip: what its data sheet says, in nanoseconds, or in clocks where the name says so."""

    name: str
    bank_bits: int
    row_bits: int
    column_bits: int
    data_bits: int
    refreshes: int
    """Refresh commands that must be given in every `refresh_ms`."""
    refresh_ms: int
    power_up_us: int
    cas_clocks: int
    clock_ns: Fraction
    """Shortest clock period at this CAS latency."""
    rcd_ns: int
    rp_ns: int
    ras_ns: int
    ras_max_ns: int
    rc_ns: int
    rrd_clocks: int
    wr_clocks: int
    mode_clocks: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole chip."""
        return self.data_bits // 8 << (self.bank_bits + self.row_bits + self.column_bits)

    @property
    def word_bytes(self) -> int:
        """Bytes that one column command moves."""
        return self.data_bits // 8

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of one bank."""
        return self.word_bytes << self.column_bits


ULX3S_SDRAM = SdramPart(
    # The slowest grade of the W9825G6JH (Winbond, revision A04, section 9.5, grade -75). Boards
    # carry chips of several makers; all of them are at least as fast, and where a chip has more
    # columns the board uses these.
    "W9825G6JH-75",
    bank_bits=2,
    row_bits=13,
    column_bits=9,
    data_bits=16,
    refreshes=8192,
    refresh_ms=64,
    power_up_us=200,
    cas_clocks=2,
    clock_ns=Fraction(10),
    rcd_ns=20,
    rp_ns=20,
    ras_ns=45,
    ras_max_ns=100_000,
    rc_ns=65,
    rrd_clocks=2,
    wr_clocks=2,
    mode_clocks=2,
)
"""32 MB: 4 banks of 8192 rows of 512 words of 16 bits."""

ULX3S_CLOCK_HZ = 50_000_000
"""Clock of core and memory on that board."""

INITIAL_REFRESHES = 8
"""Refresh commands between power-up and the first access."""


SETTLED_TO_RUN = 4
"""Cycles from the one in which the controller says that it is settled to cycle 0 of a run."""

REFRESHES_OWED_MAX = 7
"""Refreshes that may be put off, fewer than the 8 that chips of this kind allow."""


@dataclass(frozen=True)
class SdramTiming:
    """A part at a clock: distances between commands in cycles of the controller.

    `write_after_read` is the least distance from a READ to a WRITE: the chip must have let go of
    the data pins, and one cycle more is left for the change of hands.
    """

    part: SdramPart
    clock_hz: int
    rcd: int
    rp: int
    ras: int
    rfc: int
    wr: int
    write_after_read: int
    read_latency: int
    """Cycles from the one that decides a READ to the one that sees its word in a register."""
    refresh_interval: int
    power_up: int
    mode: int

    @classmethod
    def of(cls, part: SdramPart, clock_hz: int) -> SdramTiming:
        """The timing of `part` at `clock_hz`; a clock that the part cannot take is refused."""
        period = Fraction(10**9, clock_hz)
        if period < part.clock_ns:
            fastest = floor(Fraction(10**9) / part.clock_ns)
            raise ConfigError(
                f"a clock of {clock_hz} Hz is too fast for the SDRAM {part.name} at CAS latency "
                f"{part.cas_clocks}; use at most {fastest} Hz"
            )

        def cycles(time_ns: int) -> int:
            return ceil(time_ns / period)

        interval = floor(Fraction(part.refresh_ms * 10**6, part.refreshes) / period)
        # They are put off for as long as the words of one row move.
        if interval * (REFRESHES_OWED_MAX - 1) < 2 << part.column_bits:
            raise ConfigError(
                f"a clock of {clock_hz} Hz is too slow to refresh the SDRAM {part.name} between "
                f"accesses; use a faster one"
            )
        ras, rp = cycles(part.ras_ns), cycles(part.rp_ns)
        return cls(
            part,
            clock_hz,
            rcd=max(cycles(part.rcd_ns), part.rrd_clocks - 1),
            rp=rp,
            # A row is opened, closed and opened again in no less than the row cycle time.
            ras=max(ras, cycles(part.rc_ns) - rp),
            rfc=cycles(part.rc_ns),
            wr=part.wr_clocks,
            write_after_read=part.cas_clocks + 2,
            # One cycle to the pins, within which the chip's clock comes; one to come in.
            read_latency=part.cas_clocks + 1,
            refresh_interval=interval,
            power_up=cycles(part.power_up_us * 1000),
            mode=part.mode_clocks,
        )
