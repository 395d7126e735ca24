"""A space of schedules: the legal points of one workload, as a template declares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Space:
    """All legal points: `points` has a row per point and a column per knob of `knobs`.

    There is no other way to make a point than to pick a row, so that all are legal.
    """

    knobs: tuple[str, ...]
    points: IntArray

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def _values(self) -> list[IntArray]:
        """The values of each knob, in order."""
        return [np.unique(column) for column in self.points.T]

    @cached_property
    def _radix(self) -> IntArray:
        sizes = [len(values) for values in self._values]
        return np.array([int(np.prod(sizes[n + 1 :])) for n in range(len(sizes))], np.int64)

    @cached_property
    def _places(self) -> IntArray:
        """Which value of its knob each element of `points` is."""
        columns = zip(self._values, self.points.T, strict=True)
        return np.stack([np.searchsorted(v, column) for v, column in columns], axis=1)

    @cached_property
    def _codes(self) -> tuple[IntArray, IntArray]:
        """One number per point, sorted, and the rows in that order."""
        codes = self._places @ self._radix
        order = np.argsort(codes, kind="stable")
        return codes[order], order

    def _rows(self, places: IntArray) -> IntArray:
        """The rows of combinations of knob values, -1 for those that are not legal."""
        known, order = self._codes
        codes = places @ self._radix
        at = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        return np.where(known[at] == codes, order[at], -1)

    def point(self, row: int) -> dict[str, int]:
        """The values of the knobs in a row."""
        return dict(zip(self.knobs, self.points[row].tolist(), strict=True))

    def row(self, point: Mapping[str, object]) -> int | None:
        """The row of a point; None for what is no point of the space."""
        places = []
        for name, values in zip(self.knobs, self._values, strict=True):
            found = np.flatnonzero(values == point.get(name))
            if len(found) != 1:
                return None
            places.append(int(found[0]))
        row = int(self._rows(np.array([places]))[0])
        return None if row < 0 or len(point) != len(self.knobs) else row

    def moved(self, rows: IntArray, rng: np.random.Generator) -> IntArray:
        """Neighbours: one knob of each point has another value; a point without luck stays."""
        out = rows.copy()
        left = np.arange(len(rows))
        for _ in range(8):
            places = self._places[rows[left]].copy()
            knob = rng.integers(len(self.knobs), size=len(left))
            sizes = np.array([len(values) for values in self._values])[knob]
            places[np.arange(len(left)), knob] = rng.integers(sizes)
            found = self._rows(places)
            good = (found >= 0) & (found != rows[left])
            out[left[good]] = found[good]
            left = left[~good]
            if not len(left):
                break
        return out

    def crossed(self, first: IntArray, second: IntArray, rng: np.random.Generator) -> IntArray:
        """Children with each knob from one of two parents; the first parent where none is legal."""
        take = rng.integers(2, size=(len(first), len(self.knobs))).astype(bool)
        places = np.where(take, self._places[first], self._places[second])
        found = self._rows(places)
        return np.where(found >= 0, found, first)


def sample(rows: Sequence[int] | IntArray, count: int, rng: np.random.Generator) -> list[int]:
    """Up to `count` different ones of some rows."""
    picked = rng.choice(np.asarray(rows), min(count, len(rows)), replace=False)
    return [int(row) for row in picked]
