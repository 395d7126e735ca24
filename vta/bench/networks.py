"""Whole networks as ``vta bench simulator`` measures them.

Outputs are compared with those of the C baseline, which knows nothing of the engines; where it
cannot be compiled, with those of the readable functional simulator, which is slow, so that there
are fewer images.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from runtime.device import open_device
from runtime.devices.hosted import HostedDevice
from runtime.executor import Executor, Outcome
from runtime.package import Package
from vta import api
from vta.bench.baseline import BaselineDevice, BaselineError
from vta.bench.programs import WrongOutputError
from vta_hw.spec.config import PAGE_BYTES
from vta_hw.spec.program import Program
from vta_hw.spec.result import RunResult
from vta_sim.cycle import simulate
from vta_sim.timing.simulate import time_program

Record = dict[str, Any]
Outputs = Mapping[str, np.ndarray]

_FEW_IMAGES = 3
_FEW_STREAMED = 40


def first(path: str, device: str) -> Record:
    """Seconds from a loaded package to its first result, on the device "cycle" or "baseline".

    Also the cycles, and the digest of the outputs.
    """
    package = Package.load(path)
    inputs = api.random_inputs(package)
    start = time.perf_counter()
    if device == "baseline":
        executor = Executor(package, BaselineDevice(package.config))
    else:
        executor = api.load(package, device)
    outcome = executor.run(inputs)
    seconds = time.perf_counter() - start
    cycles = outcome.result.cycles
    return {"seconds": seconds, "cycles": cycles, "digest": _digest(outcome.outputs)}


def images(path: str, count: int) -> Record:
    """Median seconds of `count` different images after a first one, and of the baseline's.

    All outputs are compared, those of the first image with the readable simulator's as well.
    """
    package = Package.load(path)
    engine = api.load(package, "cycle")
    plain = Executor(package, open_device("functional", package.config, engine="plain"))
    witness, reason = _witness(package, plain)
    if reason is not None:
        count = min(count, _FEW_IMAGES)
    taken: list[tuple[float, float]] = []
    digest = ""
    for number in range(count + 1):
        inputs = api.random_inputs(package, number)
        outcome, seconds = _timed(engine, inputs)
        other, other_s = _timed(witness, inputs)
        _compare(outcome.outputs, other.outputs, f"image {number} of {package.model!r}")
        if number == 0:
            again = plain.run(inputs).outputs
            _compare(outcome.outputs, again, f"the first image of {package.model!r}")
            digest = _digest(outcome.outputs)
        else:
            taken.append((seconds, other_s))
    median = statistics.median(seconds for seconds, _ in taken)
    ratio = None if reason else statistics.median(other / own for own, other in taken)
    macs = sum(program.macs for program in package.programs)
    return {
        "seconds": median,
        "ratio": ratio,
        "images": count,
        "digest": digest,
        "macs": macs,
        "reason": reason,
    }


def timing(path: str, runs: int) -> Record:
    """Median seconds of timing all programs of a package, and what the readable simulator takes.

    Both must count the same, in all counters.
    """
    package = Package.load(path)
    device = _TimingDevice(package.config)
    executor = Executor(package, device)
    inputs = api.random_inputs(package)
    device.is_plain = True
    plain, plain_s = executor.run(inputs).result, device.taken_s()
    device.is_plain = False
    taken = []
    for _ in range(runs + 1):
        result = executor.run(inputs).result
        taken.append(device.taken_s())
        if (result.cycles, result.counters) != (plain.cycles, plain.counters):
            raise WrongOutputError(
                f"the timing engine counts {result.cycles} cycles for {package.model!r}, the "
                f"readable simulator {plain.cycles}, or other counters differ; report it"
            )
    return {
        "seconds": statistics.median(taken[1:]),
        "plain_s": plain_s,
        "cycles": plain.cycles,
        "instructions": plain.instructions,
    }


class _TimingDevice(HostedDevice):
    """Times programs and executes none; `is_plain` chooses the readable simulator."""

    name = "timing"
    is_plain = False
    _seconds = 0.0

    def taken_s(self) -> float:
        """Seconds since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def run(self, program: Program, addresses: Mapping[str, int]) -> RunResult:
        """Time a program; binding it is not counted."""
        dram = self.dram
        base = -(-dram.size // PAGE_BYTES) * PAGE_BYTES
        instructions, words = program.bound(addresses), program.bound_words(addresses)
        start = time.perf_counter()
        if self.is_plain:
            result = simulate(self.config, instructions, dram, insn_base=base, execute=False)
        else:
            result = time_program(self.config, words, dram, insn_base=base).result
        self._seconds += time.perf_counter() - start
        return replace(result, timeline=None)

    def run_stream(self, stream: bytes, image: np.ndarray) -> RunResult:
        """Not used."""
        raise NotImplementedError


def stream(path: str, count: int, runs: int, workers: int) -> Record:
    """Images per second of `Executor.stream`: the median of `runs` times `count` images.

    All outputs of all rounds are compared.
    """
    package = Package.load(path)
    engine = api.load(package, "cycle")
    plain = Executor(package, open_device("functional", package.config, engine="plain"))
    witness, reason = _witness(package, plain)
    inputs = [
        api.random_inputs(package, number)
        for number in range(min(count, _FEW_STREAMED) if reason else count)
    ]
    expected = [outcome.outputs for outcome in witness.stream(inputs, workers=workers)]
    _compare(expected[0], plain.run(inputs[0]).outputs, f"the first image of {package.model!r}")
    # The same images again and again only where the witness is too slow for more of them.
    repeats = -(-count // len(inputs))
    items = inputs * repeats
    taken = []
    for _ in range(runs + 1):
        outputs, seconds = _streamed(engine, items, workers)
        for number, found in enumerate(outputs):
            name = f"image {number} of {package.model!r}"
            _compare(found, expected[number % len(inputs)], name)
        other_s = 0.0 if reason else _streamed(witness, inputs, workers)[1]
        taken.append((seconds, other_s))
    counted = taken[1:]
    rate = len(items) / statistics.median(seconds for seconds, _ in counted)
    ratio = None if reason else statistics.median(other / own for own, other in counted)
    return {
        "rate": rate,
        "ratio": ratio,
        "images": len(items),
        "distinct": len(inputs),
        "workers": workers,
        "reason": reason,
    }


def _streamed(
    executor: Executor, items: Sequence[Outputs], workers: int
) -> tuple[list[Outputs], float]:
    start = time.perf_counter()
    outputs = [outcome.outputs for outcome in executor.stream(items, workers=workers)]
    return outputs, time.perf_counter() - start


def _witness(package: Package, plain: Executor) -> tuple[Executor, str | None]:
    """What outputs are compared with: the baseline, or `plain` and the reason for that."""
    try:
        return Executor(package, BaselineDevice(package.config)), None
    except BaselineError as error:
        return plain, str(error)


def _timed(executor: Executor, inputs: Outputs) -> tuple[Outcome, float]:
    start = time.perf_counter()
    outcome = executor.run(inputs)
    return outcome, time.perf_counter() - start


def _compare(found: Outputs, expected: Outputs, what: str) -> None:
    for name, array in expected.items():
        if not np.array_equal(found[name], array):
            raise WrongOutputError(f"the output {name!r} for {what} is wrong; report it")


def _digest(outputs: Outputs) -> str:
    """A digest of all bytes of all outputs."""
    digest = hashlib.sha256()
    for name in sorted(outputs):
        digest.update(outputs[name].tobytes())
    return digest.hexdigest()
