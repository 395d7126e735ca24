"""Accumulators overwritten in place, where nothing else reads them."""

from __future__ import annotations

import pytest

from tests.compiler.kernels import KERNELS
from tests.compiler.passes.checks import check_equal, check_golden
from tests.conftest import Golden


@pytest.mark.parametrize("kind", ["conv", "average_pool", "add"])
def test_text(kind: str, golden: Golden) -> None:
    check_golden("reuse_in_place", kind, golden)


@pytest.mark.parametrize("name", KERNELS)
def test_same_result(name: str, seed: int) -> None:
    check_equal("reuse_in_place", name, seed)
