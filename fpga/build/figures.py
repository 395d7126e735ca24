"""What place and route says of a design: resources, clocks, the paths that bound them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fpga.build.stages import BuildError

RESOURCES = ("LUT", "FF", "BRAM", "DSP")

# The cells of nextpnr-ecp5 that are counted, and the resource that each is one of.
_CELLS = {"LUT": "TRELLIS_COMB", "FF": "TRELLIS_FF", "BRAM": "DP16KD", "DSP": "MULT18X18D"}
# Synthesis names a cell after a net that it drives: NET_TYPE_PORT and a number; and again.
_DERIVED = re.compile(
    r"_(?:LUT4|CCU2C|PFUMX|L6MUX21|TRELLIS_FF|TRELLIS_DPR16X4|DP16KD|MULT18X18D)_.*$"
)
_CLOCK_NETS = re.compile(r"\$glbnet\$|\$TRELLIS_IO_IN$")
_HZ_PER_MHZ = 1e6
_NS_PER_S = 1e9


@dataclass(frozen=True)
class Amount:
    """How much of a resource is used, and how much there is."""

    used: int
    available: int

    @property
    def percent(self) -> float:
        """Of what there is."""
        return 100 * self.used / self.available


@dataclass(frozen=True)
class Step:
    """A part of a path that lies in one component: the signals that it goes through."""

    component: str
    signals: tuple[str, ...]
    logic_ns: float
    routing_ns: float


@dataclass(frozen=True)
class Clock:
    """A clock: the frequency that it must have and the one that it can have, in Hz.

    `path` is the longest one between two of its edges, by components.
    """

    name: str
    required_hz: float
    reached_hz: float
    path: tuple[Step, ...]

    @property
    def slack_ns(self) -> float:
        """What is left of a cycle; negative if it is too short."""
        return _NS_PER_S / self.required_hz - _NS_PER_S / self.reached_hz


@dataclass(frozen=True)
class Figures:
    """All of it; `resources` has each of `RESOURCES`."""

    resources: Mapping[str, Amount]
    clocks: tuple[Clock, ...]

    @property
    def slack_ns(self) -> float:
        """The least one of all clocks."""
        return min(clock.slack_ns for clock in self.clocks)

    def to_dict(self) -> dict[str, Any]:
        """As it is written to ``report.json``."""
        return {
            "resources": {
                name: {
                    "used": amount.used,
                    "available": amount.available,
                    "percent": round(amount.percent, 1),
                }
                for name, amount in self.resources.items()
            },
            "clocks": {clock.name: _clock_record(clock) for clock in self.clocks},
            "slack_ns": round(self.slack_ns, 3),
        }


def _clock_record(clock: Clock) -> dict[str, Any]:
    return {
        "required_mhz": round(clock.required_hz / _HZ_PER_MHZ, 3),
        "reached_mhz": round(clock.reached_hz / _HZ_PER_MHZ, 3),
        "slack_ns": round(clock.slack_ns, 3),
        "critical_path": [
            {
                "component": step.component,
                "signals": list(step.signals),
                "logic_ns": round(step.logic_ns, 3),
                "routing_ns": round(step.routing_ns, 3),
            }
            for step in clock.path
        ],
    }


def read(text: str) -> Figures:
    """What a report of nextpnr (its option ``--report``) holds."""
    try:
        report = json.loads(text)
        used = report["utilization"]
        resources = {
            name: Amount(int(used[cell]["used"]), int(used[cell]["available"]))
            for name, cell in _CELLS.items()
        }
        paths = {
            _edge(path["from"]): path["path"]
            for path in report["critical_paths"]
            if path["from"] == path["to"]
        }
        clocks = [
            Clock(
                _clock_name(name),
                _HZ_PER_MHZ * float(clock["constraint"]),
                _HZ_PER_MHZ * float(clock["achieved"]),
                _steps(paths.get(name, ())),
            )
            for name, clock in report["fmax"].items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(
            f"the report of place and route lacks or mistakes {error}; use a version of nextpnr "
            f"that writes one as 0.11 does"
        ) from error
    if not clocks:
        raise BuildError("the design has no clock; give its clock pin a frequency")
    return Figures(resources, tuple(sorted(clocks, key=lambda clock: clock.name)))


def _edge(text: str) -> str:
    """The clock in `posedge CLOCK`."""
    return text.partition(" ")[2]


def _clock_name(net: str) -> str:
    return _CLOCK_NETS.sub("", net)


def _steps(path: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    """Neighbouring parts of a path in the same component become one."""
    steps: list[Step] = []
    for part in path:
        delay = float(part["delay"])
        routing = part["type"] == "routing"
        component, signal = _place(str(part["from" if routing else "to"]["cell"]))
        step = Step(component, (signal,), 0 if routing else delay, delay if routing else 0)
        steps[-1:] = _joined(steps[-1], step) if steps else [step]
    return tuple(steps)


def _joined(first: Step, second: Step) -> list[Step]:
    if first.component != second.component:
        return [first, second]
    new = second.signals if second.signals[0] != first.signals[-1] else ()
    return [
        Step(
            first.component,
            first.signals + new,
            first.logic_ns + second.logic_ns,
            first.routing_ns + second.routing_ns,
        )
    ]


def _place(cell: str) -> tuple[str, str]:
    """Component and signal of a cell: names of instances are joined by dots."""
    component, _, signal = _DERIVED.sub("", cell).rpartition(".")
    return component, signal
