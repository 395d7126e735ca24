"""Verify that a TFLite file is well-formed before its tables are read.

The generated readers trust every offset, and a wrong one may read from elsewhere in the file. Here
each table, vector and string that the importer touches is checked to lie inside the file, once per
place, so that the work is bounded by the file's size.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from compiler.errors import FrontendError


@dataclass(frozen=True)
class _Scalar:
    size: int


@dataclass(frozen=True)
class _Vector:
    """Of scalars of `size` bytes; strings are vectors of bytes."""

    size: int


@dataclass(frozen=True)
class _Table:
    name: str


@dataclass(frozen=True)
class _Tables:
    """A vector of tables."""

    name: str


_Field = _Scalar | _Vector | _Table | _Tables
_BYTE, _WORD, _LONG = _Scalar(1), _Scalar(4), _Scalar(8)
_TEXT, _BYTES, _WORDS, _LONGS = _Vector(1), _Vector(1), _Vector(4), _Vector(8)

# Field number -> what it is, for the fields that the importer reads (schema version 3).
_SCHEMA: Mapping[str, Mapping[int, _Field]] = {
    "Model": {0: _WORD, 1: _Tables("OperatorCode"), 2: _Tables("SubGraph"), 4: _Tables("Buffer")},
    "OperatorCode": {0: _BYTE, 1: _TEXT, 2: _WORD, 3: _WORD},
    "SubGraph": {0: _Tables("Tensor"), 1: _WORDS, 2: _WORDS, 3: _Tables("Operator")},
    "Tensor": {
        0: _WORDS,
        1: _BYTE,
        2: _WORD,
        3: _TEXT,
        4: _Table("QuantizationParameters"),
        5: _BYTE,
        7: _WORDS,
    },
    "QuantizationParameters": {2: _WORDS, 3: _LONGS, 4: _BYTE, 6: _WORD},
    "Operator": {0: _WORD, 1: _WORDS, 2: _WORDS, 3: _BYTE, 4: _Table("Options")},
    "Buffer": {0: _BYTES, 1: _LONG, 2: _LONG},
    # Which options an operator carries is only known from its code; see `check_options`.
    "Options": {},
    "Conv2DOptions": {0: _BYTE, 1: _WORD, 2: _WORD, 3: _BYTE, 4: _WORD, 5: _WORD},
    "DepthwiseConv2DOptions": {
        0: _BYTE,
        1: _WORD,
        2: _WORD,
        3: _WORD,
        4: _BYTE,
        5: _WORD,
        6: _WORD,
    },
    "Pool2DOptions": {0: _BYTE, 1: _WORD, 2: _WORD, 3: _WORD, 4: _WORD, 5: _BYTE},
    "FullyConnectedOptions": {0: _BYTE, 1: _BYTE, 2: _BYTE},
    "AddOptions": {0: _BYTE},
    "ConcatenationOptions": {0: _WORD, 1: _BYTE},
    "PadOptions": {},
    "ReducerOptions": {0: _BYTE},
    "SoftmaxOptions": {0: _WORD},
}


class _Checker:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.seen: set[tuple[str, int]] = set()

    def need(self, pos: int, size: int, what: str) -> None:
        if pos < 0 or pos + size > len(self.data):
            raise FrontendError(f"{what} at byte {pos} lies outside the file")

    def number(self, code: str, pos: int, what: str) -> int:
        self.need(pos, struct.calcsize(code), what)
        return int(struct.unpack_from(code, self.data, pos)[0])

    def vector(self, pos: int, size: int, what: str) -> int:
        """Check a vector; returns its length."""
        length = self.number("<I", pos, what)
        self.need(pos + 4, length * size, what)
        return length

    def table(self, name: str, pos: int) -> None:
        if (name, pos) in self.seen:
            return
        self.seen.add((name, pos))
        vtable = pos - self.number("<i", pos, name)
        vtable_size = self.number("<H", vtable, f"{name} field list")
        object_size = self.number("<H", vtable + 2, f"{name} field list")
        self.need(vtable, vtable_size, f"{name} field list")
        self.need(pos, object_size, name)
        for slot, field in _SCHEMA[name].items():
            entry = 4 + 2 * slot
            # The readers look at an entry that an odd size cuts in two.
            offset = self.number("<H", vtable + entry, name) if entry < vtable_size else 0
            if offset:
                size = field.size if isinstance(field, _Scalar) else 4
                if offset < 4 or offset + size > object_size:
                    raise FrontendError(f"field {slot} of {name} lies outside its table")
                self.field(name, field, pos + offset)

    def field(self, owner: str, field: _Field, pos: int) -> None:
        if isinstance(field, _Scalar):
            return
        target = pos + self.number("<I", pos, owner)
        match field:
            case _Vector(size):
                self.vector(target, size, f"vector of {owner}")
            case _Table(name):
                self.table(name, target)
            case _Tables(name):
                for index in range(self.vector(target, 4, f"list of {name}")):
                    entry = target + 4 + 4 * index
                    self.table(name, entry + self.number("<I", entry, name))


def check_model(data: bytes) -> None:
    """Verify all tables of a model file; FrontendError says what lies outside of it."""
    checker = _Checker(data)
    checker.table("Model", checker.number("<I", 0, "model"))


def check_options(data: bytes, pos: int, name: str) -> None:
    """Verify the options table of one operator, of the named type."""
    _Checker(data).table(name, pos)
