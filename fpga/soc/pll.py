"""The phase-locked loop of ECP5: its dividers, found by exact arithmetic, and its cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from amaranth.hdl import Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vta_hw.spec.errors import VtaKitError

MOST_DIVISOR = 128
EIGHTHS = 8
"""Steps of a phase within one cycle of the oscillator."""
FULL_TURN = 360

_MHZ = 1_000_000
# Hz, least and most: of the reference, of what the phase comparator gets, of the oscillator, and
# of an output.
_REFERENCE = (8 * _MHZ, 400 * _MHZ)
_COMPARED = (Fraction(3_125_000), Fraction(400 * _MHZ))
_OSCILLATOR = (400 * _MHZ, 800 * _MHZ)
_OUTPUT = (3_125_000, 400 * _MHZ)
_MIDDLE = sum(_OSCILLATOR) // 2


class PllError(VtaKitError):
    """A clock that the loop cannot make."""


@dataclass(frozen=True)
class PllPlan:
    """Dividers of a loop that is closed over its first output, and the shift of its second.

    The oscillator runs at ``clock_in * feedback_divisor * output_divisor / input_divisor``; both
    outputs are that over `output_divisor`. The second one is later by `shift_cycles` and
    `shift_eighths` / 8 cycles of the oscillator.
    """

    clock_in_hz: int
    input_divisor: int
    feedback_divisor: int
    output_divisor: int
    shift_cycles: int
    shift_eighths: int

    @property
    def clock_hz(self) -> Fraction:
        """Of both outputs."""
        return Fraction(self.clock_in_hz * self.feedback_divisor, self.input_divisor)

    @property
    def oscillator_hz(self) -> Fraction:
        """Of the oscillator."""
        return self.clock_hz * self.output_divisor

    @property
    def phase_degrees(self) -> Fraction:
        """How much later the second output is."""
        eighths = self.shift_cycles * EIGHTHS + self.shift_eighths
        return Fraction(FULL_TURN * eighths, EIGHTHS * self.output_divisor)


def _within(value: Fraction | int, limits: tuple[Fraction | int, Fraction | int]) -> bool:
    return limits[0] <= value <= limits[1]


def _multiples(clock_in_hz: int) -> Iterator[tuple[int, int]]:
    """Every input and feedback divisor that gives a legal clock; each ratio once."""
    seen = set()
    for input_divisor in range(1, MOST_DIVISOR + 1):
        if not _within(Fraction(clock_in_hz, input_divisor), _COMPARED):
            continue
        for feedback_divisor in range(1, MOST_DIVISOR + 1):
            ratio = Fraction(feedback_divisor, input_divisor)
            if ratio not in seen and _within(clock_in_hz * ratio, _OUTPUT):
                seen.add(ratio)
                yield input_divisor, feedback_divisor


def plan(clock_in_hz: int, clock_hz: int, phase_degrees: float = 0) -> PllPlan:
    """The dividers for `clock_hz` exactly, and a second output later by `phase_degrees`.

    The phase is met as closely as an eighth of a cycle of the oscillator allows; among equal ones,
    the oscillator is as near to the middle of its range as can be.
    """
    if not _within(clock_in_hz, _REFERENCE):
        raise PllError(
            f"a clock of {clock_in_hz} Hz cannot be multiplied; it must be from {_REFERENCE[0]} to "
            f"{_REFERENCE[1]} Hz"
        )
    if not 0 <= phase_degrees < FULL_TURN:
        raise PllError(
            f"a phase of {phase_degrees} degrees is no delay within a cycle; give one from 0 to "
            f"less than {FULL_TURN}"
        )
    ratios = list(_multiples(clock_in_hz))
    nearest = min(ratios, key=lambda r: abs(Fraction(clock_in_hz * r[1], r[0]) - clock_hz))
    made = Fraction(clock_in_hz * nearest[1], nearest[0])
    if made != clock_hz:
        raise PllError(
            f"{clock_hz} Hz cannot be made from {clock_in_hz} Hz; the nearest clock that can is "
            f"{float(made):.10g} Hz"
        )
    wanted = Fraction(phase_degrees) / FULL_TURN

    def worse(divisor: int) -> tuple[Fraction, Fraction]:
        steps = EIGHTHS * divisor
        missed = abs(Fraction(round(wanted * steps), steps) - wanted)
        return missed, abs(made * divisor - _MIDDLE)

    divisors = [d for d in range(1, MOST_DIVISOR + 1) if _within(made * d, _OSCILLATOR)]
    divisor = min(divisors, key=worse)
    eighths = round(wanted * EIGHTHS * divisor) % (EIGHTHS * divisor)
    return PllPlan(clock_in_hz, *nearest, divisor, *divmod(eighths, EIGHTHS))


class Pll(wiring.Component):
    """Makes the clock of a system, and one of the same frequency that is later, for its memory.

    Members
    -------
    clock_in: the reference, of `plan.clock_in_hz`.
    clock: of `plan.clock_hz`.
    clock_shifted: the same, later by `plan.phase_degrees`.
    locked: both are steady.
    """

    def __init__(self, clock_in_hz: int, clock_hz: int, phase_degrees: float = 0) -> None:
        self.plan = plan(clock_in_hz, clock_hz, phase_degrees)
        super().__init__(
            {"clock_in": In(1), "clock": Out(1), "clock_shifted": Out(1), "locked": Out(1)}
        )

    def elaborate(self, platform: Any) -> Module:
        """One cell; what of it is not used is switched off."""
        m = Module()
        how = self.plan
        # Both count from here; a phase is the number at which a divider starts.
        base = how.output_divisor - 1
        mhz = {name: f"{float(hz / _MHZ):g}" for name, hz in self._frequencies().items()}
        m.submodules.cell = Instance(
            "EHXPLLL",
            *(("a", f"FREQUENCY_PIN_{name}", text) for name, text in mhz.items()),
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_OUTDIVIDER_MUXB="DIVB",
            p_OUTDIVIDER_MUXC="DIVC",
            p_OUTDIVIDER_MUXD="DIVD",
            p_FEEDBK_PATH="CLKOP",
            p_CLKI_DIV=how.input_divisor,
            p_CLKFB_DIV=how.feedback_divisor,
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=how.output_divisor,
            p_CLKOP_CPHASE=base,
            p_CLKOP_FPHASE=0,
            p_CLKOS_ENABLE="ENABLED",
            p_CLKOS_DIV=how.output_divisor,
            p_CLKOS_CPHASE=base + how.shift_cycles,
            p_CLKOS_FPHASE=how.shift_eighths,
            i_CLKI=self.clock_in,
            i_CLKFB=self.clock,
            i_RST=0,
            i_STDBY=0,
            i_PHASESEL0=0,
            i_PHASESEL1=0,
            i_PHASEDIR=1,
            i_PHASESTEP=1,
            i_PHASELOADREG=1,
            i_PLLWAKESYNC=0,
            i_ENCLKOP=0,
            i_ENCLKOS=0,
            o_CLKOP=self.clock,
            o_CLKOS=self.clock_shifted,
            o_LOCK=self.locked,
        )
        return m

    def _frequencies(self) -> dict[str, Fraction]:
        how = self.plan
        return {
            "CLKI": Fraction(how.clock_in_hz),
            "CLKOP": how.clock_hz,
            "CLKOS": how.clock_hz,
        }
