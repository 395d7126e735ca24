"""Fixtures that all tests share: golden text with an update switch, and seeded random numbers."""

from __future__ import annotations

import difflib
import os
import re
import zlib
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).resolve().parent / "golden"
SEED = pytest.StashKey[int]()

# Simulations of the hardware run for seconds here. -O3 makes them a tenth faster, and takes nearly
# twice as long to compile them.
os.environ.setdefault("CXXFLAGS", "-O1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden files from what the tests produce instead of comparing",
    )
    parser.addoption(
        "--seed",
        type=int,
        default=0,
        help="seed of the `rng` fixture; a failing test prints the one it used (default 0)",
    )


class Golden:
    """Compares text with the golden file of one test.

    Call it once per test, or once per `suffix`.
    """

    def __init__(self, path: Path, update: bool) -> None:
        self._path = path
        self._update = update

    def __call__(self, text: str, suffix: str = "") -> None:
        path = self._path.with_name(self._path.name + (f".{suffix}" if suffix else "") + ".txt")
        text = text.rstrip("\n") + "\n"
        if self._update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return
        place = path.relative_to(GOLDEN.parent.parent)
        if not path.is_file():
            pytest.fail(f"{place} does not exist; write it with --update-golden", pytrace=False)
        expected = path.read_text()
        if text != expected:
            diff = difflib.unified_diff(
                expected.splitlines(), text.splitlines(), str(place), "this run", lineterm=""
            )
            pytest.fail(
                "\n".join(diff) + f"\n\n{place} differs; if it should, use --update-golden",
                pytrace=False,
            )


def _file_name(test: str) -> str:
    return re.sub(r"[^\w.\-]+", "_", test).strip("_")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """`golden(text)` holds text against `tests/golden/<test file>/<test name>.txt`."""
    file = Path(request.node.path).resolve().relative_to(GOLDEN.parent).with_suffix("")
    path = GOLDEN / file / _file_name(request.node.name)
    return Golden(path, bool(request.config.getoption("--update-golden")))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers of this test alone: they depend on --seed and the test's name."""
    seed = int(request.config.getoption("--seed"))
    request.node.stash[SEED] = seed
    return np.random.default_rng([seed, zlib.crc32(request.node.nodeid.encode())])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and SEED in item.stash:
        report.sections.append(("random numbers", f"repeat with --seed {item.stash[SEED]}"))
    return report
