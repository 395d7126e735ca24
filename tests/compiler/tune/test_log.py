"""Logs: what is written is read again, other machines' logs are refused, broken lines skipped."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from compiler.errors import TuningError
from compiler.topi.conv2d_tiling import ConvTiling
from compiler.tune.log import VERSION, Log, key_of
from vta_hw.spec.config import VtaConfig

CONFIG = VtaConfig.load("tiny")
OTHER = VtaConfig.load("mac64")
FIRST, SECOND = ConvTiling(1, 2, 3, 4), ConvTiling(4, 3, 2, 1, kept="weights", kh=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log with two trials of one workload."""
    log = Log.read(tmp_path / "folder" / "a.jsonl", CONFIG, must_exist=False)
    log.add_trial("w", asdict(FIRST), 200)
    log.add_trial("w", asdict(SECOND), 100)
    return log.path


def test_what_is_written_is_read(path: Path) -> None:
    log = Log.read(path, CONFIG)
    log.add_network("net", {"w": asdict(FIRST)}, 1000)
    again = Log.read(path, CONFIG)
    assert again.trials == {"w": {key_of(asdict(FIRST)): 200, key_of(asdict(SECOND)): 100}}
    assert again.networks == log.networks != {}
    assert again.broken == 0


def test_the_fastest_is_taken_unless_another_was_chosen(path: Path) -> None:
    log = Log.read(path, CONFIG)
    assert log.tilings() == {"w": SECOND}
    log.add_chosen("w", asdict(FIRST))
    assert log.tilings() == Log.read(path, CONFIG).tilings() == {"w": FIRST}


def test_another_configuration_is_refused_with_both_hashes(path: Path) -> None:
    with pytest.raises(TuningError) as caught:
        Log.read(path, OTHER)
    assert CONFIG.hash in str(caught.value)
    assert OTHER.hash in str(caught.value)


def test_another_version_is_refused(path: Path) -> None:
    line = json.loads(path.read_text().splitlines()[0])
    path.write_text(json.dumps({**line, "version": VERSION + 1}) + "\n")
    with pytest.raises(TuningError, match=rf"line 1, .*version {VERSION + 1} .*version {VERSION};"):
        Log.read(path, CONFIG)


BROKEN = [
    "no json",
    "[]",
    '"text"',
    "{}",
    '{"version": 1}',
    '{"kind": "trial"}',
    "[" * 100_000,
    "\udcff",
    '{"kind": "trial", "workload": "w", "point": {"co": 1}, "cycles": 5}',
    '{"kind": "trial", "workload": "w", "point": {"huh": 1}, "cycles": 5}',
    '{"kind": "trial", "workload": "w", "point": POINT, "cycles": -5}',
    '{"kind": "trial", "workload": "w", "point": POINT, "cycles": true}',
    '{"kind": "trial", "workload": "w", "point": POINT, "cycles": 1.5}',
    '{"kind": "trial", "workload": 7, "point": POINT, "cycles": 5}',
    '{"kind": "strange", "workload": "w", "point": POINT, "cycles": 5}',
    '{"kind": "chosen", "workload": "w", "point": {"co": 1, "ci": 1, "h": 1, "w": "1"}}',
    '{"kind": "chosen", "workload": "w", "point": {"co": 0, "ci": 1, "h": 1, "w": 1}}',
    '{"kind": "network", "network": "n", "points": {}, "cycles": 0}',
]


@pytest.mark.parametrize("line", BROKEN)
def test_broken_lines_are_skipped_and_counted(path: Path, line: str) -> None:
    line = line.replace("POINT", json.dumps(asdict(FIRST)))
    if line.startswith('{"kind"'):
        line = line.replace("{", f'{{"version": {VERSION}, "config": "{CONFIG.hash}", ', 1)
    whole = Log.read(path, CONFIG)
    first, *rest = path.read_text().splitlines()
    text = "\n".join([first, line, "", *rest]) + "\n"
    path.write_bytes(text.encode(errors="surrogateescape"))
    log = Log.read(path, CONFIG)
    assert log.broken == 1
    assert (log.trials, log.networks, log.chosen) == (whole.trials, {}, {})


def test_a_cut_line_does_not_spoil_the_next(path: Path) -> None:
    """What an interruption in the middle of a write leaves."""
    path.write_bytes(path.read_bytes()[:-20])
    log = Log.read(path, CONFIG)
    assert log.broken == 1
    log.add_trial("w", asdict(SECOND), 100)
    again = Log.read(path, CONFIG)
    assert again.broken == 1
    assert len(again.trials["w"]) == 2


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="does not exist; make it with vta tune"):
        Log.read(tmp_path / "none", CONFIG)
    with pytest.raises(TuningError, match="cannot be read"):
        Log.read(tmp_path, CONFIG)
