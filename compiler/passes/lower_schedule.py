"""Tensor expressions and their schedule -> loop nests.

Bound inference runs from consumers to producers: a stage attached at a loop of another one computes
just the box that the loops inside that point read. Loops of extent 1 are left out (except inside a
tensorized part, where the intrinsic's own shape counts).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from compiler.errors import ScheduleError
from compiler.loop.arith import Affine, affine, difference, interval, simplify
from compiler.loop.expr import (
    Const,
    Expr,
    Read,
    Reduce,
    Var,
    binary,
    both,
    compare,
    free_vars,
    reads,
    substitute,
    transform,
)
from compiler.loop.nodes import Alloc, Buffer, For, Func, If, Stmt, Store, seq
from compiler.loop.scopes import MEMORY
from compiler.te.schedule import Fuse, Schedule, Split, Stage
from compiler.te.tensor import Axis, Tensor

_ACCUMULATE = {"sum": "+", "max": "max", "min": "min"}


def lower_schedule(schedule: Schedule, params: Sequence[Tensor], name: str) -> Func:
    """The function over `params` (placeholders and outputs) that the schedule describes."""
    return _Lowering(schedule, params).run(name)


class _Lowering:
    def __init__(self, schedule: Schedule, params: Sequence[Tensor]) -> None:
        self.stages = _inline(schedule)
        self.params = params
        self.outputs = schedule.outputs
        self.buffers: dict[Tensor, Buffer] = {}
        self.extent: dict[Axis, int] = {}
        self.value: dict[Axis, Expr] = {}
        self.begin: dict[Tensor, tuple[Expr, ...]] = {}
        self.half: dict[Tensor, tuple[Expr, ...]] = {}
        self.guards: dict[Stage, list[Expr]] = {}
        self.ranges: dict[Var, int] = {}

    def run(self, name: str) -> Func:
        self._check_outputs()
        for tensor in self.params:
            self.buffers[tensor] = Buffer(tensor.name, tensor.shape, tensor.dtype, "dram")
            self.begin[tensor] = tuple(Const(0) for _ in tensor.shape)
        for stage in reversed(self.stages):
            self._infer(stage)
        roots = [s for s in self.stages if s.attach is None]
        body: Stmt = seq([self._nest(s) for s in roots])
        for stage in reversed(roots):
            if stage.tensor not in self.params:
                body = Alloc(self.buffers[stage.tensor], body, loc=stage.name)
        return Func(name, tuple(self.buffers[t] for t in self.params), body)

    def _check_outputs(self) -> None:
        """Outputs must be parameters, and computed where all of them can be written."""
        for output in self.outputs:
            stage = next((s for s in self.stages if s.tensor is output), None)
            if output.body is not None and (stage is None or stage.attach is not None):
                how = "inline" if stage is None else "at a loop of another stage"
                raise ScheduleError(
                    f"output {output.name!r} is computed {how}, so that nothing would hold it; "
                    f"only intermediate tensors can be"
                )
            if output not in self.params:
                raise ScheduleError(
                    f"output {output.name!r} is not among the parameters "
                    f"{', '.join(repr(p.name) for p in self.params)}; add it"
                )

    # -- bounds ------------------------------------------------------------------------------------

    def _infer(self, stage: Stage) -> None:
        if stage.attach is None:
            begin: tuple[Expr, ...] = tuple(Const(0) for _ in stage.axes)
            extents = stage.tensor.shape
        else:
            self._check_attach(stage, *stage.attach)
            begin, extents = self._required(stage)
        self.begin[stage.tensor] = begin
        self.half[stage.tensor] = self._half(stage)
        if stage.tensor not in self.buffers:
            halves = (2,) if self.half[stage.tensor] else ()
            shape, scope = (*halves, *extents), stage.scope
            dtype = stage.tensor.dtype
            self.buffers[stage.tensor] = Buffer(stage.name, shape, dtype, scope, bool(halves))
        for axis, extent in zip(stage.axes, extents, strict=True):
            self.extent[axis] = extent
        for axis in stage.reduce_axes:
            assert axis.extent is not None
            self.extent[axis] = axis.extent
        self._resolve_loops(stage)
        if not self._stays_on_chip(stage):
            self.guards[stage] += self._outside(stage, begin, extents)

    def _half(self, stage: Stage) -> tuple[Expr, ...]:
        """The leading index of a double-buffered tensor: the parity of the rounds of all loops."""
        if not stage.is_double_buffered:
            return ()
        if stage.attach is None:
            raise ScheduleError(
                f"stage {stage.name!r} is double-buffered but computed once, outside all loops; "
                f"compute_at says in which loop the halves alternate"
            )
        target, axis = stage.attach
        if target.kinds.get(axis) == "vthread":
            raise ScheduleError(
                f"stage {stage.name!r} is double-buffered at loop {axis.name!r} of "
                f"{target.name!r}, which is marked vthread: its threads have buffers of their own "
                f"already; leave one of the two out"
            )
        rounds = self._rounds(target, axis)
        return () if rounds is None else (rounds % 2,)

    def _rounds(self, stage: Stage, axis: Axis) -> Expr | None:
        """The number of a round of a loop, counted through the loops around it; None for one."""
        number = None if stage.attach is None else self._rounds(*stage.attach)
        for leaf in stage.leaves[: stage.leaves.index(axis) + 1]:
            if isinstance(self.value[leaf], Var) and stage.kinds.get(leaf) != "vthread":
                value = self.value[leaf]
                number = value if number is None else number * self.extent[leaf] + value
        return number

    def _check_attach(self, stage: Stage, target: Stage, axis: Axis) -> None:
        if axis not in target.leaves:
            names = ", ".join(leaf.name for leaf in target.leaves)
            raise ScheduleError(
                f"stage {stage.name!r} is computed at loop {axis.name!r} of {target.name!r}, which "
                f"was split or fused afterwards into {names}; use compute_at last"
            )

    def _stays_on_chip(self, stage: Stage) -> bool:
        """Whether a stage only computes from scratchpads into one.

        Then it may compute more than there is, where a tile stands out: nothing reads the rest.
        """
        scopes = {s.tensor: s.scope for s in self.stages}
        sources = [scopes.get(read.source, "dram") for read in reads(stage.body)]
        return all(scope in MEMORY for scope in (stage.scope, *sources))

    def _outside(
        self, stage: Stage, begin: Sequence[Expr], extents: Sequence[int]
    ) -> Iterator[Expr]:
        """Conditions that keep a box inside its tensor, where the box may stand out."""
        axes = zip(stage.axes, begin, extents, stage.tensor.shape, strict=True)
        for axis, start, extent, size in axes:
            bounds = interval(affine(start), self.ranges)
            position = start + self.value[axis]
            if bounds is None or bounds[0] < 0:
                yield simplify(compare(">=", position, 0), self.ranges)
            if bounds is None or bounds[1] + extent > size:
                yield simplify(compare("<", position, size), self.ranges)

    def _resolve_loops(self, stage: Stage) -> None:
        guarded: list[tuple[Axis, int]] = []
        for relation in stage.relations:
            if isinstance(relation, Split):
                parent = self.extent[relation.parent]
                if relation.factor is not None:
                    inner = min(relation.factor, parent)
                    outer = -(-parent // inner)
                else:
                    assert relation.nparts is not None
                    outer = min(relation.nparts, parent)
                    inner = -(-parent // outer)
                self.extent[relation.outer], self.extent[relation.inner] = outer, inner
                if outer * inner != parent:
                    guarded.append((relation.parent, parent))
            else:
                fused = self.extent[relation.outer] * self.extent[relation.inner]
                self.extent[relation.fused] = fused
        for position, leaf in enumerate(stage.leaves):
            if self.extent[leaf] == 1 and not self._in_tensorized(stage, position):
                self.value[leaf] = Const(0)
            else:
                self.value[leaf] = leaf.var
                self.ranges[leaf.var] = self.extent[leaf]
        for relation in reversed(stage.relations):
            if isinstance(relation, Split):
                step = self.extent[relation.inner]
                whole = self.value[relation.outer] * step + self.value[relation.inner]
                self.value[relation.parent] = whole
            else:
                assert isinstance(relation, Fuse)
                step = self.extent[relation.inner]
                fused_value = self.value[relation.fused]
                self.value[relation.outer] = fused_value // step
                self.value[relation.inner] = fused_value % step
        self.guards[stage] = [compare("<", self.value[axis], extent) for axis, extent in guarded]

    def _in_tensorized(self, stage: Stage, position: int) -> bool:
        return stage.intrin is not None and position >= stage.leaves.index(stage.intrin[0])

    def _axis_values(self, stage: Stage) -> dict[Var, Expr]:
        """Root axis variable -> its value in terms of loop variables."""
        values = {
            axis.var: simplify(begin + self.value[axis])
            for axis, begin in zip(stage.axes, self.begin[stage.tensor], strict=True)
        }
        values.update({axis.var: self.value[axis] for axis in stage.reduce_axes})
        return values

    def _required(self, stage: Stage) -> tuple[tuple[Expr, ...], tuple[int, ...]]:
        """The box of `stage` that its readers need at its attach point."""
        rank = len(stage.axes)
        boxes: list[list[tuple[Expr, int] | None]] = [[] for _ in range(rank)]
        for reader in self.stages:
            for read in reads(reader.body):
                if read.source is not stage.tensor:
                    continue
                inner = self._inner_vars(stage, reader)
                values = self._axis_values(reader)
                for dim, index in enumerate(read.indices):
                    form = affine(simplify(substitute(index, values), self.ranges))
                    boxes[dim].append(_box(form, inner, self.ranges))
        begins, extents = [], []
        for dim, size in enumerate(stage.tensor.shape):
            begin, extent = _union(boxes[dim], size)
            begins.append(begin)
            extents.append(extent)
        return tuple(begins), tuple(extents)

    def _inner_vars(self, stage: Stage, reader: Stage) -> set[Var]:
        """Variables of the loops between the attach point of `stage` and the read in `reader`."""
        assert stage.attach is not None
        target, axis = stage.attach
        inner: set[Var] = set()
        current, enclosing = reader, len(reader.leaves)
        while current is not target:
            inner |= {leaf.var for leaf in current.leaves[:enclosing]}
            if current.attach is None:
                raise ScheduleError(
                    f"stage {stage.name!r} is computed at loop {axis.name!r} of {target.name!r}, "
                    f"but {reader.name!r} reads it from outside that loop; move one of them"
                )
            current, place = current.attach
            enclosing = current.leaves.index(place) + 1
        first = target.leaves.index(axis) + 1
        if enclosing < first:
            raise ScheduleError(
                f"stage {stage.name!r} is computed at loop {axis.name!r} of {target.name!r}, but "
                f"{reader.name!r} reads it from an outer loop; move one of them"
            )
        return inner | {leaf.var for leaf in target.leaves[first:enclosing]}

    # -- loops -------------------------------------------------------------------------------------

    def _nest(self, stage: Stage) -> Stmt:
        values = self._axis_values(stage)
        body = stage.body
        target = self.buffers[stage.tensor]
        relative = [simplify(self.value[axis], self.ranges) for axis in stage.axes]
        relative[:0] = self._half_index(stage.tensor)
        if isinstance(body, Reduce):
            old = Read(target, tuple(relative))
            value = self._lower_expr(body.body, values)
            update = binary(_ACCUMULATE[body.kind], old, value)
        else:
            update = self._lower_expr(body, values)
        core: Stmt = Store(target, tuple(relative), update, loc=stage.name)
        guards = self.guards[stage]
        if guards:
            core = If(both(*guards), core, loc=stage.name)
        start = self._start_of_reduction(stage)
        nest = core
        for position in range(len(stage.leaves) - 1, -1, -1):
            nest = self._with_attached(stage, stage.leaves[position], nest)
            nest = self._loop(stage, position, nest)
            nest = self._with_halves(stage, stage.leaves[position], nest)
            if isinstance(body, Reduce) and position == start:
                init = self._init_nest(stage, start, relative, body.init)
                nest = seq([init, nest], loc=stage.name)
        return nest

    def _half_index(self, tensor: Tensor) -> list[Expr]:
        return [simplify(index, self.ranges) for index in self.half.get(tensor, ())]

    def _loop(self, stage: Stage, position: int, body: Stmt) -> Stmt:
        leaf = stage.leaves[position]
        if isinstance(self.value[leaf], Const):
            return body
        kind = stage.kinds.get(leaf, "serial")
        intrin = None
        if stage.intrin is not None and stage.intrin[0] is leaf:
            intrin = stage.intrin[1]
        return For(leaf.var, self.extent[leaf], body, kind, intrin, loc=stage.name)

    def _with_attached(self, stage: Stage, leaf: Axis, nest: Stmt) -> Stmt:
        for other in reversed(self.stages):
            if other.attach is not None and other.attach[0] is stage and other.attach[1] is leaf:
                nest = seq([self._nest(other), nest], loc=stage.name)
                if not self.half[other.tensor]:
                    nest = Alloc(self.buffers[other.tensor], nest, loc=other.name)
        return nest

    def _with_halves(self, stage: Stage, leaf: Axis, nest: Stmt) -> Stmt:
        """Allocations that outlive the loop in which their tensors are computed."""
        for other in reversed(self.stages):
            if other.attach == (stage, leaf) and self.half[other.tensor]:
                nest = Alloc(self.buffers[other.tensor], nest, loc=other.name)
        return nest

    def _start_of_reduction(self, stage: Stage) -> int:
        """Position of the loop before which a reduction's start value is set.

        The outermost reduction loop, or the tensorized part, which is not taken apart.
        """
        reduces = (n for n, leaf in enumerate(stage.leaves) if leaf.is_reduce)
        start = next(reduces, len(stage.leaves))
        return min(start, stage.leaves.index(stage.intrin[0])) if stage.intrin else start

    def _init_nest(self, stage: Stage, position: int, relative: list[Expr], init: Const) -> Stmt:
        inner = [
            (n, leaf)
            for n, leaf in enumerate(stage.leaves)
            if n >= position and not leaf.is_reduce and isinstance(self.value[leaf], Var)
        ]
        fresh = {leaf.var: Var(leaf.var.name) for _, leaf in inner}
        for _, leaf in inner:
            self.ranges[fresh[leaf.var]] = self.extent[leaf]
        indices = tuple(substitute(e, fresh) for e in relative)
        nest: Stmt = Store(self.buffers[stage.tensor], indices, init, loc=stage.name)
        guards = [
            substitute(g, fresh)
            for g in self.guards[stage]
            if not any(leaf.is_reduce and leaf.var in free_vars(g) for leaf in stage.leaves)
        ]
        if guards:
            nest = If(both(*guards), nest, loc=stage.name)
        start = stage.leaves.index(stage.intrin[0]) if stage.intrin else len(stage.leaves)
        marked = next((leaf for n, leaf in inner if n >= start), None)
        for _, leaf in reversed(inner):
            intrin = stage.intrin[1] if stage.intrin and leaf is marked else None
            var = fresh[leaf.var]
            nest = For(var, self.extent[leaf], nest, "serial", intrin, loc=stage.name)
        return nest

    def _lower_expr(self, body: Expr, values: Mapping[Var, Expr]) -> Expr:
        def rule(expr: Expr) -> Expr | None:
            if not isinstance(expr, Read) or isinstance(expr.source, Buffer):
                return None
            tensor: Tensor = expr.source
            if tensor not in self.buffers:
                raise ScheduleError(
                    f"tensor {tensor.name!r} is read but is neither computed nor a parameter"
                )
            begin = self.begin[tensor]
            indices = [
                simplify(i - b, self.ranges) for i, b in zip(expr.indices, begin, strict=True)
            ]
            half = self._half_index(tensor)
            return Read(self.buffers[tensor], (*half, *indices))

        return simplify(transform(substitute(body, values), rule), self.ranges)


def _box(form: Affine, inner: set[Var], ranges: Mapping[Var, int]) -> tuple[Expr, int] | None:
    """(begin, extent) of an index as the inner variables run; None if it is not affine."""
    begin = Const(form.constant)
    low, extent = 0, 1
    outer: list[tuple[Expr, int]] = []
    for term, coefficient in form.terms:
        if not isinstance(term, Var):
            return None
        if term in inner:
            reach = coefficient * (ranges[term] - 1)
            low += min(0, reach)
            extent += abs(reach)
        else:
            outer.append((term, coefficient))
    return Affine(tuple(outer), int(begin.value) + low).to_expr(), extent


def _union(boxes: Sequence[tuple[Expr, int] | None], size: int) -> tuple[Expr, int]:
    """The smallest box that holds all; the whole axis where they cannot be compared."""
    whole: tuple[Expr, int] = (Const(0), size)
    if not boxes or boxes[0] is None:
        return whole
    begin, extent = boxes[0]
    for box in boxes[1:]:
        if box is None:
            return whole
        shift = difference(box[0], begin)
        if shift is None:
            return whole
        end = max(extent, shift + box[1])
        if shift < 0:
            begin, end = box[0], end - shift
        extent = end
    if extent >= size and isinstance(begin, Const):
        return (begin, extent) if begin.value != 0 else (begin, min(extent, size))
    return begin, extent


def _inline(schedule: Schedule) -> list[Stage]:
    """Stages left after replacing reads of inlined ones by their expressions."""
    bodies: dict[Tensor, Stage] = {}
    kept = []
    for stage in schedule.stages:

        def rule(expr: Expr) -> Expr | None:
            if isinstance(expr, Read) and expr.source in bodies:
                source = bodies[expr.source]
                values = {a.var: i for a, i in zip(source.axes, expr.indices, strict=True)}
                return substitute(source.body, values)
            return None

        stage.body = transform(stage.body, rule)
        if stage.is_inline:
            bodies[stage.tensor] = stage
        else:
            kept.append(stage)
    return kept
