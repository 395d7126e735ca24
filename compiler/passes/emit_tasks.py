"""Loops around transfers and compute nests -> a flat sequence of VTA instructions.

Outer loops run at compile time. Index expressions are turned into affine forms once per statement;
each iteration only evaluates them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from compiler.errors import LoweringError
from compiler.loop.arith import Affine, affine, evaluate, simplify
from compiler.loop.expr import Expr, Var, free_vars
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
from compiler.passes.lower_copies import Transfer
from compiler.passes.split_pieces import Piece, deciding_vars, is_piecewise, split_pieces
from vta_hw.spec.config import VtaConfig


def emit_tasks(func: Func, places: Mapping[Buffer, Place], config: VtaConfig) -> Func:
    """The function as a sequence of `Task`; `places` come from `allocate_sram`."""
    emitter = _Emitter(places, config)
    emitter.visit(func.body)
    return Func(func.name, func.params, Seq(tuple(emitter.tasks)))


@dataclass(frozen=True)
class _Transfer:
    """A copy and where it begins on both sides; `parts` are its clipped boxes by extent."""

    dst: tuple[Affine, ...]
    src: tuple[Affine, ...]
    parts: dict[tuple[int, ...], Transfer]


@dataclass(frozen=True)
class _Nest:
    """A nest of steps: the element of each operand at its begin, and the loops in it.

    `folded` are its instructions by those elements.
    """

    begin: tuple[Affine, ...]
    loops: tuple[Loop, ...]
    folded: dict[tuple[int, ...], list[Folded]]


class _Emitter:
    def __init__(self, places: Mapping[Buffer, Place], config: VtaConfig) -> None:
        self.places = places
        self.config = config
        self.values: dict[Var, int] = {}
        self.tasks: list[Task] = []
        self.deciding: dict[Stmt, frozenset[Var] | None] = {}
        self.pieces: dict[Hashable, list[Piece]] = {}
        self.nests: dict[Hashable, _Nest] = {}
        self.folded: dict[Hashable, dict[tuple[int, ...], list[Folded]]] = {}
        self.transfers: dict[Copy, _Transfer] = {}
        self.forms: dict[Expr, Affine] = {}

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
        known = self.transfers.get(copy)
        if known is None:
            dst_forms, src_forms = (
                tuple(self._known(self._form(begin)) for begin in region.begin)
                for region in (copy.dst, copy.src)
            )
            known = self.transfers[copy] = _Transfer(dst_forms, src_forms, {})
        dst = [self._value(form) for form in known.dst]
        src = [self._value(form) for form in known.src]
        extent = self._clip(copy, dst, src) if copy.clips else copy.dst.extent
        if extent is None:
            return
        part = known.parts.get(extent)
        if part is None:
            side = copy.dst if copy.src.buffer.scope == "dram" else copy.src
            place = self.places[side.buffer]
            part = Transfer(_clipped(copy, extent), place, self.config)
            known.parts[extent] = part
        for insn in part.instructions(dst, src):
            self.tasks.append(Task(insn, part.operand, loc=copy.loc))

    def _clip(self, copy: Copy, dst: list[int], src: list[int]) -> tuple[int, ...] | None:
        """The extent of what is copied, or None; `dst` and `src` are moved to where it begins."""
        extent = list(copy.dst.extent)
        for axis, low, high in copy.clips:
            first = max(0, evaluate(low, self.values))
            extent[axis] = min(copy.dst.extent[axis], evaluate(high, self.values)) - first
            if extent[axis] <= 0:
                return None
            dst[axis] += first
            for position, along in enumerate(copy.axes):
                if along == axis:
                    src[position] += first
        return tuple(extent)

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
        key = (core, *loops)
        nest = self.nests.get(key)
        if nest is None:
            nest = self.nests[key] = self._nest(loops, core)
        base = tuple([self._value(form) for form in nest.begin])
        # Rounds of outer loops repeat what they do, in the same places.
        folded = nest.folded.get(base)
        if folded is None:
            attrs = dict(core.attrs)
            folded = fold_micro_ops(core.op, attrs, base, nest.loops, self.config, core.loc)
            nest.folded[base] = folded
        for part in folded:
            self.tasks.append(Task(part.insn, None, part.uops, loc=core.loc))

    def _nest(self, loops: Sequence[For], core: Apply) -> _Nest:
        accesses = [core.dst, *core.srcs]
        if core.op == ALU_IMM:  # portable encoding: src addresses what dst does
            accesses = [core.dst, core.dst]
        if len(accesses) > 3:  # REQ: three consecutive elements, addressed by the first
            accesses = accesses[:2]
        indices = [self._element(access) for access in accesses]
        steps = tuple(
            Loop(loop.extent, tuple(index.coefficient(loop.var) for index in indices))
            for loop in loops
        )
        inner = {loop.var for loop in loops}
        begin = tuple(self._known(index.without(inner)) for index in indices)
        folded = self.folded.setdefault((core.op, core.attrs, steps), {})
        return _Nest(begin, steps, folded)

    def _element(self, access: Access) -> Affine:
        """The index of an element in its memory."""
        place = self.places[access.buffer]
        flat = Affine((), place.first)
        for index, step in zip(access.indices, place.steps(access.buffer), strict=True):
            flat = flat.plus(self._form(index), step)
        return flat

    def _form(self, index: Expr) -> Affine:
        """The affine form of an index; pieces of a nest have most in common."""
        if index not in self.forms:
            self.forms[index] = affine(simplify(index))
        return self.forms[index]

    def _known(self, form: Affine) -> Affine:
        """The form, if nothing in it but outer loops' variables has to be known for its value."""
        if any(free_vars(term) - self.values.keys() for term, _ in form.terms):
            raise LoweringError(f"index {form.to_expr()} is not linear in the loop variables")
        return form

    def _value(self, form: Affine) -> int:
        total = form.constant
        for term, coefficient in form.terms:
            if isinstance(term, Var):
                total += coefficient * self.values[term]
            else:
                total += coefficient * evaluate(term, self.values)
        return total


def _clipped(copy: Copy, extent: tuple[int, ...]) -> Copy:
    """The copy of a part of its box."""
    source = list(copy.src.extent)
    for position, axis in enumerate(copy.axes):
        if axis is not None:
            source[position] = extent[axis]
    dst, src = replace(copy.dst, extent=extent), replace(copy.src, extent=tuple(source))
    return replace(copy, dst=dst, src=src, clips=())
