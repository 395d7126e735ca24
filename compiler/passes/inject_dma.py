"""Loop nests that copy between DRAM and a scratchpad -> box copies.

A load may select a pad value outside the source's shape; the condition must say exactly that. A
guard around the transfer, where tiles leave a remainder, clips the box.
"""

from __future__ import annotations

from dataclasses import replace

from compiler.errors import LoweringError
from compiler.loop.arith import Affine, affine, equal, simplify
from compiler.loop.expr import (
    Both,
    Cast,
    Compare,
    Const,
    Expr,
    Read,
    Select,
    Var,
    binary,
    both,
    free_vars,
    reads,
)
from compiler.loop.nodes import Copy, For, Func, If, Region, Stmt, Store
from compiler.loop.rewrite import map_children, nest_of, wrap_loops


def inject_dma(func: Func) -> Func:
    """Replace every DRAM <-> scratchpad copy nest by a `Copy`."""
    return Func(func.name, func.params, _visit(func.body))


def _visit(stmt: Stmt) -> Stmt:
    if isinstance(stmt, For | Store | If):
        loops, core = nest_of(stmt)
        guard = core.cond if isinstance(core, If) else None
        if isinstance(core, If):
            core = core.then
        if isinstance(core, Store) and _crosses(core):
            kept = _kept_loops(loops, core)
            return wrap_loops(loops[:kept], _copy(loops[kept:], core, guard))
    return map_children(stmt, _visit)


def _kept_loops(loops: list[For], core: Store) -> int:
    """How many loops stay around the transfer: those that a schedule wants apart, and outer ones.

    Apart are marked loops, and the outer loops of a split (i.o * 4 + i.i).
    """
    position: dict[Expr, int] = {loop.var: n for n, loop in enumerate(loops)}
    kept = [n + 1 for n, loop in enumerate(loops) if loop.kind in ("vthread", "unroll")]
    sources = [index for read in reads(core.value) for index in read.indices]
    for index in (*core.indices, *sources):
        moving = [(c, position[t]) for t, c in affine(index).terms if t in position]
        steps = sorted(c for c, _ in moving)
        if steps[:1] == [1] and len(set(steps)) == len(steps):
            kept += [n + 1 for c, n in moving if c > 1]
    return max(kept, default=0)


def _crosses(core: Store) -> bool:
    sources = [read.source for read in reads(core.value)]
    in_dram = [s.scope == "dram" for s in sources]
    return core.buffer.scope == "dram" or any(in_dram)


def _copy(loops: list[For], core: Store, guard: Expr | None = None) -> Stmt:
    value, condition, pad = core.value, None, None
    converted = isinstance(value, Cast)
    if isinstance(value, Cast):
        value = value.value
    if isinstance(value, Select):
        if not isinstance(value.other, Const):
            raise LoweringError(
                f"DMA of {core.loc!r}: the pad value must be a constant, not {value.other}"
            )
        condition, pad, value = value.cond, int(value.other.value), value.then
    if isinstance(value, Cast) and not converted:
        value = value.value
    if not isinstance(value, Read):
        raise LoweringError(
            f"DMA of {core.loc!r}: a transfer between DRAM and a scratchpad copies one element, "
            f"it cannot compute {value}; split the stage with cache_read or cache_write"
        )
    source = value.source
    if (core.buffer.scope == "dram") == (source.scope == "dram"):
        raise LoweringError(
            f"DMA of {core.loc!r}: one side must be in DRAM, not {source.scope} -> "
            f"{core.buffer.scope}"
        )
    if condition is not None and source.scope != "dram":
        raise LoweringError(
            f"DMA of {core.loc!r}: a store cannot pad, but {core.value} chooses; pad when loading"
        )
    extent_of = {loop.var: loop.extent for loop in loops}
    dst, dst_axis = _region(core.buffer, core.indices, extent_of, core.loc)
    src, _ = _region(source, value.indices, extent_of, core.loc)
    axes: list[int | None] = []
    for index in value.indices:
        var = _moving(affine(index), extent_of, core.loc)
        axes.append(None if var is None else dst_axis[var])
    if condition is not None:
        _check_condition(condition, value, core.loc)
    copy = Copy(dst, src, tuple(axes), pad, loc=core.loc)
    return copy if guard is None else _clipped(copy, guard, dst_axis, extent_of)


def _clipped(copy: Copy, guard: Expr, dst_axis: dict[Var, int], extent_of: dict[Var, int]) -> Stmt:
    """The copy of those positions for which the guard holds; each conjunct bounds one axis."""
    bounds: dict[int, tuple[Expr, Expr]] = {}
    whole: list[Expr] = []
    for part in _conjuncts(guard):
        form = affine(part.a - part.b) if isinstance(part, Compare) else affine(part)
        moving = [(t, c) for t, c in form.terms if free_vars(t) & extent_of.keys()]
        if not moving:
            whole.append(part)
            continue
        var, step = moving[0]
        known = isinstance(part, Compare) and part.op in ("<", ">=")
        if len(moving) > 1 or step != 1 or not isinstance(var, Var) or not known:
            raise LoweringError(
                f"DMA of {copy.loc!r}: the guard {part} of a transfer must bound one of its loops; "
                f"choose tile sizes that divide the extents"
            )
        limit = simplify(Const(0) - form.without({var}).to_expr())
        axis = dst_axis[var]
        low, high = bounds.get(axis, (Const(0), Const(copy.dst.extent[axis])))
        assert isinstance(part, Compare)
        if part.op == "<":
            bounds[axis] = low, binary("min", high, limit)
        else:
            bounds[axis] = binary("max", low, limit), high
    clips = tuple((axis, low, high) for axis, (low, high) in sorted(bounds.items()))
    clipped = replace(copy, clips=clips)
    return If(both(*whole), clipped, loc=copy.loc) if whole else clipped


def _conjuncts(condition: Expr) -> list[Expr]:
    if isinstance(condition, Both):
        return [*_conjuncts(condition.a), *_conjuncts(condition.b)]
    return [condition]


def _moving(form: Affine, extent_of: dict[Var, int], loc: str) -> Var | None:
    """The one copy loop that an index moves with (coefficient 1), or None."""
    inner = [(t, c) for t, c in form.terms if free_vars(t) & extent_of.keys()]
    if not inner:
        return None
    if len(inner) > 1 or inner[0][1] != 1 or not isinstance(inner[0][0], Var):
        raise LoweringError(
            f"DMA of {loc!r}: index {form.to_expr()} must move with one loop, one element a step"
        )
    return inner[0][0]


def _region(
    buffer: object, indices: tuple[Expr, ...], extent_of: dict[Var, int], loc: str
) -> tuple[Region, dict[Var, int]]:
    begin, extent, axis_of = [], [], {}
    for axis, index in enumerate(indices):
        form = affine(index)
        var = _moving(form, extent_of, loc)
        if var is not None:
            if var in axis_of:
                raise LoweringError(f"DMA of {loc!r}: loop {var.name!r} moves two axes at once")
            axis_of[var] = axis
        begin.append(form.without(set(extent_of)).to_expr())
        extent.append(1 if var is None else extent_of[var])
    return Region(buffer, tuple(begin), tuple(extent)), axis_of  # type: ignore[arg-type]


def _check_condition(condition: Expr, read: Read, loc: str) -> None:
    """Each conjunct must be a bound of one source index: index >= 0 or index < size."""
    if isinstance(condition, Both):
        _check_condition(condition.a, read, loc)
        _check_condition(condition.b, read, loc)
        return
    if isinstance(condition, Compare):
        for index, size in zip(read.indices, read.source.shape, strict=True):
            bound = 0 if condition.op == ">=" else size
            if condition.op in (">=", "<") and equal(condition.a - condition.b, index - bound):
                return
    raise LoweringError(
        f"DMA of {loc!r}: a load pads exactly outside {read.source.name!r}; the condition "
        f"{condition} is no bound of {read}"
    )
