"""Ways to search a space: each proposes points in batches and learns what they took.

A tuner proposes no point twice. What it proposes depends on its seed and on what it was told, and
on nothing else: a search that is repeated with the same answers asks the same questions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from compiler.errors import TuningError
from compiler.tune.cost_model import CostModel, FloatArray, Measured
from compiler.tune.space import IntArray, Space, sample

Features = Callable[[IntArray], FloatArray]
"""The features of some rows of the space."""


class Tuner(ABC):
    """Searches one space. `batch` is how many points it likes to propose at once."""

    batch = 4

    def __init__(self, space: Space, seed: Sequence[int]) -> None:
        self.space = space
        self.rng = np.random.default_rng(list(seed))
        self.rows: list[int] = []
        self.cycles: list[int] = []
        self._fresh = np.ones(len(space), bool)

    def propose(self, count: int) -> list[int]:
        """Rows of the space that were not proposed before; fewer only where no more are left."""
        rows = list(dict.fromkeys(row for row in self._wish(count) if self._fresh[row]))[:count]
        self._fresh[rows] = False
        if len(rows) < count:
            others = sample(np.flatnonzero(self._fresh), count - len(rows), self.rng)
            self._fresh[others] = False
            rows += others
        return rows

    def observe(self, rows: Sequence[int], cycles: Sequence[int]) -> None:
        """What proposed rows took."""
        self.rows += rows
        self.cycles += cycles

    def tell(self, row: int, cycles: int) -> None:
        """What a row takes that was not proposed; it will not be."""
        self._fresh[row] = False
        self.observe([row], [cycles])

    @abstractmethod
    def _wish(self, count: int) -> Sequence[int]:
        """Rows in the order of preference; those that were proposed before are left out."""


class Exhaustive(Tuner):
    """Every point of the space, in order."""

    def _wish(self, count: int) -> Sequence[int]:
        return np.flatnonzero(self._fresh)[:count].tolist()


class Random(Tuner):
    """Points at random."""

    def _wish(self, count: int) -> Sequence[int]:
        return ()


class Genetic(Tuner):
    """Children of good points: knobs of two parents, some of them changed."""

    _PARENTS = 16
    _MUTATION = 0.3

    def _wish(self, count: int) -> Sequence[int]:
        if len(self.rows) < self._PARENTS:
            return ()
        best = np.array(self.rows)[np.argsort(self.cycles, kind="stable")[: self._PARENTS]]
        # Two of which the better one is a parent.
        pairs = self.rng.integers(len(best), size=(2, 4 * count, 2)).min(axis=2)
        children = self.space.crossed(best[pairs[0]], best[pairs[1]], self.rng)
        same = (children == best[pairs[0]]) | (children == best[pairs[1]])
        changed = same | (self.rng.random(len(children)) < self._MUTATION)
        children[changed] = self.space.moved(children[changed], self.rng)
        return children.tolist()


class Annealed(Tuner):
    """Simulated annealing on the scores of a ranking model that learns from all measured points.

    `history` are points of other workloads, from which the model learns too.
    """

    batch = 4
    _FIRST = 8
    _RANDOM_SHARE = 8  # one proposal in so many is random
    _WALKERS = 64
    _STEPS = 40

    def __init__(
        self,
        space: Space,
        seed: Sequence[int],
        features: Features,
        history: Sequence[Measured] = (),
    ) -> None:
        super().__init__(space, seed)
        self.features = features(np.arange(len(space)))
        self.history = list(history)
        self.model = CostModel(int(np.random.default_rng(list(seed)).integers(1 << 31)))

    def _wish(self, count: int) -> Sequence[int]:
        if len(self.rows) < self._FIRST and not self.history:
            return ()
        groups = list(self.history)
        if self.rows:
            groups.append(Measured(self.features[self.rows], np.array(self.cycles, np.float64)))
        self.model.fit(groups)
        ranked = self._annealed(4 * count)
        proposed = len(self.rows)
        randomly = (proposed + count) // self._RANDOM_SHARE - proposed // self._RANDOM_SHARE
        return [row for row in ranked if self._fresh[row]][: count - randomly]

    def _annealed(self, count: int) -> list[int]:
        """The best rows that walkers met, by score; those proposed before are not among them."""
        space, rng = self.space, self.rng
        good = np.array(self.rows, np.int64)[np.argsort(self.cycles, kind="stable")[:16]]
        start = sample(np.arange(len(space)), self._WALKERS - len(good), rng)
        rows = np.concatenate([good, np.array(start, np.int64)])
        # All at once: one call of the model costs as much as it does for thousands of points.
        table = self.model.score(self.features)
        scores = table[rows]
        met = set(rows.tolist())
        spread = float(np.std(scores)) or 1.0
        for step in range(self._STEPS):
            heat = spread * (1 - step / self._STEPS)
            moved = space.moved(rows, rng)
            other = table[moved]
            met.update(moved.tolist())
            chance = np.exp(np.minimum(0, (other - scores) / max(heat, 1e-9)))
            taken = rng.random(len(rows)) < chance
            rows, scores = np.where(taken, moved, rows), np.where(taken, other, scores)
        fresh = [row for row in met if self._fresh[row]]
        return sorted(fresh, key=lambda row: (-table[row], row))[:count]


def measured(rows: Sequence[int], cycles: Sequence[int], features: Features) -> Measured:
    """Measured points as the cost model takes them."""
    return Measured(features(np.array(rows, np.int64)), np.array(cycles, np.float64))


TUNERS = ("xgb", "genetic", "random", "exhaustive")
"""Names of the tuners."""


def make_tuner(
    name: str,
    space: Space,
    seed: Sequence[int],
    features: Features,
    history: Sequence[Measured] = (),
) -> Tuner:
    """A tuner by name. `history` is of use to "xgb" alone."""
    match name:
        case "xgb":
            return Annealed(space, seed, features, history)
        case "genetic":
            return Genetic(space, seed)
        case "random":
            return Random(space, seed)
        case "exhaustive":
            return Exhaustive(space, seed)
    raise TuningError(f"tuner must be one of {', '.join(TUNERS)}, not {name!r}")
