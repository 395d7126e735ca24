"""The interpreter: the living definition of loop IR, on numpy arrays, slow and plain."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np

from compiler.errors import LoweringError
from compiler.loop.expr import (
    INTEGER_OPS,
    Binary,
    Both,
    Call,
    Cast,
    Compare,
    Const,
    Expr,
    Read,
    Select,
    Var,
    wrap,
)
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
    Store,
    Task,
    Unit,
)
from compiler.loop.units import UNITS
from vta_hw.spec import semantics
from vta_hw.spec.config import VtaConfig

_FLOAT: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "min": np.minimum,
    "max": np.maximum,
}
_POISON = {"int8": -77, "int32": -1234567, "uint8": 77}


def run(func: Func, arrays: Mapping[str, np.ndarray], config: VtaConfig | None = None) -> None:
    """Execute `func` on arrays keyed by parameter name, in place.

    Fresh allocations hold poison, so that reads of unwritten elements show. `config` is needed for
    functions with VTA instructions (`Task`).
    """
    machine = Interpreter(config)
    for param in func.params:
        if param.name not in arrays:
            raise LoweringError(f"no array given for parameter {param.name!r} of {func.name!r}")
        array = arrays[param.name]
        if tuple(array.shape) != param.shape or array.dtype != np.dtype(param.dtype):
            raise LoweringError(
                f"parameter {param.name!r} of {func.name!r} is {param.dtype}{list(param.shape)}, "
                f"not {array.dtype}{list(array.shape)}"
            )
        machine.arrays[param] = array
    machine.execute(func.body)


class Interpreter:
    """State of one execution: arrays of live buffers, values of loop variables, scratchpads."""

    def __init__(self, config: VtaConfig | None) -> None:
        self.config = config
        self.arrays: dict[Buffer, np.ndarray] = {}
        self.vars: dict[Var, int] = {}
        self.pads = semantics.Scratchpads(config) if config is not None else None

    def execute(self, stmt: Stmt) -> None:
        """Run one statement."""
        match stmt:
            case Seq(stmts):
                for part in stmts:
                    self.execute(part)
            case For(var, extent, body):
                for value in range(extent):
                    self.vars[var] = value
                    self.execute(body)
            case If(cond, then):
                if self.value(cond):
                    self.execute(then)
            case Alloc(buffer, body):
                poison = _POISON.get(buffer.dtype, 77)
                self.arrays[buffer] = np.full(buffer.shape, poison, buffer.dtype)
                self.execute(body)
            case Store(buffer, indices, value):
                position = self._position(buffer, indices)
                result = self.value(value)
                self.arrays[buffer][position] = result
            case Copy():
                self._copy(stmt)
            case Apply(op, dst, srcs, attrs, unit):
                block = self._block(dst)
                operands = tuple(self._block(s) for s in srcs)
                block[...] = (unit or _unit(op, stmt.loc))(block, operands, dict(attrs))
            case Task():
                self._task(stmt)
            case _:
                raise TypeError(f"no statement: {stmt!r}")

    # -- expressions -------------------------------------------------------------------------------

    def value(self, expr: Expr) -> Any:
        """The value of an expression: int, bool or np.float32."""
        match expr:
            case Const(value, dtype):
                return np.float32(value) if dtype == "float32" else int(value)
            case Var():
                return self.vars[expr]
            case Binary(op, a, b):
                x, y = self.value(a), self.value(b)
                if expr.dtype == "float32":
                    return np.float32(_FLOAT[op](x, y))
                return wrap(INTEGER_OPS[op](x, y), expr.dtype)
            case Compare(op, a, b):
                x, y = self.value(a), self.value(b)
                return bool(x < y if op == "<" else x >= y if op == ">=" else x == y)
            case Both(a, b):
                return bool(self.value(a) and self.value(b))
            case Select(cond, then, other):
                return self.value(then if self.value(cond) else other)
            case Cast(dtype, inner):
                return self._cast(dtype, self.value(inner))
            case Read(source, indices):
                item = self.arrays[source][self._position(source, indices)]
                return np.float32(item) if source.dtype == "float32" else int(item)
            case Call(name, args, attrs):
                return _call(name, [self.value(a) for a in args], dict(attrs))
        raise TypeError(f"no expression that can be evaluated: {expr!r}")

    def _cast(self, dtype: str, value: Any) -> Any:
        if dtype == "float32":
            return np.float32(value)
        return wrap(int(value), dtype)

    def _position(self, buffer: Buffer, indices: tuple[Expr, ...]) -> tuple[int, ...]:
        position = tuple(int(self.value(i)) for i in indices)
        for axis, (index, size) in enumerate(zip(position, buffer.shape, strict=True)):
            if not 0 <= index < size:
                raise LoweringError(
                    f"index {index} of axis {axis} of {buffer.name!r} is outside its size {size}"
                )
        return position

    # -- blocks and instructions -------------------------------------------------------------------

    def _block(self, access: Access) -> np.ndarray:
        element: Any = (*(int(self.value(i)) for i in access.indices), ...)
        return self.arrays[access.buffer][element]

    def _copy(self, stmt: Copy) -> None:
        dst, src = stmt.dst, stmt.src
        to = self.arrays[dst.buffer]
        source = self.arrays[src.buffer]
        dst_begin = [int(self.value(b)) for b in dst.begin]
        src_begin = [int(self.value(b)) for b in src.begin]
        inside_of = {a: (self.value(low), self.value(high)) for a, low, high in stmt.clips}
        for step in product(*(range(e) for e in dst.extent)):
            if not all(low <= step[a] < high for a, (low, high) in inside_of.items()):
                continue
            where = [
                b + (0 if axis is None else step[axis])
                for b, axis in zip(src_begin, stmt.axes, strict=True)
            ]
            inside = all(0 <= w < size for w, size in zip(where, src.buffer.shape, strict=True))
            if not inside and stmt.pad is None:
                raise LoweringError(
                    f"copy reads {src.buffer.name!r} at {where}, outside its shape, without a pad"
                )
            value = int(source[tuple(where)]) if inside else stmt.pad
            assert value is not None
            target = tuple(b + s for b, s in zip(dst_begin, step, strict=True))
            to[target] = wrap(value, dst.buffer.dtype)

    def _task(self, stmt: Task) -> None:
        assert self.pads is not None and self.config is not None, "instructions need a config"
        dram = np.zeros(0, np.uint8)
        if stmt.operand is not None:
            dram = self.arrays[stmt.operand].reshape(-1).view(np.uint8)
        if stmt.uops:
            self.pads.uop[: len(stmt.uops)] = stmt.uops
        fault = semantics.execute(stmt.insn, self.pads, dram, self.config)
        if fault is not None:
            raise LoweringError(f"instruction {stmt.insn} faults with {fault.text}")


def _unit(op: str, loc: str) -> Unit:
    if op not in UNITS:
        raise LoweringError(
            f"stage {loc!r} uses the unit {op!r}, which is none of VTA's ({', '.join(UNITS)}); "
            f"give its Apply a unit that says what a step does"
        )
    return UNITS[op]


def _call(name: str, args: list[Any], attrs: Mapping[str, int]) -> Any:
    if name == "round_even":
        return np.float32(np.rint(args[0]))
    if name == "sqrt":
        return np.float32(math.sqrt(args[0]))
    operands = [np.array([a], np.int32) for a in args]
    function: Callable[..., np.ndarray] = getattr(semantics, name)
    return int(function(*operands, **attrs)[0])
