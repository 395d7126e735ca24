"""Virtual threads interleaved, each with buffers of its own."""

from __future__ import annotations

import pytest

from tests.compiler.kernels import KERNELS
from tests.compiler.passes.checks import check_equal, check_golden
from tests.conftest import Golden


@pytest.mark.parametrize("kind", ["conv", "add"])
def test_text(kind: str, golden: Golden) -> None:
    check_golden("lower_virtual_threads", kind, golden)


@pytest.mark.parametrize("name", KERNELS)
def test_same_result(name: str, seed: int) -> None:
    check_equal("lower_virtual_threads", name, seed)
