"""The messages of an ONNX file as plain values, every size checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, TensorProto

from compiler.errors import FrontendError
from compiler.frontend.builder import Array, Unsupported

# element type -> (numpy type, the field that holds it when `raw_data` does not)
_ELEMENTS: Mapping[int, tuple[str, str]] = {
    TensorProto.FLOAT: ("float32", "float_data"),
    TensorProto.INT8: ("int8", "int32_data"),
    TensorProto.UINT8: ("uint8", "int32_data"),
    TensorProto.INT32: ("int32", "int32_data"),
    TensorProto.INT64: ("int64", "int64_data"),
}
_MAX_ELEMENTS = 1 << 31


@dataclass(frozen=True)
class OnnxNode:
    """One node; `op` carries the domain unless it is ONNX's own, `source` is for messages."""

    op: str
    source: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, AttributeProto]

    def has(self, position: int) -> bool:
        """Whether an optional input is given."""
        return position < len(self.inputs) and self.inputs[position] != ""

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        found = self._attribute(name, AttributeProto.INT, "an integer")
        return default if found is None else int(found.i)

    def integers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """A list-of-integers attribute, as long as its default where that has a length."""
        found = self._attribute(name, AttributeProto.INTS, "a list of integers")
        values = default if found is None else tuple(int(v) for v in found.ints)
        if default and len(values) != len(default):
            raise Unsupported(f"{name} must have {len(default)} values, not {list(values)}")
        return values

    def real(self, name: str, default: float) -> float:
        """A float attribute."""
        found = self._attribute(name, AttributeProto.FLOAT, "a float")
        return default if found is None else float(found.f)

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        found = self._attribute(name, AttributeProto.STRING, "a string")
        return default if found is None else found.s.decode("utf-8", "backslashreplace")

    def tensor(self, name: str) -> TensorProto | None:
        """A tensor attribute, if there is one."""
        found = self._attribute(name, AttributeProto.TENSOR, "a tensor")
        return None if found is None else found.t

    def _attribute(self, name: str, kind: int, what: str) -> AttributeProto | None:
        found = self.attributes.get(name)
        if found is not None and found.type != kind:
            raise Unsupported(f"its attribute {name} must be {what}")
        return found


@dataclass(frozen=True)
class OnnxInput:
    """A graph input: its shape and element type (a numpy name)."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class OnnxFile:
    """The main graph of a file."""

    nodes: tuple[OnnxNode, ...]
    inputs: tuple[OnnxInput, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Array]

    @classmethod
    def read(cls, data: bytes) -> OnnxFile:
        """Read everything; FrontendError says what is wrong, without the file's name."""
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
        except DecodeError:
            raise FrontendError("it is no TFLite file and does not decode as ONNX") from None
        if not model.HasField("graph") or not model.graph.node:
            raise FrontendError("it is no TFLite file and holds no ONNX graph")
        if not model.opset_import:
            raise FrontendError("it names no operator set")
        domains = {_domain(opset) for opset in model.opset_import}
        for node in model.graph.node:
            if _domain(node) not in domains:
                raise FrontendError(f"it names no operator set of the domain {node.domain!r}")
        return cls._read_graph(model.graph)

    @classmethod
    def _read_graph(cls, graph: Any) -> OnnxFile:
        if graph.sparse_initializer:
            raise FrontendError("it has sparse constants")
        constants = {_text(t.name): read_tensor(t) for t in graph.initializer}
        inputs = tuple(_read_input(v) for v in graph.input if v.name not in constants)
        outputs = tuple(_text(v.name) for v in graph.output)
        if not inputs or not outputs:
            raise FrontendError("it must have graph inputs and outputs")
        nodes = tuple(_read_node(node, index) for index, node in enumerate(graph.node))
        return cls(nodes, inputs, outputs, constants)


def read_tensor(tensor: Any) -> Array:
    """The value of a constant."""
    name, shape = _text(tensor.name), tuple(int(d) for d in tensor.dims)
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise FrontendError(
            f"constant {name!r} lies in another file; save the model with its data inside"
        )
    if tensor.data_type not in _ELEMENTS:
        raise FrontendError(f"constant {name!r} has the unsupported type {_type_name(tensor)}")
    if min(shape, default=1) < 0 or math.prod(shape) > _MAX_ELEMENTS:
        raise FrontendError(f"constant {name!r} has the impossible shape {shape}")
    dtype, field = _ELEMENTS[tensor.data_type]
    count = math.prod(shape)
    if tensor.HasField("raw_data"):
        have = len(tensor.raw_data) / np.dtype(dtype).itemsize
    else:
        have = len(getattr(tensor, field))
    if have != count:
        raise FrontendError(f"constant {name!r} of shape {shape} holds {have:g} values")
    if tensor.HasField("raw_data"):
        little = np.dtype(dtype).newbyteorder("<")
        return np.frombuffer(tensor.raw_data, little).astype(dtype).reshape(shape)
    wide = np.float32 if dtype == "float32" else np.int64
    return np.array(getattr(tensor, field), wide).astype(dtype).reshape(shape)


def _type_name(tensor: Any) -> str:
    known = {v: k for k, v in TensorProto.DataType.items()}
    return known.get(tensor.data_type, str(tensor.data_type))


def _read_input(value: Any) -> OnnxInput:
    name, kind = _text(value.name), value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type not in _ELEMENTS:
        raise FrontendError(f"input {name!r} must be a tensor of float32, int8 or uint8")
    shape = tuple(d.dim_value for d in kind.shape.dim)
    if not kind.HasField("shape") or min(shape, default=1) < 1:
        dims = [str(d.dim_value or d.dim_param or "?") for d in kind.shape.dim]
        raise FrontendError(
            f"input {name!r} has the dynamic shape ({', '.join(dims)}); export the model with "
            "fixed shapes"
        )
    return OnnxInput(name, shape, _ELEMENTS[kind.elem_type][0])


def _read_node(node: Any, index: int) -> OnnxNode:
    domain = _domain(node)
    op = f"{domain}.{_text(node.op_type)}" if domain else _text(node.op_type)
    outputs = tuple(_text(name) for name in node.output)
    return OnnxNode(
        op,
        f"{op} #{index}" + (f" -> {outputs[0]!r}" if outputs else ""),
        tuple(_text(name) for name in node.input),
        outputs,
        {_text(a.name): a for a in node.attribute},
    )


def _domain(message: Any) -> str:
    """The domain of a node or operator set; ONNX's own has two spellings."""
    domain = _text(message.domain)
    return "" if domain == "ai.onnx" else domain


def _text(value: str | bytes) -> str:
    """A name; protobuf hands out bytes where the file holds something else."""
    if isinstance(value, bytes):
        raise FrontendError(f"the name {value!r} in it is no UTF-8 text")
    return value
