"""What virtual threads bring: ``vta bench threads``.

Latency hiding as the literature measures it: every buffer is there once per virtual thread, and one
thread's loads run beside another's products. With one thread loads and products take turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from compiler.topi.conv2d_choice import ranked
from compiler.tune.tasks import Task
from vta.bench.costs import Progress, chosen
from vta.bench.tuners import layer_task
from vta.bench.workloads import RESNET18
from vta.tuning import program_cycles
from vta_hw.spec.config import VtaConfig

THREADS = (1, 2)
_MEASURED = 12
"""Schedules that the model of the time likes most; the fastest of them counts."""


@dataclass(frozen=True)
class ThreadCost:
    """Cycles of a layer by the number of virtual threads, and as it is compiled."""

    name: str
    ideal: int
    threads: tuple[int, ...]
    default: int

    @property
    def gain(self) -> float:
        """How much faster the most threads are than one."""
        return self.threads[0] / self.threads[-1]

    def record(self) -> dict[str, object]:
        """As in the JSON."""
        return {**asdict(self), "gain": self.gain}


HEADINGS = ("layer", "ideal", *(f"threads: {n}" for n in THREADS), "gain", "as compiled")


def thread_costs(
    config: VtaConfig, progress: Progress, only: Sequence[str] = ()
) -> Iterator[ThreadCost]:
    """The distinct layers of ResNet-18, each alone."""
    names = chosen([layer.name for layer in RESNET18], only)
    for layer in RESNET18:
        if layer.name in names:
            with progress(f"measuring {layer.name}"):
                task = layer_task(layer, config)
                shape = task.build.shape
                yield ThreadCost(
                    name=layer.name,
                    ideal=shape.n * shape.co * shape.ci * shape.h * shape.w * shape.kh * shape.kw,
                    threads=tuple(_best(task, count) for count in THREADS),
                    default=program_cycles(task.program(task.default)),
                )


def _best(task: Task, threads: int) -> int:
    tiles = task.tiles
    places = np.flatnonzero((tiles.threads == threads) & (tiles.halves == 1))
    few = places[ranked(tiles[places], task.build.shape, task.config)[:_MEASURED]]
    return min(program_cycles(task.program(row)) for row in few.tolist())


def rows(costs: Sequence[ThreadCost]) -> list[tuple[object, ...]]:
    """What the command shows, by `HEADINGS`."""
    return [(c.name, c.ideal, *c.threads, round(c.gain, 3), c.default) for c in costs]
