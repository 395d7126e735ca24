"""Write small TFLite files: one subgraph of int8 tensors and operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import tflite

Array = np.ndarray[Any, Any]

DTYPES = {
    "float32": tflite.TensorType.FLOAT32,
    "int32": tflite.TensorType.INT32,
    "int8": tflite.TensorType.INT8,
    "uint8": tflite.TensorType.UINT8,
}


@dataclass
class TensorSpec:
    """A tensor to write; `data` makes it constant."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "int8"
    scale: Sequence[float] | Array = ()
    zero_point: Sequence[int] = ()
    axis: int = 0
    data: Array | None = None
    signature: tuple[int, ...] = ()


@dataclass
class OpSpec:
    """An operator to write: builtin code, tensor indices, options (type name, field values)."""

    code: int
    inputs: Sequence[int]
    outputs: Sequence[int]
    options: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    custom: str = ""


def build_tflite(
    tensors: Sequence[TensorSpec],
    ops: Sequence[OpSpec],
    inputs: Sequence[int],
    outputs: Sequence[int],
    version: int = 3,
) -> bytes:
    """The bytes of a model file."""
    b = flatbuffers.Builder(1024)
    codes = [_operator_code(b, op) for op in ops]
    buffers = [_buffer(b, None)] + [_buffer(b, t.data) for t in tensors]
    tables = [_tensor(b, spec, index + 1) for index, spec in enumerate(tensors)]
    operators = [_operator(b, op, index) for index, op in enumerate(ops)]
    tensor_list = _offsets(b, tables, tflite.SubGraphStartTensorsVector)
    input_list, output_list = _ints(b, inputs), _ints(b, outputs)
    operator_list = _offsets(b, operators, tflite.SubGraphStartOperatorsVector)
    tflite.SubGraphStart(b)
    tflite.SubGraphAddTensors(b, tensor_list)
    tflite.SubGraphAddInputs(b, input_list)
    tflite.SubGraphAddOutputs(b, output_list)
    tflite.SubGraphAddOperators(b, operator_list)
    subgraphs = _offsets(b, [tflite.SubGraphEnd(b)], tflite.ModelStartSubgraphsVector)
    code_list = _offsets(b, codes, tflite.ModelStartOperatorCodesVector)
    buffer_list = _offsets(b, buffers, tflite.ModelStartBuffersVector)
    tflite.ModelStart(b)
    tflite.ModelAddVersion(b, version)
    tflite.ModelAddOperatorCodes(b, code_list)
    tflite.ModelAddSubgraphs(b, subgraphs)
    tflite.ModelAddBuffers(b, buffer_list)
    b.Finish(tflite.ModelEnd(b), b"TFL3")
    return bytes(b.Output())


def _offsets(b: Any, offsets: Sequence[int], start: Callable[[Any, int], Any]) -> int:
    start(b, len(offsets))
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def _ints(b: Any, values: Sequence[int]) -> int:
    return int(b.CreateNumpyVector(np.array(values, np.int32)))


def _operator_code(b: Any, op: OpSpec) -> int:
    custom = b.CreateString(op.custom) if op.custom else None
    tflite.OperatorCodeStart(b)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(op.code, 127))
    tflite.OperatorCodeAddBuiltinCode(b, op.code)
    tflite.OperatorCodeAddVersion(b, 2)
    if custom is not None:
        tflite.OperatorCodeAddCustomCode(b, custom)
    return int(tflite.OperatorCodeEnd(b))


def _buffer(b: Any, data: Array | None) -> int:
    vector = None
    if data is not None:
        vector = b.CreateByteVector(np.ascontiguousarray(data).tobytes())
    tflite.BufferStart(b)
    if vector is not None:
        tflite.BufferAddData(b, vector)
    return int(tflite.BufferEnd(b))


def _tensor(b: Any, spec: TensorSpec, buffer: int) -> int:
    name, shape = b.CreateString(spec.name), _ints(b, spec.shape)
    signature = _ints(b, spec.signature) if spec.signature else None
    quant = None
    if len(spec.scale):
        scale = b.CreateNumpyVector(np.array(spec.scale, np.float32))
        zero = b.CreateNumpyVector(np.array(spec.zero_point, np.int64))
        tflite.QuantizationParametersStart(b)
        tflite.QuantizationParametersAddScale(b, scale)
        tflite.QuantizationParametersAddZeroPoint(b, zero)
        tflite.QuantizationParametersAddQuantizedDimension(b, spec.axis)
        quant = tflite.QuantizationParametersEnd(b)
    tflite.TensorStart(b)
    tflite.TensorAddName(b, name)
    tflite.TensorAddShape(b, shape)
    tflite.TensorAddType(b, DTYPES[spec.dtype])
    tflite.TensorAddBuffer(b, buffer)
    if signature is not None:
        tflite.TensorAddShapeSignature(b, signature)
    if quant is not None:
        tflite.TensorAddQuantization(b, quant)
    return int(tflite.TensorEnd(b))


def _operator(b: Any, op: OpSpec, code_index: int) -> int:
    options = None
    if op.options:
        getattr(tflite, f"{op.options}Start")(b)
        for key, value in op.fields.items():
            getattr(tflite, f"{op.options}Add{key}")(b, value)
        options = getattr(tflite, f"{op.options}End")(b)
    inputs, outputs = _ints(b, op.inputs), _ints(b, op.outputs)
    tflite.OperatorStart(b)
    tflite.OperatorAddOpcodeIndex(b, code_index)
    tflite.OperatorAddInputs(b, inputs)
    tflite.OperatorAddOutputs(b, outputs)
    if options is not None:
        tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, op.options))
        tflite.OperatorAddBuiltinOptions(b, options)
    return int(tflite.OperatorEnd(b))
