"""Traces of runs: JSON that ui.perfetto.dev opens, with the exact cycles beside the picture.

A cycle is shown as a microsecond. The runs of one file follow each other; a key of its own, which
viewers ignore, holds for each run what `Timeline` holds.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vta_hw.spec.asm import format_insn
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.events import NEVER, Timeline
from vta_hw.spec.isa import (
    Instruction,
    Load,
    Stage,
    TokenQueue,
    Unknown,
    pops,
    pushes,
    stage_of,
)

KEY = "vta"
VERSION = 1
MOMENTS = ("dispatch", "issue", "retire")

_FETCH, _READ_BUS, _WRITE_BUS = "fetch", "read bus", "write bus"
_UNITS = (
    "load inp",
    "load wgt",
    "load other",
    "compute load",
    "compute gemm",
    "compute alu",
    "compute finish",
    "store",
)

_LOADS: Mapping[int, str] = {MemType.INP: "load inp", MemType.WGT: "load wgt"}


@dataclass(frozen=True)
class Recording:
    """A run that has a timeline, and the program that ran; `sources` has a text per instruction."""

    title: str
    config: VtaConfig
    instructions: Sequence[Instruction]
    timeline: Timeline
    sources: Sequence[str] = ()


def to_json(recordings: Sequence[Recording]) -> str:
    """The text of a trace file."""
    events: list[dict[str, Any]] = []
    start = flow = 0
    for number, recording in enumerate(recordings):
        picture = _Picture(recording, number, start, flow)
        events += picture.events()
        start += recording.timeline.cycles
        flow = picture.flow
    runs = [_raw(recording) for recording in recordings]
    whole = {
        "traceEvents": events,
        "displayTimeUnit": "ns",
        KEY: {"version": VERSION, "runs": runs},
    }
    return json.dumps(whole, separators=(",", ":"))


def _raw(recording: Recording) -> dict[str, Any]:
    line = recording.timeline
    return {
        "title": recording.title,
        "config": recording.config.name,
        "config_hash": recording.config.hash,
        "cycles": line.cycles,
        "instructions": [format_insn(insn) for insn in recording.instructions],
        "sources": list(recording.sources),
        **{name: getattr(line, name).tolist() for name in (*MOMENTS, "read_bus", "write_bus")},
    }


def unit_of(insn: Instruction) -> str:
    """The unit, with its stage, that an instruction is shown in."""
    stage = stage_of(insn)
    if stage is Stage.STORE:
        return "store"
    if stage is Stage.COMPUTE:
        return f"compute {type(insn).__name__.lower()}"
    memory = insn.memory_type if isinstance(insn, Load) else -1
    return _LOADS.get(memory, "load other")


class _Picture:
    """The events of one run: a process whose threads are units, or lanes of them."""

    def __init__(self, recording: Recording, number: int, start: int, flow: int) -> None:
        self._recording = recording
        self._pid = number + 1
        self._start = start
        self.flow = flow
        self._threads: dict[str, int] = {}

    def events(self) -> list[dict[str, Any]]:
        """All events, in the order of the program."""
        threads = self._lanes()
        events = [*self._slices(threads), *self._tokens(threads), *self._buses()]
        return [*self._names(), *events]

    def _names(self) -> Iterator[dict[str, Any]]:
        title = f"{self._recording.title} ({self._recording.config.name})"
        yield self._meta("process_name", 0, title)
        order = [_FETCH, *_UNITS, _READ_BUS, _WRITE_BUS]
        for name, thread in self._threads.items():
            yield self._meta("thread_name", thread, name)
            place = order.index(name.partition(" #")[0]) * 16 + thread % 16
            yield {
                "ph": "M",
                "pid": self._pid,
                "tid": thread,
                "name": "thread_sort_index",
                "args": {"sort_index": place},
            }

    def _meta(self, kind: str, thread: int, name: str) -> dict[str, Any]:
        return {"ph": "M", "pid": self._pid, "tid": thread, "name": kind, "args": {"name": name}}

    def _thread(self, name: str) -> int:
        return self._threads.setdefault(name, len(self._threads) + 1)

    def _event(self, kind: str, name: str, thread: int, cycle: int, **more: Any) -> dict[str, Any]:
        return {
            "ph": kind,
            "name": name,
            "pid": self._pid,
            "tid": thread,
            "ts": self._start + cycle,
            **more,
        }

    def _end(self, index: int) -> int:
        """The first cycle after an issued instruction: one that never retires lasts to the end."""
        line = self._recording.timeline
        retired = int(line.retire[index])
        return line.cycles if retired == NEVER else retired + 1

    def _lanes(self) -> list[int]:
        """The thread of each instruction (0: not issued); in a lane none overlaps another."""
        issue = self._recording.timeline.issue
        lanes: dict[str, list[int]] = {}
        threads = [0] * len(issue)
        for index, insn in enumerate(self._recording.instructions):
            if issue[index] == NEVER:
                continue
            unit = unit_of(insn)
            ends = lanes.setdefault(unit, [])
            lane = next((k for k, end in enumerate(ends) if end <= issue[index]), len(ends))
            ends[lane:] = [self._end(index), *ends[lane + 1 :]]
            threads[index] = self._thread(unit if not lane else f"{unit} #{lane + 1}")
        return threads

    def _slices(self, threads: Sequence[int]) -> Iterator[dict[str, Any]]:
        recording = self._recording
        line = recording.timeline
        fetch = self._thread(_FETCH)
        for index, insn in enumerate(recording.instructions):
            dispatched, issued = int(line.dispatch[index]), int(line.issue[index])
            if dispatched != NEVER:
                yield self._event("X", str(index), fetch, dispatched, dur=1)
            if issued == NEVER:
                continue
            arguments: dict[str, Any] = {"index": index, "dispatch": dispatched, "issue": issued}
            arguments["retire"] = int(line.retire[index])
            if recording.sources:
                arguments["source"] = recording.sources[index]
            yield self._event(
                "X",
                format_insn(insn),
                threads[index],
                issued,
                dur=self._end(index) - issued,
                args=arguments,
            )

    def _tokens(self, threads: Sequence[int]) -> Iterator[dict[str, Any]]:
        """An arrow from the retirement that pushes a token to the issue that pops it."""
        recording = self._recording
        line = recording.timeline
        waiting: Mapping[TokenQueue, deque[int]] = {queue: deque() for queue in TokenQueue}
        # Each counter has one stage that pushes and one that pops, both in the program's order.
        for index, insn in enumerate(recording.instructions):
            if line.retire[index] != NEVER and not isinstance(insn, Unknown):
                for queue in pushes(insn):
                    waiting[queue].append(index)
        for index, insn in enumerate(recording.instructions):
            if line.issue[index] == NEVER:
                continue
            for queue in pops(insn):
                # What a trace is to show may be hardware that goes wrong.
                if not waiting[queue]:
                    continue
                giver = waiting[queue].popleft()
                self.flow += 1
                common = {"id": self.flow, "cat": "token"}
                name = queue.name.lower()
                pushed, popped = int(line.retire[giver]), int(line.issue[index])
                yield self._event("s", name, threads[giver], pushed, **common)
                yield self._event("f", name, threads[index], popped, bp="e", **common)

    def _buses(self) -> Iterator[dict[str, Any]]:
        line = self._recording.timeline
        for name, spans in ((_READ_BUS, line.read_bus), (_WRITE_BUS, line.write_bus)):
            thread = self._thread(name)
            for first, last in spans.tolist():
                yield self._event(
                    "X", f"{last - first + 1} beats", thread, first, dur=last - first + 1
                )
