"""One program on the compiled engines and on the readable simulators: what they differ in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from vta_hw.spec.config import PAGE_BYTES, MemType, VtaConfig
from vta_hw.spec.result import RunResult, Status
from vta_hw.spec.semantics import Scratchpads
from vta_hw.spec.words import from_stream
from vta_sim import functional
from vta_sim.cycle import simulate
from vta_sim.lang import cpu
from vta_sim.native.engine import BYTES_OFFSET
from vta_sim.native.functional import FunctionalProgram, Scratch
from vta_sim.timing.simulate import time_program

_MOMENTS = ("cycles", "dispatch", "issue", "retire", "read_bus", "write_bus")


@dataclass(frozen=True)
class Launch:
    """A stream on a machine, in a DRAM, with these registers."""

    config: VtaConfig
    stream: bytes
    dram: bytes
    bases: Mapping[MemType, int] = field(default_factory=dict)
    limit: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What every engine is given besides."""
        return {"bases": self.bases, "dram_limit": self.limit}

    def memory(self) -> np.ndarray:
        """DRAM as it is before a run."""
        return np.frombuffer(self.dram, np.uint8).copy()

    def with_stores_apart(self) -> Launch:
        """The same, but what is stored lies in DRAM of its own behind all that is loaded."""
        behind = -(-len(self.dram) // PAGE_BYTES) * PAGE_BYTES
        image = self.dram + bytes(behind - len(self.dram)) + self.dram
        return Launch(self.config, self.stream, image, {**self.bases, MemType.OUT: behind})


@lru_cache(maxsize=8)
def _scratch(program_hash: str, isa: str, layout: str | None, config: VtaConfig) -> Scratch:
    return Scratch(config, layout)


def scratch_of(config: VtaConfig, layout: str | None = None) -> Scratch:
    """Memories of one machine; programs run on them one after the other, as on a device."""
    return _scratch(config.program_hash, cpu.chosen().isa, layout, config)


def functional_differences(
    launch: Launch, verdicts: Counter[str] | None = None, layout: str | None = None
) -> list[str]:
    """Of the compiled functional engine from `vta_sim.functional`; how it ended goes to `verdicts`.

    Raises `VolatileProgramError` for a program that it does not take.
    """
    expected, found = launch.memory(), launch.memory()
    program = FunctionalProgram(launch.config, from_stream(launch.stream), found, **launch.options)
    scratch = scratch_of(launch.config, layout)
    scratch.run(program, found)
    pads = Scratchpads(launch.config)
    result = functional.run(launch.config, launch.stream, expected, pads=pads, **launch.options)
    differences = [*_results(result, program.result), *_memory(expected, found)]
    if verdicts is not None:
        verdicts[result.fault.kind if result.fault else "ok"] += 1
    if result.status is not Status.FAULT:  # then they are undefined
        differences += _on_chip(pads, scratch)
    return differences


def timing_differences(
    launch: Launch, *, insn_base: int = 0, latency: int | None = None, executes: bool = True
) -> list[str]:
    """Of the timing engine from `vta_sim.cycle`, and of DRAM after its order of effects."""
    expected, found = launch.memory(), launch.memory()
    options: dict[str, Any] = {**launch.options, "insn_base": insn_base, "latency": latency}
    words = from_stream(launch.stream)
    timing = time_program(launch.config, words, found, timeline=True, **options)
    untouched = _memory(launch.memory(), found)
    result = simulate(launch.config, launch.stream, expected, execute=executes, **options)
    differences = [*_results(result, timing.result), *_moments(result, timing.result), *untouched]
    if executes:
        program = FunctionalProgram(
            launch.config,
            words,
            found,
            order=timing.executed,
            result=timing.result,
            **launch.options,
        )
        scratch_of(launch.config).run(program, found)
        differences += _memory(expected, found)
    return differences


def _results(a: RunResult, b: RunResult) -> list[str]:
    found = []
    for name in ("status", "fault", "instructions", "macs", "cycles", "notes"):
        x, y = getattr(a, name), getattr(b, name)
        if x != y:
            found.append(f"{name}: {x!r} expected, {y!r} found")
    if list(a.counters) != list(b.counters) and set(a.counters) != set(b.counters):
        found.append(f"counters: {sorted(set(a.counters) ^ set(b.counters))} are of one only")
    for name in set(a.counters) & set(b.counters):
        if a.counters[name] != b.counters[name]:
            found.append(f"{name}: {a.counters[name]} expected, {b.counters[name]} found")
    kinds = {type(value) for value in b.counters.values()} | {type(b.macs), type(b.instructions)}
    if kinds - {int}:
        found.append(f"counters are of types {kinds}")
    return found


def _moments(a: RunResult, b: RunResult) -> list[str]:
    assert a.timeline is not None
    assert b.timeline is not None
    found = []
    for name in _MOMENTS:
        x, y = (np.atleast_1d(getattr(t, name)) for t in (a.timeline, b.timeline))
        if x.shape != y.shape:
            found.append(f"{name}: {len(x)} expected, {len(y)} found")
        elif (x != y).any():
            first = np.argwhere(x != y)[0].tolist()
            found.append(
                f"{name}: the first difference is at {first}: {x[first[0]]}, {y[first[0]]}"
            )
    return found


def _on_chip(pads: Scratchpads, scratch: Scratch) -> list[str]:
    """The on-chip memories, whatever the form in which the compiled engine holds inputs."""
    record = scratch.record
    if record["inp_words"]:
        inputs = record.kept("inp_words")
    else:
        inputs = (record.kept("inp_bytes") ^ BYTES_OFFSET).view(np.int8)
    held = {"acc": record.kept("acc"), "inp": inputs, "wgt": record.kept("wgt")}
    return [
        f"{name}: {int((values != getattr(pads, name).reshape(-1)).sum())} numbers differ"
        for name, values in held.items()
        if (values != getattr(pads, name).reshape(-1)).any()
    ]


def _memory(expected: np.ndarray, found: np.ndarray) -> list[str]:
    places = np.flatnonzero(expected != found)
    if not len(places):
        return []
    at = int(places[0])
    return [
        f"memory: {len(places)} bytes differ, the first at {at:#x}: {expected[at]} expected, "
        f"{found[at]} found"
    ]
