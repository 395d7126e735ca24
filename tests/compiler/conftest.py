"""Fixtures of the compiler's tests."""

from __future__ import annotations

import pytest

from tests.conftest import SEED


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The value of --seed, printed when the test fails."""
    value = int(request.config.getoption("--seed"))
    request.node.stash[SEED] = value
    return value
