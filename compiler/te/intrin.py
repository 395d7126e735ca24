"""Tensor intrinsics: a hardware step declared by its meaning and by what it lowers to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from compiler.errors import ScheduleError
from compiler.loop.nodes import Access, Stmt
from compiler.te.tensor import Tensor

Rule = Callable[[Access, tuple[Access, ...]], Stmt]
"""From the destination and the source elements to the statement that does the step."""


@dataclass(frozen=True, eq=False)
class TensorIntrin:
    """`meaning` is a computed tensor over `inputs` (placeholders), one step's worth.

    Rules: `update` accumulates one step into the destination, `reset` sets it to the reduction's
    start value, `compute` does both at once (None where the hardware cannot: reset, then update).
    A meaning without reduction needs `compute` alone.
    """

    name: str
    inputs: tuple[Tensor, ...]
    meaning: Tensor
    compute: Rule | None = None
    reset: Rule | None = None
    update: Rule | None = None

    def __post_init__(self) -> None:
        if self.meaning.body is None:
            raise ScheduleError(f"intrinsic {self.name!r} needs a computed tensor as its meaning")
        if self.meaning.reduce_axes:
            if self.reset is None or self.update is None:
                raise ScheduleError(f"intrinsic {self.name!r} reduces: give reset and update rules")
        elif self.compute is None:
            raise ScheduleError(f"intrinsic {self.name!r} does not reduce: give a compute rule")
