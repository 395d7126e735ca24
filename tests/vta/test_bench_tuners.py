"""`vta bench tuners` and `vta bench threads`: figures that hang together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vta.bench.hiding import THREADS, thread_costs
from vta.bench.tuners import NEAR, SEARCHES, Options, Search, TunerCost
from vta.bench.tuners_page import MARK, average, page, wins
from vta.cli import main
from vta.show import progress
from vta_hw.spec.config import VtaConfig

DEFAULT = VtaConfig.load("default")
SMALL = ("--only", "C10", "--sample", "30", "--trials", "6", "--seeds", "2", "--jobs", "1")


@pytest.mark.slow
def test_figures_of_a_small_comparison(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log, text = tmp_path / "log.jsonl", tmp_path / "page.md"
    command = ["bench", "tuners", "-o", str(log), *SMALL, "--write", str(text), "--json"]
    assert main(command) == 0
    (cost,) = json.loads(capfd.readouterr().out.splitlines()[-1])["layers"]
    assert cost["name"] == "resnet18.C10"
    assert 1 <= cost["good"] <= cost["sample"] == 30
    assert cost["best"] <= cost["worst"]
    assert [search["tuner"] for search in cost["searches"]] == list(SEARCHES)
    assert all(len(search["trials"]) == 2 for search in cost["searches"])
    assert text.read_text().startswith(MARK)
    assert "| resnet18.C10 |" in text.read_text()
    cycles = [json.loads(line)["cycles"] for line in log.read_text().splitlines()]
    assert cost["best"] in cycles
    # Nothing is measured twice, and the same figures come again.
    before = log.read_text()
    assert main(command) == 0
    assert json.loads(capfd.readouterr().out.splitlines()[-1])["layers"] == [cost]
    assert log.read_text() == before


def test_searches_are_counted() -> None:
    options = Options(trials=10, seeds=3)
    searches = (
        Search("xgb", (3, None, 4)),
        Search("genetic", (9, 9, 9)),
        Search("random", (9,) * 3),
    )
    cost = TunerCost("a", 100, 50, 5, 1000, 2000, 1010, searches)
    other = TunerCost("b", 100, 50, 5, 1000, 2000, 1010, searches[::-1])
    assert searches[0].mean(10) == pytest.approx((3 + 11 + 4) / 3)
    assert wins([cost, other], options, "xgb", "random") == 2
    assert wins([cost, other], options, "genetic", "random") == 1, "draws count half"
    assert average([cost, other], options, "random") == 9
    text = page(DEFAULT, options, [cost, other], "vta bench tuners")
    assert "fewer than `random` on 2 of 2 layers" in text
    assert f"within {round(100 * NEAR - 100)} % of the best" in text


@pytest.mark.slow
def test_two_threads_hide_what_one_does_not() -> None:
    (cost,) = thread_costs(DEFAULT, progress, ["C10"])
    assert len(cost.threads) == len(THREADS)
    assert cost.threads[0] > cost.threads[1] > cost.default > cost.ideal
    assert cost.gain == cost.threads[0] / cost.threads[1]
