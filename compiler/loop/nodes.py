"""Loop IR: imperative loop nests over buffers, from the schedule down to single instructions.

Grammar (expressions: `compiler.loop.expr`)::

    Func   ::= name, params: Buffer*, body: Stmt
    Stmt   ::= Seq(Stmt*) | For(var, extent, body, kind) | If(cond, then)
             | Alloc(buffer, body)                    the buffer lives in `body`
             | Store(buffer, indices, value)          scalar store
             | Copy(dst: Region, src: Region, ...)    box copy between DRAM and a scratchpad (DMA)
             | Apply(op, dst: Access, srcs: Access*)  one step of a tensor unit (GEMM, ALU)
             | Task(insn, operand)                    one VTA instruction, addresses assigned
    Region ::= buffer, begin: Expr*, extent: int*     a box of elements
    Access ::= buffer, indices: Expr*                 one tensor element (block) of a buffer
    kind   ::= serial | unroll | vectorize | parallel | vthread

All nodes are frozen and carry `loc`, the operator and stage they come from. Buffers in scratchpad
scopes have the memory's element shape as their last axes (see `compiler.loop.scopes`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compiler.loop.expr import Expr, Var
from vta_hw.spec.isa import Instruction

Unit = Callable[[np.ndarray, tuple[np.ndarray, ...], Mapping[str, int]], np.ndarray]
"""What one step of a tensor unit does: (destination before, sources, attrs) -> destination."""

KINDS = ("serial", "unroll", "vectorize", "parallel", "vthread")

_ids = itertools.count()


@dataclass(frozen=True, eq=False)
class Buffer:
    """Storage of a tensor. `scope`: dram, inp, wgt, acc or host (temporary of a host function).

    A double-buffered one has its two halves as first axis; they need not be neighbours.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scope: str = "dram"
    is_double: bool = False
    uid: int = field(default_factory=lambda: next(_ids))

    @property
    def size_bytes(self) -> int:
        """Bytes of the dense array."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}] in {self.scope}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Stmt:
    """Base of all statements."""

    loc: str = ""


@dataclass(frozen=True, eq=False)
class Seq(Stmt):
    """Statements in order."""

    stmts: tuple[Stmt, ...]


@dataclass(frozen=True, eq=False)
class For(Stmt):
    """`body` for `var` in 0 .. extent - 1. `intrin` (a te.TensorIntrin) asks for tensorization."""

    var: Var
    extent: int
    body: Stmt
    kind: str = "serial"
    intrin: Any = None


@dataclass(frozen=True, eq=False)
class If(Stmt):
    """`then` where `cond` holds."""

    cond: Expr
    then: Stmt


@dataclass(frozen=True, eq=False)
class Alloc(Stmt):
    """`buffer` exists in `body`; its contents at entry are undefined."""

    buffer: Buffer
    body: Stmt


@dataclass(frozen=True, eq=False)
class Store(Stmt):
    """buffer[indices] = value"""

    buffer: Buffer
    indices: tuple[Expr, ...]
    value: Expr


@dataclass(frozen=True, eq=False)
class Region:
    """A box of a buffer: `begin` per axis (may lie outside, see `Copy`), `extent` per axis."""

    buffer: Buffer
    begin: tuple[Expr, ...]
    extent: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Copy(Stmt):
    """dst box = src box. Src axis `i` runs along dst axis `axes[i]`, or is one position (None).

    Source positions outside the source buffer read as `pad` (loads only); without `pad` there are
    none. An int8 source into an int32 destination is sign-extended, the reverse keeps the low bits.
    `clips` are (dst axis, low, high): only positions low <= p < high of the box are copied.
    """

    dst: Region
    src: Region
    axes: tuple[int | None, ...]
    pad: int | None = None
    clips: tuple[tuple[int, Expr, Expr], ...] = ()


@dataclass(frozen=True, eq=False)
class Access:
    """One tensor element (the last, block, axes in full) of a scratchpad buffer."""

    buffer: Buffer
    indices: tuple[Expr, ...]


@dataclass(frozen=True, eq=False)
class Apply(Stmt):
    """One step of a tensor unit, dst = op(dst, srcs).

    `unit` is what the step does to numpy blocks, for an `op` that `compiler.loop.units.UNITS` does
    not name: (destination before, sources, attrs) -> destination after.
    """

    op: str
    dst: Access
    srcs: tuple[Access, ...] = ()
    attrs: tuple[tuple[str, int], ...] = ()
    unit: Unit | None = None


@dataclass(frozen=True, eq=False)
class Task(Stmt):
    """One VTA instruction with SRAM addresses; LOAD and STORE address `operand` from its start.

    `uops` are the micro-op words of a GEMM or ALU instruction until `place_micro_ops` has given
    them places in the UOP memory: its uop_bgn .. uop_end index this list.
    """

    insn: Instruction
    operand: Buffer | None = None
    uops: tuple[int, ...] = ()

    def with_insn(self, insn: Instruction, uops: tuple[int, ...] = ()) -> Task:
        """The task with another instruction and its micro-ops."""
        return Task(insn, self.operand, uops, loc=self.loc)

    def with_operand(self, operand: Buffer) -> Task:
        """The task with the buffer that its instruction addresses."""
        return Task(self.insn, operand, self.uops, loc=self.loc)

    def with_loc(self, loc: str) -> Task:
        """The task as coming from elsewhere."""
        return Task(self.insn, self.operand, self.uops, loc=loc)


@dataclass(frozen=True, eq=False)
class Func:
    """A function over buffers: what one kernel does."""

    name: str
    params: tuple[Buffer, ...]
    body: Stmt


def seq(stmts: list[Stmt], loc: str = "") -> Stmt:
    """Statements in order, nested sequences flattened."""
    flat: list[Stmt] = []
    for stmt in stmts:
        flat.extend(stmt.stmts if isinstance(stmt, Seq) else [stmt])
    return flat[0] if len(flat) == 1 else Seq(tuple(flat), loc=loc)


def tasks_of(func: Func) -> tuple[Task, ...]:
    """The instructions of a function that `emit_tasks` has made flat."""
    stmts = func.body.stmts if isinstance(func.body, Seq) else (func.body,)
    return tuple(stmt for stmt in stmts if isinstance(stmt, Task))


def walk(stmt: Stmt) -> Iterator[Stmt]:
    """All statements, outer before inner."""
    yield stmt
    match stmt:
        case Seq(stmts):
            for part in stmts:
                yield from walk(part)
        case For(_, _, body) | If(_, body) | Alloc(_, body):
            yield from walk(body)
