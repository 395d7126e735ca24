"""Kernels as instructions."""

from __future__ import annotations

import pytest

from tests.compiler.kernels import EXAMPLES, KERNELS
from tests.compiler.passes.checks import check_equal, check_golden
from tests.conftest import Golden


@pytest.mark.parametrize("kind", EXAMPLES)
def test_text(kind: str, golden: Golden) -> None:
    check_golden("emit_tasks", kind, golden)


@pytest.mark.parametrize("name", KERNELS)
def test_same_result(name: str, seed: int) -> None:
    check_equal("emit_tasks", name, seed)
