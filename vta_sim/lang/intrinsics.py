"""How the operations of `vta_sim.lang.ops`, and Python's own min, max and abs, are made."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llvmlite import ir

from vta_sim.lang import ops
from vta_sim.lang.kinds import (
    I32,
    I64,
    POINTER,
    ArrayType,
    KernelError,
    Scalar,
    StructType,
    Type,
)
from vta_sim.lang.values import Calculator, Operand, Value, scalar

_BYTE = ir.IntType(8)
_LONG = ir.IntType(64)
_INT = ir.IntType(32)
_MADD_LANES = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd"}
_VNNI_LANES = {4: "128", 8: "256", 16: "512"}


class Maker:
    """Makes intrinsics in one function; `isa` is what `vta_sim.lang.cpu` found."""

    def __init__(self, module: ir.Module, calculator: Calculator, isa: str) -> None:
        self.module = module
        self.calculator = calculator
        self.isa = isa

    @property
    def _build(self) -> ir.IRBuilder:
        return self.calculator.builder

    def make(self, function: Any, args: Sequence[Any]) -> Operand | None:
        """What a call of an operation gives; types among the arguments come as `Type`."""
        return _MAKERS[function](self, *args)

    def _extern(self, name: str, result: ir.Type, params: Sequence[ir.Type]) -> ir.Function:
        if name not in self.module.globals:
            ir.Function(self.module, ir.FunctionType(result, params), name)
        return self.module.globals[name]

    def _call(self, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
        function = self._extern(name, result, [a.type for a in args])
        return self._build.call(function, args)

    # -- numbers ------------------------------------------------------------------------------

    def _extreme(self, name: str, *operands: Operand) -> Operand:
        if not any(isinstance(v, Value) for v in operands):
            return (min if name == "min" else max)(operands)  # type: ignore[type-var]
        found = operands[0]
        for other in operands[1:]:
            kind = self.calculator.common(found, other)
            a, b = self.calculator.to(kind, found), self.calculator.to(kind, other)
            if kind.sort == "f":
                raise KernelError("min and max are for integers")
            call = f"llvm.{'s' if kind.sort == 'i' else 'u'}{name}.{_suffix(kind)}"
            found = Value(self._call(call, kind.llvm, a, b), kind)
        return found

    def min(self, *operands: Operand) -> Operand:
        return self._extreme("min", *operands)

    def max(self, *operands: Operand) -> Operand:
        return self._extreme("max", *operands)

    def abs(self, operand: Operand) -> Operand:
        if not isinstance(operand, Value):
            return abs(operand)
        kind = self.calculator.common(operand, operand)
        if kind.sort != "i":
            raise KernelError("abs is for signed integers")
        operand = Value(self.calculator.to(kind, operand), kind)
        wraps = ir.Constant(ir.IntType(1), 0)
        return Value(self._call(f"llvm.abs.{_suffix(kind)}", kind.llvm, operand.ir, wraps), kind)

    def rint(self, operand: Value) -> Operand:
        kind = scalar(operand)
        return Value(self._call(f"llvm.roundeven.{_suffix(kind)}", kind.llvm, operand.ir), kind)

    def convert(self, kind: Scalar, operand: Operand) -> Operand:
        lanes = scalar(operand).lanes if isinstance(operand, Value) else 0
        want = Scalar(kind.sort, kind.bits, lanes)
        return Value(self.calculator.to(want, operand), want)

    def bits_as(self, kind: Scalar, operand: Value) -> Operand:
        have = scalar(operand)
        want = Scalar(kind.sort, kind.bits, have.lanes * have.bits // kind.bits)
        return Value(self._build.bitcast(operand.ir, want.llvm), want)

    def select(self, mask: Value, yes: Operand, no: Operand) -> Operand:
        kind = self.calculator.common(yes, no)
        if kind.lanes != scalar(mask).lanes:
            raise KernelError(f"a mask of {scalar(mask).lanes} lanes cannot choose a {kind}")
        a, b = self.calculator.to(kind, yes), self.calculator.to(kind, no)
        return Value(self._build.select(mask.ir, a, b), kind)

    # -- vectors ------------------------------------------------------------------------------

    def splat(self, kind: Scalar, lanes: int, operand: Operand) -> Operand:
        want = Scalar(kind.sort, kind.bits, lanes)
        return Value(self.calculator.to(want, operand), want)

    def load(self, array: Value, index: Operand, lanes: int) -> Operand:
        element = _numbers(array)
        kind = Scalar(element.sort, element.bits, lanes)
        place = self.element(array, index)
        return Value(self._build.load(place, typ=kind.llvm, align=element.bits // 8), kind)

    def store(self, array: Value, index: Operand, value: Value) -> None:
        element = _numbers(array)
        kind = Scalar(element.sort, element.bits, scalar(value).lanes)
        made = self.calculator.to(kind, value)
        self._build.store(made, self.element(array, index), align=element.bits // 8)

    def part(self, value: Value, first: int, lanes: int, step: int = 1) -> Operand:
        kind = scalar(value)
        places = ir.Constant(
            ir.VectorType(_INT, lanes), [ir.Constant(_INT, first + step * i) for i in range(lanes)]
        )
        made = self._build.shuffle_vector(value.ir, value.ir, places)
        return Value(made, Scalar(kind.sort, kind.bits, lanes))

    def repeat(self, value: Value, times: int) -> Operand:
        kind = scalar(value)
        if not kind.lanes:
            return self.splat(kind, times, value)
        lanes = kind.lanes * times
        places = ir.Constant(
            ir.VectorType(_INT, lanes), [ir.Constant(_INT, i % kind.lanes) for i in range(lanes)]
        )
        made = self._build.shuffle_vector(value.ir, value.ir, places)
        return Value(made, Scalar(kind.sort, kind.bits, lanes))

    def interleave(self, left: Value, right: Value) -> Operand:
        kind = scalar(left)
        lanes = 2 * kind.lanes
        order = [i // 2 + kind.lanes * (i % 2) for i in range(lanes)]
        places = ir.Constant(ir.VectorType(_INT, lanes), [ir.Constant(_INT, i) for i in order])
        made = self._build.shuffle_vector(left.ir, right.ir, places)
        return Value(made, Scalar(kind.sort, kind.bits, lanes))

    def _join(self, values: Sequence[Value]) -> Value:
        """Vectors of equal type, one after the other."""
        found = values[0]
        for other in values[1:]:
            kind, more = scalar(found), scalar(other).lanes
            lanes = kind.lanes + more
            left, right = self._widen(found, lanes), self._widen(other, lanes)
            places = [ir.Constant(_INT, i) for i in range(kind.lanes)]
            places += [ir.Constant(_INT, lanes + i) for i in range(more)]
            made = self._build.shuffle_vector(
                left, right, ir.Constant(ir.VectorType(_INT, lanes), places)
            )
            found = Value(made, Scalar(kind.sort, kind.bits, lanes))
        return found

    def _widen(self, value: Value, lanes: int) -> ir.Value:
        have = scalar(value).lanes
        places = [ir.Constant(_INT, min(i, have - 1)) for i in range(lanes)]
        mask = ir.Constant(ir.VectorType(_INT, lanes), places)
        return self._build.shuffle_vector(value.ir, value.ir, mask)

    def _pieces(self, lanes: int, table: Mapping[int, str]) -> int:
        """Lanes per instruction, 0 if there is none for as few."""
        fitting = [width for width in table if width <= lanes and lanes % width == 0]
        return max(fitting, default=0)

    def dot2(self, total: Value, weights: Value, inputs: Value) -> Operand:
        lanes = scalar(total).lanes
        if self.isa != "generic" and (width := self._pieces(lanes, _MADD_LANES)):
            sums = []
            for first in range(0, lanes, width):
                pair = [_as_value(self.part(v, 2 * first, 2 * width)) for v in (weights, inputs)]
                kind = Scalar("i", 32, width)
                name = f"llvm.x86.{_MADD_LANES[width]}"
                products = Value(self._call(name, kind.llvm, pair[0].ir, pair[1].ir), kind)
                before = self.part(total, first, width)
                after = _as_value(self.calculator.binary(ast.Add, before, products))
                sums.append(Value(self._in_order(after.ir), kind))
            return self._join(sums)
        wide = [self.convert(I32, v) for v in (weights, inputs)]
        products = _as_value(self.calculator.binary(ast.Mult, wide[0], wide[1]))
        even, odd = (self.part(products, first, lanes, 2) for first in (0, 1))
        both = self.calculator.binary(ast.Add, even, odd)
        return self.calculator.binary(ast.Add, total, both)

    def _in_order(self, value: ir.Value) -> ir.Value:
        """The same x86 vector, which LLVM must have in a register here.

        It would rather add many products before it adds them to the total, and run out of
        registers for them.
        """
        shape = ir.FunctionType(value.type, [value.type])
        return self._build.asm(shape, "", "=x,0", [value], False)

    def dot4(self, total: Value, weights: Value, inputs: Value) -> Operand:
        lanes = scalar(total).lanes
        width = self._pieces(lanes, _VNNI_LANES)
        if self.isa == "vnni" and width:
            sums = []
            for first in range(0, lanes, width):
                kind = Scalar("i", 32, width)
                before = _as_value(self.part(total, first, width))
                pair = [_as_value(self.part(v, 4 * first, 4 * width)) for v in (inputs, weights)]
                name = f"llvm.x86.avx512.vpdpbusd.{_VNNI_LANES[width]}"
                made = self._call(name, kind.llvm, before.ir, pair[0].ir, pair[1].ir)
                sums.append(Value(made, kind))
            return self._join(sums)
        wide = [self.convert(I32, v) for v in (weights, inputs)]
        products = _as_value(self.calculator.binary(ast.Mult, wide[0], wide[1]))
        found: Operand = total
        for first in range(4):
            found = self.calculator.binary(ast.Add, found, self.part(products, first, lanes, 4))
        return found

    # -- memory -------------------------------------------------------------------------------

    def element(self, array: Value, index: Operand) -> ir.Value:
        """The address of element `index`."""
        assert isinstance(array.type, ArrayType)
        offset = self.calculator.to(I64, index)
        return self._build.gep(array.ir, [offset], source_etype=array.type.element.stored)

    def at(self, array: Value, index: Operand) -> Operand:
        return Value(self.element(array, index), array.type)

    def reinterpret(self, kind: Type, array: Value) -> Operand:
        if not isinstance(array.type, ArrayType | StructType):
            raise KernelError(f"a {array.type} is no place in memory")
        return Value(array.ir, ArrayType(kind))

    def copy(self, target: Value, source: Value, size_bytes: Operand) -> None:
        size = self.calculator.to(I64, size_bytes)
        self._memory("llvm.memcpy.p0.p0.i64", target.ir, source.ir, size)

    def fill(self, target: Value, byte: Operand, size_bytes: Operand) -> None:
        size = self.calculator.to(I64, size_bytes)
        value = self.calculator.to(Scalar("i", 8), byte)
        self._memory("llvm.memset.p0.i64", target.ir, value, size)

    def _memory(self, name: str, *args: ir.Value) -> None:
        self._call(name, ir.VoidType(), *args, ir.Constant(ir.IntType(1), 0))

    def resize(self, array: Value, count: Operand) -> Operand:
        assert isinstance(array.type, ArrayType)
        end = self._build.gep(
            ir.Constant(POINTER, None),
            [ir.Constant(_LONG, 1)],
            source_etype=array.type.element.stored,
        )
        size = self._build.mul(self.calculator.to(I64, count), self._build.ptrtoint(end, _LONG))
        return Value(self._call("realloc", POINTER, array.ir, size), array.type)

    def release(self, array: Value) -> None:
        self._call("free", ir.VoidType(), array.ir)


def _suffix(kind: Scalar) -> str:
    single = f"f{kind.bits}" if kind.sort == "f" else f"i{kind.bits}"
    return f"v{kind.lanes}{single}" if kind.lanes else single


def _numbers(array: Value) -> Scalar:
    if not isinstance(array.type, ArrayType) or not isinstance(array.type.element, Scalar):
        raise KernelError(f"a {array.type} is no array of numbers")
    return array.type.element


def _as_value(operand: Operand | None) -> Value:
    assert isinstance(operand, Value)
    return operand


_MAKERS: Mapping[Any, Callable[..., Operand | None]] = {
    min: Maker.min,
    max: Maker.max,
    abs: Maker.abs,
    ops.rint: Maker.rint,
    ops.convert: Maker.convert,
    ops.bits_as: Maker.bits_as,
    ops.select: Maker.select,
    ops.splat: Maker.splat,
    ops.load: Maker.load,
    ops.store: Maker.store,
    ops.part: Maker.part,
    ops.repeat: Maker.repeat,
    ops.interleave: Maker.interleave,
    ops.dot2: Maker.dot2,
    ops.dot4: Maker.dot4,
    ops.at: Maker.at,
    ops.reinterpret: Maker.reinterpret,
    ops.copy: Maker.copy,
    ops.fill: Maker.fill,
    ops.resize: Maker.resize,
    ops.release: Maker.release,
}

INTRINSICS = frozenset(_MAKERS)
"""Functions that are made here."""
