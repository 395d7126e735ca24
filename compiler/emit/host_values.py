"""Scalar expressions of loop IR as LLVM IR values.

Integers wrap, divisions round towards minus infinity, no floating-point operation is reordered or
contracted. Where LLVM leaves a result undefined that loop IR defines (large shifts, division by 0
or of the least value by -1, conversion of large floats), the defined result is built.
"""

from __future__ import annotations

from collections.abc import Mapping

from llvmlite import ir

from compiler.emit.host_calls import CALLS, I1, I8, I32, I64, float_to_int64, intrinsic
from compiler.errors import LoweringError
from compiler.loop.arith import affine, interval
from compiler.loop.expr import (
    INDEX,
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
    walk,
)
from compiler.loop.nodes import Buffer

_TYPES: Mapping[str, ir.Type] = {
    "bool": I1,
    "int8": I8,
    "uint8": I8,
    "int16": ir.IntType(16),
    "int32": I32,
    "int64": I64,
    "float32": ir.FloatType(),
    "float64": ir.DoubleType(),
}


def value_type(dtype: str) -> ir.Type:
    """The LLVM type of a value; a bool is one bit."""
    if dtype not in _TYPES:
        raise LoweringError(
            f"host code has no element type {dtype!r}; use one of {', '.join(_TYPES)}"
        )
    return _TYPES[dtype]


def memory_type(dtype: str) -> ir.Type:
    """The LLVM type of an element in memory; a bool is one byte."""
    return I8 if dtype == "bool" else value_type(dtype)


def _is_float(dtype: str) -> bool:
    return dtype.startswith("float")


def _is_unsigned(dtype: str) -> bool:
    return dtype.startswith("u") or dtype == "bool"


class ValueBuilder:
    """Builds expressions at a builder's position, within the loops entered so far.

    `pointers` maps live buffers, `vars` loop variables to values, `ranges` loop variables to
    their extents.
    """

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder
        self.pointers: dict[Buffer, ir.Value] = {}
        self.vars: dict[Var, ir.Value] = {}
        self.ranges: dict[Var, int] = {}

    def value(self, expr: Expr) -> ir.Value:
        """The value of an expression."""
        builder = self.builder
        match expr:
            case Const(value, dtype):
                return ir.Constant(value_type(dtype), value)
            case Var(name):
                if expr not in self.vars:
                    raise LoweringError(f"index variable {name!r} belongs to no enclosing loop")
                return self.vars[expr]
            case Binary():
                return self._binary(expr)
            case Compare(op, a, b):
                return self._compare(op, a, b)
            case Both(a, b):
                return self._choose(self.value(a), b, Const(0, "bool"))
            case Select(cond, then, other):
                return self._choose(self.value(cond), then, other)
            case Cast(dtype, inner):
                return self._cast(self.value(inner), inner.dtype, dtype)
            case Read(source, indices):
                element = self.element(source, indices)
                loaded = builder.load(element, typ=memory_type(source.dtype))
                return builder.trunc(loaded, I1) if source.dtype == "bool" else loaded
            case Call(name, args, attrs):
                return CALLS[name](builder, [self.value(a) for a in args], dict(attrs))
        raise LoweringError(f"host code cannot compute {expr} ({type(expr).__name__})")

    def store(self, buffer: Buffer, indices: tuple[Expr, ...], value: Expr) -> None:
        """buffer[indices] = value"""
        if value.dtype != buffer.dtype:
            raise LoweringError(
                f"buffer {buffer.name!r} holds {buffer.dtype}, a value of {value.dtype} cannot be "
                f"stored in it; cast it"
            )
        result = self.value(value)
        if buffer.dtype == "bool":
            result = self.builder.zext(result, I8)
        self.builder.store(result, self.element(buffer, indices))

    def element(self, buffer: Buffer, indices: tuple[Expr, ...]) -> ir.Value:
        """The address of an element."""
        if buffer not in self.pointers:
            raise LoweringError(
                f"buffer {buffer.name!r} is neither a parameter nor allocated around its use"
            )
        if len(indices) != len(buffer.shape):
            raise LoweringError(
                f"buffer {buffer.name!r} has {len(buffer.shape)} axes, {len(indices)} indices given"
            )
        builder = self.builder
        offset: ir.Value = ir.Constant(I64, 0)
        for index, size in zip(indices, buffer.shape, strict=True):
            scaled = builder.mul(offset, ir.Constant(I64, size), flags=("nsw",))
            step = self.value(index)
            step = step if step.type == I64 else builder.sext(step, I64)
            offset = builder.add(scaled, step, flags=("nsw",))
        element = memory_type(buffer.dtype)
        return builder.gep(self.pointers[buffer], [offset], True, source_etype=element)

    # -- operators --------------------------------------------------------------------------------

    def _binary(self, expr: Binary) -> ir.Value:
        a, b, dtype = self.value(expr.a), self.value(expr.b), expr.dtype
        if _is_float(dtype):
            return self._float_binary(expr.op, a, b)
        builder = self.builder
        match expr.op:
            case "+" | "-" | "*":
                # Index arithmetic that cannot overflow is marked so: it lets loops vectorise.
                flags = ("nsw",) if self._is_exact(expr) else ()
                make = {"+": builder.add, "-": builder.sub, "*": builder.mul}[expr.op]
                return make(a, b, flags=flags)
            case "//" | "%":
                return self._divide(expr, a, b)
            case "min" | "max":
                order = "<" if expr.op == "min" else ">"
                compare = builder.icmp_unsigned if _is_unsigned(dtype) else builder.icmp_signed
                return builder.select(compare(order, a, b), a, b)
            case ">>" | "<<":
                return self._shift(expr.op, a, b, dtype)
            case "&":
                return builder.and_(a, b)
        raise LoweringError(f"host code has no operator {expr.op!r} on {dtype}")

    def _float_binary(self, op: str, a: ir.Value, b: ir.Value) -> ir.Value:
        builder = self.builder
        make = {"+": builder.fadd, "-": builder.fsub, "*": builder.fmul, "/": builder.fdiv}
        if op in make:
            return make[op](a, b)
        if op in ("min", "max"):
            # These give NaN for NaN, as numpy's do.
            return intrinsic(builder, op + "imum", [a.type], [a, b])
        raise LoweringError(f"host code has no operator {op!r} on floating-point values")

    def _divide(self, expr: Binary, a: ir.Value, b: ir.Value) -> ir.Value:
        builder, dtype, is_quotient = self.builder, expr.dtype, expr.op == "//"
        zero, one = ir.Constant(a.type, 0), ir.Constant(a.type, 1)
        if isinstance(expr.b, Const) and expr.b.value > 0:
            divisor = b
        else:
            is_zero = builder.icmp_signed("==", b, zero)
            # The remainder by 1 is 0, as it is by -1; the quotient by -1 is put right below.
            is_special = is_zero
            if not _is_unsigned(dtype):
                minus_one = builder.icmp_signed("==", b, ir.Constant(a.type, -1))
                is_special = builder.or_(is_zero, minus_one)
            divisor = builder.select(is_special, one, b)
        if _is_unsigned(dtype):
            result = builder.udiv(a, divisor) if is_quotient else builder.urem(a, divisor)
        else:
            result = self._floor_divide(a, divisor, is_quotient)
        if divisor is b:
            return result
        if is_quotient and not _is_unsigned(dtype):
            result = builder.select(minus_one, builder.sub(zero, a), result)
        return builder.select(is_zero, zero, result)

    def _floor_divide(self, a: ir.Value, b: ir.Value, is_quotient: bool) -> ir.Value:
        builder, zero = self.builder, ir.Constant(a.type, 0)
        rest = builder.srem(a, b)
        differs = builder.icmp_signed("<", builder.xor(rest, b), zero)
        is_off = builder.and_(builder.icmp_signed("!=", rest, zero), differs)
        if not is_quotient:
            return builder.add(rest, builder.select(is_off, b, zero))
        return builder.sub(builder.sdiv(a, b), builder.zext(is_off, a.type))

    def _shift(self, op: str, a: ir.Value, b: ir.Value, dtype: str) -> ir.Value:
        builder, width = self.builder, a.type.width
        last = ir.Constant(a.type, width - 1)
        is_small = builder.icmp_unsigned("<=", b, last)
        amount = builder.select(is_small, b, last)
        if op == ">>" and not _is_unsigned(dtype):
            return builder.ashr(a, amount)
        shifted = builder.shl(a, amount) if op == "<<" else builder.lshr(a, amount)
        return builder.select(is_small, shifted, ir.Constant(a.type, 0))

    def _compare(self, op: str, a: Expr, b: Expr) -> ir.Value:
        x, y = self.value(a), self.value(b)
        if _is_float(a.dtype):
            return self.builder.fcmp_ordered(op, x, y)
        if _is_unsigned(a.dtype):
            return self.builder.icmp_unsigned(op, x, y)
        return self.builder.icmp_signed(op, x, y)

    def _choose(self, cond: ir.Value, then: Expr, other: Expr) -> ir.Value:
        """`then` or `other`; a read happens only in the chosen one."""
        builder = self.builder
        if not any(isinstance(e, Read) for arm in (then, other) for e in walk(arm)):
            return builder.select(cond, self.value(then), self.value(other))
        with builder.if_else(cond) as (on_true, on_false):
            with on_true:
                yes = self.value(then)
                yes_block = builder.block
            with on_false:
                no = self.value(other)
                no_block = builder.block
        merged = builder.phi(yes.type)
        merged.add_incoming(yes, yes_block)
        merged.add_incoming(no, no_block)
        return merged

    def _cast(self, value: ir.Value, source: str, target: str) -> ir.Value:
        builder, goal = self.builder, value_type(target)
        if target == "bool":
            zero = ir.Constant(value.type, 0)
            if _is_float(source):
                return builder.fcmp_unordered("!=", value, zero)
            return builder.icmp_signed("!=", value, zero)
        if _is_float(source):
            if _is_float(target):
                widens = target == "float64"
                return builder.fpext(value, goal) if widens else builder.fptrunc(value, goal)
            whole = float_to_int64(builder, value)
            return whole if goal == I64 else builder.trunc(whole, goal)
        if _is_float(target):
            convert = builder.uitofp if _is_unsigned(source) else builder.sitofp
            return convert(value, goal)
        if goal.width <= value.type.width:
            return value if goal == value.type else builder.trunc(value, goal)
        return (builder.zext if _is_unsigned(source) else builder.sext)(value, goal)

    def _is_exact(self, expr: Expr) -> bool:
        """Whether index arithmetic never leaves int32, in any of its parts."""
        match expr:
            case Var():
                return True
            case Const(_, dtype):
                return dtype == INDEX
            case Binary("+" | "-" | "*", a, b) if expr.dtype == INDEX:
                if not (self._is_exact(a) and self._is_exact(b)):
                    return False
                bounds = interval(affine(expr), self.ranges)
                return bounds is not None and bounds[0] >= -(1 << 31) and bounds[1] < 1 << 31
        return False
