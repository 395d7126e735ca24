"""Loops around transfers and compute nests -> a flat sequence of VTA instructions.

Outer loops run at compile time. Index expressions are turned into affine forms once per statement;
each iteration only evaluates them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from compiler.errors import LoweringError
from compiler.loop.arith import Affine, affine, evaluate, simplify
from compiler.loop.expr import Const, Expr, Var, free_vars
from compiler.loop.nodes import (
    Access,
    Alloc,
    Apply,
    Buffer,
    Copy,
    For,
    Func,
    If,
    Seq,
    Stmt,
    Task,
)
from compiler.loop.rewrite import nest_of
from compiler.loop.scopes import Place
from compiler.loop.units import ALU_IMM, UNITS
from compiler.passes.fold_micro_ops import Folded, Loop, fold_micro_ops
from compiler.passes.lower_copies import lower_copy
from compiler.passes.split_pieces import Piece, deciding_vars, is_piecewise, split_pieces
from vta_hw.spec.config import VtaConfig


def emit_tasks(func: Func, places: Mapping[Buffer, Place], config: VtaConfig) -> Func:
    """The function as a sequence of `Task`; `places` come from `allocate_sram`."""
    emitter = _Emitter(places, config)
    emitter.visit(func.body)
    return Func(func.name, func.params, Seq(tuple(emitter.tasks)))


@dataclass(frozen=True)
class _Operand:
    """A flattened element index: constant, coefficients of outer variables, steps of nest loops."""

    form: Affine
    steps: tuple[int, ...]


class _Emitter:
    def __init__(self, places: Mapping[Buffer, Place], config: VtaConfig) -> None:
        self.places = places
        self.config = config
        self.values: dict[Var, int] = {}
        self.tasks: list[Task] = []
        self.operands: dict[Hashable, _Operand] = {}
        self.deciding: dict[Stmt, frozenset[Var] | None] = {}
        self.pieces: dict[Hashable, list[Piece]] = {}
        self.folded: dict[Hashable, list[Folded]] = {}
        self.begins: dict[Copy, tuple[list[Affine], list[Affine]]] = {}

    def visit(self, stmt: Stmt) -> None:
        """Emit everything that `stmt` does, outer loops run out."""
        match stmt:
            case Seq(stmts):
                for part in stmts:
                    self.visit(part)
            case Alloc(_, body):
                self.visit(body)
            case For() | Apply():
                loops, core = nest_of(stmt)
                if isinstance(core, Apply) and not any(x.kind == "unroll" for x in loops):
                    self._steps(stmt, loops, core)
                else:
                    assert isinstance(stmt, For)
                    for value in range(stmt.extent):
                        self.values[stmt.var] = value
                        self.visit(stmt.body)
                    del self.values[stmt.var]
            case Copy():
                self._copy(stmt)
            case If(cond, then):
                if evaluate(cond, self.values):
                    self.visit(then)
            case _:
                raise LoweringError(
                    f"stage {stmt.loc!r}: a {type(stmt).__name__} is left, which VTA cannot execute"
                )

    def _copy(self, copy: Copy) -> None:
        if copy not in self.begins:
            self.begins[copy] = (
                [affine(simplify(e)) for e in copy.dst.begin],
                [affine(simplify(e)) for e in copy.src.begin],
            )
        forms = self.begins[copy]
        side = copy.dst if copy.src.buffer.scope == "dram" else copy.src
        dst, src = ([self._value(form) for form in begin] for begin in forms)
        clipped = self._clipped(copy, dst, src) if copy.clips else copy
        if clipped is None:
            return
        insns, operand = lower_copy(clipped, dst, src, self.places[side.buffer], self.config)
        self.tasks.extend(Task(insn, operand, loc=copy.loc) for insn in insns)

    def _clipped(self, copy: Copy, dst: list[int], src: list[int]) -> Copy | None:
        """The part of a box that is copied, or None; `dst` and `src` are moved to its begin."""
        to, source = list(copy.dst.extent), list(copy.src.extent)
        for axis, low, high in copy.clips:
            first = max(0, evaluate(low, self.values))
            to[axis] = min(copy.dst.extent[axis], evaluate(high, self.values)) - first
            if to[axis] <= 0:
                return None
            dst[axis] += first
            for position, along in enumerate(copy.axes):
                if along == axis:
                    src[position] += first
                    source[position] = to[axis]
        return replace(
            copy,
            dst=replace(copy.dst, extent=tuple(to)),
            src=replace(copy.src, extent=tuple(source)),
            clips=(),
        )

    def _steps(self, stmt: Stmt, loops: Sequence[For], core: Apply) -> None:
        if core.op not in UNITS:
            raise LoweringError(
                f"stage {core.loc!r} uses the unit {core.op!r}, which VTA does not have; its units "
                f"are {', '.join(UNITS)}"
            )
        for part_loops, part in self._pieces(stmt, loops, core):
            self._linear_steps(part_loops, part)

    def _pieces(self, stmt: Stmt, loops: Sequence[For], core: Apply) -> list[Piece]:
        """The nest itself if no index in it chooses by position, else its pieces."""
        if stmt not in self.deciding:
            self.deciding[stmt] = deciding_vars(core) if is_piecewise(core) else None
        deciding = self.deciding[stmt]
        if deciding is None:
            return [(list(loops), core)]
        fixed = {var: value for var, value in self.values.items() if var in deciding}
        key = (stmt, tuple(fixed.values()))
        if key not in self.pieces:
            self.pieces[key] = list(split_pieces(loops, core, fixed))
        return self.pieces[key]

    def _linear_steps(self, loops: Sequence[For], core: Apply) -> None:
        accesses = [core.dst, *core.srcs]
        if core.op == ALU_IMM:  # portable encoding: src addresses what dst does
            accesses = [core.dst, core.dst]
        operands = [self._operand(access, loops) for access in accesses[:3]]
        base = [self._value(operand.form) for operand in operands]
        nest = [
            Loop(loop.extent, tuple(operand.steps[n] for operand in operands))
            for n, loop in enumerate(loops)
        ]
        if len(core.srcs) > 2:  # REQ: three consecutive elements, addressed by the first
            base = base[:2]
            nest = [Loop(x.extent, x.steps[:2]) for x in nest]
        # Rounds of outer loops repeat what they do, in the same places.
        key = (core.op, core.attrs, tuple(base), tuple(nest))
        if key not in self.folded:
            attrs = dict(core.attrs)
            self.folded[key] = fold_micro_ops(core.op, attrs, base, nest, self.config, core.loc)
        self.tasks.extend(Task(f.insn, None, f.uops, loc=core.loc) for f in self.folded[key])

    def _operand(self, access: Access, loops: Sequence[For]) -> _Operand:
        key = (access, *(loop.var for loop in loops))
        if key not in self.operands:
            self.operands[key] = self._linear(access, loops)
        return self.operands[key]

    def _linear(self, access: Access, loops: Sequence[For]) -> _Operand:
        place = self.places[access.buffer]
        flat: Expr = Const(place.first)
        for index, step in zip(access.indices, place.steps(access.buffer), strict=True):
            flat = flat + index * step
        form = affine(simplify(flat))
        steps = tuple(form.coefficient(loop.var) for loop in loops)
        return _Operand(form.without({loop.var for loop in loops}), steps)

    def _value(self, form: Affine) -> int:
        total = form.constant
        for term, coefficient in form.terms:
            if isinstance(term, Var) and term in self.values:
                total += coefficient * self.values[term]
                continue
            if free_vars(term) - self.values.keys():
                raise LoweringError(f"index {form.to_expr()} is not linear in the loop variables")
            total += coefficient * evaluate(term, self.values)
        return total
