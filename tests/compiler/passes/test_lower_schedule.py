"""Loop nests of whole kernels."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.loop.verify import verify
from tests.compiler.kernels import EXAMPLES, KERNELS, after, random_kernel, result
from tests.compiler.passes.checks import check_golden
from tests.conftest import Golden


@pytest.mark.parametrize("kind", EXAMPLES)
def test_text(kind: str, golden: Golden) -> None:
    check_golden("lower_schedule", kind, golden)


@pytest.mark.parametrize("name", KERNELS)
def test_result(name: str, seed: int) -> None:
    kernel = random_kernel(name, seed)
    func = after(kernel, "lower_schedule")
    verify(func)
    computed = kernel.logical(result(func, kernel))
    np.testing.assert_array_equal(computed, kernel.expected, kernel.label)
