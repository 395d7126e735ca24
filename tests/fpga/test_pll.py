"""The dividers of the phase-locked loop, and the cell that they are put into."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from fpga.soc.pll import EIGHTHS, MOST_DIVISOR, Pll, PllError, plan
from vta_hw.rtl.verilog import to_verilog

CLOCK_IN = 25_000_000
# What the family's data sheet allows, in Hz.
OSCILLATOR = (400_000_000, 800_000_000)
LEAST_COMPARED = 3_125_000
STEP = 5_000_000


@pytest.mark.parametrize("clock_hz", range(10_000_000, 200_000_001, STEP))
@pytest.mark.parametrize("phase", [0, 90, 135, 180, 270])
def test_dividers_are_legal_and_exact(clock_hz: int, phase: int):
    found = plan(CLOCK_IN, clock_hz, phase)
    divisors = (found.input_divisor, found.feedback_divisor, found.output_divisor)
    assert all(1 <= divisor <= MOST_DIVISOR for divisor in divisors)
    compared = Fraction(CLOCK_IN, found.input_divisor)
    oscillator = compared * found.feedback_divisor * found.output_divisor
    assert compared >= LEAST_COMPARED
    assert OSCILLATOR[0] <= oscillator <= OSCILLATOR[1]
    assert oscillator == found.oscillator_hz
    assert oscillator / found.output_divisor == clock_hz == found.clock_hz
    assert 0 <= found.shift_eighths < EIGHTHS
    # An eighth of the slowest oscillator's cycle is the coarsest step.
    assert abs(found.phase_degrees - phase) <= Fraction(360 * clock_hz, 2 * EIGHTHS * OSCILLATOR[0])


@pytest.mark.parametrize(
    ("clock_hz", "phase", "expected"),
    [
        (50_000_000, 180, (1, 2, 12, 6, 0)),
        (50_000_000, 90, (1, 2, 12, 3, 0)),
        (62_500_000, 180, (2, 5, 10, 5, 0)),
        (65_000_000, 180, (5, 13, 9, 4, 4)),
        (80_000_000, 0, (5, 16, 7, 0, 0)),
    ],
)
def test_known_dividers(clock_hz: int, phase: int, expected: tuple[int, ...]):
    found = plan(CLOCK_IN, clock_hz, phase)
    assert (
        found.input_divisor,
        found.feedback_divisor,
        found.output_divisor,
        found.shift_cycles,
        found.shift_eighths,
    ) == expected
    assert found.phase_degrees == phase


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((CLOCK_IN, 83_000_000), r"83000000 Hz cannot be made .* nearest .* 83333333\.33 Hz"),
        ((CLOCK_IN, 1_000_000), "nearest clock that can is 3125000 Hz"),
        ((4_000_000, 50_000_000), "4000000 Hz cannot be multiplied; it must be from 8000000"),
        ((CLOCK_IN, 50_000_000, 360), "360 degrees is no delay within a cycle"),
    ],
)
def test_refused(arguments: tuple[int, ...], text: str):
    with pytest.raises(PllError, match=text):
        plan(*arguments)


def test_cell_has_the_dividers():
    text = to_verilog(Pll(CLOCK_IN, 65_000_000, 180), "pll")
    parameters = dict(re.findall(r"\.(\w+)\(32'd(\d+)\)", text))
    assert parameters == {
        "CLKI_DIV": "5",
        "CLKFB_DIV": "13",
        "CLKOP_DIV": "9",
        "CLKOP_CPHASE": "8",
        "CLKOP_FPHASE": "0",
        "CLKOS_DIV": "9",
        "CLKOS_CPHASE": "12",
        "CLKOS_FPHASE": "4",
    }
    assert 'FREQUENCY_PIN_CLKOS = "65"' in text
