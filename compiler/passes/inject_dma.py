"""Loop nests that copy between DRAM and a scratchpad -> box copies.

A load may select a pad value outside the source's shape; the condition must say exactly that.
"""

from __future__ import annotations

from compiler.errors import LoweringError
from compiler.loop.arith import Affine, affine, equal
from compiler.loop.expr import Both, Cast, Compare, Const, Expr, Read, Select, Var, free_vars, reads
from compiler.loop.nodes import Copy, For, Func, If, Region, Stmt, Store
from compiler.loop.rewrite import map_children, nest_of, wrap_loops


def inject_dma(func: Func) -> Func:
    """Replace every DRAM <-> scratchpad copy nest by a `Copy`."""
    return Func(func.name, func.params, _visit(func.body))


def _visit(stmt: Stmt) -> Stmt:
    if isinstance(stmt, For | Store):
        loops, core = nest_of(stmt)
        if isinstance(core, Store) and _crosses(core):
            kept = _kept_loops(loops)
            return wrap_loops(loops[:kept], _copy(loops[kept:], core))
    if isinstance(stmt, If):
        _, core = nest_of(stmt.then)
        if isinstance(core, Store) and _crosses(core):
            raise LoweringError(
                f"DMA of {core.loc!r}: a transfer moves a whole box and cannot be guarded by "
                f"{stmt.cond}; choose tile sizes that divide the extents"
            )
    return map_children(stmt, _visit)


def _kept_loops(loops: list[For]) -> int:
    """How many loops stay around the transfer: those that a schedule wants apart, and outer ones"""
    marked = [n for n, loop in enumerate(loops) if loop.kind in ("vthread", "unroll")]
    return marked[-1] + 1 if marked else 0


def _crosses(core: Store) -> bool:
    sources = [read.source for read in reads(core.value)]
    in_dram = [s.scope == "dram" for s in sources]
    return core.buffer.scope == "dram" or any(in_dram)


def _copy(loops: list[For], core: Store) -> Stmt:
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
    return Copy(dst, src, tuple(axes), pad, loc=core.loc)


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
