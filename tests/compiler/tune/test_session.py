"""Whole tuning runs on small networks: resumed, repeated, in parallel, and compiled."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler.assemble import assemble
from compiler.context import CompileContext
from compiler.errors import TuningError
from compiler.tune.log import Log
from compiler.tune.session import SILENT, Options, Progress, TuneResult, tilings_of, tune
from tests.compiler.tune.layers import TINY, small_network, small_tasks
from vta.tuning import program_cycles
from vta_hw.spec.program import Program

NETWORK = small_network()


class Meter:
    """Measures, counts, and breaks off after a number of measurements."""

    def __init__(self, most: int = 1 << 30) -> None:
        self.most, self.count = most, 0

    def __call__(self, program: Program) -> int:
        if self.count == self.most:
            raise KeyboardInterrupt
        self.count += 1
        return program_cycles(program)


def _tune(path: Path, meter: Meter | None = None, **options: object) -> TuneResult:
    chosen = Options(**{"trials": 12, **options})  # type: ignore[arg-type]
    return tune(NETWORK, TINY, path, chosen, meter or program_cycles, SILENT)


def test_tuning_finds_what_compiling_then_takes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    found = _tune(path, tuner="random")
    assert [len(layer.layers) for layer in found.layers] == [2, 1]
    for layer in found.layers:
        assert layer.trials == 12
        assert layer.best_cycles <= layer.default_cycles
    assert found.cycles <= found.default_cycles
    for tilings, cycles in (({}, found.default_cycles), (tilings_of(path, TINY)[0], found.cycles)):
        context = CompileContext(TINY)
        package = assemble(NETWORK.graph, NETWORK.placed, NETWORK.numerics, context, None, tilings)
        assert sum(map(program_cycles, package.programs)) == cycles


@pytest.mark.parametrize("stop", [1, 5, 17])
def test_an_interrupted_run_goes_on_without_repeating_a_trial(tmp_path: Path, stop: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    once = Meter()
    expected = _tune(whole, once)
    first, second = Meter(stop), Meter()
    with pytest.raises(KeyboardInterrupt):
        _tune(parts, first)
    resumed = _tune(parts, second)
    assert first.count + second.count == once.count > stop
    assert parts.read_text() == whole.read_text()
    assert resumed.cycles == expected.cycles
    # What is there already is not measured again either.
    third = Meter()
    assert _tune(parts, third).cycles == expected.cycles
    assert third.count == 0


def test_the_number_of_processes_changes_nothing(tmp_path: Path) -> None:
    alone, several = tmp_path / "alone", tmp_path / "several"
    assert _tune(alone, jobs=1) == _tune(several, jobs=3)
    assert alone.read_text() == several.read_text()


def test_a_longer_run_begins_with_the_shorter_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    _tune(path, trials=5, tuner="genetic")
    meter = Meter()
    found = _tune(path, meter, trials=13, tuner="genetic")
    assert [layer.measured for layer in found.layers] == [8, 8]


def test_a_search_without_progress_ends(tmp_path: Path) -> None:
    found = _tune(tmp_path / "log", tuner="random", trials=90, patience=5)
    log = Log.read(tmp_path / "log", TINY)
    for layer in found.layers:
        cycles = list(log.trials[layer.workload].values())
        assert layer.trials == len(cycles) < 90
        assert min(cycles[:-5]) == min(cycles) == layer.best_cycles


def test_a_cold_search_does_not_begin_with_the_default(tmp_path: Path) -> None:
    found = _tune(tmp_path / "log", is_cold=True, trials=3, tuner="exhaustive")
    tasks = small_tasks()
    log = Log.read(tmp_path / "log", TINY)
    for task, layer in zip(tasks, found.layers, strict=True):
        assert layer.trials == 3
        assert layer.tiling in [task.tiling(row) for row in range(3)]
        assert len(log.trials[task.workload]) == 4  # and the default, to compare with


def test_other_layers_records_are_learnt_from(tmp_path: Path) -> None:
    """The log of another network changes what is tried first, and is not spoilt."""
    path = tmp_path / "log"
    tune(small_network(seed=1), TINY, path, Options(trials=12), program_cycles)
    before = path.read_text()
    _tune(path)
    assert path.read_text().startswith(before)


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    advanced: list[int] = []
    progress = Progress(lambda text, count: told.append((text, count)), advanced.append)
    tune(NETWORK, TINY, tmp_path / "log", Options("random", trials=4), program_cycles, progress)
    assert [count for _, count in told[:2]] == [4, 4]
    assert told[-1][0] == "the network as a whole"
    assert sum(advanced) == sum(count for _, count in told)


@pytest.mark.parametrize(
    "options",
    [{"tuner": "best"}, {"trials": 0}, {"patience": 0}, {"seed": -1}, {"jobs": 0}],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(TuningError, match="must be"):
        Options(**options)  # type: ignore[arg-type]
