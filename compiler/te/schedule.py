"""Schedules: how a tensor expression is computed, as primitives on loops.

A schedule holds one `Stage` per computed tensor. Primitives never change what is computed; each
docstring shows the loop nest before -> after. `compiler.passes.lower_schedule` makes the loops.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from compiler.errors import ScheduleError
from compiler.loop.expr import Expr, Read, Reduce, Var, reads, substitute, transform
from compiler.loop.nodes import KINDS
from compiler.te.intrin import TensorIntrin
from compiler.te.tensor import Axis, Tensor

SCOPES = ("dram", "inp", "wgt", "acc", "host")


@dataclass(frozen=True, eq=False)
class Split:
    """parent = outer * factor + inner"""

    parent: Axis
    outer: Axis
    inner: Axis
    factor: int | None
    nparts: int | None


@dataclass(frozen=True, eq=False)
class Fuse:
    """outer = fused // extent(inner), inner = fused % extent(inner)"""

    outer: Axis
    inner: Axis
    fused: Axis


@dataclass(eq=False)
class Stage:
    """How one tensor is computed. Made by `Schedule`; use its methods as primitives."""

    tensor: Tensor
    axes: tuple[Axis, ...]
    body: Expr
    scope: str = "dram"
    leaves: list[Axis] = field(default_factory=list)
    relations: list[Split | Fuse] = field(default_factory=list)
    kinds: dict[Axis, str] = field(default_factory=dict)
    attach: tuple[Stage, Axis] | None = None
    is_inline: bool = False
    intrin: tuple[Axis, TensorIntrin] | None = None
    is_double_buffered: bool = False

    def __post_init__(self) -> None:
        self.leaves = [*self.axes, *self.reduce_axes]

    @property
    def name(self) -> str:
        """Name of its tensor."""
        return self.tensor.name

    @property
    def reduce_axes(self) -> tuple[Axis, ...]:
        """Axes that it reduces over."""
        return self.body.axes if isinstance(self.body, Reduce) else ()

    def _leaf(self, axis: Axis, primitive: str) -> int:
        for position, leaf in enumerate(self.leaves):
            if leaf is axis:
                return position
        names = ", ".join(a.name for a in self.leaves)
        raise ScheduleError(
            f"{primitive}: {axis.name!r} is no loop of stage {self.name!r}, whose loops are {names}"
        )

    def _plain_leaf(self, axis: Axis, primitive: str) -> int:
        """Position of a loop that may still be taken apart."""
        position = self._leaf(axis, primitive)
        marked = self.kinds.get(axis)
        if marked is None and self.intrin is not None and self.intrin[0] is axis:
            marked = "tensorize"
        if marked is not None:
            raise ScheduleError(
                f"{primitive} in stage {self.name!r}: loop {axis.name!r} is already marked "
                f"{marked}, which the new loops would lose; use {primitive} first"
            )
        return position

    def split(
        self, axis: Axis, factor: int | None = None, nparts: int | None = None
    ) -> tuple[Axis, Axis]:
        """``for i: S`` -> ``for i.o: for i.i: S`` with i = i.o * factor + i.i

        Give the extent of the inner loop (`factor`) or of the outer one (`nparts`).
        """
        position = self._plain_leaf(axis, "split")
        given = factor if factor is not None else nparts
        if (factor is None) == (nparts is None) or given is None or given < 1:
            raise ScheduleError(
                f"split of {axis.name!r} in stage {self.name!r} needs either a positive factor or "
                f"a positive nparts, not factor={factor}, nparts={nparts}"
            )
        outer = Axis(Var(f"{axis.name}.o"), None, axis.is_reduce)
        inner = Axis(Var(f"{axis.name}.i"), None, axis.is_reduce)
        self.relations.append(Split(axis, outer, inner, factor, nparts))
        self.leaves[position : position + 1] = [outer, inner]
        return outer, inner

    def tile(self, a: Axis, b: Axis, factor_a: int, factor_b: int) -> tuple[Axis, Axis, Axis, Axis]:
        """``for a: for b: S`` -> ``for a.o: for b.o: for a.i: for b.i: S``"""
        a_outer, a_inner = self.split(a, factor_a)
        b_outer, b_inner = self.split(b, factor_b)
        self.reorder(a_outer, b_outer, a_inner, b_inner)
        return a_outer, b_outer, a_inner, b_inner

    def fuse(self, outer: Axis, inner: Axis) -> Axis:
        """``for o: for i: S`` -> ``for o.i.f: S``; the loops must be adjacent."""
        position = self._plain_leaf(outer, "fuse")
        if self._plain_leaf(inner, "fuse") != position + 1:
            raise ScheduleError(
                f"fuse in stage {self.name!r}: {inner.name!r} must stand directly inside "
                f"{outer.name!r}; reorder them first"
            )
        if outer.is_reduce != inner.is_reduce:
            raise ScheduleError(
                f"fuse in stage {self.name!r}: {outer.name!r} and {inner.name!r} must both be data "
                f"loops or both reduction loops"
            )
        fused = Axis(Var(f"{outer.name}.{inner.name}.f"), None, outer.is_reduce)
        self.relations.append(Fuse(outer, inner, fused))
        self.leaves[position : position + 2] = [fused]
        return fused

    def reorder(self, *axes: Axis) -> None:
        """The given loops take their own places in the given order; others stay."""
        positions = sorted(self._leaf(axis, "reorder") for axis in axes)
        if len(set(positions)) != len(axes):
            raise ScheduleError(f"reorder in stage {self.name!r}: an axis is given twice")
        for position, axis in zip(positions, axes, strict=True):
            self.leaves[position] = axis

    def _annotate(self, axis: Axis, kind: str) -> None:
        assert kind in KINDS
        self._leaf(axis, kind)
        if kind in ("vthread", "parallel", "vectorize") and axis.is_reduce:
            raise ScheduleError(
                f"{kind} in stage {self.name!r}: {axis.name!r} is a reduction loop, whose steps "
                f"depend on each other; choose a data loop"
            )
        self.kinds[axis] = kind

    def vthread(self, axis: Axis) -> None:
        """Interleave the loop's iterations, each with buffers of its own (virtual threads)."""
        self._annotate(axis, "vthread")

    def unroll(self, axis: Axis) -> None:
        """Write the loop's body out once per iteration."""
        self._annotate(axis, "unroll")

    def vectorize(self, axis: Axis) -> None:
        """Let host code compute the loop's iterations in vector lanes."""
        self._annotate(axis, "vectorize")

    def parallel(self, axis: Axis) -> None:
        """Declare that the loop's iterations are independent."""
        self._annotate(axis, "parallel")

    def compute_at(self, consumer: Stage, axis: Axis) -> None:
        """``T; for i: U(T)`` -> ``for i: (the part of T that U needs; U(T))``"""
        consumer._leaf(axis, "compute_at")
        self.attach = (consumer, axis)

    def double_buffer(self) -> None:
        """``for i: alloc T; T; U(T)`` -> ``alloc T[2]; for i: T[i % 2]; U(T[i % 2])``

        The loop is the one of `compute_at`; its rounds are counted on through the loops around it.
        A round need not wait until the last one has read T.
        """
        self.is_double_buffered = True

    def compute_inline(self) -> None:
        """Replace reads of this tensor by its expression."""
        if self.reduce_axes:
            raise ScheduleError(f"stage {self.name!r} reduces and cannot be computed inline")
        self.is_inline = True

    def set_scope(self, scope: str) -> None:
        """Hold this tensor in a memory: dram, inp, wgt, acc or host."""
        if scope not in SCOPES:
            raise ScheduleError(f"scope must be one of {', '.join(SCOPES)}, not {scope!r}")
        self.scope = scope

    def tensorize(self, axis: Axis, intrin: TensorIntrin) -> None:
        """The loops from `axis` inwards become steps of `intrin`, matched against its meaning."""
        self._leaf(axis, "tensorize")
        self.intrin = (axis, intrin)


class Schedule:
    """A default schedule (every tensor on its own, loops in order) of `outputs`."""

    def __init__(self, outputs: Tensor | Iterable[Tensor]) -> None:
        self.outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
        self.stages: list[Stage] = []
        self.placeholders: list[Tensor] = []
        for output in self.outputs:
            self._visit(output)

    def _visit(self, tensor: Tensor) -> None:
        if tensor in self.placeholders or any(s.tensor is tensor for s in self.stages):
            return
        if tensor.body is None:
            self.placeholders.append(tensor)
            return
        for read in reads(tensor.body):
            self._visit(read.source)
        self.stages.append(Stage(tensor, tensor.axes, tensor.body))

    def __getitem__(self, tensor: Tensor) -> Stage:
        for stage in self.stages:
            if stage.tensor is tensor:
                return stage
        raise ScheduleError(f"tensor {tensor.name!r} is not computed in this schedule")

    def compute_before(self, tensor: Tensor, other: Tensor) -> None:
        """``A; T; B; U(T)`` -> ``A; B; T; U(T)``: `tensor` is computed directly before `other`.

        By default a tensor is computed where the first that reads it asks for it.
        """
        stage, target = self[tensor], self[other]
        order = [s for s in self.stages if s is not stage]
        order.insert(order.index(target), stage)
        place = order.index(stage)
        late = [s for s in order[place:] if any(r.source is s.tensor for r in reads(stage.body))]
        early = [s for s in order[:place] if any(r.source is tensor for r in reads(s.body))]
        if late or early:
            raise ScheduleError(
                f"compute_before: {tensor.name!r} cannot be computed before {other.name!r}: "
                + (f"it reads {late[0].name!r}" if late else f"{early[0].name!r} reads it")
            )
        self.stages = order

    def cache_read(self, tensor: Tensor, scope: str, readers: Sequence[Tensor]) -> Tensor:
        """``U(T)`` -> ``T.scope = T; U(T.scope)`` for the given readers."""
        if not readers:
            raise ScheduleError(f"cache_read of {tensor.name!r} needs at least one reader")
        axes = tuple(Axis(Var(f"a{n}"), extent) for n, extent in enumerate(tensor.shape))
        copy: Expr = Read(tensor, tuple(axis.var for axis in axes))
        cached = Tensor(f"{tensor.name}.{scope}", tensor.shape, tensor.dtype, axes, copy)
        first = len(self.stages)
        for reader in readers:
            stage = self[reader]
            if not any(read.source is tensor for read in reads(stage.body)):
                raise ScheduleError(
                    f"cache_read: {reader.name!r} does not read {tensor.name!r}; name its readers"
                )
            stage.body = _redirect(stage.body, tensor, cached)
            first = min(first, self.stages.index(stage))
        stage = Stage(cached, axes, copy)
        stage.set_scope(scope)
        self.stages.insert(first, stage)
        return cached

    def cache_write(self, tensor: Tensor, scope: str) -> Tensor:
        """``T = e`` -> ``T.scope = e; T = T.scope``; call it before splitting T's loops."""
        stage = self[tensor]
        touched = stage.relations or stage.kinds or stage.intrin
        if touched or stage.leaves != [*stage.axes, *stage.reduce_axes]:
            raise ScheduleError(
                f"cache_write of {tensor.name!r} must come before its other primitives"
            )
        axes = tuple(Axis(Var(a.name), a.extent) for a in stage.axes)
        body = substitute(stage.body, {a.var: b.var for a, b in zip(stage.axes, axes, strict=True)})
        cached = Tensor(f"{tensor.name}.{scope}", tensor.shape, tensor.dtype, axes, body)
        new = Stage(cached, axes, body)
        new.set_scope(scope)
        self.stages.insert(self.stages.index(stage), new)
        stage.body = Read(cached, tuple(a.var for a in stage.axes))
        stage.leaves = list(stage.axes)
        return cached


def _redirect(body: Expr, old: Tensor, new: Tensor) -> Expr:
    def rule(expr: Expr) -> Expr | None:
        if isinstance(expr, Read) and expr.source is old:
            return Read(new, expr.indices)
        return None

    return transform(body, rule)
