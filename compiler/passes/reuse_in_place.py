"""Element-wise accumulator stages work in place: the ALU's first operand is its destination.

``B[i] = f(A[i], ...)`` with A read by nothing else -> ``A[i] = f(A[i], ...)``, B dropped. No
loop may stand between their allocations: its second round would find A spoilt.
"""

from __future__ import annotations

from compiler.loop.arith import equal
from compiler.loop.expr import Expr, Read, children, reads
from compiler.loop.nodes import Alloc, Apply, Buffer, Copy, For, Func, If, Stmt, Store, walk
from compiler.loop.rewrite import map_children, nest_of, substitute_buffers


def reuse_in_place(func: Func) -> Func:
    """Merge each accumulator buffer with the operand that it can overwrite."""
    body = func.body
    while True:
        pair = _find(body)
        if pair is None:
            return Func(func.name, func.params, body)
        result, operand = pair
        body = substitute_buffers(_drop(body, result), {result: operand})


def _find(body: Stmt) -> tuple[Buffer, Buffer] | None:
    """The first (result, operand) pair that can share storage."""
    outside = _allocations(body)
    for stmt in walk(body):
        if not isinstance(stmt, For | Store):
            continue
        _, core = nest_of(stmt)
        if isinstance(core, If):
            core = core.then
        if not isinstance(core, Store) or core.buffer.scope != "acc":
            continue
        operand = _first_operand(core.value)
        if operand is None or operand.source is core.buffer or operand.source.scope != "acc":
            continue
        if operand.source.shape != core.buffer.shape:
            continue
        if not _live_together(operand.source, core.buffer, outside):
            continue
        # A second read of the operand would find what the first operation has made of it.
        alone = sum(read.source is operand.source for read in reads(core.value)) == 1
        aligned = all(equal(a, b) for a, b in zip(operand.indices, core.indices, strict=True))
        if (
            alone
            and aligned
            and _writers(body, core.buffer) == 1
            and _readers(body, operand.source) == 1
        ):
            return core.buffer, operand.source
    return None


def _allocations(body: Stmt) -> dict[Buffer, tuple[Stmt, ...]]:
    """Loops and allocations around each buffer's own allocation, which comes last."""
    around: dict[Buffer, tuple[Stmt, ...]] = {}

    def visit(stmt: Stmt, outside: tuple[Stmt, ...]) -> Stmt:
        if isinstance(stmt, For | Alloc):
            outside = (*outside, stmt)
        if isinstance(stmt, Alloc):
            around[stmt.buffer] = outside
        return map_children(stmt, lambda part: visit(part, outside))

    visit(body, ())
    return around


def _live_together(operand: Buffer, result: Buffer, around: dict[Buffer, tuple[Stmt, ...]]) -> bool:
    """Whether `result` is allocated inside `operand`, as often as it."""
    outer, inner = around[operand], around[result]
    between = inner[len(outer) :]
    return inner[: len(outer)] == outer and not any(isinstance(s, For) for s in between)


def _first_operand(value: Expr) -> Read | None:
    """The accumulator read at the start of a chain of operations."""
    while not isinstance(value, Read):
        parts = children(value)
        if not parts:
            return None
        value = parts[0]
    return value


def _writers(body: Stmt, buffer: Buffer) -> int:
    count = 0
    for stmt in walk(body):
        match stmt:
            case Store(target) if target is buffer:
                count += 1
            case Copy(dst) if dst.buffer is buffer:
                count += 1
            case Apply(_, dst) if dst.buffer is buffer:
                count += 1
    return count


def _readers(body: Stmt, buffer: Buffer) -> int:
    """Statements other than accumulations into the buffer itself that read it."""
    count = 0
    for stmt in walk(body):
        match stmt:
            case Store(target, _, value) if target is not buffer:
                count += any(read.source is buffer for read in reads(value))
            case Copy(_, src) if src.buffer is buffer:
                count += 1
            case Apply(_, _, srcs):
                count += any(access.buffer is buffer for access in srcs)
    return count


def _drop(stmt: Stmt, buffer: Buffer) -> Stmt:
    if isinstance(stmt, Alloc) and stmt.buffer is buffer:
        return stmt.body
    return map_children(stmt, lambda part: _drop(part, buffer))
