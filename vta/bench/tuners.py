"""How soon each way to search finds good schedules: ``vta bench tuners``.

For every layer some thousands of points are drawn at random and the best of them is taken as the
mark. A search is cold: it knows nothing of the layer, of others, or of the analytical choice. What
counts is the number of trials until a point is within 2 % of the mark, on average over seeds.

Points that a bound (`least_cycles`) keeps away from the mark are not measured; that changes no
figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from compiler.context import CompileContext
from compiler.driver import place_graph
from compiler.topi.conv2d_time import estimated_cycles, least_cycles
from compiler.tune.log import Log, key_of
from compiler.tune.search import make_tuner
from compiler.tune.session import Progress
from compiler.tune.space import IntArray, sample
from compiler.tune.tasks import Task, network_tasks
from compiler.tune.workers import Workers
from vta.bench.costs import chosen, layer_graph, numerics_for
from vta.bench.workloads import RESNET18, Layer
from vta.tuning import program_cycles
from vta_hw.spec.config import VtaConfig

NEAR = 1.02
"""A point within this factor of the mark is good."""
SEARCHES = ("xgb", "genetic", "random")
_SPREAD = 200
"""Points of the sample that are measured whatever the bound says of them: for the worst."""
_CHUNK = 32


@dataclass(frozen=True)
class Options:
    """How much is measured: points per layer for the mark, trials and seeds of the searches."""

    sample: int = 5000
    trials: int = 128
    seeds: int = 5
    jobs: int = 1


@dataclass(frozen=True)
class Search:
    """A way to search, on one layer: trials until a good point was found, for each seed.

    None where it was not within the trials.
    """

    tuner: str
    trials: tuple[int | None, ...]

    def mean(self, most: int) -> float:
        """The average; a seed that found nothing counts as `most` + 1."""
        return float(np.mean([most + 1 if t is None else t for t in self.trials]))


@dataclass(frozen=True)
class TunerCost:
    """A layer: the size of its space, cycles of its points, and the searches."""

    name: str
    points: int
    sample: int
    good: int
    best: int
    worst: int
    default: int
    searches: tuple[Search, ...]

    def record(self) -> dict[str, object]:
        """As in the JSON."""
        return asdict(self)


def tuner_costs(
    config: VtaConfig, options: Options, log: Path, progress: Progress, only: Sequence[str] = ()
) -> Iterator[TunerCost]:
    """The distinct layers of ResNet-18; what is in the log is not measured again."""
    names = chosen([layer.name for layer in RESNET18], only)
    for layer in RESNET18:
        if layer.name in names:
            task = layer_task(layer, config)
            with Workers((task,), config, program_cycles, options.jobs) as workers:
                yield _Bench(layer.name, task, log, workers, progress).cost(options)


def layer_task(layer: Layer, config: VtaConfig) -> Task:
    """A layer as something to tune."""
    graph = layer_graph(layer, config.batch)
    network = place_graph(graph, CompileContext(config), numerics_for(config))
    (task,) = network_tasks(network, config)
    return task


class _Bench:
    def __init__(
        self, name: str, task: Task, log: Path, workers: Workers, progress: Progress
    ) -> None:
        self.name, self.task, self.workers, self.progress = name, task, workers, progress
        self.log = Log.read(log, task.config, must_exist=False)

    def cost(self, options: Options) -> TunerCost:
        task = self.task
        rows = np.array(
            sample(np.arange(len(task.space)), options.sample, np.random.default_rng(0))
        )
        (default,) = self._measured([task.default])
        spread = self._measured(rows[:_SPREAD].tolist())
        known = self._near_best(rows)
        best = min(known.values())
        searches = []
        for tuner in SEARCHES:
            found = [self._trials(tuner, seed, best, options) for seed in range(options.seeds)]
            searches.append(Search(tuner, tuple(found)))
        return TunerCost(
            name=self.name,
            points=len(task.space),
            sample=len(rows),
            good=sum(cycles <= NEAR * best for cycles in known.values()),
            best=best,
            worst=max(spread),
            default=default,
            searches=tuple(searches),
        )

    def _near_best(self, rows: IntArray) -> dict[int, int]:
        """The cycles of all sampled rows that can be good, those that promise most first."""
        task = self.task
        tiles, shape = task.tiles[rows], task.build.shape
        order = np.argsort(estimated_cycles(tiles, shape, task.config), kind="stable")
        rows, least = rows[order], least_cycles(tiles, shape, task.config)[order]
        known: dict[int, int] = {}
        best = np.inf
        self.progress.begin(f"{self.name}: sample", len(rows))
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            hopeful = rows[part][least[part] <= NEAR * best].tolist()
            known |= zip(hopeful, self._measured(hopeful), strict=True)
            best = min(known.values())
            self.progress.advance(len(rows[part]))
        return known

    def _trials(self, name: str, seed: int, best: int, options: Options) -> int | None:
        """Trials of a cold search until it has a good point."""
        self.progress.begin(f"{self.name}: {name}, seed {seed}", options.trials)
        tuner = make_tuner(name, self.task.space, (seed,), self.task.features)
        while len(tuner.rows) < min(options.trials, len(self.task.space)):
            rows = tuner.propose(min(tuner.batch, options.trials - len(tuner.rows)))
            cycles = self._measured(rows)
            good = [n for n, found in enumerate(cycles) if found <= NEAR * best]
            if good:
                return len(tuner.rows) + good[0] + 1
            tuner.observe(rows, cycles)
            self.progress.advance(len(rows))
        return None

    def _measured(self, rows: Sequence[int]) -> list[int]:
        task = self.task
        keys = {row: key_of(task.point(row)) for row in rows}
        known = self.log.trials.setdefault(task.workload, {})
        new = [row for row in rows if keys[row] not in known]
        for row, cycles in zip(new, self.workers.layers(0, new), strict=True):
            self.log.add_trial(task.workload, task.point(row), cycles)
        return [known[keys[row]] for row in rows]
