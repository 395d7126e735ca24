"""Streams: in order, equal to one run after the other, lazy, and without threads afterwards."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from runtime.executor import Executor, InputError, ProgramFaultError
from runtime.package import Package
from runtime.streaming import LOOK_AHEAD
from tests.runtime import networks
from vta_hw.spec.config import VtaConfig

CONFIG = VtaConfig.load("default")
COUNT = 12
WORKERS = [1, 2, 3]

pytestmark = pytest.mark.parametrize("workers", WORKERS)


@pytest.fixture(scope="module")
def made() -> Package:
    return networks.package(CONFIG)


@pytest.fixture(autouse=True)
def _no_threads_left() -> Iterator[None]:
    yield
    assert not [t.name for t in threading.enumerate() if t.name.startswith("vta-stream")]


def _items(rng: np.random.Generator, count: int = COUNT) -> list[dict[str, np.ndarray]]:
    return [{"in": rng.integers(-128, 128, networks.SHAPE).astype(np.int8)} for _ in range(count)]


@pytest.mark.parametrize("outputs", ["model", "all"])
@pytest.mark.parametrize("device", ["functional", "cycle"])
def test_equal_to_one_by_one(
    made: Package, device: str, outputs, workers: int, rng: np.random.Generator
) -> None:
    items = _items(rng)
    executor = Executor(made, device)
    wanted = [executor.run(item, outputs) for item in items]
    outcomes = list(Executor(made, device).stream(items, outputs=outputs, workers=workers))
    assert len(outcomes) == COUNT
    for got, want in zip(outcomes, wanted, strict=True):
        assert got.outputs.keys() == want.outputs.keys()
        assert got.result == want.result
        for name, array in want.outputs.items():
            np.testing.assert_array_equal(got.outputs[name], array)


def test_the_executor_stays_usable_meanwhile(
    made: Package, workers: int, rng: np.random.Generator
) -> None:
    executor = Executor(made)
    items = _items(rng)
    for outcome, item in zip(executor.stream(items, workers=workers), items, strict=True):
        other = _items(rng, 1)[0]
        between = executor.run(other).outputs["out"]
        np.testing.assert_array_equal(between, networks.expected(other["in"], 2))
        np.testing.assert_array_equal(outcome.outputs["out"], networks.expected(item["in"], 2))


def test_no_inputs_no_outcomes(made: Package, workers: int) -> None:
    assert list(Executor(made).stream([], workers=workers)) == []


def test_inputs_are_taken_as_they_are_wanted(
    made: Package, workers: int, rng: np.random.Generator
) -> None:
    taken = 0

    def source() -> Iterator[dict[str, np.ndarray]]:
        nonlocal taken
        for item in _items(rng, 100):
            taken += 1
            yield item

    outcomes = Executor(made).stream(source(), workers=workers)
    assert taken == 0
    ahead = 1 if workers == 1 else LOOK_AHEAD * workers
    for turn in range(3):
        next(outcomes)
        assert taken == turn + ahead
    outcomes.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("vta-stream")]
    assert taken == 2 + ahead


def test_a_wrong_input_is_refused_in_its_turn(
    made: Package, workers: int, rng: np.random.Generator
) -> None:
    items = _items(rng)
    items[5] = {"in": np.zeros((1, 2), np.int8)}
    outcomes = Executor(made).stream(items, workers=workers)
    for item in items[:5]:
        outputs = next(outcomes).outputs
        np.testing.assert_array_equal(outputs["out"], networks.expected(item["in"], 2))
    with pytest.raises(InputError, match="not int8 of shape 1x2; convert it first"):
        next(outcomes)
    with pytest.raises(StopIteration):
        next(outcomes)


def test_an_error_of_the_source_waits_for_its_turn(
    made: Package, workers: int, rng: np.random.Generator
) -> None:
    def source() -> Iterator[dict[str, np.ndarray]]:
        yield from _items(rng, 3)
        raise ValueError("no more")

    outcomes = Executor(made).stream(source(), workers=workers)
    for _ in range(3):
        next(outcomes)
    with pytest.raises(ValueError, match="no more"):
        next(outcomes)


def test_a_fault_is_raised_as_in_a_run(
    made: Package, workers: int, rng: np.random.Generator
) -> None:
    outcomes = Executor(networks.broken(made)).stream(_items(rng), workers=workers)
    with pytest.raises(ProgramFaultError, match="ended with fault at instruction 3"):
        next(outcomes)


def test_arguments_are_refused_before_anything_runs(made: Package, workers: int) -> None:
    executor = Executor(made)
    with pytest.raises(InputError, match="^outputs must be 'model' or 'all', not 'x'$"):
        executor.stream([], outputs="x", workers=workers)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="^workers must be a whole number of at least 1, not 0$"):
        executor.stream([], workers=workers * 0)


def test_numpy_hosts_and_uint8(workers: int, rng: np.random.Generator) -> None:
    package = replace(networks.package(CONFIG, "uint8"), host_object=b"")
    items = [{"in": item["in"].view(np.uint8)} for item in _items(rng)]
    outcomes = Executor(package, host="numpy").stream(items, workers=workers)
    for outcome, item in zip(outcomes, items, strict=True):
        np.testing.assert_array_equal(outcome.outputs["out"], networks.expected(item["in"], 2))
