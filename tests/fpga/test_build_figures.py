"""What is read from a report of nextpnr, and budgets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from fpga.build import budget, figures
from fpga.build.budget import Budget
from fpga.build.figures import Amount, Figures
from fpga.build.stages import BuildError
from tests.models import REPO

TEXT = (REPO / "tests/fpga/reports/nextpnr.json").read_text()


@pytest.fixture
def found() -> Figures:
    return figures.read(TEXT)


def test_resources(found: Figures):
    used = json.loads(TEXT)["utilization"]
    assert found.resources == {
        "LUT": Amount(used["TRELLIS_COMB"]["used"], 83640),
        "FF": Amount(used["TRELLIS_FF"]["used"], 83640),
        "BRAM": Amount(used["DP16KD"]["used"], 208),
        "DSP": Amount(used["MULT18X18D"]["used"], 156),
    }
    assert found.resources["DSP"].percent == pytest.approx(100 * 113 / 156)


def test_clocks_have_plain_names_and_slack(found: Figures):
    names = [clock.name for clock in found.clocks]
    assert names == ["clk_25mhz", "pll.clock"]
    slow = found.clocks[1]
    assert slow.slack_ns == pytest.approx(1e9 / slow.required_hz - 1e9 / slow.reached_hz)
    assert found.slack_ns == min(clock.slack_ns for clock in found.clocks)


def test_a_path_is_told_by_components(found: Figures):
    path = found.clocks[1].path
    assert [(step.component, step.signals) for step in path] == [
        ("soc.core.engine.alu.lane_0", ("first", "halves")),
        ("soc.core.engine.alu", ("step",)),
        ("soc.core.engine.alu.lane_0", ("result",)),
    ]
    raw = json.loads(TEXT)["critical_paths"][0]["path"]
    assert sum(step.logic_ns + step.routing_ns for step in path) == pytest.approx(
        sum(part["delay"] for part in raw)
    )
    # What lies between two components counts for the one that it leaves.
    assert path[0].routing_ns == pytest.approx(1.5 + 2.5)


def test_no_clock_is_an_error():
    record = json.loads(TEXT) | {"fmax": {}}
    with pytest.raises(BuildError, match="no clock; give its clock pin a frequency"):
        figures.read(json.dumps(record))


def test_a_new_budget_is_kept_with_a_little_room(found: Figures):
    limits = budget.of(found)
    assert budget.exceeded(limits, found) == []
    for name, amount in found.resources.items():
        assert amount.used <= limits.resources[name] <= min(amount.used * 1.03 + 1, 208_000)
    for clock in found.clocks:
        assert 0.9 * clock.reached_hz <= limits.clocks_mhz[clock.name] * 1e6 <= clock.reached_hz


def test_everything_that_got_worse_is_named(found: Figures):
    limits = Budget({"LUT": 1000, "FF": 83640, "BRAM": 208, "DSP": 112}, {"pll.clock": 99.5})
    used = found.resources["LUT"].used
    assert budget.exceeded(limits, found) == [
        f"{used:,} LUT of 1,000",
        "113 DSP of 112",
        f"{found.clocks[1].reached_hz / 1e6:.2f} MHz of 99.5 MHz for pll.clock",
    ]
    only = replace(found, clocks=found.clocks[:1])
    assert "no clock pll.clock" in budget.exceeded(limits, only)


def test_budgets_are_kept_in_files(found: Figures, tmp_path: Path):
    path = tmp_path / "deep" / "board.json"
    assert budget.load(path) is None
    budget.write(path, budget.of(found))
    assert budget.load(path) == budget.of(found)
    path.write_text('{"resources": {}}')
    with pytest.raises(BuildError, match="lacks or mistakes 'LUT'; write it anew"):
        budget.load(path)
