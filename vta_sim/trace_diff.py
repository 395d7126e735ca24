"""Reads traces back and says where two of them first differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vta_hw.spec.config import MemType
from vta_hw.spec.errors import VtaKitError
from vta_hw.spec.events import NEVER
from vta_sim.trace import KEY, MOMENTS, VERSION

_BUSES = ("read_bus", "write_bus")
_COMPUTE_LOADS = tuple(kind.name.lower() for kind in (MemType.UOP, MemType.ACC, MemType.ACC_8BIT))
_RETIRE_RULES = {"gemm": "G3", "alu": "A1, A2, A3", "store": "T5", "finish": "S4"}


class TraceError(VtaKitError):
    """A file that is no trace, or traces that cannot be compared."""


def read(path: str | Path) -> list[dict[str, Any]]:
    """The runs of a trace file; cycles are arrays. A file without them is refused."""
    try:
        whole = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise TraceError(
            f"trace {str(path)!r} cannot be read: {error.strerror or error}; name another file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise TraceError(
            f"trace {str(path)!r} is no JSON ({error}); write it with --trace"
        ) from error
    part = whole.get(KEY) if isinstance(whole, dict) else None
    if not isinstance(part, dict) or part.get("version") != VERSION:
        raise TraceError(
            f"trace {str(path)!r} does not hold cycles in the form of this version; write it with "
            f"--trace"
        )
    try:
        return [_run(run) for run in part["runs"]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise TraceError(
            f"trace {str(path)!r} is damaged ({error}); write it again with --trace"
        ) from error


def _run(raw: Mapping[str, Any]) -> dict[str, Any]:
    run: dict[str, Any] = {"title": str(raw["title"]), "cycles": int(raw["cycles"])}
    run["instructions"] = [str(text) for text in raw["instructions"]]
    run["sources"] = [str(text) for text in raw["sources"]]
    count = len(run["instructions"])
    for name in MOMENTS:
        run[name] = np.array(raw[name], np.int64).reshape(count)
    for name in _BUSES:
        run[name] = np.array(raw[name], np.int64).reshape(-1, 2)
    return run


def first_difference(a: str | Path, b: str | Path) -> str | None:
    """A sentence on the earliest difference between two traces; None if they are equal.

    For a moment of an instruction it names the rules of docs/timing.md that decide it.
    """
    runs = read(a), read(b)
    if len(runs[0]) != len(runs[1]):
        return f"{a} has {len(runs[0])} runs, {b} has {len(runs[1])}"
    for number, (x, y) in enumerate(zip(*runs, strict=True)):
        found = _difference(x, y)
        if found is not None:
            where = f"run {number} ({x['title']}): " if len(runs[0]) > 1 else ""
            return where + found
    return None


def deciding_rules(moment: str, insn: str) -> str:
    """The rules of docs/timing.md that say when `moment` of an instruction comes.

    `insn` is the instruction's line as `format_insn` writes it.
    """
    form, *rest = insn.split()
    if moment == "dispatch":
        # What cannot be decoded is not dispatched: it stops the fetch.
        return "F4" if form == "unknown" else "F2, F3"
    kind = rest[0] if form == "load" and rest else ""
    load_stage = form == "load" and kind not in _COMPUTE_LOADS
    if moment == "issue":
        return f"S1, S2, {'L1' if load_stage else 'T1' if form == 'store' else 'G1'}"
    if form == "load":
        return f"S5, {'L5' if load_stage else 'D1'}"
    return f"S5, {_RETIRE_RULES[form]}"


def _difference(x: Mapping[str, Any], y: Mapping[str, Any]) -> str | None:
    for index, texts in enumerate(zip(x["instructions"], y["instructions"], strict=False)):
        if texts[0] != texts[1]:
            return f"the programs differ: instruction {index} is {texts[0]!r}, then {texts[1]!r}"
    counts = len(x["instructions"]), len(y["instructions"])
    if counts[0] != counts[1]:
        return f"the programs differ: one has {counts[0]} instructions, the other {counts[1]}"
    firsts = []
    for order, moment in enumerate(MOMENTS):
        left, right = x[moment], y[moment]
        # The end of time stands for what did not happen.
        earlier = np.minimum(
            *(np.where(t == NEVER, np.iinfo(np.int64).max, t) for t in (left, right))
        )
        unequal = np.flatnonzero(left != right)
        if unequal.size:
            at = unequal[np.argmin(earlier[unequal])]
            firsts.append((int(earlier[at]), int(at), order))
    if firsts:
        _, index, order = min(firsts)
        return _moment(x, y, index, MOMENTS[order])
    for bus in _BUSES:
        if not np.array_equal(x[bus], y[bus]):
            return f"{bus.replace('_', ' ')}: {_spans(x[bus], y[bus])}"
    if x["cycles"] != y["cycles"]:
        return f"total: {x['cycles']} cycles, then {y['cycles']}"
    return None


def _moment(x: Mapping[str, Any], y: Mapping[str, Any], index: int, moment: str) -> str:
    cycles = [
        "never" if run[moment][index] == NEVER else f"in cycle {run[moment][index]}"
        for run in (x, y)
    ]
    source = f", from {x['sources'][index]}" if x["sources"] else ""
    text = x["instructions"][index]
    return (
        f"{moment} of instruction {index} ({text}{source}): {cycles[0]}, then {cycles[1]}; decided "
        f"by {deciding_rules(moment, text)} of docs/timing.md"
    )


def _spans(left: np.ndarray, right: np.ndarray) -> str:
    shorter = min(len(left), len(right))
    unequal = np.flatnonzero((left[:shorter] != right[:shorter]).any(axis=1))
    at = int(unequal[0]) if unequal.size else shorter
    texts = [
        f"cycles {spans[at][0]} to {spans[at][1]}" if at < len(spans) else "nothing"
        for spans in (left, right)
    ]
    return f"busy span {at} is {texts[0]}, then {texts[1]}"
