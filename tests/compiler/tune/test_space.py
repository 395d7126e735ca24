"""Spaces hold the legal points, all of them and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from compiler.context import CompileContext
from compiler.driver import place_graph
from compiler.errors import CapacityError, ScheduleError
from compiler.topi.conv2d_space import (
    KNOBS,
    Tiles,
    check_tiling,
    knob_values,
    legal_tiles,
    steps_of,
)
from compiler.topi.conv2d_tiling import ConvShape
from compiler.topi.conv2d_time import least_cycles
from compiler.tune.space import Space, sample
from compiler.tune.tasks import network_tasks
from tests.compiler.topi.checking import examples
from tests.compiler.topi.test_conv2d import CONFIGS, Conv, convolutions, graph_of
from tests.compiler.tune.layers import TINY, small_tasks
from vta.tuning import program_cycles


def test_equal_workloads_are_one_task() -> None:
    assert [len(task.layers) for task in small_tasks()] == [2, 1]


def test_the_space_is_what_is_not_refused() -> None:
    """Every combination of knobs is in the space or refused when asked for."""
    for task in small_tasks()[1:]:
        shape = task.build.shape
        tilings = list(Tiles.product(knob_values(shape)).tilings(shape))
        refused = [tiling for tiling in tilings if _is_refused(task.build.shape, tiling)]
        legal = set(task.tiles.tilings(shape))
        assert len(legal) == len(task.space) > 100
        assert len(refused) > 100
        assert not legal & set(refused)
        absurd = list(set(tilings) - set(refused) - legal)
        steps = steps_of(Tiles.of(absurd, shape), shape)
        assert steps.min(initial=1 << 20) > 8 * steps_of(task.tiles, shape).min()
        assert all(task.row(tiling) is None for tiling in refused[:50])
        assert all(task.tiling(task.row(tiling) or 0) == tiling for tiling in list(legal)[:50])


def _is_refused(shape: ConvShape, tiling: object) -> bool:
    try:
        check_tiling(tiling, shape, TINY)  # type: ignore[arg-type]
    except (CapacityError, ScheduleError):
        return True
    return False


@examples(15)
@given(convolutions(["tiny", "small8", "small16", "default"], 5, 14, 4))
@pytest.mark.slow
def test_all_points_can_be_built_and_take_as_long_as_they_must(conv: Conv) -> None:
    """The memories' allocator and the simulator are the judges, not the space's own sums."""
    rng = np.random.default_rng(conv.seed)
    config = CONFIGS[conv.config]
    network = place_graph(graph_of(conv, rng), CompileContext(config))
    for task in network_tasks(network, config):
        for row in sample(np.arange(len(task.space)), 3, rng):
            bound = least_cycles(task.tiles[np.array([row])], task.build.shape, config)
            assert program_cycles(task.program(row)) > bound[0] > 0


def test_knobs_narrow_the_space() -> None:
    task = small_tasks()[0]
    shape = task.build.shape
    narrow = legal_tiles(shape, TINY, {"co": (1,), "kept": (0,)})
    assert 0 < len(narrow) < len(task.space)
    assert set(narrow.tilings(shape)) <= set(task.tiles.tilings(shape))


@pytest.fixture
def space(rng: np.random.Generator) -> Space:
    """Three quarters of the combinations of four knobs."""
    values = [(1, 2, 3, 4, 6, 12), (1, 2), (1, 7, 9), (0, 1, 2)]
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*values)], axis=1)
    legal = np.sort(rng.choice(len(grid), 3 * len(grid) // 4, replace=False))
    return Space(("a", "b", "c", "d"), grid[legal].astype(np.int64))


def test_points_and_rows_are_each_others_inverse(space: Space) -> None:
    for row in range(len(space)):
        assert space.row(space.point(row)) == row
    first = space.point(0)
    for wrong in ({**first, "a": 5}, {**first, "e": 1}, {"a": 1}, {**first, "b": None}):
        assert space.row(wrong) is None


def test_moves_change_one_knob(space: Space, rng: np.random.Generator) -> None:
    rows = rng.integers(len(space), size=300)
    moved = space.moved(rows, rng)
    changed = (space.points[rows] != space.points[moved]).sum(axis=1)
    assert changed.max() == 1
    assert (changed == 1).mean() > 0.9


def test_children_have_their_parents_values(space: Space, rng: np.random.Generator) -> None:
    first, second = rng.integers(len(space), size=(2, 300))
    children = space.points[space.crossed(first, second, rng)]
    a, b = space.points[first], space.points[second]
    assert ((children == a) | (children == b)).all()
    assert ((children != a) & (children != b)).any() == 0
    assert (children != a).any(axis=1).mean() > 0.3


def test_the_knobs_of_the_template_are_the_columns() -> None:
    task = small_tasks()[0]
    assert task.space.knobs == KNOBS
    assert task.space.points.shape == (len(task.tiles), len(KNOBS))
