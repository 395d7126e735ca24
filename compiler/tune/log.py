"""Logs of tuning: a file of JSON lines, each of which stands for itself.

A record says which configuration (by hash) and which version of the templates it belongs to, and

- `trial`: the cycles of a layer, alone, with one point of its space;
- `network`: the cycles of a whole network with these points of its layers;
- `chosen`: the point that a layer has in the network that was tuned last.

Lines are written whole, so that an interruption leaves at most one broken one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compiler.errors import TuningError
from compiler.topi.conv2d_tiling import KEPT, ConvTiling
from vta_hw.spec.config import VtaConfig

VERSION = 1
"""Raised when knobs, workloads or the code that a point stands for change their meaning."""

Point = Mapping[str, Any]


@dataclass
class Log:
    """What a file holds. `trials` are cycles by workload and point (as text), see `key_of`."""

    path: Path
    config: VtaConfig
    trials: dict[str, dict[str, int]] = field(default_factory=dict)
    networks: dict[str, int] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)
    broken: int = 0
    _is_cut: bool = False

    @classmethod
    def read(cls, path: Path, config: VtaConfig, *, must_exist: bool = True) -> Log:
        """Read a log of `config`; refused if any record is of another one, or of another version.

        Lines that are no records are skipped and counted in `broken`.
        """
        log = cls(path, config)
        try:
            text = path.read_bytes().decode(errors="replace")
        except FileNotFoundError:
            if must_exist:
                raise TuningError(
                    f"log {str(path)!r} does not exist; make it with vta tune"
                ) from None
            return log
        except OSError as error:
            raise TuningError(
                f"log {str(path)!r} cannot be read: {error.strerror or error}; name another file"
            ) from error
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                log._take(line, number)
        log._is_cut = bool(text) and not text.endswith("\n")
        return log

    def _take(self, line: str, number: int) -> None:
        try:
            record = json.loads(line)
            origin = int(record["version"]), str(record["config"])
            self._check(origin, number)
            self._note(record)
        except (ValueError, KeyError, TypeError, RecursionError):
            self.broken += 1

    def _check(self, origin: tuple[int, str], number: int) -> None:
        if origin != (VERSION, self.config.hash):
            raise TuningError(
                f"log {str(self.path)!r}, line {number}, is of the configuration with the hash "
                f"{origin[1]} and version {origin[0]} of the templates, not of config "
                f"{self.config.name!r} with the hash {self.config.hash} and version {VERSION}; "
                f"use a log for each configuration"
            )

    def _note(self, record: dict[str, Any]) -> None:
        match record:
            case {"kind": "trial", "workload": str(workload), "point": dict(point)}:
                cycles, _ = _cycles(record), tiling_of(point)
                self.trials.setdefault(workload, {})[key_of(point)] = cycles
            case {"kind": "network", "network": str(name), "points": dict(points)}:
                self.networks[network_key(name, points)] = _cycles(record)
            case {"kind": "chosen", "workload": str(workload), "point": dict(point)}:
                tiling_of(point)
                self.chosen[workload] = key_of(point)
            case _:
                raise ValueError("no record of a known kind")

    # -- writing -----------------------------------------------------------------------------------

    def add_trial(self, workload: str, point: Point, cycles: int) -> None:
        """Note what a layer took alone."""
        self._add(kind="trial", workload=workload, point=point, cycles=cycles)

    def add_network(self, name: str, points: Mapping[str, Point], cycles: int) -> None:
        """Note what a network took with these points of its workloads."""
        self._add(kind="network", network=name, points=points, cycles=cycles)

    def add_chosen(self, workload: str, point: Point) -> None:
        """Note the point that a workload is compiled with from now on."""
        if self.chosen.get(workload) != key_of(point):
            self._add(kind="chosen", workload=workload, point=point)

    def _add(self, **record: Any) -> None:
        whole = {"version": VERSION, "config": self.config.hash, **record}
        line = json.dumps(whole) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as file:
            # One write: what is there after an interruption is a line, or no part of it is missing
            # but its end.
            os.write(file.fileno(), (("\n" if self._is_cut else "") + line).encode())
        self._is_cut = False
        self._note(whole)

    # -- what to compile with ----------------------------------------------------------------------

    def tilings(self) -> dict[str, ConvTiling]:
        """The tiling of each workload: the chosen one, else that of the fastest trial."""
        best = {w: min(points, key=points.__getitem__) for w, points in self.trials.items()}
        return {w: tiling_of(json.loads(point)) for w, point in {**best, **self.chosen}.items()}


def key_of(point: Point) -> str:
    """A point as text: equal texts mean equal points."""
    return json.dumps(dict(point), sort_keys=True)


def network_key(name: str, points: Mapping[str, Point]) -> str:
    """A network and the points of its workloads as text."""
    return json.dumps([name, sorted((workload, key_of(p)) for workload, p in points.items())])


def tiling_of(point: Point) -> ConvTiling:
    """The tiling that a point of a log stands for; a `TypeError` or `ValueError` if it is none."""
    tiling = ConvTiling(**point)
    numbers = [value for name, value in vars(tiling).items() if name not in ("kept", "kh")]
    numbers += [] if tiling.kh is None else [tiling.kh]
    if any(type(n) is not int or n < 1 for n in numbers) or tiling.kept not in KEPT:
        raise ValueError(f"{dict(point)} is no tiling")
    return tiling


def _cycles(record: Mapping[str, Any]) -> int:
    cycles = record["cycles"]
    if type(cycles) is not int or cycles < 1:
        raise ValueError("cycles must be a positive integer")
    return cycles
