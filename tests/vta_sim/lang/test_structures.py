"""Structures of compiled functions: layout, fields, inner structures, methods, records."""

from __future__ import annotations

import numpy as np
import pytest
from llvmlite import binding as llvm

from tests.vta_sim.lang.compiled import compiled
from vta_sim.lang.build import Record
from vta_sim.lang.kinds import (
    Array,
    StructType,
    f32,
    i8,
    i16,
    i32,
    i64,
    inline_array,
    kernel,
    struct,
    u8,
    u64,
)
from vta_sim.lang.ops import at, copy, fill, reinterpret, release, resize
from vta_sim.native.engine import Engine
from vta_sim.native.machine import Machine
from vta_sim.native.table import Insn
from vta_sim.timing.parts import Core


@struct
class Point:
    """Padding between its fields, and behind them."""

    kind: u8
    x: i32
    flag: bool
    far: i64
    small: i8

    def moved(self, by: i64) -> i64:
        """Move it; where it is now."""
        self.x += by
        self.far -= by
        return self.x

    def twice(self, by: i64) -> i64:
        """A method that calls a method."""
        self.moved(by)
        return self.moved(by)


@struct
class Shape:
    """Inner structures, inline arrays of numbers and of structures, pointers to both."""

    count: i16
    first: Point
    corners: Array[Point] = inline_array(3)
    weights: Array[i16] = inline_array(5)
    flags: Array[bool] = inline_array(3)
    values: Array[i64]
    others: Array[Point]
    scale: f32
    total: u64


@kernel
def fields(s: Shape) -> i64:
    s.count += 1
    s.first.kind = s.count + 294
    s.first.far = -s.count
    s.first.flag = s.count > 0
    point = s.first
    point.small = s.count + 194
    for i in range(3):
        s.corners[i].x = i * 10
        s.corners[i].flag = i == 1
        s.flags[i] = not s.corners[i].flag
    for i in range(5):
        s.weights[i] += i - 70000
    s.scale = s.scale * 2.0
    s.total = 0 - 1
    others = s.others
    others[1].x = others[0].x + 5
    last = others[1]
    last.far = s.values[1]
    s.values[0] = last.x
    return s.corners[2].x + point.kind


@kernel
def methods(s: Shape) -> i64:
    for i in range(3):
        s.corners[i].moved(i)
    return s.first.twice(4) + s.others[1].moved(-3)


@kernel
def passed_on(s: Shape) -> i64:
    return x_of(s.first) + x_of(s.corners[2]) + sum_of(s.weights, 5) + sum_of(at(s.weights, 3), 2)


@kernel
def x_of(point: Point) -> i64:
    return point.x


@kernel
def sum_of(values: Array[i16], count: i64) -> i64:
    total = 0
    for i in range(count):
        total += values[i]
    return total


@kernel
def size_in_bytes(shapes: Array[Shape]) -> i64:
    first = reinterpret(u8, at(shapes, 1))
    first[0] = 77
    return shapes[1].count


def _shape() -> tuple[Record, np.ndarray, np.ndarray]:
    record = Record(Shape)
    values = np.arange(4)
    others = np.zeros(2, StructType(Point).dtype)
    record["values"], record["others"] = values, others
    return record, values, others


def test_fields_of_all_kinds():
    record, values, others = _shape()
    record["count"], record["scale"] = 5, 1.25
    record["weights"] = [1, 2, 3, 4, 5]
    others["x"] = [7, 0]
    assert compiled(fields)(record) == 20 + 300 % 256
    assert record["count"] == 6
    assert record["first"].tolist() == (300 % 256, 0, 1, -6, 200 - 256)
    assert record["corners"]["x"].tolist() == [0, 10, 20]
    assert record["corners"]["flag"].tolist() == [0, 1, 0]
    assert record["flags"].tolist() == [1, 0, 1]
    assert record["weights"].tolist() == [
        (1 + 2 * i - 70000 + 98304) % 65536 - 32768 for i in range(5)
    ]
    assert record["scale"] == 2.5
    assert record["total"] == (1 << 64) - 1
    assert others["x"].tolist() == [7, 12]
    assert others["far"].tolist() == [0, 1]
    assert values.tolist() == [12, 1, 2, 3]


def test_methods_change_what_they_belong_to():
    record, _, others = _shape()
    others["x"] = [0, 50]
    assert compiled(methods)(record) == 8 + 47
    assert record["corners"]["x"].tolist() == [0, 1, 2]
    assert record["corners"]["far"].tolist() == [0, -1, -2]
    assert record["first"]["far"] == -8
    assert others["far"].tolist() == [0, 3]


def test_structures_and_arrays_are_passed_by_their_place():
    record, _, _ = _shape()
    record["first"]["x"] = 100
    record["corners"]["x"] = [1, 2, 30]
    record["weights"] = [1, 1, 1, 5, 7]
    assert compiled(passed_on)(record) == 130 + 15 + 12


@pytest.mark.parametrize("cls", [Point, Shape, Insn, Machine, Engine, Core])
def test_numpy_and_llvm_lay_structures_out_alike(cls):
    kind = StructType(cls)
    llvm.initialize_native_target()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine()
    data, stored = machine.target_data, kind.stored
    assert stored.get_abi_size(data, stored.context) == kind.dtype.itemsize
    assert kind.dtype.fields is not None
    for name, item in kind.fields.items():
        offset = stored.get_element_offset(data, item.index, stored.context)
        assert offset == kind.dtype.fields[name][1], name


def test_elements_of_an_array_follow_each_other():
    shapes = np.zeros(3, StructType(Shape).dtype)
    assert compiled(size_in_bytes)(shapes) == 77
    assert shapes["count"].tolist() == [0, 77, 0]


# -- memory ---------------------------------------------------------------------------------------


@struct
class Growing:
    """Memory of its own."""

    items: Array[i32]
    points: Array[Point]
    count: i64
    room: i64

    def push(self, value: i64) -> None:
        """One more."""
        if self.count == self.room:
            self.room = 2 * self.room + 1
            self.items = resize(self.items, self.room)
            self.points = resize(self.points, self.room)
        self.items[self.count] = value
        self.points[self.count].far = value * value
        self.count += 1

    def free(self) -> None:
        """Give it back."""
        release(self.items)
        release(self.points)


@kernel
def grow(g: Growing, count: i64) -> i64:
    total = 0
    for i in range(count):
        g.push(i)
    for i in range(count):
        total += g.items[i] + g.points[i].far
    return total


@kernel
def give_back(g: Growing) -> None:
    g.free()


@kernel
def moved_bytes(target: Array[u8], source: Array[i32]) -> None:
    fill(target, 255, 3)
    copy(at(target, 4), reinterpret(u8, at(source, 1)), 8)
    fill(at(target, 14), -2, 0)
    fill(at(target, 15), 300 - 299, 1)


def test_memory_of_its_own():
    record = Record(Growing)
    assert compiled(grow)(record, 1000) == sum(i + i * i for i in range(1000))
    assert record["count"] == 1000
    assert record.copy_of("items", 5, np.dtype(np.int32)).tolist() == [0, 1, 2, 3, 4]
    assert record.copy_of("items", 0, np.dtype(np.int32)).tolist() == []
    compiled(give_back)(record)


def test_bytes_are_copied_and_set():
    target, source = np.zeros(16, np.uint8), np.array([1, -2, 0x01020304], np.int32)
    compiled(moved_bytes)(target, source)
    expected = [255] * 3 + [0] + list(source[1:].tobytes()) + [0] * 3 + [1]
    assert target.tolist() == expected


def test_records_keep_what_they_point_to():
    record, values, _ = _shape()
    assert record.kept("values") is values
    assert record.address == record.array.ctypes.data
    other = Record(Point)
    other["x"] = 9
    record.embed("first", other)
    assert record["first"]["x"] == 9
    other["x"] = 1
    assert record["first"]["x"] == 9  # a copy
