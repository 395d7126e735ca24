"""Buffers in memories that can hold them, and what is refused."""

from __future__ import annotations

import pytest

from tests.compiler.kernels import KERNELS
from tests.compiler.passes.checks import check_equal, check_golden
from tests.conftest import Golden


@pytest.mark.parametrize("kind", ["conv"])
def test_text(kind: str, golden: Golden) -> None:
    check_golden("assign_scopes", kind, golden)


@pytest.mark.parametrize("name", KERNELS)
def test_same_result(name: str, seed: int) -> None:
    check_equal("assign_scopes", name, seed)
