"""The plots of a profile as SVG: they need no script, and take their colours from the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vta.profiling.markup import Element, element
from vta.profiling.measure import ARRAY, Machine, Row
from vta.show import short_name
from vta_sim.stalls import REASON_DOCS, Reason

WIDTH = 1120.0

COLOURS: Mapping[Reason, str] = {
    Reason.GEMM: "#2f74d0",
    Reason.GEMM_INTERVAL: "#8ebcf5",
    Reason.ACC_CONFLICT: "#7a53c7",
    Reason.ALU: "#e8871e",
    Reason.RESET: "#f3c13a",
    Reason.LOAD_UOP: "#8c6239",
    Reason.LOAD_ACC: "#ef8bb0",
    Reason.LOAD_INP: "#d63f3f",
    Reason.LOAD_WGT: "#a3197f",
    Reason.STORE: "#1f9e89",
    Reason.FETCH: "#5d6673",
    Reason.ISSUE: "#98a2b0",
    Reason.END: "#c9ced6",
}

# -- bars -----------------------------------------------------------------------------------------

_PITCH, _BAR, _TOP = 22.0, 14.0, 34.0
_LABEL, _CYCLES, _SHARES = 300.0, (308.0, 800.0), (892.0, 1096.0)
_LABEL_CHARACTERS = 38
_LEAST_WIDTH = 0.05


def bars(rows: Sequence[Row]) -> Element:
    """Per row its cycles by reason: as they are, beside it as shares; a mark shows its bound."""
    height = _TOP + _PITCH * len(rows) + 8
    step = _nice_step(max(row.cycles for row in rows), 5)
    scale = (_CYCLES[1] - _CYCLES[0]) / max(row.cycles for row in rows)
    parts = [*_grid(step, scale, height), *_share_grid(height)]
    for number, row in enumerate(rows, 1):
        parts.append(_bar(number, row, scale))
    return _svg(height, parts, "Cycles of each layer by reason")


def _grid(step: int, scale: float, height: float) -> Iterator[Element]:
    yield _label("cycles; | is the bound", _CYCLES[0], 12, "title")
    value = 0
    while _CYCLES[0] + value * scale <= _CYCLES[1]:
        at = _CYCLES[0] + value * scale
        yield _line(at, _TOP - 6, at, height - 8, "grid")
        yield _label(_brief(value), at, _TOP - 9, "tick", "middle")
        value += step


def _share_grid(height: float) -> Iterator[Element]:
    yield _label("shares", _SHARES[0], 12, "title")
    for percent in (0, 25, 50, 75, 100):
        at = _SHARES[0] + (_SHARES[1] - _SHARES[0]) * percent / 100
        yield _line(at, _TOP - 6, at, height - 8, "grid")
        yield _label(f"{percent} %", at, _TOP - 9, "tick", "middle")


def _bar(number: int, row: Row, scale: float) -> Element:
    top = _TOP + _PITCH * (number - 1) + (_PITCH - _BAR) / 2
    base = top + _BAR - 3
    parts = [_label(f"{_cut(short_name(row.name))} {number}", _LABEL, base, "name", "end")]
    shares = (_SHARES[1] - _SHARES[0]) / max(row.cycles, 1)
    for begin, width in ((_CYCLES[0], scale), (_SHARES[0], shares)):
        at = begin
        for reason, cycles in row.reasons.items():
            if cycles * width > _LEAST_WIDTH:
                parts.append(
                    element(
                        "rect",
                        _title(_told(row, reason, cycles)),
                        x=at,
                        y=top,
                        width=cycles * width,
                        height=_BAR,
                        fill=COLOURS[reason],
                    )
                )
            at += cycles * width
    if row.bound_cycles:
        at = _CYCLES[0] + row.bound_cycles * scale
        parts.append(_line(at, top - 3, at, top + _BAR + 3, "bound"))
    end = _CYCLES[0] + max(row.cycles, row.bound_cycles) * scale
    parts.append(_label(f"{row.cycles:,}", end + 6, base, "tick"))
    return element("g", *parts, class_="row")


def _told(row: Row, reason: Reason, cycles: int) -> str:
    share = cycles / row.cycles
    return f"{row.name}\n{reason}: {cycles:,} cycles, {share:.1%}\n{REASON_DOCS[reason]}"


def _cut(text: str) -> str:
    return text if len(text) <= _LABEL_CHARACTERS else f"{text[: _LABEL_CHARACTERS - 1]}…"


def _nice_step(greatest: float, count: int) -> int:
    """1, 2 or 5 times a power of ten, of which at most `count` fit into the greatest value."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if greatest / (factor * step) <= count:
                return factor * step
        step *= 10


def _brief(value: float) -> str:
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g} {unit}"
    return f"{value:g}"


# -- roofline -------------------------------------------------------------------------------------

_LEFT, _RIGHT, _UPPER, _LOWER = 70.0, WIDTH - 20, 24.0, 440.0
_MARGIN = 2.0
"""Factor between the outermost values and the ends of the axes."""
_RADIUS = 5.0
_CHARACTER, _LINE, _STEPS = 6.4, 13.0, 12
"""Size of a character of a small text, and how many lines down there may be room for it."""
_PIECES = 200


@dataclass(frozen=True)
class _Axes:
    """Logarithmic axes: the ranges of MACs per byte and of MACs per cycle."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies on the plot."""
        across = math.log(x / self.x[0]) / math.log(self.x[1] / self.x[0])
        up = math.log(y / self.y[0]) / math.log(self.y[1] / self.y[0])
        return _LEFT + across * (_RIGHT - _LEFT), _LOWER - up * (_LOWER - _UPPER)


def roofline(rows: Sequence[Row], machine: Machine) -> Element:
    """What rows with MACs attain, below the roofs of the array and of the bus; log-log.

    Numbers are places in `rows`.
    """
    numbered = [(n, row) for n, row in enumerate(rows, 1) if row.macs and row.cycles]
    ridge = machine.macs_per_cycle / machine.bus_bytes
    across = [ridge, *(row.macs_per_byte for _, row in numbered)]
    up = [machine.macs_per_cycle, *(row.macs_per_cycle for _, row in numbered)]
    axes = _Axes(
        (min(across) / _MARGIN, max(across) * _MARGIN), (min(up) / _MARGIN, max(up) * _MARGIN)
    )
    parts = [*_log_grid(axes), *_roofs(axes, machine), *_points(axes, numbered, machine)]
    return _svg(_LOWER + 44, parts, "Roofline of the layers")


def _log_grid(axes: _Axes) -> Iterator[Element]:
    for value in _decades(axes.x):
        at, _ = axes.at(value, axes.y[0])
        yield _line(at, _UPPER, at, _LOWER, "grid")
        yield _label(f"{value:g}", at, _LOWER + 16, "tick", "middle")
    for value in _decades(axes.y):
        _, at = axes.at(axes.x[0], value)
        yield _line(_LEFT, at, _RIGHT, at, "grid")
        yield _label(f"{value:g}", _LEFT - 8, at + 4, "tick", "end")
    middle = (_LEFT + _RIGHT) / 2
    yield _label("MACs per byte that must move", middle, _LOWER + 36, "title", "middle")
    yield _label("MACs per cycle", _LEFT, 12, "title", "middle")


def _decades(ends: tuple[float, float]) -> list[float]:
    """1, 2 and 5 times powers of ten within a range."""
    powers = range(math.floor(math.log10(ends[0])), math.ceil(math.log10(ends[1])) + 1)
    values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return [value for value in values if ends[0] <= value <= ends[1]]


def _roofs(axes: _Axes, machine: Machine) -> Iterator[Element]:
    array, bus = machine.macs_per_cycle, machine.bus_bytes
    ridge = axes.at(array / bus, array)
    # The roof of the bus leaves the plot on the left or below.
    start = max(axes.x[0], axes.y[0] / bus)
    yield _line(*axes.at(start, start * bus), *ridge, "roof")
    yield _line(*ridge, *axes.at(axes.x[1], array), "roof")
    yield _label(f"array: {array} MACs per cycle", _RIGHT - 4, ridge[1] - 8, "title", "end")
    x, y = axes.at(start, start * bus)
    slope = math.degrees(math.atan2(ridge[1] - y, ridge[0] - x))
    turned = _label(f"bus: {bus} bytes per cycle", 0, -8, "title", "middle")
    place = f"translate({(x + ridge[0]) / 2:.1f} {(y + ridge[1]) / 2:.1f}) rotate({slope:.1f})"
    yield element("g", turned, transform=place)


def _points(
    axes: _Axes, numbered: Sequence[tuple[int, Row]], machine: Machine
) -> Iterator[Element]:
    """A point per row, and the numbers of those that lie on one spot together."""
    spots: list[tuple[float, float, list[int]]] = []
    taken = list(_roof_boxes(axes, machine))
    for number, row in numbered:
        x, y = axes.at(row.macs_per_byte, row.macs_per_cycle)
        told = (
            f"{number}: {row.name}\n{row.macs_per_byte:.1f} MACs per byte, "
            f"{row.macs_per_cycle:.1f} per cycle\narray use {row.array_use:.1%}, "
            f"{row.cycles / row.bound_cycles:.2f} times its bound, set by {row.bound_by}"
        )
        kind = "array" if row.bound_by == ARRAY else "bus"
        yield element("circle", _title(told), cx=x, cy=y, r=_RADIUS, class_=kind)
        taken.append(_Box(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS))
        for near_x, near_y, numbers in spots:
            if abs(near_x - x) < 2 * _RADIUS and abs(near_y - y) < 2 * _RADIUS:
                numbers.append(number)
                break
        else:
            spots.append((x, y, [number]))
    for x, y, numbers in spots:
        text = _ranges(numbers)
        box = _free_place(x, y, _CHARACTER * len(text), taken)
        taken.append(box)
        yield _label(text, box.left, box.bottom - 3, "tick")


def _roof_boxes(axes: _Axes, machine: Machine) -> Iterator[_Box]:
    """Small pieces of the roofs: no number should lie on them."""
    for step in range(_PIECES):
        x = axes.x[0] * (axes.x[1] / axes.x[0]) ** (step / _PIECES)
        left, top = axes.at(x, min(machine.macs_per_cycle, x * machine.bus_bytes))
        yield _Box(left, top - 1, left + (_RIGHT - _LEFT) / _PIECES, top + 1)


@dataclass(frozen=True)
class _Box:
    """A rectangle of the plot."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        """Whether two have a place in common."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def _free_place(x: float, y: float, width: float, taken: Sequence[_Box]) -> _Box:
    """Room for a text near a point: beside it, else as little below it as possible."""
    gap = _RADIUS + 3
    corners = [(x + gap, y - _LINE / 2), (x - gap - width, y - _LINE / 2)]
    corners += [(x - width / 2, y + gap + step * _LINE) for step in range(_STEPS)]
    for left, top in corners:
        box = _Box(left, top, left + width, top + _LINE)
        inside = box.left > _LEFT and box.right < WIDTH and box.bottom < _LOWER
        if inside and not any(box.meets(other) for other in taken):
            return box
    left, top = corners[0]
    return _Box(left, top, left + width, top + _LINE)


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers, those that follow each other as first-last."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)


# -- pieces ---------------------------------------------------------------------------------------


def _svg(height: float, parts: Sequence[Element], title: str) -> Element:
    return element(
        "svg",
        element("title", title),
        *parts,
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
    )


def _title(text: str) -> Element:
    """What is shown where the pointer rests."""
    return element("title", text)


def _label(text: str, x: float, y: float, kind: str, anchor: str = "start") -> Element:
    return element("text", text, x=x, y=y, class_=kind, text_anchor=anchor)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Element:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)
