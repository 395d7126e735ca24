"""Names and places of a function that is translated: locals, fields, elements."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llvmlite import ir

from vta_sim.lang import kinds
from vta_sim.lang.intrinsics import Maker
from vta_sim.lang.kinds import (
    BOOL,
    F32,
    I64,
    POINTER,
    ArrayType,
    KernelError,
    Parameter,
    Scalar,
    Signature,
    StructType,
    Type,
)
from vta_sim.lang.source import assigned_once, global_named
from vta_sim.lang.values import Calculator, Constant, Value

if TYPE_CHECKING:
    from vta_sim.lang.translate import ModuleBuilder


@dataclass(frozen=True)
class Slot:
    """A local variable: where it lies, and what it holds."""

    place: ir.Value
    type: Type


@dataclass
class Bundle:
    """Several local variables, told apart by a constant index."""

    slots: list[Slot | None]


@dataclass(frozen=True)
class Method:
    """A method of a structure, not called yet."""

    owner: Value
    function: Callable[..., Any]


@dataclass
class Scope:
    """Names of one function, or of one that is written out in another."""

    function: Callable[..., Any]
    names: dict[str, Any] = field(default_factory=dict)
    is_inline: bool = False
    result: Any = None
    branches: int = 0
    """How many conditions and loops, decided at run time, the present statement is within."""


class Names:
    """The state of one function that is translated, and what its names stand for."""

    def __init__(
        self,
        module: ModuleBuilder,
        function: Callable[..., Any],
        owner: type | None,
        target: ir.Function,
    ) -> None:
        self.module = module
        self.target = target
        self.signature: Signature = kinds.signature(function, owner)
        self.scope = Scope(function)
        self.entry = target.append_basic_block("entry")
        self.builder = ir.IRBuilder(target.append_basic_block("body"))
        self.calculator = Calculator(self.builder)
        self.maker = Maker(module.module, self.calculator, module.isa)
        self.loops: list[tuple[ir.Block, ir.Block] | None] = []
        """Where continue and break go; None for a loop that is written out."""
        self.node: ast.AST | None = None

    # -- names --------------------------------------------------------------------------------

    def _expression(self, node: ast.expr) -> Any:
        """What an expression gives: a value, a constant, or something that has none at run time."""
        raise NotImplementedError

    def _declare(self, name: str, kind: Type, value: ir.Value) -> None:
        slot = Slot(self._room(in_register(kind)), kind)
        self.builder.store(value, slot.place)
        self.scope.names[name] = slot

    def _room(self, kind: ir.Type) -> ir.Value:
        """Stack memory in the function's first block, so that loops do not take more of it."""
        return ir.IRBuilder(self.entry).alloca(kind)

    def _name(self, name: str) -> Any:
        if name in self.scope.names:
            found = self.scope.names[name]
            if isinstance(found, Slot):
                value = self.builder.load(found.place, typ=in_register(found.type))
                return Value(value, found.type)
            return found
        found = global_named(self.scope.function, name)
        if isinstance(found, Parameter):
            if found.name not in self.module.constants:
                raise KernelError(f"the library's constants lack {found.name}")
            return self.module.constants[found.name]
        return found

    def _declare_local(self, name: str, kind: Type, value: Any) -> None:
        if name not in self.scope.names:
            self.scope.names[name] = Slot(self._room(in_register(kind)), kind)
        self._put(self.scope.names[name], value)

    def _put(self, slot: Any, value: Any) -> None:
        if not isinstance(slot, Slot):
            raise KernelError("a constant is assigned to")
        self.builder.store(self._as(slot.type, value), slot.place)

    def _as(self, kind: Type, value: Any) -> ir.Value:
        """A value as one of this type, outside memory."""
        if isinstance(kind, Scalar):
            return self.calculator.to(kind, value)
        if not isinstance(value, Value) or value.type != kind:
            have = value.type if isinstance(value, Value) else value
            raise KernelError(f"a {have} is given where a {kind} belongs")
        return value.ir

    def _assign(self, target: ast.expr, value: Any) -> None:
        if isinstance(value, Bundle) and isinstance(target, ast.Name):
            self.scope.names[target.id] = value
            return
        match target:
            case ast.Subscript(ast.Name(name), index) if isinstance(
                bundle := self.scope.names.get(name), Bundle
            ):
                self._set_bundled(bundle, self._expression(index), value)
            case ast.Name(name):
                if isinstance(value, Constant) and name in assigned_once(self.scope.function):
                    self.scope.names[name] = value
                elif name not in self.scope.names:
                    kind = value.type if isinstance(value, Value) else I64
                    if isinstance(value, bool):
                        kind = BOOL
                    elif isinstance(value, float):
                        kind = F32
                    elif isinstance(kind, Scalar) and not kind.lanes and kind.is_integer:
                        kind = kind if kind == Scalar("u", 64) else I64
                    self._declare_local(name, kind, value)
                else:
                    self._put(self.scope.names[name], value)
            case ast.Attribute() | ast.Subscript():
                place, kind = self._place(target)
                self._write(place, kind, value)
            case _:
                raise KernelError(f"{ast.unparse(target)} cannot be assigned to")

    def _set_bundled(self, bundle: Bundle, index: Any, value: Any) -> None:
        slot = bundle.slots[constant_index(index)]
        if slot is None:
            if not isinstance(value, Value):
                raise KernelError("the first value of a local of several must not be a constant")
            slot = Slot(self._room(in_register(value.type)), value.type)
            bundle.slots[index] = slot
        self._put(slot, value)

    def _bundled(self, bundle: Bundle, index: Any) -> Value:
        slot = bundle.slots[constant_index(index)]
        if slot is None:
            raise KernelError(f"local {index} is read before anything is assigned to it")
        return Value(self.builder.load(slot.place, typ=in_register(slot.type)), slot.type)

    def _write(self, place: ir.Value, kind: Type, value: Any) -> None:
        if isinstance(kind, StructType):
            raise KernelError("structures are not assigned; assign their fields")
        made = self._as(kind, value)
        if kind == BOOL:
            made = self.builder.zext(made, ir.IntType(8))
        self.builder.store(made, place)

    # -- places -------------------------------------------------------------------------------

    def _place(self, node: ast.expr) -> tuple[ir.Value, Type]:
        """The address that a field or an element lies at, and what lies there."""
        match node:
            case ast.Attribute(value, name):
                owner = self._expression(value)
                return self._member(owner, name)
            case ast.Subscript(value, index):
                array = self._expression(value)
                if not isinstance(array, Value) or not isinstance(array.type, ArrayType):
                    raise KernelError(f"{ast.unparse(value)} is no array")
                return self.maker.element(array, self._expression(index)), array.type.element
        raise KernelError(f"{ast.unparse(node)} is no place")

    def _member(self, owner: Any, name: str) -> tuple[ir.Value, Type]:
        if not isinstance(owner, Value) or not isinstance(owner.type, StructType):
            raise KernelError(f"{name!r} is asked of something that is no structure")
        if name not in owner.type.fields:
            raise KernelError(f"structure {owner.type} has no field {name!r}")
        item = owner.type.fields[name]
        zero, index = (ir.Constant(ir.IntType(32), i) for i in (0, item.index))
        place = self.builder.gep(owner.ir, [zero, index], source_etype=owner.type.stored)
        return place, ArrayType(item.type) if item.count else item.type

    def _read(self, place: ir.Value, kind: Type) -> Value:
        if isinstance(kind, StructType):
            return Value(place, kind)
        value = self.builder.load(place, typ=kind.stored)
        if kind == BOOL:
            value = self.builder.trunc(value, ir.IntType(1))
        return Value(value, kind)


def constant_index(index: Any) -> int:
    """An index that must be known when it is translated."""
    if isinstance(index, Value) or not isinstance(index, int):
        raise KernelError("several locals are told apart by constants only")
    return index


def in_register(kind: Type) -> ir.Type:
    """The LLVM type of a value that is not in memory: structures and arrays are pointers."""
    return kind.llvm if isinstance(kind, Scalar) else POINTER
