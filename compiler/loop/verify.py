"""Rules that every level of loop IR keeps; the pipeline checks them after each pass."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.errors import LoweringError
from compiler.loop.expr import Expr, Read, Reduce, Var, walk
from compiler.loop.nodes import (
    KINDS,
    Alloc,
    Apply,
    Buffer,
    Copy,
    For,
    Func,
    If,
    Seq,
    Stmt,
    Store,
    Task,
)
from compiler.loop.units import UNITS


def verify(func: Func, after: str = "") -> None:
    """Raise `LoweringError` if a variable or buffer is used outside its scope, or a shape is off.

    `after` names the pass that made the function, for the message.
    """
    _Verifier(f" after {after}" if after else "").check(func)


class _Verifier:
    def __init__(self, note: str) -> None:
        self.note = note

    def check(self, func: Func) -> None:
        self._stmt(func.body, set(), set(func.params))

    def _fail(self, text: str) -> None:
        raise LoweringError(f"loop IR is malformed{self.note}: {text}")

    def _stmt(self, stmt: Stmt, bound: set[Var], live: set[Buffer]) -> None:
        for expr in _exprs(stmt):
            self._expr(expr, bound, live)
        for buffer, rank in _uses(stmt):
            self._buffer(buffer, rank, live)
        match stmt:
            case Seq(stmts):
                for part in stmts:
                    self._stmt(part, bound, live)
            case For(var, extent, body, kind):
                if var in bound:
                    self._fail(f"loop variable {var.name!r} is bound twice")
                if extent < 1 or kind not in KINDS:
                    self._fail(f"loop {var.name!r} has extent {extent} and kind {kind!r}")
                self._stmt(body, bound | {var}, live)
            case If(_, then):
                self._stmt(then, bound, live)
            case Alloc(buffer, body):
                if buffer in live:
                    self._fail(f"buffer {buffer.name!r} is allocated twice")
                self._stmt(body, bound, live | {buffer})
            case Store(buffer, _, value):
                if value.dtype != buffer.dtype:
                    self._fail(f"{value.dtype} is stored into {buffer.name!r} of {buffer.dtype}")
            case Copy():
                self._copy(stmt)
            case Apply(op, unit=None) if op not in UNITS:
                self._fail(f"no tensor unit is called {op!r}")

    def _copy(self, copy: Copy) -> None:
        """Each source axis runs along a destination axis of its own extent, or stands still."""
        dst, src = copy.dst, copy.src
        fits = len(copy.axes) == len(src.extent) and all(
            size == 1 if axis is None else axis < len(dst.extent) and size == dst.extent[axis]
            for axis, size in zip(copy.axes, src.extent, strict=True)
        )
        if not fits:
            self._fail(
                f"copy of {list(src.extent)} of {src.buffer.name!r} along axes {list(copy.axes)} "
                f"into {list(dst.extent)} of {dst.buffer.name!r}"
            )

    def _expr(self, expr: Expr, bound: set[Var], live: set[Buffer]) -> None:
        for part in walk(expr):
            if isinstance(part, Var) and part not in bound:
                self._fail(f"variable {part.name!r} is used outside its loop")
            if isinstance(part, Reduce):
                self._fail("a reduction is left inside an expression")
            if isinstance(part, Read):
                if not isinstance(part.source, Buffer):
                    self._fail(f"{part.source.name!r} is read as a tensor, not as a buffer")
                self._buffer(part.source, len(part.indices), live)

    def _buffer(self, buffer: Buffer, rank: int, live: set[Buffer]) -> None:
        if buffer not in live:
            self._fail(f"buffer {buffer.name!r} is used outside its allocation")
        if rank != len(buffer.shape):
            self._fail(f"buffer {buffer.name!r} has {len(buffer.shape)} axes, {rank} are given")


def _exprs(stmt: Stmt) -> Iterator[Expr]:
    match stmt:
        case If(cond):
            yield cond
        case Store(_, indices, value):
            yield from indices
            yield value
        case Copy(dst, src, clips=clips):
            yield from dst.begin
            yield from src.begin
            for _, low, high in clips:
                yield low
                yield high
        case Apply(_, dst, srcs):
            yield from dst.indices
            for access in srcs:
                yield from access.indices


def _uses(stmt: Stmt) -> Iterator[tuple[Buffer, int]]:
    match stmt:
        case Store(buffer, indices):
            yield buffer, len(indices)
        case Copy(dst, src):
            yield dst.buffer, len(dst.begin)
            yield src.buffer, len(src.begin)
        case Apply(_, dst, srcs):
            for access in (dst, *srcs):
                yield access.buffer, len(access.indices) + 2
        case Task(_, operand) if operand is not None:
            yield operand, len(operand.shape)
