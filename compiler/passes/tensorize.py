"""Loop nests marked for a tensor intrinsic -> steps of the tensor unit.

The nest is matched against the intrinsic's meaning, term by term; the first term that differs is
named in the refusal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NoReturn

from compiler.errors import LoweringError
from compiler.loop.arith import simplify
from compiler.loop.expr import (
    Binary,
    Call,
    Cast,
    Compare,
    Const,
    Expr,
    Read,
    Reduce,
    Var,
    children,
    free_vars,
    same,
    substitute,
)
from compiler.loop.nodes import Access, Buffer, For, Func, If, Seq, Stmt, Store, seq
from compiler.loop.rewrite import map_children, nest_of
from compiler.te.intrin import TensorIntrin
from compiler.te.tensor import Axis, Tensor


def tensorize(func: Func) -> Func:
    """Replace every marked nest by what its intrinsic's rules give."""
    return Func(func.name, func.params, _visit(func.body))


def _visit(stmt: Stmt) -> Stmt:
    if isinstance(stmt, Seq):
        return seq(list(_steps(stmt.stmts)), stmt.loc)
    if isinstance(stmt, For) and stmt.intrin is not None:
        return _Match(stmt.intrin, stmt).lower()
    return map_children(stmt, _visit)


def _steps(stmts: Sequence[Stmt]) -> Iterator[Stmt]:
    """The statements, with a start value and the whole reduction after it as one step if it can."""
    rest = list(stmts)
    while rest:
        first, *after = rest
        whole = _whole_reduction(first, after[0]) if after else None
        if whole is not None:
            after = after[1:]
        yield _visit(first) if whole is None else whole
        rest = after


def _whole_reduction(first: Stmt, second: Stmt) -> Stmt | None:
    if not isinstance(first, For) or not isinstance(second, For):
        return None
    intrin: TensorIntrin | None = first.intrin
    if intrin is None or second.intrin is not intrin or intrin.compute is None:
        return None
    reset, update = _Match(intrin, first), _Match(intrin, second)
    kinds = reset.match(), update.match()
    (_, start, _), (_, dst, srcs) = kinds
    aligned = start.buffer is dst.buffer and all(map(same, start.indices, dst.indices))
    if [kind for kind, _, _ in kinds] != ["reset", "update"] or not aligned:
        return None
    return update.located(intrin.compute(dst, srcs))


class _Match:
    """One nest against one intrinsic."""

    def __init__(self, intrin: TensorIntrin, nest: For) -> None:
        self.intrin = intrin
        self.loc = nest.loc
        self.loops, core = nest_of(nest)
        for loop in self.loops:
            if loop.kind == "vthread":
                self.refuse("plain loops", f"{loop.var.name!r} marked {loop.kind}")
        if isinstance(core, If):
            self.refuse(
                "loops without a remainder (split by divisors)", f"steps only where {core.cond}"
            )
        if not isinstance(core, Store):
            self.refuse("one scalar store inside perfectly nested loops", f"{type(core).__name__}")
        self.core: Store = core
        self.vars: dict[Var, Var] = {}
        self.sources: dict[Tensor, Access] = {}

    def refuse(self, expected: object, found: object) -> NoReturn:
        raise LoweringError(
            f"tensorize stage {self.loc!r} with {self.intrin.name!r}: expected {expected}, "
            f"found {found}"
        )

    def lower(self) -> Stmt:
        """The statement of the rule that fits: reset for a constant, update or compute else."""
        kind, dst, srcs = self.match()
        rules = {
            "compute": self.intrin.compute,
            "reset": self.intrin.reset,
            "update": self.intrin.update,
        }
        rule = rules[kind]
        assert rule is not None, "an intrinsic has the rules that its meaning needs"
        return self.located(rule(dst, srcs))

    def located(self, step: Stmt) -> Stmt:
        """A rule's statement with the place of the nest, unless it has one."""
        return step if step.loc else replace(step, loc=self.loc)

    def match(self) -> tuple[str, Access, tuple[Access, ...]]:
        """(rule, destination, sources) that the nest asks for."""
        meaning = self.intrin.meaning
        body = meaning.body
        assert body is not None
        if not isinstance(body, Reduce):
            dst = self._bind(meaning.axes)
            self._expr(body, self.core.value)
            return "compute", dst, self._sources()
        if isinstance(self.core.value, Const):
            dst = self._bind(meaning.axes)
            if self.core.value.value != body.init.value:
                self.refuse(f"start value {body.init}", self.core.value)
            return "reset", dst, ()
        dst = self._bind((*meaning.axes, *body.axes))
        value = self.core.value
        operator = {"sum": "+", "max": "max", "min": "min"}[body.kind]
        if not isinstance(value, Binary) or value.op != operator:
            self.refuse(f"an accumulation with {operator!r}", value)
        old = Read(self.core.buffer, self.core.indices)
        if not same(value.a, old):
            self.refuse(f"the accumulator {old}", value.a)
        self._expr(body.body, value.b)
        return "update", dst, self._sources()

    def _bind(self, axes: tuple[Axis, ...]) -> Access:
        """Match loops with the meaning's axes through the destination, then in order."""
        if len(self.loops) != len(axes):
            wanted = ", ".join(f"{a.name} in {a.extent}" for a in axes)
            found = ", ".join(f"{loop.var.name} in {loop.extent}" for loop in self.loops)
            self.refuse(f"{len(axes)} loops ({wanted})", f"{len(self.loops)} ({found})")
        meaning = self.intrin.meaning
        indices = tuple(axis.var for axis in meaning.axes)
        dst = self._trailing(meaning, indices, self.core.buffer, self.core.indices)
        free = [loop for loop in self.loops if loop.var not in self.vars.values()]
        for axis in axes:
            if axis.var not in self.vars:
                self._pair(axis.var, free.pop(0).var)
        return dst

    def _pair(self, pattern: Var, actual: Expr) -> None:
        if not isinstance(actual, Var):
            self.refuse(f"loop variable {pattern.name!r}", actual)
        bound = self.vars.get(pattern)
        if bound is None:
            wanted = self._extent(pattern)
            loop = next((x for x in self.loops if x.var is actual), None)
            if loop is None:
                self.refuse(f"loop variable {pattern.name!r}", f"outer variable {actual}")
            if loop.extent != wanted:
                self.refuse(
                    f"loop {pattern.name!r} of extent {wanted}",
                    f"{actual.name!r} of extent {loop.extent}",
                )
            self.vars[pattern] = actual
        elif bound is not actual:
            self.refuse(f"{bound.name!r} for {pattern.name!r}", repr(actual.name))

    def _extent(self, var: Var) -> int:
        meaning = self.intrin.meaning
        for axis in (*meaning.axes, *meaning.reduce_axes):
            if axis.var is var:
                assert axis.extent is not None
                return axis.extent
        raise AssertionError(f"{var} is no axis of {self.intrin.name}")

    def _trailing(
        self, tensor: Tensor, pattern: tuple[Expr, ...], source: object, actual: tuple[Expr, ...]
    ) -> Access:
        """Match the last indices; the leading ones address the element."""
        assert isinstance(source, Buffer)
        lead = len(actual) - len(pattern)
        if lead < 0 or source.shape[lead:] != tensor.shape:
            self.refuse(
                f"an operand {tensor.name!r} whose last axes are {list(tensor.shape)}",
                f"{source.name!r} of shape {list(source.shape)}",
            )
        for want, have in zip(pattern, actual[lead:], strict=True):
            assert isinstance(want, Var)
            self._pair(want, have)
        inside = {loop.var for loop in self.loops if loop.extent > 1}
        still: dict[Var, Expr] = {loop.var: Const(0) for loop in self.loops if loop.extent == 1}
        element = tuple(simplify(substitute(index, still)) for index in actual[:lead])
        for index in element:
            if free_vars(index) & inside:
                self.refuse(f"element index of {source.name!r} free of the step's loops", index)
        return Access(source, element)

    def _expr(self, pattern: Expr, actual: Expr) -> None:
        if isinstance(pattern, Read):
            if not isinstance(actual, Read):
                self.refuse(pattern, actual)
            access = self._trailing(pattern.source, pattern.indices, actual.source, actual.indices)
            self.sources[pattern.source] = access
            return
        if isinstance(pattern, Var):
            self._pair(pattern, actual)
            return
        alike = type(pattern) is type(actual) and pattern.dtype == actual.dtype
        match pattern, actual:
            case Const(), Const():
                alike = alike and pattern.value == actual.value
            case Binary(), Binary():
                alike = alike and pattern.op == actual.op
            case Compare(), Compare():
                alike = alike and pattern.op == actual.op
            case Cast(), Cast():
                alike = alike and pattern.type == actual.type
            case Call(), Call():
                alike = alike and (pattern.name, pattern.attrs) == (actual.name, actual.attrs)
        if not alike:
            self.refuse(pattern, actual)
        for want, have in zip(children(pattern), children(actual), strict=True):
            self._expr(want, have)

    def _sources(self) -> tuple[Access, ...]:
        return tuple(self.sources[tensor] for tensor in self.intrin.inputs)
