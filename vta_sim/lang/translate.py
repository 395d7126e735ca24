"""From Python source to LLVM IR: functions, statements, expressions."""

from __future__ import annotations

import ast
import copy
import inspect
import sys
import textwrap
import types
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from llvmlite import ir

from vta_sim.lang import kinds
from vta_sim.lang.intrinsics import INTRINSICS, Maker
from vta_sim.lang.kinds import (
    BOOL,
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
from vta_sim.lang.values import Calculator, Constant, Operand, Value


@cache
def _syntax(function: Callable[..., Any]) -> ast.FunctionDef:
    """The parsed source, with the line numbers of its file."""
    lines, first = inspect.getsourcelines(function)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    ast.increment_lineno(tree, first - 1)
    found = tree.body[0]
    assert isinstance(found, ast.FunctionDef)
    return found


@cache
def _assigned_once(function: Callable[..., Any]) -> frozenset[str]:
    """Names that one statement of a function sets: they are constants if they are set to one."""
    counts: Counter[str] = Counter()
    for node in ast.walk(_syntax(function)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            counts[node.id] += 1
    return frozenset(name for name, count in counts.items() if count == 1)


def _symbol(function: Callable[..., Any], owner: type | None) -> str:
    prefix = f"{owner.__module__}.{owner.__name__}" if owner else function.__module__
    return f"{prefix}.{function.__name__}"


class ModuleBuilder:
    """One LLVM module; functions are translated when they are first called.

    `constants` give values to every `parameter`, `isa` chooses instructions of vector intrinsics.
    """

    def __init__(self, name: str, constants: Mapping[str, int], isa: str) -> None:
        self.module = ir.Module(name, context=kinds.CONTEXT)
        self.constants = constants
        self.isa = isa
        self._waiting: list[tuple[Callable[..., Any], type | None, ir.Function]] = []
        self._made: dict[str, ir.Function] = {}

    def export(self, function: Callable[..., Any]) -> None:
        """Translate a function, and all that it calls, under its own name."""
        made = self.function(function, None)
        made.linkage = ""
        made.name = function.__name__
        while self._waiting:
            _FunctionBuilder(self, *self._waiting.pop()).build()

    def function(self, function: Callable[..., Any], owner: type | None) -> ir.Function:
        """The function to call; it is translated later if it is new."""
        symbol = _symbol(function, owner)
        if symbol not in self._made:
            shape = kinds.signature(function, owner)
            result = ir.VoidType() if shape.result is None else shape.result.llvm
            signature = ir.FunctionType(result, [kind.llvm for kind in shape.params.values()])
            made = ir.Function(self.module, signature, symbol)
            made.linkage = "internal"
            made.attributes.add("nounwind")
            self._made[symbol] = made
            self._waiting.append((function, owner, made))
        return self._made[symbol]


@dataclass(frozen=True)
class _Slot:
    """A local variable: where it lies, and what it holds."""

    place: ir.Value
    type: Type


@dataclass
class _Bundle:
    """Several local variables, told apart by a constant index."""

    slots: list[_Slot | None]


@dataclass(frozen=True)
class _Method:
    owner: Value
    function: Callable[..., Any]


@dataclass
class _Scope:
    """Names of one function, or of one that is written out in another."""

    function: Callable[..., Any]
    names: dict[str, Any] = field(default_factory=dict)
    is_inline: bool = False
    result: Any = None


class _FunctionBuilder:
    """Translates one function."""

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
        self.scope = _Scope(function)
        self.entry = target.append_basic_block("entry")
        self.builder = ir.IRBuilder(target.append_basic_block("body"))
        self.calculator = Calculator(self.builder)
        self.maker = Maker(module.module, self.calculator, module.isa)
        self.loops: list[tuple[ir.Block, ir.Block]] = []
        self.node: ast.AST | None = None

    def build(self) -> None:
        """Fill the function."""
        body = self.builder.block
        with _located(self):
            for argument, (name, kind) in zip(
                self.target.args, self.signature.params.items(), strict=True
            ):
                self._declare(name, kind, argument)
            self._block(_syntax(self.scope.function).body)
        if not self.builder.block.is_terminated:
            if self.signature.result is None:
                self.builder.ret_void()
            else:
                self.builder.unreachable()
        # Last: variables of the whole body have gone there.
        ir.IRBuilder(self.entry).branch(body)

    # -- names --------------------------------------------------------------------------------

    def _declare(self, name: str, kind: Type, value: ir.Value) -> None:
        slot = _Slot(self._room(_in_register(kind)), kind)
        self.builder.store(value, slot.place)
        self.scope.names[name] = slot

    def _room(self, kind: ir.Type) -> ir.Value:
        """Stack memory in the function's first block, so that loops do not take more of it."""
        return ir.IRBuilder(self.entry).alloca(kind)

    def _name(self, name: str) -> Any:
        if name in self.scope.names:
            found = self.scope.names[name]
            if isinstance(found, _Slot):
                value = self.builder.load(found.place, typ=_in_register(found.type))
                return Value(value, found.type)
            return found
        found = _global(self.scope.function, name)
        if isinstance(found, Parameter):
            if found.name not in self.module.constants:
                raise KernelError(f"the library's constants lack {found.name}")
            return self.module.constants[found.name]
        return found

    # -- statements ---------------------------------------------------------------------------

    def _block(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            if self.builder.block.is_terminated:
                return
            self.node = statement
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Expr(ast.Constant()) | ast.Pass():
                pass
            case ast.Expr(value):
                self._expression(value)
            case ast.Assign([ast.Tuple(targets)], ast.Tuple(parts)) if len(targets) == len(parts):
                made = [self._expression(part) for part in parts]
                for target, value in zip(targets, made, strict=True):
                    self._assign(target, value)
            case ast.Assign([target], value):
                self._assign(target, self._expression(value))
            case ast.AnnAssign(ast.Name(name), annotation, value) if value is not None:
                kind = self._annotation(annotation)
                self._declare_local(name, kind, self._expression(value))
            case ast.AugAssign(target, op, value):
                old = self._expression(_as_load(target))
                new = self.calculator.binary(type(op), old, self._expression(value))
                self._assign(target, new)
            case ast.If(test, then, orelse):
                self._if(test, then, orelse)
            case ast.While(test, body, []):
                self._while(lambda: self._truth(test), body)
            case ast.For(ast.Name(name), ast.Call(ast.Name("range"), bounds), body, []):
                self._for(name, bounds, body)
            case ast.For(ast.Name(name), ast.Call(ast.Name("unroll"), [count]), body, []):
                self._unroll(name, self._expression(count), body)
            case ast.Return(value):
                self._return(None if value is None else self._expression(value))
            case ast.Break():
                self.builder.branch(self.loops[-1][1])
            case ast.Continue():
                self.builder.branch(self.loops[-1][0])
            case ast.Assert():
                pass  # for the reader and for mypy
            case _:
                raise KernelError(f"compiled functions have no {type(node).__name__}")

    def _annotation(self, node: ast.expr) -> Type:
        hint = eval(ast.unparse(node), _namespace(self.scope.function))
        kind = kinds.resolve(hint, ast.unparse(node))
        if kind is None:
            raise KernelError(f"a variable cannot be of type {ast.unparse(node)}")
        return kind

    def _declare_local(self, name: str, kind: Type, value: Any) -> None:
        if name not in self.scope.names:
            self.scope.names[name] = _Slot(self._room(_in_register(kind)), kind)
        self._put(self.scope.names[name], value)

    def _put(self, slot: Any, value: Any) -> None:
        if not isinstance(slot, _Slot):
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
        if isinstance(value, _Bundle) and isinstance(target, ast.Name):
            self.scope.names[target.id] = value
            return
        match target:
            case ast.Subscript(ast.Name(name), index) if isinstance(
                bundle := self.scope.names.get(name), _Bundle
            ):
                self._set_bundled(bundle, self._expression(index), value)
            case ast.Name(name):
                if isinstance(value, Constant) and name in _assigned_once(self.scope.function):
                    self.scope.names[name] = value
                elif name not in self.scope.names:
                    kind = value.type if isinstance(value, Value) else I64
                    if isinstance(value, bool):
                        kind = BOOL
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

    def _set_bundled(self, bundle: _Bundle, index: Any, value: Any) -> None:
        slot = bundle.slots[_constant_index(index)]
        if slot is None:
            assert isinstance(value, Value)
            slot = _Slot(self._room(_in_register(value.type)), value.type)
            bundle.slots[index] = slot
        self._put(slot, value)

    def _bundled(self, bundle: _Bundle, index: Any) -> Value:
        slot = bundle.slots[_constant_index(index)]
        if slot is None:
            raise KernelError(f"local {index} is read before anything is assigned to it")
        return Value(self.builder.load(slot.place, typ=_in_register(slot.type)), slot.type)

    def _write(self, place: ir.Value, kind: Type, value: Any) -> None:
        if isinstance(kind, StructType):
            raise KernelError("structures are not assigned; assign their fields")
        made = self._as(kind, value)
        if kind == BOOL:
            made = self.builder.zext(made, ir.IntType(8))
        self.builder.store(made, place)

    def _if(self, test: ast.expr, then: Sequence[ast.stmt], orelse: Sequence[ast.stmt]) -> None:
        condition = self._truth(test)
        if not isinstance(condition, Value):
            self._block(then if condition else orelse)
            return
        yes, no, end = (self.target.append_basic_block(n) for n in ("then", "else", "endif"))
        self.builder.cbranch(condition.ir, yes, no)
        for block, body in ((yes, then), (no, orelse)):
            self.builder.position_at_end(block)
            self._block(body)
            if not self.builder.block.is_terminated:
                self.builder.branch(end)
        self.builder.position_at_end(end)

    def _while(
        self,
        test: Callable[[], Operand],
        body: Sequence[ast.stmt],
        step: Callable[[], None] | None = None,
    ) -> None:
        head, inside, after, end = (
            self.target.append_basic_block(n) for n in ("while", "body", "next", "end")
        )
        self.builder.branch(head)
        self.builder.position_at_end(head)
        condition = test()
        if isinstance(condition, Value):
            self.builder.cbranch(condition.ir, inside, end)
        else:
            self.builder.branch(inside if condition else end)
        self.builder.position_at_end(inside)
        self.loops.append((after, end))
        self._block(body)
        self.loops.pop()
        if not self.builder.block.is_terminated:
            self.builder.branch(after)
        self.builder.position_at_end(after)
        if step is not None:
            step()
        self.builder.branch(head)
        self.builder.position_at_end(end)

    def _for(self, name: str, bounds: Sequence[ast.expr], body: Sequence[ast.stmt]) -> None:
        values = [self._expression(bound) for bound in bounds]
        first, end = (0, values[0]) if len(values) == 1 else values[:2]
        by = values[2] if len(values) > 2 else 1
        if not isinstance(by, Constant) or by == 0:
            raise KernelError("the step of a range must be a constant other than 0")
        # A counter of its own, as in Python: what the body does to the name has no effect on it.
        counter, stop = _Slot(self._room(I64.llvm), I64), self.calculator.to(I64, end)
        self._put(counter, first)

        def more() -> Operand:
            count = Value(self.builder.load(counter.place, typ=I64.llvm), I64)
            self._declare_local(name, I64, count)
            order = ast.Lt if by > 0 else ast.Gt
            return self.calculator.compare(order, count, Value(stop, I64))

        def step() -> None:
            count = Value(self.builder.load(counter.place, typ=I64.llvm), I64)
            self._put(counter, self.calculator.binary(ast.Add, count, by))

        self._while(more, body, step)

    def _unroll(self, name: str, count: Any, body: Sequence[ast.stmt]) -> None:
        if not isinstance(count, int):
            raise KernelError("only a constant number of rounds can be unrolled")
        for number in range(count):
            self.scope.names[name] = number
            self._block(body)

    def _return(self, value: Any) -> None:
        if self.scope.is_inline:
            self.scope.result = value
            return
        kind = self.signature.result
        if kind is None:
            self.builder.ret_void()
        else:
            self.builder.ret(self._as(kind, value))

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

    # -- expressions --------------------------------------------------------------------------

    def _expression(self, node: ast.expr) -> Any:
        calculator = self.calculator
        match node:
            case ast.Constant(value):
                return value
            case ast.Name(name):
                return self._name(name)
            case ast.BinOp(left, op, right):
                first = self._expression(left)
                return calculator.binary(type(op), first, self._expression(right))
            case ast.UnaryOp(ast.USub(), operand):
                return calculator.negative(self._expression(operand))
            case ast.UnaryOp(ast.Invert(), operand):
                return calculator.inverse(self._expression(operand))
            case ast.UnaryOp(ast.Not(), operand):
                truth = self._truth(operand)
                return calculator.inverse(truth) if isinstance(truth, Value) else not truth
            case ast.Compare(left, operators, others):
                return self._compare(left, operators, others)
            case ast.BoolOp(op, operands):
                return self._short_circuit(isinstance(op, ast.And), operands)
            case ast.IfExp(test, yes, no):
                return self._choice(test, yes, no)
            case ast.Attribute():
                return self._attribute(node)
            case ast.Subscript(ast.Name(name), index) if isinstance(
                bundle := self.scope.names.get(name), _Bundle
            ):
                return self._bundled(bundle, self._expression(index))
            case ast.Subscript():
                return self._read(*self._place(node))
            case ast.Call(ast.Name("several"), [count], []):
                return _Bundle([None] * _constant_index(self._expression(count)))
            case ast.Call(function, args, []):
                return self._call(function, args)
        raise KernelError(f"compiled functions have no {ast.unparse(node)}")

    def _truth(self, node: ast.expr) -> Operand:
        return self.calculator.truth(self._expression(node))

    def _compare(
        self, left: ast.expr, operators: Sequence[ast.cmpop], others: Sequence[ast.expr]
    ) -> Operand:
        before, found = self._expression(left), None
        for op, other in zip(operators, others, strict=True):
            after = self._expression(other)
            one = self.calculator.compare(type(op), before, after)
            found = one if found is None else self.calculator.binary(ast.BitAnd, found, one)
            before = after
        assert found is not None
        return found

    def _short_circuit(self, is_and: bool, operands: Sequence[ast.expr]) -> Operand:
        first, *rest = operands
        left = self._truth(first)
        if not rest:
            return left
        if not isinstance(left, Value):
            return self._short_circuit(is_and, rest) if bool(left) == is_and else left
        room = self._room(BOOL.llvm)
        self.builder.store(left.ir, room)
        other, end = (self.target.append_basic_block(n) for n in ("other", "known"))
        self.builder.cbranch(left.ir, *((other, end) if is_and else (end, other)))
        self.builder.position_at_end(other)
        right = self._short_circuit(is_and, rest)
        self.builder.store(self.calculator.to(BOOL, right), room)
        self.builder.branch(end)
        self.builder.position_at_end(end)
        return Value(self.builder.load(room, typ=BOOL.llvm), BOOL)

    def _choice(self, test: ast.expr, yes: ast.expr, no: ast.expr) -> Any:
        condition = self._truth(test)
        if not isinstance(condition, Value):
            return self._expression(yes if condition else no)
        blocks = [self.target.append_basic_block(n) for n in ("yes", "no", "chosen")]
        self.builder.cbranch(condition.ir, *blocks[:2])
        made = []
        for block, node in zip(blocks, (yes, no), strict=False):
            self.builder.position_at_end(block)
            value = self._expression(node)
            made.append((value, self.builder.block))
        values = [value for value, _ in made]
        if all(isinstance(v, Value) and not isinstance(v.type, Scalar) for v in values):
            kind: Type = values[0].type
        else:
            kind = self.calculator.common(*values)
        room = self._room(_in_register(kind))
        for value, block in made:
            self.builder.position_at_end(block)
            self.builder.store(self._as(kind, value), room)
            self.builder.branch(blocks[2])
        self.builder.position_at_end(blocks[2])
        return Value(self.builder.load(room, typ=_in_register(kind)), kind)

    def _attribute(self, node: ast.Attribute) -> Any:
        owner = self._expression(node.value)
        if isinstance(owner, Value):
            return self._of_structure(owner, node.attr)
        if isinstance(owner, types.ModuleType | type):
            return getattr(owner, node.attr)
        raise KernelError(f"{ast.unparse(node)} is not known")

    def _of_structure(self, owner: Value, name: str) -> Any:
        """A field's value, an inner array, or a method."""
        if not isinstance(owner.type, StructType):
            raise KernelError(f"{name!r} is asked of something that is no structure")
        item = owner.type.fields.get(name)
        if item is None:
            method = getattr(owner.type.cls, name, None)
            if method is not None and kinds.mark(method):
                return _Method(owner, method)
        place, kind = self._member(owner, name)
        if item is not None and item.count:
            return Value(place, kind)
        return self._read(place, kind)

    # -- calls --------------------------------------------------------------------------------

    def _call(self, node: ast.expr, nodes: Sequence[ast.expr]) -> Any:
        callee = self._expression(node)
        args = [self._argument(arg) for arg in nodes]
        owner = None
        if isinstance(callee, _Method):
            args.insert(0, callee.owner)
            assert isinstance(callee.owner.type, StructType)
            owner, callee = callee.owner.type.cls, callee.function
        if callee in INTRINSICS:
            return self.maker.make(callee, args)
        if kinds.mark(callee) == "inline":
            return self._written_out(callee, args)
        if kinds.mark(callee) != "kernel":
            raise KernelError(f"{ast.unparse(node)} is no function of the language")
        shape = kinds.signature(callee, owner)
        if len(args) != len(shape.params):
            raise KernelError(f"{ast.unparse(node)} takes {len(shape.params)} arguments")
        values = [self._as(kind, a) for kind, a in zip(shape.params.values(), args, strict=True)]
        made = self.builder.call(self.module.function(callee, owner), values)
        return None if shape.result is None else Value(made, shape.result)

    def _argument(self, node: ast.expr) -> Any:
        """An argument; of an intrinsic it may be a type, as the annotations have them."""
        value = self._expression(node)
        if isinstance(value, Value | int | float | _Bundle | Scalar):
            return value
        kind = kinds.resolve(value, ast.unparse(node))
        if kind is None:
            raise KernelError(f"{ast.unparse(node)} cannot be an argument")
        return kind

    def _written_out(self, function: Callable[..., Any], args: Sequence[Any]) -> Any:
        outer, node = self.scope, self.node
        self.scope = _Scope(function, is_inline=True)
        names = list(inspect.signature(function).parameters)
        if len(names) != len(args):
            raise KernelError(f"{function.__name__} takes {len(names)} arguments")
        for name, value in zip(names, args, strict=True):
            if isinstance(value, Value):
                self._declare(name, value.type, value.ir)
            else:
                self.scope.names[name] = value
        with _located(self):
            body = _syntax(function).body
            if any(isinstance(n, ast.Return) for s in body[:-1] for n in ast.walk(s)):
                raise KernelError("a function that is written out returns at its end or not at all")
            self._block(body)
        result = self.scope.result
        self.scope, self.node = outer, node
        return result


class _located:
    """Adds the function and line to what is raised within."""

    def __init__(self, builder: _FunctionBuilder) -> None:
        self.builder = builder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, KernelError) and not hasattr(error, "located"):
            function = self.builder.scope.function
            line = getattr(self.builder.node, "lineno", 0)
            message = f"{function.__module__}.{function.__qualname__}, line {line}: {error}"
            located = KernelError(message)
            located.located = True  # type: ignore[attr-defined]
            raise located from error


def _constant_index(index: Any) -> int:
    if isinstance(index, Value) or not isinstance(index, int):
        raise KernelError("several locals are told apart by constants only")
    return index


def _in_register(kind: Type) -> ir.Type:
    return kind.llvm if isinstance(kind, Scalar) else POINTER


def _as_load(node: ast.expr) -> ast.expr:
    # Only the outermost node knows that it is assigned to.
    read = copy.copy(node)
    read.ctx = ast.Load()  # type: ignore[attr-defined]
    return read


def _namespace(function: Callable[..., Any]) -> dict[str, Any]:
    return vars(sys.modules[function.__module__])


def _global(function: Callable[..., Any], name: str) -> Any:
    names = _namespace(function)
    if name in names:
        return names[name]
    builtin = {"min": min, "max": max, "abs": abs, "True": True, "False": False}
    if name in builtin:
        return builtin[name]
    raise KernelError(f"the name {name!r} is not known")
