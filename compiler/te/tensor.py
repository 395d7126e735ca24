"""Tensor expressions: what is computed, without saying how.

>>> x = placeholder((8, 4), "int32", "x")
>>> y = compute((8, 4), lambda i, j: x(i, j) + 1, "y")
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from compiler.errors import ScheduleError
from compiler.loop.expr import Const, Expr, ExprLike, Read, Reduce, Var, as_expr, walk


@dataclass(frozen=True, eq=False)
class Axis:
    """An iteration axis. `extent` is None for axes that a schedule derives (known when lowered)."""

    var: Var
    extent: int | None = None
    is_reduce: bool = False

    @property
    def name(self) -> str:
        """Name of its variable."""
        return self.var.name


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value of known shape: a placeholder (`body` None) or computed element by element."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    axes: tuple[Axis, ...] = ()
    body: Expr | None = None

    def __call__(self, *indices: ExprLike) -> Read:
        if len(indices) != len(self.shape):
            raise ScheduleError(
                f"tensor {self.name!r} has {len(self.shape)} axes, {len(indices)} indices given"
            )
        return Read(self, tuple(as_expr(i) for i in indices))

    @property
    def reduce_axes(self) -> tuple[Axis, ...]:
        """Axes that its body reduces over."""
        return self.body.axes if isinstance(self.body, Reduce) else ()


def placeholder(shape: tuple[int, ...], dtype: str, name: str) -> Tensor:
    """An input."""
    return Tensor(name, tuple(shape), dtype)


def compute(shape: tuple[int, ...], function: Callable[..., Expr], name: str) -> Tensor:
    """A tensor whose element at ``(i, j, ...)`` is ``function(i, j, ...)``.

    A reduction may stand only at the top of the body.
    """
    names = [p.name for p in inspect.signature(function).parameters.values()]
    if len(names) != len(shape):
        names = [f"i{n}" for n in range(len(shape))]
    axes = tuple(Axis(Var(n), e) for n, e in zip(names, shape, strict=True))
    body = function(*(axis.var for axis in axes))
    inside = body.body if isinstance(body, Reduce) else body
    if any(isinstance(part, Reduce) for part in walk(inside)):
        raise ScheduleError(
            f"tensor {name!r} reduces inside its expression; give the reduction a tensor of its own"
        )
    return Tensor(name, tuple(shape), body.dtype, axes, body)


def reduce_axis(extent: int, name: str) -> Axis:
    """An axis to reduce over."""
    return Axis(Var(name), extent, is_reduce=True)


def sum(body: Expr, axes: tuple[Axis, ...] | list[Axis]) -> Expr:
    """Sum of `body` over reduce axes, in the dtype of `body`."""
    return Reduce("sum", body, tuple(axes), Const(0, body.dtype))


def max(body: Expr, axes: tuple[Axis, ...] | list[Axis], init: int) -> Expr:
    """Greatest value of `body` over reduce axes, and at least `init`."""
    return Reduce("max", body, tuple(axes), Const(init, body.dtype))


def min(body: Expr, axes: tuple[Axis, ...] | list[Axis], init: int) -> Expr:
    """Least value of `body` over reduce axes, and at most `init`."""
    return Reduce("min", body, tuple(axes), Const(init, body.dtype))
