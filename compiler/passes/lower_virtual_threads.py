"""Virtual-thread loops -> interleaved copies of the thread's work, each with buffers of its own.

``for t in 2 [vthread]: alloc b; load b; compute b`` ->
``alloc b0; alloc b1; load b0; load b1; compute b0; compute b1``

What a thread does is interleaved at the granularity of transfers and compute nests, so that the
load of one thread stands before the computation of another. Loops inside stay loops.
"""

from __future__ import annotations

from dataclasses import replace

from compiler.loop.expr import Const, Var
from compiler.loop.nodes import Alloc, Apply, Buffer, Copy, For, Func, Stmt, Store, seq, walk
from compiler.loop.rewrite import map_children, nest_of, substitute_buffers, substitute_vars


def lower_virtual_threads(func: Func) -> Func:
    """Replace every vthread loop, inner ones first."""
    return Func(func.name, func.params, _visit(func.body))


def _visit(stmt: Stmt) -> Stmt:
    new = map_children(stmt, _visit)
    if isinstance(new, For) and new.kind == "vthread":
        own = [{} for _ in range(new.extent)]  # type: list[dict[Buffer, Buffer]]
        return _interleave(new.body, new.var, own)
    return new


def _interleave(stmt: Stmt, var: Var, own: list[dict[Buffer, Buffer]]) -> Stmt:
    """`stmt` for every thread; `own[t]` maps buffers to those of thread t."""
    if isinstance(stmt, Alloc):
        copies = [replace_name(stmt.buffer, t) for t in range(len(own))]
        inner = [{**table, stmt.buffer: copy} for table, copy in zip(own, copies, strict=True)]
        body = _interleave(stmt.body, var, inner)
        for copy in reversed(copies):
            body = Alloc(copy, body, loc=stmt.loc)
        return body
    if _is_unit(stmt):
        threads = []
        for thread, table in enumerate(own):
            body = substitute_vars(stmt, {var: Const(thread)})
            threads.append(_fresh_loops(substitute_buffers(body, table)))
        return seq(threads, stmt.loc)
    return map_children(stmt, lambda part: _interleave(part, var, own))


def replace_name(buffer: Buffer, thread: int) -> Buffer:
    """A buffer like `buffer`, belonging to one virtual thread."""
    return Buffer(f"{buffer.name}.t{thread}", buffer.shape, buffer.dtype, buffer.scope)


def _is_unit(stmt: Stmt) -> bool:
    """A transfer, or a nest of steps of the compute stage: what one thread does uninterrupted."""
    if isinstance(stmt, Copy | Apply | Store):
        return True
    _, core = nest_of(stmt)
    return isinstance(core, Apply | Copy | Store) or (
        isinstance(stmt, For) and not any(isinstance(s, Copy | Alloc) for s in walk(stmt))
    )


def _fresh_loops(stmt: Stmt) -> Stmt:
    """Loops with variables of their own, so that no variable is bound twice."""
    if isinstance(stmt, For):
        var = Var(stmt.var.name)
        body = substitute_vars(_fresh_loops(stmt.body), {stmt.var: var})
        return replace(stmt, var=var, body=body)
    return map_children(stmt, _fresh_loops)
