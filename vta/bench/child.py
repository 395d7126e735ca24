"""What ``vta bench simulator`` measures in processes of its own: ``python -m vta.bench.child``.

The first argument is a task, the second its parameters as JSON; the result is JSON on the last line
of standard output. A process of its own is fresh, and compiles for the CPU that its VTA_CPU names.
The exit status is 1 if an output is wrong and 2 if something else is.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vta_hw.spec.config import VtaConfig
from vta_hw.spec.errors import VtaKitError

Record = dict[str, Any]


def kernels(config: Record, quick: bool, spoil: str) -> Record:
    """The speed of every program of `vta.bench.jobs`."""
    from vta.bench.baseline import Baseline, BaselineError
    from vta.bench.jobs import jobs
    from vta.bench.measure import speed

    chosen = VtaConfig.from_dict(config)
    baseline, compiler, reason = None, None, None
    try:
        baseline = Baseline(chosen)
        compiler = baseline.flags
    except BaselineError as error:
        reason = str(error)
    speeds = [
        asdict(speed(job, chosen, baseline, quick=quick, spoil=job.key == spoil))
        for job in jobs(chosen, quick)
    ]
    return {"speeds": speeds, "compiler": compiler, "reason": reason}


def cold(config: Record) -> Record:
    """Seconds until the compiled functions are there, in a cache that may be empty."""
    import numpy as np

    from vta.bench.gemm import dense
    from vta_sim.native.functional import FunctionalProgram, Scratch
    from vta_sim.timing.simulate import time_program

    chosen = VtaConfig.from_dict(config)
    job = dense(chosen, 1)
    image = np.zeros(job.image_bytes, np.uint8)
    job.fill(np.random.default_rng(0), image)
    start = time.perf_counter()
    Scratch(chosen).run(FunctionalProgram(chosen, job.words, image), image)
    time_program(chosen, job.words, image, insn_base=image.size)
    return {"seconds": time.perf_counter() - start}


def build(config: Record, model: str, package: str) -> Record:
    """Compile a network; without one, a convolution on a tiny image."""
    from vta import api
    from vta.bench.tiny import write_tiny

    path = Path(model or f"{package}.onnx")
    if not model:
        write_tiny(path)
    api.compile(path, VtaConfig.from_dict(config)).package.save(package)
    return {}


def first(package: str, device: str) -> Record:
    """The first run of a loaded package in this process."""
    from vta.bench import networks

    return networks.first(package, device)


def images(package: str, count: int) -> Record:
    """Further images, one after the other."""
    from vta.bench import networks

    return networks.images(package, count)


def timing(package: str, runs: int) -> Record:
    """The timing engine alone."""
    from vta.bench import networks

    return networks.timing(package, runs)


def stream(package: str, count: int, runs: int, workers: int) -> Record:
    """Many images on several cores."""
    from vta.bench import networks

    return networks.stream(package, count, runs, workers)


_TASKS: tuple[Callable[..., Record], ...] = (kernels, cold, build, first, images, timing, stream)


def main() -> int:
    """Do the task that the command line names."""
    from vta.bench.programs import WrongOutputError

    task = {each.__name__: each for each in _TASKS}[sys.argv[1]]
    try:
        record = task(**json.loads(sys.argv[2]))
    except VtaKitError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1 if isinstance(error, WrongOutputError) else 2
    print(json.dumps(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
