"""Tensor expressions to schedule in tests, each with its meaning in numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from compiler import te
from compiler.loop.expr import both, compare
from compiler.loop.interp import run
from compiler.loop.nodes import Func
from compiler.loop.verify import verify
from compiler.passes.lower_schedule import lower_schedule

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class TensorProgram:
    """`tensors` in order of computation; the last one is the output, placeholders come first."""

    schedule: te.Schedule
    inputs: tuple[te.Tensor, ...]
    tensors: tuple[te.Tensor, ...]
    meaning: Callable[..., Array]

    @property
    def out(self) -> te.Tensor:
        return self.tensors[-1]

    def lower(self) -> Func:
        func = lower_schedule(self.schedule, (*self.inputs, self.out), "f")
        verify(func)
        return func

    def check(self, func: Func | None = None) -> None:
        """The interpreter computes what numpy does."""
        rng = np.random.default_rng(1)
        given = {t.name: rng.integers(-50, 50, t.shape).astype(t.dtype) for t in self.inputs}
        expected = self.meaning(*(x.astype(np.int64) for x in given.values()))
        arrays = {**given, self.out.name: np.full(self.out.shape, 12345, self.out.dtype)}
        run(func or self.lower(), arrays)
        np.testing.assert_array_equal(arrays[self.out.name], expected)


def scale(rows: int = 6, columns: int = 4) -> TensorProgram:
    """y = 2x + 1, one stage."""
    x = te.placeholder((rows, columns), "int32", "x")
    y = te.compute((rows, columns), lambda i, j: x(i, j) * 2 + 1, "y")
    return TensorProgram(te.Schedule(y), (x,), (y,), lambda x: 2 * x + 1)


def chain(size: int = 12) -> TensorProgram:
    """a = x + 1; y = a^2, two stages."""
    x = te.placeholder((size,), "int32", "x")
    a = te.compute((size,), lambda i: x(i) + 1, "a")
    y = te.compute((size,), lambda i: a(i) * a(i), "y")
    return TensorProgram(te.Schedule(y), (x,), (a, y), lambda x: (x + 1) ** 2)


def stencil(size: int = 12) -> TensorProgram:
    """y[i] = a[i] + a[i + 2] where a = 3x: neighbours share what they read."""
    x = te.placeholder((size + 2,), "int32", "x")
    a = te.compute((size + 2,), lambda i: x(i) * 3, "a")
    y = te.compute((size,), lambda i: a(i) + a(i + 2), "y")
    return TensorProgram(te.Schedule(y), (x,), (a, y), lambda x: 3 * x[:-2] + 3 * x[2:])


def padded(size: int = 8, pad: int = 2) -> TensorProgram:
    """y[i] = p[i] + p[i + 2 pad] where p is a = x + 1 with `pad` zeros on both sides."""
    x = te.placeholder((size,), "int32", "x")
    a = te.compute((size,), lambda i: x(i) + 1, "a")

    def element(i: te.Var) -> te.Expr:
        inside = both(compare(">=", i, pad), compare("<", i, size + pad))
        return te.select(inside, a(i - pad), te.Const(0))

    p = te.compute((size + 2 * pad,), element, "p")
    y = te.compute((size,), lambda i: p(i) + p(i + 2 * pad), "y")

    def meaning(x: Array) -> Array:
        wide = np.pad(x + 1, pad)
        return wide[:size] + wide[2 * pad :]

    return TensorProgram(te.Schedule(y), (x,), (a, p, y), meaning)


def matmul(rows: int = 4, inner: int = 5, columns: int = 6) -> TensorProgram:
    """y = a @ b, a sum reduction."""
    a = te.placeholder((rows, inner), "int32", "a")
    b = te.placeholder((inner, columns), "int32", "b")
    k = te.reduce_axis(inner, "k")
    y = te.compute((rows, columns), lambda i, j: te.sum(a(i, k.var) * b(k.var, j), [k]), "y")
    return TensorProgram(te.Schedule(y), (a, b), (y,), lambda a, b: a @ b)


def window_max(size: int = 9, window: int = 3) -> TensorProgram:
    """y[i] = the greatest of x[i .. i + window - 1] and -7, a max reduction."""
    x = te.placeholder((size + window - 1,), "int32", "x")
    k = te.reduce_axis(window, "k")
    y = te.compute((size,), lambda i: te.max(x(i + k.var), [k], init=-7), "y")

    def meaning(x: Array) -> Array:
        views = np.lib.stride_tricks.sliding_window_view(x, window)
        return np.maximum(views.max(axis=1), -7)

    return TensorProgram(te.Schedule(y), (x,), (y,), meaning)


def column_min(rows: int = 5, columns: int = 4) -> TensorProgram:
    """y[j] = the least of x[:, j] and 7, a min reduction."""
    x = te.placeholder((rows, columns), "int32", "x")
    k = te.reduce_axis(rows, "k")
    y = te.compute((columns,), lambda j: te.min(x(k.var, j), [k], init=7), "y")
    return TensorProgram(te.Schedule(y), (x,), (y,), lambda x: np.minimum(x.min(axis=0), 7))


PROGRAMS = (scale, chain, stencil, padded, matmul, window_max, column_min)
