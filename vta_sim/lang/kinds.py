"""Types of the language, and the decorators that mark its functions and structures."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Generic, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from llvmlite import ir

from vta_hw.spec.errors import VtaKitError

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

CONTEXT = ir.Context()
"""Where LLVM knows the structures by name."""
POINTER = ir.PointerType()
_MARK = "__vta_lang__"


class KernelError(VtaKitError):
    """A function that is not of the language, or cannot be compiled."""


@dataclass(frozen=True)
class Scalar:
    """A number of `bits` bits, or with `lanes` a vector of them; `sort` is one letter: i u f b."""

    sort: str
    bits: int
    lanes: int = 0

    def __str__(self) -> str:
        name = "bool" if self.sort == "b" else f"{self.sort}{self.bits}"
        return f"{self.lanes} x {name}" if self.lanes else name

    @property
    def element(self) -> Scalar:
        """The type of one lane."""
        return Scalar(self.sort, self.bits)

    @property
    def is_integer(self) -> bool:
        """Whether it is neither a float nor a boolean."""
        return self.sort in "iu"

    @property
    def llvm(self) -> ir.Type:
        """As a value."""
        single = ir.FloatType() if self.sort == "f" else ir.IntType(self.bits)
        return ir.VectorType(single, self.lanes) if self.lanes else single

    @property
    def stored(self) -> ir.Type:
        """In memory, where a boolean takes a byte."""
        return ir.IntType(8) if self.sort == "b" else self.llvm

    @property
    def dtype(self) -> np.dtype[Any]:
        """Numpy's name of it in memory."""
        return np.dtype("i1" if self.sort == "b" else f"{self.sort}{self.bits // 8}")


BOOL = Scalar("b", 1)
I32 = Scalar("i", 32)
I64 = Scalar("i", 64)
F32 = Scalar("f", 32)

i8: TypeAlias = Annotated[int, Scalar("i", 8)]
u8: TypeAlias = Annotated[int, Scalar("u", 8)]
i16: TypeAlias = Annotated[int, Scalar("i", 16)]
i32: TypeAlias = Annotated[int, I32]
u32: TypeAlias = Annotated[int, Scalar("u", 32)]
i64: TypeAlias = Annotated[int, I64]
u64: TypeAlias = Annotated[int, Scalar("u", 64)]
f32: TypeAlias = Annotated[float, F32]

Vec: TypeAlias = Any
"""A vector: operators work lane by lane, a scalar beside one stands for equal lanes."""


class Array(Generic[T]):
    """A pointer to elements; what it points to belongs to someone else."""

    def __getitem__(self, index: int) -> T:
        """Element `index`; a structure is given as it lies there, not copied."""
        raise NotInCompiledCodeError

    def __setitem__(self, index: int, value: T) -> None:
        raise NotInCompiledCodeError


class NotInCompiledCodeError(RuntimeError):
    """Something of the language was called from Python."""


def inline_array(count: int) -> Any:
    """As a field's default: the structure holds `count` elements itself, not a pointer."""
    return _Inline(count)


@dataclass(frozen=True)
class _Inline:
    count: int


@dataclass(frozen=True)
class Parameter:
    """What `parameter` gives."""

    name: str


def parameter(name: str) -> Any:
    """A constant of the surrounding module whose value is chosen when a library is built."""
    return Parameter(name)


@dataclass(frozen=True)
class ArrayType:
    """Pointer to elements of a type."""

    element: Type

    def __str__(self) -> str:
        return f"Array[{self.element}]"

    llvm = stored = POINTER
    dtype = np.dtype("u8")


@dataclass(frozen=True)
class Field:
    """A member of a structure; with `count` an array that lies in it."""

    index: int
    type: Type
    count: int = 0


@dataclass(frozen=True)
class StructType:
    """A class marked with `struct`."""

    cls: type

    def __str__(self) -> str:
        return self.cls.__name__

    llvm = POINTER

    @property
    def fields(self) -> Mapping[str, Field]:
        """Members by name, in order."""
        return _fields(self.cls)

    @property
    def stored(self) -> ir.Type:
        """Its layout in memory, as C has it."""
        return _layout(self.cls)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The same layout for numpy."""
        return _dtype(self.cls)


Type = Scalar | ArrayType | StructType


@cache
def _layout(cls: type) -> ir.Type:
    made = CONTEXT.get_identified_type(f"{cls.__module__}.{cls.__name__}")
    made.set_body(
        *(
            ir.ArrayType(f.type.stored, f.count) if f.count else f.type.stored
            for f in _fields(cls).values()
        )
    )
    return made


@cache
def _dtype(cls: type) -> np.dtype[Any]:
    items: list[Any] = [
        (name, f.type.dtype, (f.count,)) if f.count else (name, f.type.dtype)
        for name, f in _fields(cls).items()
    ]
    return np.dtype(items, align=True)


@cache
def _fields(cls: type) -> Mapping[str, Field]:
    found = {}
    for index, (name, hint) in enumerate(_hints(cls).items()):
        kind = resolve(hint, f"{cls.__name__}.{name}")
        inline = cls.__dict__.get(name)
        if isinstance(inline, _Inline):
            assert isinstance(kind, ArrayType)
            found[name] = Field(index, kind.element, inline.count)
        else:
            assert kind is not None
            found[name] = Field(index, kind)
    return found


def _hints(thing: Any) -> dict[str, Any]:
    """Annotations, resolved where they were written."""
    module = vars(sys.modules[thing.__module__])
    return get_type_hints(thing, globalns=dict(module), include_extras=True)


def resolve(hint: Any, where: str) -> Type | None:
    """The type that an annotation stands for; None for no value."""
    if hint is None or hint is type(None):
        return None
    if hint is bool:
        return BOOL
    if hint is int:
        return I64
    if get_origin(hint) is Annotated:
        for note in get_args(hint)[1:]:
            if isinstance(note, Scalar):
                return note
    if get_origin(hint) is Array:
        element = resolve(get_args(hint)[0], where)
        assert element is not None
        return ArrayType(element)
    if isinstance(hint, type) and hint.__dict__.get(_MARK) == "struct":
        return StructType(hint)
    raise KernelError(f"{where} has the type {hint!r}, which compiled functions do not have")


@dataclass(frozen=True)
class Signature:
    """Parameters of a function by name, and what it returns."""

    params: Mapping[str, Type]
    result: Scalar | ArrayType | StructType | None


@cache
def signature(function: Callable[..., Any], owner: type | None = None) -> Signature:
    """The signature of a function of the language; `owner` is the structure it is a method of."""
    hints = _hints(function)
    params: dict[str, Type] = {}
    for name in inspect.signature(function).parameters:
        where = f"{name} of {function.__qualname__}"
        kind = StructType(owner) if owner and name == "self" else resolve(hints.get(name), where)
        if kind is None:
            raise KernelError(f"{where} needs a type")
        params[name] = kind
    return Signature(params, resolve(hints.get("return"), function.__qualname__))


def kernel(function: F) -> F:
    """Mark a function of the language."""
    setattr(function, _MARK, "kernel")
    return function


def inline(function: F) -> F:
    """Mark a function that is written out wherever it is called.

    Its parameters take the types of what it is given, and stay constants where they are given
    constants. It returns at its end or not at all.
    """
    setattr(function, _MARK, "inline")
    return function


def struct(cls: type[T]) -> type[T]:
    """Mark a structure; its methods are functions of the language."""
    setattr(cls, _MARK, "struct")
    for item in vars(cls).values():
        if inspect.isfunction(item) and not hasattr(item, _MARK):
            kernel(item)
    return cls


def mark(thing: Any) -> str:
    """How something was marked, or an empty string."""
    return str(getattr(thing, _MARK, ""))
