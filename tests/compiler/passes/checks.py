"""What every pass is held to: the golden text of its result, and the same results as before it."""

from __future__ import annotations

import numpy as np

from compiler.loop.printer import to_text
from compiler.loop.verify import verify
from tests.compiler.kernels import Kernel, after, apply_step, before, example, random_kernel, result
from tests.conftest import Golden


def check_golden(step: str, kind: str, golden: Golden) -> None:
    """The function after `step`, as text."""
    golden(to_text(after(example(kind), step)))


def check_equal(step: str, name: str, seed: int) -> None:
    """Interpreter before == interpreter after == numpy, on a random kernel."""
    check_kernel(step, random_kernel(name, seed))


def check_kernel(step: str, kernel: Kernel) -> None:
    func = before(kernel, step)
    changed = apply_step(step, func, kernel.config)
    verify(changed, step)
    was, now = result(func, kernel), result(changed, kernel)
    note = f"{step} changes {kernel.label}"
    np.testing.assert_array_equal(now, was, note)
    np.testing.assert_array_equal(kernel.logical(now), kernel.expected, note)
