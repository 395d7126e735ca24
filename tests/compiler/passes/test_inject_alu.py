"""Element-wise nests as ALU steps, and what the ALU cannot do."""

from __future__ import annotations

import pytest

from tests.compiler.kernels import KERNELS
from tests.compiler.passes.checks import check_equal, check_golden
from tests.conftest import Golden


@pytest.mark.parametrize("kind", ["conv", "borders", "max_pool", "average_pool", "add"])
def test_text(kind: str, golden: Golden) -> None:
    check_golden("inject_alu", kind, golden)


@pytest.mark.parametrize("name", KERNELS)
def test_same_result(name: str, seed: int) -> None:
    check_equal("inject_alu", name, seed)
