"""Networks as they are compiled with a tuning log: ``vta bench networks --tuned``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vta import api
from vta.tuning import bar
from vta_hw.spec.config import VtaConfig

if TYPE_CHECKING:
    from compiler.topi.conv2d_tiling import ConvTiling

_SEARCHED = "searched.jsonl"


@dataclass
class Tuning:
    """Where schedules come from: out of the log, or with `trials` by a search that goes on with it.

    Searches are seeded. `broken` has the broken lines of the log, once it was read.
    """

    log: Path
    trials: int | None = None
    seed: int = 0
    jobs: int | None = None
    broken: int = field(default=0, init=False)

    def choices(
        self, model: Path, config: VtaConfig, numerics: str | None, batch: int | None
    ) -> Mapping[str, ConvTiling]:
        """The schedules for a network, by workload."""
        if self.trials is not None:
            with bar() as progress:
                api.tune(
                    model,
                    self.log,
                    config,
                    trials=self.trials,
                    seed=self.seed,
                    jobs=self.jobs,
                    numerics=numerics,
                    batch=batch,
                    progress=progress,
                )
        tilings, self.broken = api.tuned_choices(self.log, config)
        return tilings


@contextmanager
def tuning_of(
    log: Path | None, trials: int | None, seed: int = 0, jobs: int | None = None
) -> Iterator[Tuning | None]:
    """What a user asked for with a log, a number of trials or both; None with neither.

    Without a log the search's own is dropped at the end.
    """
    if log is None and trials is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="vta-") as folder:
        tuning = Tuning(Path(folder, _SEARCHED), trials, seed, jobs)
        yield tuning if log is None else replace(tuning, log=log)
