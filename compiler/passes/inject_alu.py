"""Element-wise nests on the accumulator -> ALU steps, one nest per operation.

A chain of operations on one accumulator, ``f(g(A[i], x), y)``, becomes two nests. The innermost
loops over one ACC element (batch and block) are the step itself and disappear.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.errors import LoweringError
from compiler.loop.arith import affine, equal
from compiler.loop.expr import Binary, Call, Const, Expr, Read, Var, free_vars, same
from compiler.loop.nodes import Access, Apply, For, Func, If, Stmt, Store, seq
from compiler.loop.rewrite import map_children, nest_of, wrap_loops
from compiler.loop.units import ALU, ALU_IMM, REQ, RESET
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import IMM_BITS, AluOp

_BINARY = {
    "+": AluOp.ADD,
    "*": AluOp.MUL,
    "min": AluOp.MIN,
    "max": AluOp.MAX,
    ">>": AluOp.SHR,
}
_CALLS = {"rdhm": AluOp.RDHM, "rsr": AluOp.RSR, "shr": AluOp.SHR}
_COMMUTES = frozenset({AluOp.ADD, AluOp.MUL, AluOp.MIN, AluOp.MAX, AluOp.RDHM})
_IMM_MIN, _IMM_MAX = -(1 << (IMM_BITS - 1)), (1 << (IMM_BITS - 1)) - 1


def inject_alu(func: Func, config: VtaConfig) -> Func:
    """Replace element-wise nests on ACC buffers by ALU steps; refuse what the ALU cannot do."""
    block = (config.batch, config.block_out)
    return Func(func.name, func.params, _visit(func.body, block))


def _visit(stmt: Stmt, block: tuple[int, int]) -> Stmt:
    if isinstance(stmt, For | Store | If):
        loops, core = nest_of(stmt)
        guard = core.cond if isinstance(core, If) else None
        if isinstance(core, If):
            core = core.then
        if isinstance(core, Store) and core.buffer.scope == "acc":
            return _Nest(loops, core, block, guard).lower()
        if isinstance(core, Store):
            raise LoweringError(
                f"stage {core.loc!r} is scalar code on {core.buffer.scope!r}, which no VTA unit "
                f"executes; tensorize it or keep the operator on the host"
            )
    return map_children(stmt, lambda part: _visit(part, block))


@dataclass(frozen=True)
class _Step:
    op: str
    srcs: tuple[Access, ...] = ()
    attrs: tuple[tuple[str, int], ...] = ()


class _Nest:
    """One nest around one store into ACC, guarded where tiles leave a remainder."""

    def __init__(
        self, loops: list[For], core: Store, block: tuple[int, int], guard: Expr | None = None
    ) -> None:
        self.core, self.loc, self.guard = core, core.loc, guard
        self.lanes = self._lanes(loops, block)
        self.loops = [loop for loop in loops if loop.var not in self.lanes]
        self.dst = self._element(Read(core.buffer, core.indices))
        if guard is not None and free_vars(guard) & self.lanes:
            raise LoweringError(
                f"ALU stage {self.loc!r}: the guard {guard} is for some lanes of an ACC element "
                f"only, but a step computes all of them; leave the lane loops whole"
            )

    def lower(self) -> Stmt:
        """A nest per operation, in order."""
        steps = self._steps(self.core.value)
        out: list[Stmt] = []
        for step in steps:
            apply: Stmt = Apply(step.op, self.dst, step.srcs, step.attrs, loc=self.loc)
            if self.guard is not None:
                apply = If(self.guard, apply, loc=self.loc)
            out.append(wrap_loops(self.loops, apply))
        return seq(out, self.loc)

    def _lanes(self, loops: list[For], block: tuple[int, int]) -> set[Var]:
        """Loop variables of the batch and block axes of the destination."""
        lanes: set[Var] = set()
        extent_of = {loop.var: loop.extent for loop in loops}
        threads = {loop.var for loop in loops if loop.kind == "vthread"}
        for index, size in zip(self.core.indices[-2:], block, strict=True):
            if index in threads:
                raise LoweringError(
                    f"ALU stage {self.loc!r}: vthread loop {index} runs over the lanes of one ACC "
                    f"element, which are computed in one step; mark a loop outside of it"
                )
            if isinstance(index, Var) and extent_of.get(index) == size:
                lanes.add(index)
            elif not (isinstance(index, Const) and size == 1):
                raise LoweringError(
                    f"ALU stage {self.loc!r}: lane index {index} must run over a whole ACC element "
                    f"({size} lanes)"
                )
        return lanes

    def _element(self, read: Read) -> Access:
        """The ACC element that a read takes its lane from."""
        if read.source.scope != "acc":
            raise LoweringError(
                f"ALU stage {self.loc!r} reads {read.source.name!r} in {read.source.scope!r}; "
                f"cache it in 'acc'"
            )
        lane = self.core.indices[-2:]
        if not all(equal(a, b) for a, b in zip(read.indices[-2:], lane, strict=True)):
            raise LoweringError(
                f"ALU stage {self.loc!r}: operand {read} must be read in the lane that is written"
            )
        lead = read.indices[:-2]
        for index in lead:
            if any(t in self.lanes for t, _ in affine(index).terms):
                raise LoweringError(f"ALU stage {self.loc!r}: element index {index} uses a lane")
        return Access(read.source, lead)

    def _operand(self, read: Read) -> Access:
        """The ACC element of a second operand, which no step of this nest may have written."""
        if read.source is self.core.buffer:
            raise LoweringError(
                f"ALU stage {self.loc!r}: operand {read} is another element of the accumulator "
                f"that it writes; compute it in a stage of its own"
            )
        return self._element(read)

    def _is_dst(self, expr: Expr) -> bool:
        return isinstance(expr, Read) and same(expr, Read(self.core.buffer, self.core.indices))

    def _steps(self, value: Expr) -> list[_Step]:
        """Operations, first to last, that turn the destination's old value into `value`."""
        match value:
            case Const(number):
                if not _IMM_MIN <= number <= _IMM_MAX:
                    raise LoweringError(
                        f"ALU stage {self.loc!r}: constant {number} does not fit the "
                        f"{IMM_BITS}-bit immediate"
                    )
                fill = [] if number == 0 else [self._immediate(AluOp.ADD, int(number))]
                return [_Step(RESET), *fill]
            case Read() if self._is_dst(value):
                return []
            case Read():  # there is no move: zero, then add
                source = self._element(value)
                return [_Step(RESET), _Step(ALU, (source,), (("op", int(AluOp.ADD)),))]
            case Binary("-", a, Const(number)):
                return [*self._steps(a), self._immediate(AluOp.ADD, -int(number))]
            case Binary("-", Const(number), b):
                negate = self._immediate(AluOp.MUL, -1)
                return [*self._steps(b), negate, self._immediate(AluOp.ADD, int(number))]
            case Binary("-", a, Read() as b) if not self._is_dst(b):
                # There is no SUB: a - b = -(-a + b), also when it wraps.
                negate = self._immediate(AluOp.MUL, -1)
                return [*self._steps(a), negate, self._register(AluOp.ADD, b), negate]
            case Binary(op, a, b) if op in _BINARY:
                return self._two(_BINARY[op], a, b)
            case Call("req", args, attrs):
                return [*self._steps(args[0]), self._req(args[1:], dict(attrs))]
            case Call(name, (a, b)) if name in _CALLS:
                return self._two(_CALLS[name], a, b)
        raise LoweringError(f"ALU stage {self.loc!r}: no ALU operation computes {value}")

    def _two(self, op: AluOp, a: Expr, b: Expr) -> list[_Step]:
        if not isinstance(b, Const | Read) or self._is_dst(b):
            if op not in _COMMUTES:
                raise LoweringError(
                    f"ALU stage {self.loc!r}: the second operand of {op.name} must be a constant "
                    f"or another accumulator, not {b}"
                )
            a, b = b, a
        if isinstance(b, Const):
            return [*self._steps(a), self._immediate(op, int(b.value))]
        if not isinstance(b, Read) or self._is_dst(b):
            raise LoweringError(
                f"ALU stage {self.loc!r}: {op.name} of {a} and {b} needs a stage of its own for "
                f"one of them"
            )
        return [*self._steps(a), self._register(op, b)]

    def _register(self, op: AluOp, b: Read) -> _Step:
        return _Step(ALU, (self._operand(b),), (("op", int(op)),))

    def _immediate(self, op: AluOp, number: int) -> _Step:
        if not _IMM_MIN <= number <= _IMM_MAX:
            raise LoweringError(
                f"ALU stage {self.loc!r}: {op.name} with {number}, which does not fit the "
                f"{IMM_BITS}-bit immediate; pass it as a tensor in 'acc'"
            )
        return _Step(ALU_IMM, (), (("imm", number), ("op", int(op))))

    def _req(self, args: tuple[Expr, ...], attrs: dict[str, int]) -> _Step:
        """REQ takes bias, multiplier and shifts from three consecutive ACC elements."""
        parts = []
        for arg in args:
            if not isinstance(arg, Read):
                raise LoweringError(f"ALU stage {self.loc!r}: REQ parameter {arg} must be a tensor")
            parts.append(self._operand(arg))
        first = parts[0]
        for offset, part in enumerate(parts):
            apart = part.buffer is first.buffer and all(
                equal(x - y, Const(offset if axis == len(first.indices) - 1 else 0))
                for axis, (x, y) in enumerate(zip(part.indices, first.indices, strict=True))
            )
            if not apart:
                raise LoweringError(
                    f"ALU stage {self.loc!r}: the parameters of REQ must be consecutive elements "
                    f"of one tensor, not {', '.join(str(a) for a in args)}"
                )
        return _Step(REQ, tuple(parts), (("imm", attrs["imm"]),))
