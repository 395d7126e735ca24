"""Scalar expressions, shared by tensor expressions and loop IR.

Grammar::

    Expr ::= Const(value, dtype) | Var(name)                    index variables are int32
           | Binary(op, a, b) | Compare(op, a, b) | Both(a, b)   arithmetic, comparison, "and"
           | Select(cond, then, other) | Cast(dtype, value)
           | Read(source, indices)                               source: te.Tensor or Buffer
           | Reduce(kind, body, axes, init)                      tensor expressions only
           | Call(name, args, attrs, dtype)                      scalar function of `FUNCTIONS`

Integers wrap at the width of their dtype. ``//`` and ``%`` round towards minus infinity. Building a
node folds constants and the neutral elements of ``+`` and ``*``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Union

import numpy as np

INDEX = "int32"

_ids = itertools.count()

ExprLike = Union["Expr", int, float]


@dataclass(frozen=True, eq=False)
class Expr:
    """Base of all scalar expressions; compares by identity, use `same` for structure."""

    @property
    def dtype(self) -> str:
        """Element type, a numpy name."""
        raise NotImplementedError(type(self).__name__)

    def __add__(self, other: ExprLike) -> Expr:
        return binary("+", self, other)

    def __radd__(self, other: ExprLike) -> Expr:
        return binary("+", other, self)

    def __sub__(self, other: ExprLike) -> Expr:
        return binary("-", self, other)

    def __rsub__(self, other: ExprLike) -> Expr:
        return binary("-", other, self)

    def __mul__(self, other: ExprLike) -> Expr:
        return binary("*", self, other)

    def __rmul__(self, other: ExprLike) -> Expr:
        return binary("*", other, self)

    def __floordiv__(self, other: ExprLike) -> Expr:
        return binary("//", self, other)

    def __mod__(self, other: ExprLike) -> Expr:
        return binary("%", self, other)

    def __truediv__(self, other: ExprLike) -> Expr:
        return binary("/", self, other)

    def __rshift__(self, other: ExprLike) -> Expr:
        return binary(">>", self, other)

    def __lshift__(self, other: ExprLike) -> Expr:
        return binary("<<", self, other)

    def __and__(self, other: ExprLike) -> Expr:
        return binary("&", self, other)

    def __lt__(self, other: ExprLike) -> Expr:
        return compare("<", self, other)

    def __ge__(self, other: ExprLike) -> Expr:
        return compare(">=", self, other)

    def __str__(self) -> str:
        return _text(self, 0)

    def astype(self, dtype: str) -> Expr:
        """The value converted to `dtype`; itself when it has it already."""
        return cast(dtype, self)


@dataclass(frozen=True, eq=False)
class Const(Expr):
    """A literal."""

    value: int | float
    type: str = INDEX

    @property
    def dtype(self) -> str:
        return self.type


@dataclass(frozen=True, eq=False)
class Var(Expr):
    """An index variable; `uid` tells apart equal names."""

    name: str
    uid: int = field(default_factory=lambda: next(_ids))

    @property
    def dtype(self) -> str:
        return INDEX


@dataclass(frozen=True, eq=False)
class Binary(Expr):
    """``+ - * // % / min max >> << &`` on two values of one type."""

    op: str
    a: Expr
    b: Expr

    @property
    def dtype(self) -> str:
        first = self.a
        while isinstance(first, Binary):  # sums are long chains
            first = first.a
        return first.dtype


@dataclass(frozen=True, eq=False)
class Compare(Expr):
    """``< >= ==`` on two values of one type."""

    op: str
    a: Expr
    b: Expr

    @property
    def dtype(self) -> str:
        return "bool"


@dataclass(frozen=True, eq=False)
class Both(Expr):
    """Conjunction of two conditions."""

    a: Expr
    b: Expr

    @property
    def dtype(self) -> str:
        return "bool"


@dataclass(frozen=True, eq=False)
class Select(Expr):
    """`then` where `cond` holds, else `other`; only the chosen one is evaluated."""

    cond: Expr
    then: Expr
    other: Expr

    @property
    def dtype(self) -> str:
        return self.then.dtype


@dataclass(frozen=True, eq=False)
class Cast(Expr):
    """Conversion; integers keep their low bits, float to integer truncates."""

    type: str
    value: Expr

    @property
    def dtype(self) -> str:
        return self.type


@dataclass(frozen=True, eq=False)
class Read(Expr):
    """An element of a tensor (in tensor expressions) or of a buffer (in loop IR)."""

    source: Any
    indices: tuple[Expr, ...]

    @property
    def dtype(self) -> str:
        return str(self.source.dtype)


@dataclass(frozen=True, eq=False)
class Reduce(Expr):
    """`kind` (sum, max, min) of `init` and `body` over all values of `axes` (te.Axis)."""

    kind: str
    body: Expr
    axes: tuple[Any, ...]
    init: Const

    @property
    def dtype(self) -> str:
        return self.body.dtype


@dataclass(frozen=True, eq=False)
class Call(Expr):
    """A scalar function of `FUNCTIONS`; `attrs` are compile-time numbers."""

    name: str
    args: tuple[Expr, ...]
    attrs: tuple[tuple[str, int], ...] = ()
    type: str = "int32"

    @property
    def dtype(self) -> str:
        return self.type


FUNCTIONS: Mapping[str, str] = {
    "rdhm": "rounding doubling high multiply of two int32 (ALU opcode RDHM)",
    "rsr": "rounding shift right of an int32 (ALU opcode RSR)",
    "shr": "shift right of an int32, left when negative (ALU opcode SHR)",
    "req": "requantise value, bias, multiplier, packed shifts; attr imm (ALU opcode REQ)",
    "round_even": "float32 rounded to the nearest integer, ties to even, as float32",
    "sqrt": "float32 square root",
}
"""Scalar functions; the integer ones mean what `vta_hw.spec.semantics` says."""


# -- construction ----------------------------------------------------------------------------------

INTEGER_OPS: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "min": min,
    "max": max,
    ">>": lambda a, b: a >> b,
    "<<": lambda a, b: a << b,
    "&": lambda a, b: a & b,
}
"""What `Binary` does to integers, before wrapping to their dtype."""
COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
}
"""What `Compare` says."""


def as_expr(value: ExprLike, dtype: str = INDEX) -> Expr:
    """A Python number as a constant of `dtype`; expressions pass through."""
    if isinstance(value, Expr):
        return value
    return Const(value, dtype)


def wrap(value: int, dtype: str) -> int:
    """An integer reduced to the range of `dtype`; truth values pass through."""
    if dtype == "bool":
        return value
    low, high = _bounds(dtype)
    return value if low <= value <= high else (value - low) % (high - low + 1) + low


@lru_cache(maxsize=16)
def _bounds(dtype: str) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def _is_int(dtype: str) -> bool:
    return dtype != "bool" and not dtype.startswith("float")


def binary(op: str, a: ExprLike, b: ExprLike) -> Expr:
    """An arithmetic node, folded where constants allow."""
    if not isinstance(a, Expr):
        a = as_expr(a, b.dtype if isinstance(b, Expr) else INDEX)
    dtype = a.dtype
    if not isinstance(b, Expr):
        b = as_expr(b, dtype)
    if dtype != b.dtype:
        raise TypeError(f"operands of {op!r} must have one dtype, not {dtype} and {b.dtype}")
    if not (isinstance(a, Const) or isinstance(b, Const)) or not _is_int(dtype):
        return Binary(op, a, b)
    if isinstance(a, Const) and isinstance(b, Const) and op in INTEGER_OPS:
        return Const(wrap(INTEGER_OPS[op](a.value, b.value), dtype), dtype)
    if isinstance(b, Const):
        if b.value == 0 and op in ("+", "-", ">>", "<<"):
            return a
        if b.value == 1 and op in ("*", "//"):
            return a
        if (b.value == 0 and op == "*") or (b.value == 1 and op == "%"):
            return Const(0, dtype)
    if isinstance(a, Const):
        if a.value == 0 and op == "+":
            return b
        if a.value == 1 and op == "*":
            return b
        if a.value == 0 and op == "*":
            return a
    return Binary(op, a, b)


def compare(op: str, a: ExprLike, b: ExprLike) -> Expr:
    """A comparison, folded when both sides are constants."""
    a = as_expr(a)
    b = as_expr(b, a.dtype)
    if isinstance(a, Const) and isinstance(b, Const):
        return Const(int(COMPARE[op](a.value, b.value)), "bool")
    return Compare(op, a, b)


def both(*conditions: Expr) -> Expr:
    """Conjunction of any number of conditions."""
    out: Expr | None = None
    for condition in conditions:
        if isinstance(condition, Const):
            if not condition.value:
                return condition
            continue
        out = condition if out is None else Both(out, condition)
    return Const(1, "bool") if out is None else out


def select(cond: Expr, then: ExprLike, other: ExprLike) -> Expr:
    """`then` if `cond` else `other`, folded when `cond` is known."""
    if not isinstance(then, Expr):
        then = as_expr(then, other.dtype if isinstance(other, Expr) else INDEX)
    other = as_expr(other, then.dtype)
    if isinstance(cond, Const):
        return then if cond.value else other
    return Select(cond, then, other)


def cast(dtype: str, value: Expr) -> Expr:
    """A conversion, folded for constants."""
    if value.dtype == dtype:
        return value
    if isinstance(value, Const):
        if _is_int(dtype):
            return Const(wrap(int(value.value), dtype), dtype)
        return Const(float(value.value), dtype)
    return Cast(dtype, value)


def maximum(a: ExprLike, b: ExprLike) -> Expr:
    """The greater of two values."""
    return binary("max", a, b)


def minimum(a: ExprLike, b: ExprLike) -> Expr:
    """The lesser of two values."""
    return binary("min", a, b)


def call(name: str, *args: Expr, dtype: str = "int32", **attrs: int) -> Expr:
    """A call of a scalar function of `FUNCTIONS`."""
    if name not in FUNCTIONS:
        raise ValueError(f"scalar function must be one of {', '.join(FUNCTIONS)}, not {name!r}")
    return Call(name, args, tuple(sorted(attrs.items())), dtype)


# -- traversal -------------------------------------------------------------------------------------


def children(expr: Expr) -> tuple[Expr, ...]:
    """Direct operands."""
    try:
        return _CHILDREN[type(expr)](expr)
    except KeyError:
        raise TypeError(f"no expression: {expr!r}") from None


# A table, not a chain of cases: every pass asks for the operands of every node.
_CHILDREN: Mapping[type[Expr], Callable[[Any], tuple[Expr, ...]]] = {
    Const: lambda e: (),
    Var: lambda e: (),
    Binary: lambda e: (e.a, e.b),
    Compare: lambda e: (e.a, e.b),
    Both: lambda e: (e.a, e.b),
    Select: lambda e: (e.cond, e.then, e.other),
    Cast: lambda e: (e.value,),
    Read: lambda e: e.indices,
    Reduce: lambda e: (e.body,),
    Call: lambda e: e.args,
}


def rebuild(expr: Expr, parts: Sequence[Expr]) -> Expr:
    """`expr` with other operands; itself when they are the same objects."""
    if tuple(parts) == children(expr):  # expressions are equal if they are the same object
        return expr
    match expr:
        case Binary(op, _, _):
            return binary(op, *parts)
        case Compare(op, _, _):
            return compare(op, *parts)
        case Both():
            return both(*parts)
        case Select():
            return select(*parts)
        case Cast(dtype, _):
            return cast(dtype, parts[0])
        case Read(source, _):
            return Read(source, tuple(parts))
        case Reduce(kind, _, axes, init):
            return Reduce(kind, parts[0], axes, init)
        case Call(name, _, attrs, dtype):
            return Call(name, tuple(parts), attrs, dtype)
    raise TypeError(f"no expression: {expr!r}")


def transform(expr: Expr, rule: Callable[[Expr], Expr | None]) -> Expr:
    """Rewrite bottom-up: `rule` gives a replacement or None to keep a node."""
    new = rebuild(expr, [transform(part, rule) for part in children(expr)])
    replacement = rule(new)
    return new if replacement is None else replacement


def substitute(expr: Expr, values: Mapping[Var, Expr]) -> Expr:
    """Replace variables."""
    if not values:
        return expr
    return transform(expr, lambda e: values.get(e) if isinstance(e, Var) else None)


def walk(expr: Expr) -> Iterator[Expr]:
    """All nodes, operands after their users."""
    left = [expr]
    while left:
        node = left.pop()
        yield node
        left += children(node)[::-1]


def reads(expr: Expr) -> Iterator[Read]:
    """All reads in an expression."""
    return (e for e in walk(expr) if isinstance(e, Read))


def free_vars(expr: Expr) -> set[Var]:
    """The index variables of an expression."""
    return {e for e in walk(expr) if isinstance(e, Var)}


def same(a: Expr, b: Expr) -> bool:
    """Structural equality (variables and sources by identity)."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    match a, b:
        case Const(), Const():
            return a.value == b.value and a.type == b.type
        case Var(), Var():
            return False
        case Read(), Read():
            if a.source is not b.source:
                return False
        case Binary(), Binary():
            if a.op != b.op:
                return False
        case Compare(), Compare():
            if a.op != b.op:
                return False
        case Cast(), Cast():
            if a.type != b.type:
                return False
        case Call(), Call():
            if (a.name, a.attrs, a.type) != (b.name, b.attrs, b.type):
                return False
        case Reduce(), Reduce():
            if a.kind != b.kind or a.axes != b.axes:
                return False
    parts_a, parts_b = children(a), children(b)
    return len(parts_a) == len(parts_b) and all(
        same(x, y) for x, y in zip(parts_a, parts_b, strict=True)
    )


_PRECEDENCE = {"<": 1, ">=": 1, "==": 1, "&": 2, ">>": 3, "<<": 3, "+": 4, "-": 4}


def _text(expr: Expr, outer: int) -> str:
    match expr:
        case Const(value, dtype):
            return str(value) if dtype in (INDEX, "float32") else f"{dtype}({value})"
        case Var(name):
            return name
        case Binary(("min" | "max") as op, a, b):
            return f"{op}({a}, {b})"
        case Binary(op, a, b) | Compare(op, a, b):
            level = _PRECEDENCE.get(op, 5)
            text = f"{_text(a, level)}{op if level == 5 else f' {op} '}{_text(b, level + 1)}"
            return f"({text})" if level < outer else text
        case Both(a, b):
            return f"({a} and {b})"
        case Select(c, t, o):
            return f"select({c}, {t}, {o})"
        case Cast(dtype, v):
            return f"{dtype}({v})"
        case Read(source, indices):
            return f"{source.name}[{', '.join(map(str, indices))}]"
        case Reduce(kind, body, axes):
            return f"{kind}({body}, over {', '.join(a.var.name for a in axes)})"
        case Call(name, args, attrs):
            parts = [*map(str, args), *(f"{k}={v}" for k, v in attrs)]
            return f"{name}({', '.join(parts)})"
    raise TypeError(f"no expression: {expr!r}")
