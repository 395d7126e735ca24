"""Virtual-thread loops -> interleaved copies of the thread's work, each with buffers of its own.

``for t in 2 [vthread]: alloc a; alloc b; load a; load b; compute(a, b)`` ->
``alloc a0, a1, b0, b1; load a0; load b0; load a1; load b1; compute(a0, b0); compute(a1, b1)``

What a thread does one after the other in one stage of the machine (load, compute, store) stays
together: its first computation waits for its own loads alone, and the next thread's loads run
beside it. Loops inside stay loops.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

from compiler.loop.expr import Const, Var
from compiler.loop.nodes import (
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
    seq,
    walk,
)
from compiler.loop.rewrite import map_children, substitute_buffers, substitute_vars
from vta_hw.spec.isa import Stage


def lower_virtual_threads(func: Func) -> Func:
    """Replace every vthread loop, inner ones first."""
    return Func(func.name, func.params, _visit(func.body))


def _visit(stmt: Stmt) -> Stmt:
    new = map_children(stmt, _visit)
    if isinstance(new, For) and new.kind == "vthread":
        return _interleave(new.body, new.var, [{} for _ in range(new.extent)])
    return new


def _interleave(stmt: Stmt, var: Var, own: list[dict[Buffer, Buffer]]) -> Stmt:
    """`stmt` for every thread; `own[t]` maps buffers to those of thread t."""
    buffers, parts = _flat(stmt)
    copies = [[_copy_for(buffer, t) for t in range(len(own))] for buffer in buffers]
    inner = [
        {**table, **{b: threads[t] for b, threads in zip(buffers, copies, strict=True)}}
        for t, table in enumerate(own)
    ]
    out: list[Stmt] = []
    for stage, group in groupby(parts, _stage_of):
        members = list(group)
        if stage is None:
            out.extend(_inside(part, var, inner) for part in members)
            continue
        for thread in range(len(own)):
            out.extend(_of_thread(part, var, thread, inner[thread]) for part in members)
    body = seq(out, stmt.loc)
    for copy in reversed([c for threads in copies for c in threads]):
        body = Alloc(copy, body, loc=stmt.loc)
    return body


def _inside(stmt: Stmt, var: Var, own: list[dict[Buffer, Buffer]]) -> Stmt:
    """A statement with several stages' work in it: a choice is made by each thread for itself."""
    if isinstance(stmt, If):
        threads = [_of_thread(stmt, var, t, table) for t, table in enumerate(own)]
        return seq(threads, stmt.loc)
    if isinstance(stmt, Alloc):
        return _interleave(stmt, var, own)
    return map_children(stmt, lambda part: _interleave(part, var, own))


def _of_thread(stmt: Stmt, var: Var, thread: int, own: dict[Buffer, Buffer]) -> Stmt:
    inside = [part.buffer for part in walk(stmt) if isinstance(part, Alloc)]
    table = {**own, **{buffer: _copy_for(buffer, thread) for buffer in inside}}
    body = substitute_vars(stmt, {var: Const(thread)})
    return _fresh_loops(substitute_buffers(body, table))


def _flat(stmt: Stmt) -> tuple[list[Buffer], list[Stmt]]:
    """Buffers and statements of nested allocations; each buffer's peers stay those it had."""
    match stmt:
        case Alloc(buffer, body):
            buffers, parts = _flat(body)
            return [buffer, *buffers], parts
        case Seq(stmts):
            buffers, parts = _flat(stmts[-1])
            return buffers, [*stmts[:-1], *parts]
    return [], [stmt]


def _copy_for(buffer: Buffer, thread: int) -> Buffer:
    """A buffer like `buffer`, belonging to one virtual thread."""
    name = f"{buffer.name}.t{thread}"
    return Buffer(name, buffer.shape, buffer.dtype, buffer.scope, buffer.is_double)


def _stage_of(stmt: Stmt) -> Stage | None:
    """The stage that does all of a statement's work; None if it is not one alone."""
    if any(isinstance(part, Alloc) for part in walk(stmt)):
        return None
    stages = set()
    for part in walk(stmt):
        match part:
            case Copy(dst) if dst.buffer.scope == "dram":
                stages.add(Stage.STORE)
            case Copy(dst) if dst.buffer.scope in ("inp", "wgt"):
                stages.add(Stage.LOAD)
            case Copy() | Apply() | Store():
                stages.add(Stage.COMPUTE)
    return stages.pop() if len(stages) == 1 else None


def _fresh_loops(stmt: Stmt) -> Stmt:
    """Loops with variables of their own, so that no variable is bound twice."""
    if isinstance(stmt, For):
        var = Var(stmt.var.name)
        body = substitute_vars(_fresh_loops(stmt.body), {stmt.var: var})
        return replace(stmt, var=var, body=body)
    return map_children(stmt, _fresh_loops)
