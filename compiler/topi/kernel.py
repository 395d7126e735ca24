"""What a template hands on: the scheduled tensor expression of one kernel and its constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from compiler.te.schedule import Schedule
from compiler.te.tensor import Tensor
from vta_hw.spec.config import VtaConfig


@dataclass(frozen=True)
class KernelTemplate:
    """A schedule over `params` (inputs, constants, output); `macs` as the model counts them.

    `knobs` records the schedule choices (tile sizes, threads) for reports; `is_exact` says whether
    the results equal the operator's reference (else: within one unit per requantisation).
    """

    name: str
    schedule: Schedule
    params: tuple[Tensor, ...]
    constants: Mapping[str, np.ndarray]
    macs: int = 0
    knobs: Mapping[str, int | str] = field(default_factory=dict)
    is_exact: bool = True


@dataclass(frozen=True)
class Packed:
    """Logical extents of an activation in packed layout [N/B][C/c][H][W][B][c]."""

    name: str
    n: int
    c: int
    h: int
    w: int

    def shape(self, config: VtaConfig) -> tuple[int, ...]:
        """Extents of the six axes; batch and channels are padded to whole blocks."""
        batch, block = config.batch, config.block_out
        return (-(-self.n // batch), -(-self.c // block), self.h, self.w, batch, block)


def divisors(n: int) -> list[int]:
    """The positive divisors of a positive number, in order: sizes that tile it without a rest."""
    return [d for d in range(1, n + 1) if n % d == 0]
