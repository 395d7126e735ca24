"""`vta bench networks --tuned`: tuned figures beside the default ones, the same every time."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import vta
from tests.models import DIGITS
from vta.bench import costs
from vta.bench.tuned import Tuning, tuning_of
from vta.bench.workloads import Network
from vta.cli import main
from vta_hw.spec.config import VtaConfig

LATENCY = "DRAM_LATENCY=16"
MAC64 = VtaConfig.load("mac64").override([LATENCY])
COMMAND = ("bench", "networks", "--config", "mac64", "--latency", "16", "--jobs", "1", "--json")
KEYS = {"cycles", "conv_cycles", "array_use"}


@pytest.fixture(autouse=True)
def digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digits network instead of large ones."""
    network = Network("digits", "conv2d", slice(1, None), 3, DIGITS.name)
    monkeypatch.setattr(costs, "NETWORKS", (network,))
    monkeypatch.setattr(costs, "find_model", lambda name, folder: DIGITS)


def _bench(capfd: pytest.CaptureFixture[str], *options: str) -> tuple[dict[str, Any], str]:
    assert main([*COMMAND, *options]) == 0
    lines = capfd.readouterr().out.splitlines()
    (found,) = json.loads(lines[-1])["networks"]
    return found, "\n".join(lines[:-1])


def test_with_trials_the_network_is_tuned_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same seed gives the same log; what is shown is what compiling with it takes."""
    logs = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    found, table = _bench(capfd, "--trials", "5", "--tuned", str(logs[0]))
    again, _ = _bench(capfd, "--trials", "5", "--tuned", str(logs[1]))
    assert again == found and logs[0].read_text() == logs[1].read_text()
    tuned = found["tuned"]
    assert tuned.keys() == KEYS and tuned["cycles"] <= found["cycles"]
    assert "tuned counted" in table and f"{tuned['cycles']:,}" in table
    package = vta.compile(DIGITS, MAC64, tuned=logs[0]).package
    run = vta.load(package, "cycle").run(vta.random_inputs(package))
    assert run.result.cycles == tuned["cycles"]
    # Asked for the log alone, nothing is added to it.
    before = logs[0].read_text()
    alone, _ = _bench(capfd, "--tuned", str(logs[0]))
    assert alone == found and logs[0].read_text() == before


def test_trials_need_no_log_and_logs_are_optional(capfd: pytest.CaptureFixture[str]) -> None:
    found, _ = _bench(capfd, "--trials", "2", "--seed", "3")
    assert found["tuned"].keys() == KEYS
    plain, table = _bench(capfd)
    assert plain == {**found, "tuned": None} and "tuned" not in table


def test_another_seed_is_another_search(tmp_path: Path) -> None:
    logs = []
    for seed in (0, 1):
        tuning = Tuning(tmp_path / f"{seed}.jsonl", trials=4, seed=seed, jobs=1)
        list(costs.network_costs(MAC64, lambda text: nullcontext(), tuning=tuning))
        logs.append(tuning.log.read_text())
    assert logs[0] != logs[1]


def test_broken_lines_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.jsonl"
    _bench(capfd, "--trials", "1", "--tuned", str(log))
    with log.open("a") as file:
        file.write("no record\n")
    assert main([*COMMAND, "--tuned", str(log)]) == 0
    assert f"1 broken lines of {log} were skipped" in capfd.readouterr().err


def test_a_log_that_does_not_fit_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.jsonl"
    assert main([*COMMAND, "--tuned", str(log)]) == 2
    assert str(log) in capfd.readouterr().err
    _bench(capfd, "--trials", "1", "--tuned", str(log))
    assert main([*COMMAND, "--tuned", str(log), "--latency", "17"]) == 2
    said = capfd.readouterr().err
    other = MAC64.override(["DRAM_LATENCY=17"])
    assert MAC64.hash in said and other.hash in said


def test_nothing_is_asked_for() -> None:
    with tuning_of(None, None) as tuning:
        assert tuning is None
