"""Which schedules are fast: gradient-boosted trees that rank points by their features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compiler.errors import TuningError

FloatArray = npt.NDArray[np.float32]

_ROUNDS = 40
_PARAMETERS = {
    "objective": "rank:pairwise",
    "lambdarank_pair_method": "mean",
    "lambdarank_num_pair_per_sample": 8,
    "max_depth": 4,
    "eta": 0.25,
    "min_child_weight": 0.1,
    "lambda": 1.0,
    "tree_method": "hist",
    # The workers have the other cores; with one thread a seed gives one model.
    "nthread": 1,
    "verbosity": 0,
}


@dataclass(frozen=True)
class Measured:
    """Points of one workload that were measured: their features, and cycles."""

    features: FloatArray
    cycles: npt.NDArray[np.float64]


class CostModel:
    """Learns from groups of measured points; only points of one group are compared."""

    def __init__(self, seed: int) -> None:
        try:
            import xgboost
        except ImportError as error:
            raise TuningError(
                "the tuner 'xgb' needs the package xgboost, which is not installed; install the "
                "kit with its extra 'tune', or choose another tuner"
            ) from error
        self._xgboost = xgboost
        self._seed = seed
        self._booster: xgboost.Booster | None = None

    def fit(self, groups: Sequence[Measured]) -> None:
        """Learn from nothing but these groups."""
        groups = [group for group in groups if len(group.cycles) > 1]
        self._booster = None
        if not groups:
            return
        features = np.concatenate([group.features for group in groups])
        speed = np.concatenate([_relevance(group.cycles) for group in groups])
        data = self._xgboost.DMatrix(features, label=speed, nthread=1)
        data.set_group([len(group.cycles) for group in groups])
        parameters = {**_PARAMETERS, "seed": self._seed}
        self._booster = self._xgboost.train(parameters, data, _ROUNDS)

    def score(self, features: FloatArray) -> FloatArray:
        """A number per point, higher for what is expected to be faster; 0 before any fit."""
        if self._booster is None:
            return np.zeros(len(features), np.float32)
        return self._booster.inplace_predict(features)


def _relevance(cycles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """From 0 for the slowest to 1 for the fastest of a group: the best speed over the speed."""
    return cycles.min() / cycles
