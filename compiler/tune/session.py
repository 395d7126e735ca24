"""A tuning run: every distinct layer on its own, then the choice for the network as a whole."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from compiler.driver import Network
from compiler.errors import TuningError
from compiler.topi.conv2d_tiling import ConvTiling
from compiler.tune.cost_model import Measured
from compiler.tune.log import Log, key_of, network_key, tiling_of
from compiler.tune.search import TUNERS, make_tuner, measured
from compiler.tune.tasks import Task, network_tasks, workload_features
from compiler.tune.workers import Measure, Workers
from vta_hw.spec.config import VtaConfig


@dataclass(frozen=True)
class Options:
    """How to search. A cold search does not begin with what is compiled without a log.

    The search of a layer ends after `trials`, or after `patience` trials without a faster point.
    """

    tuner: str = "xgb"
    trials: int = 64
    patience: int = 24
    seed: int = 0
    jobs: int = 1
    is_cold: bool = False

    def __post_init__(self) -> None:
        if self.tuner not in TUNERS:
            raise TuningError(f"tuner must be one of {', '.join(TUNERS)}, not {self.tuner!r}")
        for name, least in (("trials", 1), ("patience", 1), ("seed", 0), ("jobs", 1)):
            if getattr(self, name) < least:
                raise TuningError(f"{name} must be at least {least}, not {getattr(self, name)}")


@dataclass(frozen=True)
class Progress:
    """Whom to tell: `begin` what comes next and how many measurements it is, `advance` each."""

    begin: Callable[[str, int], None]
    advance: Callable[[int], None]


SILENT = Progress(lambda text, count: None, lambda count: None)


@dataclass(frozen=True)
class LayerResult:
    """A workload's search: the best point, and the cycles of the default and of the best, alone.

    `measured` trials were run now; the others were in the log.
    """

    workload: str
    layers: tuple[str, ...]
    size: int
    trials: int
    measured: int
    default_cycles: int
    best_cycles: int
    tiling: ConvTiling


@dataclass(frozen=True)
class TuneResult:
    """All workloads, and the network's cycles without a log and with the choices in it."""

    layers: tuple[LayerResult, ...]
    default_cycles: int
    cycles: int
    broken: int


def tune(
    network: Network,
    config: VtaConfig,
    path: Path,
    options: Options,
    measure: Measure,
    progress: Progress = SILENT,
) -> TuneResult:
    """Tune all convolutions of a network into the log `path`, which is made or gone on with.

    What is in the log is not measured again.
    """
    log = Log.read(path, config, must_exist=False)
    tasks = network_tasks(network, config)
    name = f"{network.graph.name} {_digest(network)}"
    with Workers(tasks, config, measure, options.jobs, network) as workers:
        layers = LayerSearch(tasks, log, options, workers).run(progress)
        whole = _NetworkChoice(tasks, name, log, workers)
        default, best = whole.run(progress)
    return TuneResult(layers, default, best, log.broken)


def _digest(network: Network) -> str:
    """What tells networks of one name apart: their operators and tensors."""
    return hashlib.sha256(f"{network.numerics}\n{network.graph}".encode()).hexdigest()[:16]


class LayerSearch:
    """Searches the spaces of tasks one after the other; later ones learn from earlier ones."""

    def __init__(self, tasks: Sequence[Task], log: Log, options: Options, workers: Workers) -> None:
        self.tasks, self.log, self.options, self.workers = tasks, log, options, workers
        self.history = self._from_log()

    def run(self, progress: Progress) -> tuple[LayerResult, ...]:
        """Search all spaces."""
        return tuple(self._search(number, progress) for number in range(len(self.tasks)))

    def _from_log(self) -> list[Measured]:
        """What the log has of workloads that are not searched now."""
        own = {task.workload for task in self.tasks}
        found = []
        for workload, points in self.log.trials.items():
            tilings = [tiling_of(json.loads(point)) for point in points]
            features = None
            if workload not in own:
                features = workload_features(workload, tilings, self.log.config)
            if features is not None:
                cycles = np.array(list(points.values()), np.float64)
                found.append(Measured(features, cycles))
        return found

    def _search(self, number: int, progress: Progress) -> LayerResult:
        task, options = self.tasks[number], self.options
        limit = min(options.trials, len(task.space))
        progress.begin(", ".join(task.layers[:1]), limit)
        seed = (options.seed, zlib.crc32(task.workload.encode()))
        tuner = make_tuner(options.tuner, task.space, seed, task.features, self.history)
        before = len(self.log.trials.get(task.workload, {}))
        (default,) = self._measured(number, [task.default])
        if not options.is_cold:
            tuner.tell(task.default, default)
            progress.advance(1)
        while len(tuner.rows) < limit and _is_patient(tuner.cycles, options.patience):
            rows = tuner.propose(min(tuner.batch, limit - len(tuner.rows)))
            tuner.observe(rows, self._measured(number, rows))
            progress.advance(len(rows))
        progress.advance(limit - len(tuner.rows))
        self.history.append(measured(tuner.rows, tuner.cycles, task.features))
        best = min(range(len(tuner.rows)), key=lambda n: (tuner.cycles[n], n))
        return LayerResult(
            workload=task.workload,
            layers=task.layers,
            size=len(task.space),
            trials=len(tuner.rows),
            measured=len(self.log.trials[task.workload]) - before,
            default_cycles=default,
            best_cycles=tuner.cycles[best],
            tiling=task.tiling(tuner.rows[best]),
        )

    def _measured(self, number: int, rows: Sequence[int]) -> list[int]:
        """The cycles of rows: from the log, or measured now and noted there."""
        task = self.tasks[number]
        known = self.log.trials.get(task.workload, {})
        new = [row for row in rows if key_of(task.point(row)) not in known]
        for row, cycles in zip(new, self.workers.layers(number, new), strict=True):
            self.log.add_trial(task.workload, task.point(row), cycles)
        known = self.log.trials[task.workload]
        return [known[key_of(task.point(row))] for row in rows]


def _is_patient(cycles: Sequence[int], patience: int) -> bool:
    """Whether one of the last trials was faster than all before."""
    return len(cycles) <= patience or min(cycles[-patience:]) < min(cycles[:-patience])


Choice = dict[str, ConvTiling]
"""A tiling for each workload."""


class _NetworkChoice:
    """What is best for single layers need not be for the network, where layers overlap.

    The network with all analytical choices is measured and that with all of the fastest points,
    and from the better one on each layer with its other choice. Then all that made it faster are
    taken together; should that be slower, the best one alone is.
    """

    def __init__(self, tasks: Sequence[Task], name: str, log: Log, workers: Workers) -> None:
        self.tasks, self.name, self.log, self.workers = tasks, name, log, workers

    def run(self, progress: Progress) -> tuple[int, int]:
        """Note the choices in the log; the network's cycles without them, and with them."""
        default = {task.workload: task.tiling(task.default) for task in self.tasks}
        best = {task.workload: self._fastest(task) for task in self.tasks}
        count = sum(default[workload] != best[workload] for workload in default)
        progress.begin("the network as a whole", 3 + count)
        first = [default, best]
        cycles = self._measured(first, progress)
        base, other = first if cycles[0] <= cycles[1] else first[::-1]
        others = [(w, tiling) for w, tiling in other.items() if tiling != base[w]]
        changed = [{**base, workload: tiling} for workload, tiling in others]
        taken = self._measured(changed, progress)
        gains = [
            (after, workload, tiling)
            for after, (workload, tiling) in zip(taken, others, strict=True)
            if after < min(cycles)
        ]
        together = dict(base)
        for _, workload, tiling in sorted(gains, key=lambda gain: -gain[0]):
            together[workload] = tiling
        choices = [*first, *changed, together]
        all_cycles = [*cycles, *taken, *self._measured([together], progress)]
        winner = min(range(len(choices)), key=lambda n: (all_cycles[n], n))
        for workload, tiling in choices[winner].items():
            self.log.add_chosen(workload, asdict(tiling))
        return cycles[0], all_cycles[winner]

    def _fastest(self, task: Task) -> ConvTiling:
        """The fastest point of a layer alone; the analytical choice if it is as fast."""
        points, default = self.log.trials[task.workload], key_of(task.point(task.default))
        point = min(points, key=lambda point: (points[point], point != default, point))
        return tiling_of(json.loads(point))

    def _measured(self, choices: Sequence[Choice], progress: Progress) -> list[int]:
        """The network's cycles with choices: from the log, or measured now and noted there."""
        points = [{w: asdict(tiling) for w, tiling in choice.items()} for choice in choices]
        keys = [network_key(self.name, point) for point in points]
        new = {key: n for n, key in enumerate(keys) if key not in self.log.networks}
        found = self.workers.networks([choices[n] for n in new.values()])
        for n, cycles in zip(new.values(), found, strict=True):
            self.log.add_network(self.name, points[n], cycles)
        progress.advance(len(choices))
        return [self.log.networks[key] for key in keys]


def tilings_of(path: Path, config: VtaConfig) -> tuple[Mapping[str, ConvTiling], int]:
    """What a log says to compile with, and how many of its lines were broken."""
    log = Log.read(path, config)
    return log.tilings(), log.broken
