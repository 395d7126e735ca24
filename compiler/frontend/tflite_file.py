"""The tables of a TFLite file as plain values, every index checked.

Expects bytes that `flatcheck.check_model` has accepted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import tflite

from compiler.errors import FrontendError
from compiler.frontend.builder import UINT8_SHIFT, Array, Unsupported
from compiler.frontend.flatcheck import check_options
from compiler.graph.ir import Quant

_DTYPES = {
    value: name.lower()
    for name, value in vars(tflite.TensorType).items()
    if isinstance(value, int) and not name.startswith("_")
}
_NUMPY = ("int8", "uint8", "int16", "int32", "int64", "float32", "float64", "bool")
_OPTION_CODES = {
    value: name
    for name, value in vars(tflite.BuiltinOptions).items()
    if isinstance(value, int) and not name.startswith("_")
}
_SCHEMA_VERSION = 3
_MAX_RANK = 8
_MAX_ELEMENTS = 1 << 31


@dataclass(frozen=True)
class TfTensor:
    """A tensor as the file declares it; `data` is None unless it is constant."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    quant: Quant | None
    data: Array | None

    @property
    def held(self) -> Array:
        """A constant as the graph holds it: uint8 becomes int8, moved by 128."""
        assert self.data is not None
        if self.dtype != "uint8":
            return self.data
        return (self.data.astype(np.int16) - UINT8_SHIFT).astype(np.int8)

    @property
    def held_quant(self) -> Quant | None:
        """The quantisation of the values as the graph holds them."""
        if self.quant is None or self.dtype != "uint8":
            return self.quant
        return Quant(self.quant.scale, self.quant.zero_point - UINT8_SHIFT, self.quant.axis)


@dataclass(frozen=True)
class Operator:
    """One operator: `source` is for messages, `table` its raw table."""

    code: str
    source: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    table: Any


@dataclass(frozen=True)
class TfliteFile:
    """The one subgraph of a file."""

    tensors: tuple[TfTensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]

    @classmethod
    def read(cls, data: bytes) -> TfliteFile:
        """Read all tables; FrontendError says what is wrong, without the file's name."""
        model = tflite.Model.GetRootAs(data, 0)
        if model.Version() != _SCHEMA_VERSION:
            raise FrontendError(f"schema version must be {_SCHEMA_VERSION}, not {model.Version()}")
        if model.SubgraphsLength() != 1:
            raise FrontendError(f"it must hold 1 subgraph, not {model.SubgraphsLength()}")
        subgraph = model.Subgraphs(0)
        tensors = _read_tensors(model, subgraph)
        count = len(tensors)
        inputs = _indices(subgraph.InputsAsNumpy(), count, 0, "graph input")
        outputs = _indices(subgraph.OutputsAsNumpy(), count, 0, "graph output")
        if not inputs or not outputs:
            raise FrontendError("it must have graph inputs and outputs")
        operators = _read_operators(model, subgraph, tensors)
        return cls(tensors, inputs, outputs, operators)


def read_options(op: Operator, kind: type[Any]) -> Any:
    """The options table of an operator, which must be of the type that its code asks for."""
    found = _OPTION_CODES.get(op.table.BuiltinOptionsType(), "unknown options")
    union = op.table.BuiltinOptions()
    if found != kind.__name__ or union is None:
        raise Unsupported(f"its options must be {kind.__name__}, not {found}")
    try:
        check_options(union.Bytes, union.Pos, kind.__name__)
    except FrontendError as error:
        raise Unsupported(f"its options are damaged ({error}); fetch the file again") from None
    options = kind()
    options.Init(union.Bytes, union.Pos)
    return options


def _vector(value: Any) -> Array:
    """A vector as the readers return it: they give 0 where there is none."""
    return value if isinstance(value, np.ndarray) else np.zeros(0, np.int32)


def _indices(value: Any, count: int, least: int, what: str) -> tuple[int, ...]:
    found = tuple(int(v) for v in _vector(value))
    for index in found:
        if not least <= index < count:
            raise FrontendError(f"{what} {index} must be within {least}..{count - 1}")
    return found


def _read_tensors(model: Any, subgraph: Any) -> tuple[TfTensor, ...]:
    names: set[str] = set()
    tensors = []
    for index in range(subgraph.TensorsLength()):
        table = subgraph.Tensors(index)
        name = (table.Name() or b"").decode("utf-8", "backslashreplace") or f"tensor_{index}"
        if name in names:
            name = f"{name}#{index}"
        names.add(name)
        tensors.append(_read_tensor(model, table, name))
    return tuple(tensors)


def _read_tensor(model: Any, table: Any, name: str) -> TfTensor:
    shape = tuple(int(v) for v in _vector(table.ShapeAsNumpy()))
    signature = tuple(int(v) for v in _vector(table.ShapeSignatureAsNumpy()))
    # A batch of unknown size is run as the 1 that the shape states; other unknowns have no size.
    if min(shape, default=1) < 1 or min(signature[1:], default=1) < 1:
        raise FrontendError(
            f"tensor {name!r} has the dynamic shape {signature or shape}; export the model with "
            "fixed shapes"
        )
    if len(shape) > _MAX_RANK or math.prod(shape) > _MAX_ELEMENTS:
        raise FrontendError(
            f"tensor {name!r} of shape {shape} must have at most {_MAX_RANK} axes and "
            f"{_MAX_ELEMENTS} elements"
        )
    dtype = _DTYPES.get(table.Type(), f"type {table.Type()}")
    buffer = table.Buffer()
    if buffer >= model.BuffersLength():
        raise FrontendError(
            f"tensor {name!r} names buffer {buffer} of {model.BuffersLength()} buffers"
        )
    raw = model.Buffers(buffer)
    if raw.Offset() > 1:
        raise FrontendError(f"the data of tensor {name!r} lies outside the model's tables")
    data = None
    if raw.DataLength():
        data = _read_data(raw.DataAsNumpy(), name, shape, dtype)
    return TfTensor(name, shape, dtype, _read_quant(table.Quantization(), name, dtype), data)


def _read_data(raw: Array, name: str, shape: tuple[int, ...], dtype: str) -> Array | None:
    if dtype not in _NUMPY:
        raise FrontendError(f"constant {name!r} has the unsupported element type {dtype}")
    kind = np.dtype(dtype)
    if raw.size != math.prod(shape) * kind.itemsize:
        raise FrontendError(
            f"constant {name!r} of shape {shape} must have {math.prod(shape) * kind.itemsize} "
            f"bytes, not {raw.size}"
        )
    # A view of the file: many tensors may name one buffer.
    return raw.view(kind.newbyteorder("<")).reshape(shape)


def _read_quant(table: Any, name: str, dtype: str) -> Quant | None:
    if table is None or table.ScaleLength() == 0:
        return None
    scale = table.ScaleAsNumpy().astype(np.float32)
    zero = _vector(table.ZeroPointAsNumpy()).astype(np.int64)
    if zero.size == 0:
        zero = np.zeros(scale.size, np.int64)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise FrontendError(f"tensor {name!r} must have positive finite scales")
    if zero.size not in (1, scale.size):
        raise FrontendError(f"tensor {name!r} has {zero.size} zero points, {scale.size} scales")
    if dtype in ("int8", "uint8"):
        info = np.iinfo(dtype)
        if zero.min() < info.min or zero.max() > info.max:
            raise FrontendError(f"tensor {name!r} has a zero point outside of {dtype}")
    zero = np.broadcast_to(zero, scale.shape).copy()
    axis = None if scale.size == 1 else int(table.QuantizedDimension())
    return Quant(scale, zero, axis)


def _read_operators(
    model: Any, subgraph: Any, tensors: tuple[TfTensor, ...]
) -> tuple[Operator, ...]:
    names = _builtin_names()
    operators = []
    for index in range(subgraph.OperatorsLength()):
        table = subgraph.Operators(index)
        if table.OpcodeIndex() >= model.OperatorCodesLength():
            raise FrontendError(f"operator {index} has the unknown code {table.OpcodeIndex()}")
        entry = model.OperatorCodes(table.OpcodeIndex())
        # Older writers fill only the byte-sized field, newer ones both.
        number = max(entry.BuiltinCode(), entry.DeprecatedBuiltinCode())
        code = names.get(number, f"operator code {number}")
        if code == "CUSTOM":
            code = f"CUSTOM {(entry.CustomCode() or b'').decode('utf-8', 'backslashreplace')}"
        inputs = _indices(table.InputsAsNumpy(), len(tensors), -1, f"input of operator {index}")
        outputs = _indices(table.OutputsAsNumpy(), len(tensors), 0, f"output of operator {index}")
        writes = f" -> {tensors[outputs[0]].name!r}" if outputs else ""
        operators.append(Operator(code, f"{code} #{index}{writes}", inputs, outputs, table))
    return tuple(operators)


def _builtin_names() -> dict[int, str]:
    members = vars(tflite.BuiltinOperator).items()
    return {v: name for name, v in members if isinstance(v, int) and not name.startswith("_")}
