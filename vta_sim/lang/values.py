"""Values of the language, and what operators make of them."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from vta_sim.lang.kinds import BOOL, F32, I64, ArrayType, KernelError, Scalar, StructType, Type

Constant = int | float
"""Known when it is translated; booleans and enumerations count as integers."""


@dataclass(frozen=True, eq=False)
class Value:
    """Something computed at run time; a structure is the pointer to it."""

    ir: ir.Value
    type: Type


Operand = Value | Constant


def scalar(value: Value) -> Scalar:
    """The type of a number."""
    if not isinstance(value.type, Scalar):
        raise KernelError(f"a {value.type} is used where a number belongs")
    return value.type


_ARITHMETIC: dict[type[ast.operator], tuple[str, str, str]] = {
    # signed, unsigned, float
    ast.Add: ("add", "add", "fadd"),
    ast.Sub: ("sub", "sub", "fsub"),
    ast.Mult: ("mul", "mul", "fmul"),
    ast.FloorDiv: ("sdiv", "udiv", ""),
    ast.Mod: ("srem", "urem", ""),
    ast.LShift: ("shl", "shl", ""),
    ast.RShift: ("ashr", "lshr", ""),
    ast.BitAnd: ("and_", "and_", ""),
    ast.BitOr: ("or_", "or_", ""),
    ast.BitXor: ("xor", "xor", ""),
}
_CONSTANT: dict[type[ast.operator], Any] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: _quotient(a, b),
    ast.Mod: lambda a, b: a - b * _quotient(a, b),
    ast.LShift: lambda a, b: a << b,
    ast.RShift: lambda a, b: a >> b,
    ast.BitAnd: lambda a, b: a & b,
    ast.BitOr: lambda a, b: a | b,
    ast.BitXor: lambda a, b: a ^ b,
}
_ORDER: dict[type[ast.cmpop], tuple[str, Any]] = {
    ast.Eq: ("==", lambda a, b: a == b),
    ast.NotEq: ("!=", lambda a, b: a != b),
    ast.Lt: ("<", lambda a, b: a < b),
    ast.LtE: ("<=", lambda a, b: a <= b),
    ast.Gt: (">", lambda a, b: a > b),
    ast.GtE: (">=", lambda a, b: a >= b),
}


_LOGIC = (ast.BitAnd, ast.BitOr, ast.BitXor)


def _quotient(left: Constant, right: Constant) -> int:
    """As C divides: rounded towards zero."""
    if not isinstance(left, int) or not isinstance(right, int) or right == 0:
        raise KernelError(f"{left} cannot be divided by {right} as integers")
    size = abs(left) // abs(right)
    return size if (left < 0) == (right < 0) else -size


class Calculator:
    """Builds arithmetic at the end of the present block."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    # -- types --------------------------------------------------------------------------------

    def common(self, left: Operand, right: Operand) -> Scalar:
        """The type that two operands are computed in."""
        kinds = [scalar(v) for v in (left, right) if isinstance(v, Value)]
        vectors = [kind for kind in kinds if kind.lanes]
        is_real = any(kind.sort == "f" for kind in kinds) or any(
            isinstance(v, float) for v in (left, right)
        )
        if vectors:
            if any(kind != vectors[0] for kind in vectors):
                raise KernelError(f"vectors {vectors[0]} and {vectors[1]} do not go together")
            if is_real and vectors[0].sort != "f":
                raise KernelError(f"a vector {vectors[0]} does not go together with a float")
            return vectors[0]
        if is_real:
            return F32
        if all(kind == BOOL for kind in kinds) and not any(
            isinstance(v, Constant) for v in (left, right)
        ):
            return BOOL
        unsigned = any(kind == Scalar("u", 64) for kind in kinds)
        return Scalar("u", 64) if unsigned else I64

    def to(self, kind: Scalar, operand: Operand) -> ir.Value:
        """An operand as a value of this type: widened, cut, made a float or equal lanes."""
        if not isinstance(operand, Value):
            return self._constant(kind, operand)
        have = scalar(operand)
        if kind.lanes and not have.lanes:
            return self._splat(self.to(kind.element, operand), kind)
        if have.lanes != kind.lanes:
            raise KernelError(f"a {have} cannot become a {kind}")
        return self._cast(operand.ir, have, kind)

    def _constant(self, kind: Scalar, number: Constant) -> ir.Value:
        element = kind.element
        value = float(number) if kind.sort == "f" else int(number)
        if kind.is_integer and not -(1 << (kind.bits - 1)) <= value < 1 << kind.bits:
            raise KernelError(f"the constant {number} does not fit into {element}")
        if not kind.lanes:
            return ir.Constant(kind.llvm, value)
        return ir.Constant(kind.llvm, [ir.Constant(element.llvm, value)] * kind.lanes)

    def _splat(self, value: ir.Value, kind: Scalar) -> ir.Value:
        single = self.builder.insert_element(
            ir.Constant(kind.llvm, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
        )
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.lanes), None)
        return self.builder.shuffle_vector(single, single, zeros)

    def _cast(self, value: ir.Value, have: Scalar, want: Scalar) -> ir.Value:
        build = self.builder
        if have.sort == want.sort == "f":
            return value
        if want.sort == "b":
            if have.sort == "b":
                return value
            zero = ir.Constant(have.llvm, None)
            if have.sort == "f":
                return build.fcmp_unordered("!=", value, zero)
            return build.icmp_signed("!=", value, zero)
        if have.sort == "f":
            signed = want.sort == "i"
            return (build.fptosi if signed else build.fptoui)(value, want.llvm)
        if want.sort == "f":
            signed = have.sort == "i"
            return (build.sitofp if signed else build.uitofp)(value, want.llvm)
        if have.bits < want.bits:
            extend = build.sext if have.sort == "i" else build.zext
            return extend(value, want.llvm)
        return build.trunc(value, want.llvm) if have.bits > want.bits else value

    # -- operators ----------------------------------------------------------------------------

    def binary(self, op: type[ast.operator], left: Operand, right: Operand) -> Operand:
        """left op right."""
        if op not in _ARITHMETIC:
            raise KernelError(f"compiled functions have no operator {op.__name__}")
        if not isinstance(left, Value) and not isinstance(right, Value):
            found: Constant = _CONSTANT[op](left, right)
            return found
        kind = self.common(left, right)
        if kind == BOOL and op not in _LOGIC:
            kind = I64  # booleans are added up as numbers
        signed, unsigned, real = _ARITHMETIC[op]
        name = {"i": signed, "u": unsigned, "b": unsigned, "f": real}[kind.sort]
        if not name:
            raise KernelError(f"floats have no operator {op.__name__}")
        build = getattr(self.builder, name)
        return Value(build(self.to(kind, left), self.to(kind, right)), kind)

    def compare(self, op: type[ast.cmpop], left: Operand, right: Operand) -> Operand:
        """A boolean, or a vector of them."""
        if op not in _ORDER:
            raise KernelError(f"compiled functions have no comparison {op.__name__}")
        sign, fold = _ORDER[op]
        if not isinstance(left, Value) and not isinstance(right, Value):
            return bool(fold(left, right))
        if isinstance(left, Value) and isinstance(left.type, StructType | ArrayType):
            raise KernelError("pointers are not compared")
        kind = self.common(left, right)
        a, b = self.to(kind, left), self.to(kind, right)
        if kind.sort == "f":
            # What is no number differs from everything, itself included.
            compare = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
            made = compare(sign, a, b)
        elif kind.sort == "i":
            made = self.builder.icmp_signed(sign, a, b)
        else:
            made = self.builder.icmp_unsigned(sign, a, b)
        return Value(made, Scalar("b", 1, kind.lanes))

    def negative(self, operand: Operand) -> Operand:
        """-operand."""
        if not isinstance(operand, Value):
            return -operand
        if scalar(operand).sort == "f":
            return Value(self.builder.fneg(operand.ir), operand.type)  # 0 becomes -0
        return self.binary(ast.Sub, 0, operand)

    def inverse(self, operand: Operand) -> Operand:
        """Bitwise ~operand; of a boolean, not operand."""
        if not isinstance(operand, Value):
            return ~int(operand)
        kind = scalar(operand)
        if not kind.lanes and kind.sort != "b":
            return self.binary(ast.BitXor, operand, -1)
        return Value(self.builder.not_(operand.ir), kind)

    def truth(self, operand: Operand) -> Operand:
        """Whether it is not zero."""
        if not isinstance(operand, Value):
            return bool(operand)
        if not isinstance(operand.type, Scalar) or operand.type.lanes:
            raise KernelError(f"a {operand.type} is neither true nor false")
        return Value(self.to(BOOL, operand), BOOL)
