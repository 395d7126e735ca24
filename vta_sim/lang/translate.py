"""From Python source to LLVM IR: modules, functions, statements."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llvmlite import ir

from vta_sim.lang import kinds
from vta_sim.lang.expressions import Expressions, located
from vta_sim.lang.kinds import I64, KernelError, Type
from vta_sim.lang.names import Bundle, Slot
from vta_sim.lang.source import as_read, namespace_of, syntax_of
from vta_sim.lang.values import Constant, Operand, Value


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
            FunctionBuilder(self, *self._waiting.pop()).build()

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


class FunctionBuilder(Expressions):
    """Translates one function."""

    def build(self) -> None:
        """Fill the function."""
        body = self.builder.block
        with located(self):
            for argument, (name, kind) in zip(
                self.target.args, self.signature.params.items(), strict=True
            ):
                self._declare(name, kind, argument)
            self._block(syntax_of(self.scope.function).body)
        if not self.builder.block.is_terminated:
            if self.signature.result is None:
                self.builder.ret_void()
            else:
                self.builder.unreachable()
        # Last: variables of the whole body have gone there.
        ir.IRBuilder(self.entry).branch(body)

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
                self._augment(target, type(op), value)
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
            case ast.Break() | ast.Continue():
                self._leave_round(is_last=isinstance(node, ast.Break))
            case ast.Assert():
                pass  # for the reader and for mypy
            case _:
                raise KernelError(f"compiled functions have no {type(node).__name__}")

    def _augment(self, target: ast.expr, op: type[ast.operator], value: ast.expr) -> None:
        """Assignment with an operator; the place is worked out once, as its index may do things."""
        is_local = isinstance(target, ast.Subscript) and self._is_bundle(target.value)
        if isinstance(target, ast.Name) or is_local:
            old = self._expression(as_read(target))
            self._assign(target, self.calculator.binary(op, old, self._expression(value)))
            return
        place, kind = self._place(target)
        old = self._read(place, kind)
        self._write(place, kind, self.calculator.binary(op, old, self._expression(value)))

    def _is_bundle(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and isinstance(self.scope.names.get(node.id), Bundle)

    def _annotation(self, node: ast.expr) -> Type:
        hint = eval(ast.unparse(node), namespace_of(self.scope.function))
        kind = kinds.resolve(hint, ast.unparse(node))
        if kind is None:
            raise KernelError(f"a variable cannot be of type {ast.unparse(node)}")
        return kind

    def _if(self, test: ast.expr, then: Sequence[ast.stmt], orelse: Sequence[ast.stmt]) -> None:
        condition = self._truth(test)
        if not isinstance(condition, Value):
            self._block(then if condition else orelse)
            return
        yes, no, end = (self.target.append_basic_block(n) for n in ("then", "else", "endif"))
        self.builder.cbranch(condition.ir, yes, no)
        self.scope.branches += 1
        for block, body in ((yes, then), (no, orelse)):
            self.builder.position_at_end(block)
            self._block(body)
            if not self.builder.block.is_terminated:
                self.builder.branch(end)
        self.scope.branches -= 1
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
        self.scope.branches += 1
        self._block(body)
        self.scope.branches -= 1
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
        counter, stop = Slot(self._room(I64.llvm), I64), self.calculator.to(I64, end)
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
        self.loops.append(None)
        for number in range(count):
            self.scope.names[name] = number
            self._block(body)
        self.loops.pop()

    def _leave_round(self, is_last: bool) -> None:
        loop = self.loops[-1]
        if loop is None:
            raise KernelError("a loop that is written out has no break and no continue")
        self.builder.branch(loop[1] if is_last else loop[0])

    def _return(self, value: Any) -> None:
        if self.scope.is_inline:
            if self.scope.branches:
                raise KernelError("a function that is written out returns at its end or not at all")
            self.scope.result = value
            return
        kind = self.signature.result
        if kind is None:
            self.builder.ret_void()
        else:
            self.builder.ret(self._as(kind, value))
