"""Times programs on the compiled engine and on the C baseline, and checks what they leave."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vta.bench.baseline import Baseline, decoded
from vta.bench.programs import Array, Job, WrongOutputError
from vta_hw.spec.config import VtaConfig
from vta_sim.native.functional import FunctionalProgram, Scratch

_RUNS_MIN = 11
_RUNS_MAX = 41
_LEAST_S = 0.5


@dataclass(frozen=True)
class Speed:
    """Work per second, and how often faster that is than the baseline (None without one)."""

    key: str
    title: str
    unit: str
    rate: float
    ratio: float | None
    runs: int


def speed(
    job: Job,
    config: VtaConfig,
    baseline: Baseline | None,
    *,
    quick: bool = False,
    spoil: bool = False,
) -> Speed:
    """Medians of runs with inputs of their own, in turn on the engine and on the baseline.

    All outputs are compared with what the job expects, after the clock was read; a difference
    raises `WrongOutputError`. With `spoil` something else is expected. There are `_RUNS_MIN` runs,
    and more of a short program, but for `quick`.
    """
    rng = np.random.default_rng(0)
    image = np.zeros(job.image_bytes, np.uint8)
    job.fill(rng, image)
    program = FunctionalProgram(config, job.words, image)
    if program.result is None or not program.result.ok:
        raise WrongOutputError(f"the program {job.key!r} does not end well; report it")
    scratch = Scratch(config)
    runners: dict[str, Callable[[Array], None]] = {
        "engine": lambda dram: scratch.run(program, dram)
    }
    if baseline is not None:
        table = decoded(job.words, config)
        loops = baseline
        runners["baseline"] = lambda dram: loops.run(table, dram)
    taken: dict[str, list[float]] = {name: [] for name in runners}
    drams = {name: image.copy() for name in runners}
    # The first round makes caches warm and is checked, but does not count.
    while not _is_enough(taken["engine"][1:], quick):
        job.fill(rng, image)
        for name, run in runners.items():
            dram = drams[name]
            dram[:] = image
            start = time.perf_counter()
            run(dram)
            taken[name].append(time.perf_counter() - start)
        expected = job.expected(image)
        expected[-1] ^= spoil
        for name, dram in drams.items():
            if not np.array_equal(dram[job.output], expected):
                raise WrongOutputError(
                    f"the {name} gives something else than expected for {job.title!r}; report it"
                )
    counted = {name: np.array(times[1:]) for name, times in taken.items()}
    ratio = None
    if "baseline" in counted:
        # Of each pair, so that a machine that gets faster or slower favours neither.
        ratio = float(np.median(counted["baseline"] / counted["engine"]))
    rate = job.work / statistics.median(counted["engine"])
    return Speed(job.key, job.title, job.unit, rate, ratio, len(counted["engine"]))


def _is_enough(taken: Sequence[float], quick: bool) -> bool:
    if quick or len(taken) < _RUNS_MIN:
        return quick and bool(taken)
    return len(taken) == _RUNS_MAX or sum(taken) >= _LEAST_S
