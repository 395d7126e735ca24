"""Rewriting loop IR: visit bottom-up, substitute variables and buffers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from compiler.loop.arith import simplify
from compiler.loop.expr import Const, Expr, Read, Var, transform
from compiler.loop.nodes import (
    Access,
    Alloc,
    Apply,
    Buffer,
    Copy,
    For,
    If,
    Region,
    Seq,
    Stmt,
    Store,
    seq,
)


def map_children(stmt: Stmt, rule: Callable[[Stmt], Stmt]) -> Stmt:
    """The statement with `rule` applied to the statements directly inside it."""
    match stmt:
        case Seq(stmts):
            new = [rule(part) for part in stmts]
            if all(a is b for a, b in zip(new, stmts, strict=True)):
                return stmt
            return seq(new, stmt.loc)
        case For():
            body = rule(stmt.body)
            return stmt if body is stmt.body else replace(stmt, body=body)
        case If():
            then = rule(stmt.then)
            return stmt if then is stmt.then else replace(stmt, then=then)
        case Alloc():
            body = rule(stmt.body)
            return stmt if body is stmt.body else replace(stmt, body=body)
    return stmt


def rewrite(stmt: Stmt, rule: Callable[[Stmt], Stmt | None]) -> Stmt:
    """Rewrite bottom-up: `rule` gives a replacement or None to keep a statement."""
    new = map_children(stmt, lambda part: rewrite(part, rule))
    replacement = rule(new)
    return new if replacement is None else replacement


def map_exprs(stmt: Stmt, rule: Callable[[Expr], Expr]) -> Stmt:
    """The statement, inner ones included, with `rule` applied to each whole expression."""

    def leaf(part: Stmt) -> Stmt | None:
        match part:
            case Store(buffer, indices, value):
                return Store(buffer, tuple(map(rule, indices)), rule(value), loc=part.loc)
            case If(cond, then):
                return If(rule(cond), then, loc=part.loc)
            case Copy():
                return replace(
                    part,
                    dst=_map_region(part.dst, rule),
                    src=_map_region(part.src, rule),
                    clips=tuple((axis, rule(low), rule(high)) for axis, low, high in part.clips),
                )
            case Apply():
                srcs = tuple(_map_access(s, rule) for s in part.srcs)
                return replace(part, dst=_map_access(part.dst, rule), srcs=srcs)
        return None

    return rewrite(stmt, leaf)


def _map_region(region: Region, rule: Callable[[Expr], Expr]) -> Region:
    return Region(region.buffer, tuple(map(rule, region.begin)), region.extent)


def _map_access(access: Access, rule: Callable[[Expr], Expr]) -> Access:
    return Access(access.buffer, tuple(map(rule, access.indices)))


def substitute_vars(stmt: Stmt, values: Mapping[Var, Expr]) -> Stmt:
    """Replace index variables and simplify what they stood in."""

    def rule(expr: Expr) -> Expr:
        new = transform(expr, lambda e: values.get(e) if isinstance(e, Var) else None)
        return expr if new is expr else simplify(new)

    return map_exprs(stmt, rule)


def substitute_buffers(stmt: Stmt, buffers: Mapping[Buffer, Buffer]) -> Stmt:
    """Replace buffers, in expressions and in statements."""
    if not buffers:
        return stmt

    def expr_rule(expr: Expr) -> Expr | None:
        if isinstance(expr, Read) and expr.source in buffers:
            return Read(buffers[expr.source], expr.indices)
        return None

    def rule(part: Stmt) -> Stmt | None:
        match part:
            case Alloc(buffer, body) if buffer in buffers:
                return replace(part, buffer=buffers[buffer], body=body)
            case Store(buffer) if buffer in buffers:
                return replace(part, buffer=buffers[buffer])
            case Copy(dst, src):
                return replace(
                    part,
                    dst=replace(dst, buffer=buffers.get(dst.buffer, dst.buffer)),
                    src=replace(src, buffer=buffers.get(src.buffer, src.buffer)),
                )
            case Apply():
                return replace(
                    part,
                    dst=replace(part.dst, buffer=buffers.get(part.dst.buffer, part.dst.buffer)),
                    srcs=tuple(
                        replace(s, buffer=buffers.get(s.buffer, s.buffer)) for s in part.srcs
                    ),
                )
        return None

    return rewrite(map_exprs(stmt, lambda e: transform(e, expr_rule)), rule)


def nest_of(stmt: Stmt) -> tuple[list[For], Stmt]:
    """The loops of a perfect nest, outermost first, and what stands inside them."""
    loops: list[For] = []
    while isinstance(stmt, For):
        loops.append(stmt)
        stmt = stmt.body
    return loops, stmt


def wrap_loops(loops: list[For], body: Stmt) -> Stmt:
    """`body` inside the given loops, outermost first."""
    for loop in reversed(loops):
        body = replace(loop, body=body)
    return body


def constant(expr: Expr) -> int | None:
    """The value of an integer literal, or None."""
    return int(expr.value) if isinstance(expr, Const) else None
