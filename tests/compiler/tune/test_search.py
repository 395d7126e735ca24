"""Tuners on spaces whose cycles are known."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.errors import TuningError
from compiler.tune.cost_model import CostModel, Measured
from compiler.tune.search import TUNERS, Tuner, make_tuner, measured
from compiler.tune.space import IntArray, Space

SIZES = (9, 8, 7, 3, 3)


def _space() -> Space:
    grid = np.stack([axis.ravel() for axis in np.indices(SIZES)], axis=1).astype(np.int64)
    # Not every combination is legal.
    return Space(tuple("abcde"), grid[grid.sum(axis=1) % 5 != 0])


SPACE = _space()


def _cycles(rows: IntArray) -> list[int]:
    """A valley with a ridge in it; the last knob does not matter."""
    a, b, c, d, _ = SPACE.points[rows].T
    return (
        1000 + 30 * (a - 6) ** 2 + 20 * abs(b - 2) + 15 * (c - a // 2) ** 2 + 99 * (d == 1)
    ).tolist()


def _features(rows: IntArray) -> np.ndarray:
    return SPACE.points[rows].astype(np.float32)


def _make(name: str, seed: int = 0, history: tuple[Measured, ...] = ()) -> Tuner:
    return make_tuner(name, SPACE, (seed,), _features, history)


def _searched(tuner: Tuner, trials: int) -> list[int]:
    while len(tuner.rows) < trials:
        rows = tuner.propose(min(tuner.batch, trials - len(tuner.rows)))
        tuner.observe(rows, _cycles(np.array(rows)))
    return tuner.rows


@pytest.mark.parametrize("name", TUNERS)
def test_nothing_is_proposed_twice_and_a_seed_repeats_itself(name: str) -> None:
    rows = _searched(_make(name), 90)
    assert len(set(rows)) == 90
    assert all(0 <= row < len(SPACE) for row in rows)
    assert _searched(_make(name), 90) == rows
    assert (_searched(_make(name, seed=1), 90) == rows) == (name == "exhaustive")


@pytest.mark.parametrize("name", TUNERS)
def test_every_tuner_comes_to_the_end_of_a_space(name: str) -> None:
    small = Space(("a", "b"), np.indices((4, 5)).reshape(2, -1).T.astype(np.int64))
    tuner = make_tuner(name, small, (0,), lambda rows: small.points[rows].astype(np.float32))
    while rows := tuner.propose(3):
        tuner.observe(rows, [100 + row for row in rows])
    assert sorted(tuner.rows) == list(range(20))


def test_what_was_told_is_not_proposed() -> None:
    tuner = _make("exhaustive")
    tuner.tell(3, 10)
    assert tuner.propose(5) == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("name", ["xgb", "genetic"])
def test_searches_find_more_than_chance(name: str) -> None:
    """The mean over six seeds of how far the best of 64 is from the best there is."""
    least = min(_cycles(np.arange(len(SPACE))))

    def distance(name: str, seed: int) -> float:
        return min(_cycles(np.array(_searched(_make(name, seed), 64)))) / least - 1

    found, random = (np.mean([distance(n, seed) for seed in range(6)]) for n in (name, "random"))
    assert found < 0.7 * random


def test_the_model_ranks_what_it_has_seen(rng: np.random.Generator) -> None:
    rows = rng.integers(len(SPACE), size=200)
    model = CostModel(0)
    assert (model.score(_features(rows)) == 0).all(), "nothing learnt yet"
    model.fit([measured(rows.tolist(), _cycles(rows), _features)])
    others = rng.integers(len(SPACE), size=500)
    scores, cycles = model.score(_features(others)), np.array(_cycles(others))
    order = np.argsort(np.argsort(-scores)), np.argsort(np.argsort(cycles))
    assert np.corrcoef(*order)[0, 1] > 0.9


def test_other_workloads_help_from_the_first_proposal_on() -> None:
    """The same valley, three times as high, is known: the first batch is good already."""
    rows = np.random.default_rng(0).integers(len(SPACE), size=200)
    history = Measured(_features(rows), 3.0 * np.array(_cycles(rows)))
    first = _make("xgb", history=(history,)).propose(4)
    everything = np.array(_cycles(np.arange(len(SPACE))))
    assert np.mean(_cycles(np.array(first))) < np.quantile(everything, 0.05)


def test_unknown_tuners_are_named() -> None:
    with pytest.raises(TuningError, match="must be one of xgb, genetic, random, .*, not 'x'"):
        _make("x")
