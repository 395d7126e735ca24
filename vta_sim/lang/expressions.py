"""Expressions and calls."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

from vta_sim.lang import kinds
from vta_sim.lang.intrinsics import INTRINSICS
from vta_sim.lang.kinds import BOOL, KernelError, Scalar, StructType, Type
from vta_sim.lang.names import Bundle, Method, Names, Scope, constant_index, in_register
from vta_sim.lang.source import syntax_of
from vta_sim.lang.values import Operand, Value


class Expressions(Names):
    """Translates expressions at the end of the present block."""

    def _block(self, body: Sequence[ast.stmt]) -> None:
        """Translate statements."""
        raise NotImplementedError

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
                bundle := self.scope.names.get(name), Bundle
            ):
                return self._bundled(bundle, self._expression(index))
            case ast.Subscript():
                return self._read(*self._place(node))
            case ast.Call(ast.Name("several"), [count], []):
                return Bundle([None] * constant_index(self._expression(count)))
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
        room = self._room(in_register(kind))
        for value, block in made:
            self.builder.position_at_end(block)
            self.builder.store(self._as(kind, value), room)
            self.builder.branch(blocks[2])
        self.builder.position_at_end(blocks[2])
        return Value(self.builder.load(room, typ=in_register(kind)), kind)

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
                return Method(owner, method)
        place, kind = self._member(owner, name)
        if item is not None and item.count:
            return Value(place, kind)
        return self._read(place, kind)

    # -- calls --------------------------------------------------------------------------------

    def _call(self, node: ast.expr, nodes: Sequence[ast.expr]) -> Any:
        callee = self._expression(node)
        args = [self._argument(arg) for arg in nodes]
        owner = None
        if isinstance(callee, Method):
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
        if isinstance(value, Value | int | float | Bundle | Scalar):
            return value
        kind = kinds.resolve(value, ast.unparse(node))
        if kind is None:
            raise KernelError(f"{ast.unparse(node)} cannot be an argument")
        return kind

    def _written_out(self, function: Callable[..., Any], args: Sequence[Any]) -> Any:
        names = list(inspect.signature(function).parameters)
        if len(names) != len(args):
            raise KernelError(f"{function.__name__} takes {len(names)} arguments")
        outer, node = self.scope, self.node
        self.scope = Scope(function, is_inline=True)
        for name, value in zip(names, args, strict=True):
            if isinstance(value, Value):
                self._declare(name, value.type, value.ir)
            else:
                self.scope.names[name] = value
        with located(self):
            body = syntax_of(function).body
            parts = (part for statement in body[:-1] for part in ast.walk(statement))
            early = next((part for part in parts if isinstance(part, ast.Return)), None)
            if early is not None:
                self.node = early
                raise KernelError("a function that is written out returns at its end or not at all")
            self._block(body)
        result = self.scope.result
        self.scope, self.node = outer, node
        return result


class located:
    """Adds the function and line to what is raised within."""

    def __init__(self, builder: Names) -> None:
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
