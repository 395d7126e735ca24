"""One program on several devices: the same memory, the same verdict, the same cycles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from runtime.device import Device, Engine, open_device
from vta_hw.spec import asm, isa
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.events import Timeline
from vta_hw.spec.result import RunResult
from vta_sim.trace_diff import deciding_rules

MOMENTS = ("dispatch", "issue", "retire")


@dataclass(frozen=True)
class Outcome:
    """What a device made of a program."""

    device: str
    result: RunResult
    dram: np.ndarray


DEVICES = ("functional", "cycle:plain", "cycle", "rtl")
"""What programs are compared on, beside the plain functional simulator; ``:plain`` is an engine."""


def device_of(name: str, config: VtaConfig) -> Device:
    """A device by its name, with an engine's name behind it or not; with a timeline if it can."""
    kind, _, engine = name.partition(":")
    chosen: Engine | None = "plain" if engine == "plain" else None
    return open_device(kind, config, timeline=kind != "functional", engine=chosen)


@lru_cache(maxsize=64)
def _device(name: str, config: VtaConfig) -> Device:
    return device_of(name, config)


def run(name: str, config: VtaConfig, stream: bytes, dram: bytes) -> Outcome:
    """Run a raw stream on a fresh image."""
    image = np.frombuffer(dram, np.uint8).copy()
    result = _device(name, config).run_stream(stream, image)
    return Outcome(name, result, image)


def differences(a: Outcome, b: Outcome, config: VtaConfig, stream: bytes) -> list[str]:
    """What two devices disagree in, the first of each kind; cycles only where both have a clock."""
    found = list(_verdicts(a, b))
    unequal = np.flatnonzero(a.dram != b.dram)
    if unequal.size:
        at = int(unequal[0])
        found.append(
            f"memory: {unequal.size} bytes differ, the first at {at:#x}: {a.dram[at]} on "
            f"{a.device}, {b.dram[at]} on {b.device}"
        )
    if a.result.timeline is not None and b.result.timeline is not None:
        found += _moments(a, b, a.result.timeline, b.result.timeline, config, stream)
        found += _counters(a, b)
    return found


def _verdicts(a: Outcome, b: Outcome) -> Sequence[str]:
    keys = [
        (o.result.status, o.result.fault and (o.result.fault.kind, o.result.fault.index))
        for o in (a, b)
    ]
    if keys[0] == keys[1]:
        return []
    return [f"verdict: {keys[0]} on {a.device}, {keys[1]} on {b.device}"]


def _moments(
    a: Outcome, b: Outcome, x: Timeline, y: Timeline, config: VtaConfig, stream: bytes
) -> list[str]:
    found = []
    if x.cycles != y.cycles:
        found.append(f"total: {x.cycles} cycles on {a.device}, {y.cycles} on {b.device}")
    firsts = [
        (min(int(t[at]) for t in (left, right) if t[at] >= 0), int(at), moment)
        for moment in MOMENTS
        for left, right in [(getattr(x, moment), getattr(y, moment))]
        for at in np.flatnonzero(left != right)
    ]
    if firsts:
        _, index, moment = min(firsts)
        insn = isa.decode(int.from_bytes(stream[16 * index : 16 * index + 16], "little"), config)
        text = asm.format_insn(insn)
        found.append(
            f"{moment} of instruction {index} ({text}): cycle {getattr(x, moment)[index]} on "
            f"{a.device}, {getattr(y, moment)[index]} on {b.device}; decided by "
            f"{deciding_rules(moment, text)} of docs/timing.md"
        )
    for bus in ("read_bus", "write_bus"):
        if not np.array_equal(getattr(x, bus), getattr(y, bus)):
            found.append(f"{bus}: the spans differ")
    return found


def _counters(a: Outcome, b: Outcome) -> list[str]:
    x, y = a.result.counters, b.result.counters
    if x.keys() != y.keys():
        return [f"counters: {sorted(x.keys() ^ y.keys())} are on one device only"]
    return [
        f"counter {name}: {x[name]} on {a.device}, {y[name]} on {b.device}"
        for name in x
        if x[name] != y[name]
    ]
