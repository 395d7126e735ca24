"""Import quantised ONNX models, in QDQ and in QLinear form: one function per operator.

QDQ: float operators between `DequantizeLinear` and `QuantizeLinear`. QLinear: operators on
integers that carry scales and zero points as inputs. `IMPORTERS` has both.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from compiler.errors import FrontendError
from compiler.frontend import onnx_fold, onnx_pools, onnx_shapes
from compiler.frontend.builder import Array, GraphBuilder, Unsupported
from compiler.frontend.onnx_file import OnnxFile, OnnxNode, read_tensor
from compiler.frontend.onnx_layers import (
    activation,
    conv,
    gemm,
    matmul,
    qgemm,
    qlinear_add,
    qlinear_conv,
    qlinear_matmul,
)
from compiler.frontend.onnx_values import (
    Constant,
    Dequantised,
    Missing,
    Pending,
    QuantConstant,
    Quantised,
    Real,
    Scope,
    Value,
    held_data,
    held_quant,
)
from compiler.graph.ir import Graph, TensorType
from compiler.graph.numerics import quantize_to

_QUANTISED_DTYPES = ("int8", "uint8")
# Operators on integers whose quantisation may be stated only before or after them, or not at all.
_NEEDS_QUANT = frozenset({"qnn.max_pool2d", "qnn.pad"})
_KEEPS_QUANT = _NEEDS_QUANT | {"reshape"}


# -- borders of the quantised part ---------------------------------------------------------------


def _quantize_linear(scope: Scope, node: OnnxNode) -> Value:
    value = scope.value(node, 0)
    if isinstance(value, Constant):
        return _quantize_constant(scope, node, value)
    quant, dtype = scope.per_tensor(node, 1, "result")
    name = node.outputs[0]
    match value:
        case Pending():
            return scope.emit(value, name, quant, dtype)
        case Dequantised(source):
            pending = Pending("reshape", (source,), _same_shape(scope, source), node.source, source)
            return scope.emit(pending, name, quant, dtype)
        case Real(source):
            pending = Pending("quantize", (source,), {"rounding": "even"}, node.source)
            return scope.emit(pending, name, quant, dtype)
    raise Unsupported(f"it quantises {node.inputs[0]!r}, which is not float32")


def _same_shape(scope: Scope, name: str) -> dict[str, Any]:
    return {"shape": scope.builder.type_of(name).shape}


def _quantize_constant(scope: Scope, node: OnnxNode, value: Constant) -> Value:
    scale = scope.constant(node, 1, "scale")
    zero = scope.constant(node, 2, "zero point") if node.has(2) else np.zeros(1, np.uint8)
    if zero.dtype not in (np.int8, np.uint8) or value.data.dtype != np.float32:
        raise Unsupported(f"it must turn float32 into int8 or uint8, not {zero.dtype}")
    held_quant(scale, zero)  # refuses scales that are none
    scale, zero = (_along(p, value.data, node.integer("axis", 1)) for p in (scale, zero))
    return Constant(node.outputs[0], quantize_to(value.data, scale, zero))


def _along(parameter: Array, data: Array, axis: int) -> Array:
    """A scale or zero point shaped to multiply along one axis."""
    if parameter.size == 1:
        return parameter.reshape(())
    if not -data.ndim <= axis < data.ndim or parameter.shape != (data.shape[axis],):
        raise Unsupported(f"its {parameter.size} scales do not fit axis {axis} of {data.shape}")
    shape = [1] * data.ndim
    shape[axis] = -1
    return parameter.reshape(shape)


def _dequantize_linear(scope: Scope, node: OnnxNode) -> Value:
    value = scope.value(node, 0)
    match value:
        case Constant(name, data):
            scale = scope.constant(node, 1, "scale")
            zero = np.zeros(1, data.dtype)
            if node.has(2):
                zero = scope.constant(node, 2, "zero point")
            if data.dtype not in (np.int8, np.uint8, np.int32) or zero.dtype != data.dtype:
                raise Unsupported(f"it must read int8, uint8 or int32, not {data.dtype}")
            axis = node.integer("axis", 1)
            _along(scale, data, axis)
            quant = held_quant(scale, zero, axis % max(data.ndim, 1))
            return QuantConstant(name, held_data(data), quant)
        case Quantised():
            quant, _ = scope.per_tensor(node, 1, "operand")
            return Dequantised(scope.bind(value, quant, "operand"))
    raise Unsupported(f"it dequantises {node.inputs[0]!r}, which holds no integers")


# -- operators on the float view -----------------------------------------------------------------


def _add(scope: Scope, node: OnnxNode) -> Value:
    values = [scope.value(node, position) for position in (0, 1)]
    for value, other in (values, values[::-1]):
        real = onnx_fold.real_constant(other)
        if isinstance(value, Pending) and onnx_fold.is_layer(value) and real is not None:
            return onnx_fold.add_bias(scope, value, real)
    names = (activation(scope, node, 0), activation(scope, node, 1))
    return Pending("qnn.add", names, {"activation": "none"}, node.source)


def _bounded(scope: Scope, node: OnnxNode, least: float, greatest: float) -> Value:
    """The operand between two bounds; what that means is seen when it is quantised."""
    value = scope.value(node, 0)
    if not isinstance(value, Pending):
        name = activation(scope, node, 0)
        value = Pending("reshape", (name,), _same_shape(scope, name), node.source, name)
    return value.within(least, greatest)


def _relu(scope: Scope, node: OnnxNode) -> Value:
    return _bounded(scope, node, 0.0, math.inf)


def _clip(scope: Scope, node: OnnxNode) -> Value:
    # Before opset 11 the bounds are attributes.
    bounds = [node.real("min", -math.inf), node.real("max", math.inf)]
    for index in (0, 1):
        if node.has(index + 1):
            limit = scope.constant(node, index + 1, "bound")
            if limit.size != 1:
                raise Unsupported("its bounds must be single numbers")
            bounds[index] = float(limit.reshape(-1)[0])
    if not bounds[0] <= bounds[1]:
        raise Unsupported(f"its bounds {bounds[0]:g} and {bounds[1]:g} must be in order")
    return _bounded(scope, node, bounds[0], bounds[1])


def _softmax(scope: Scope, node: OnnxNode) -> Value:
    name = activation(scope, node, 0)
    rank = len(scope.builder.type_of(name).shape)
    if node.integer("axis", -1) not in (-1, rank - 1):
        raise Unsupported(f"axis must be the last one, not {node.integer('axis', -1)}")
    return Pending("qnn.softmax", (name,), {"beta": 1.0}, node.source)


def _constant(scope: Scope, node: OnnxNode) -> Value:
    tensor = node.tensor("value")
    if tensor is None:
        for name, read in (("value_float", node.real), ("value_int", node.integer)):
            if name in node.attributes:
                kind = np.float32 if name == "value_float" else np.int64
                return Constant(node.outputs[0], np.array(read(name, 0), kind))
        if "value_ints" in node.attributes:
            return Constant(node.outputs[0], np.array(node.integers("value_ints", ()), np.int64))
        raise Unsupported("its value must be a tensor, a number or a list of integers")
    try:
        return Constant(node.outputs[0], read_tensor(tensor))
    except FrontendError as error:
        raise Unsupported(str(error)) from None


def _identity(scope: Scope, node: OnnxNode) -> Value:
    return scope.value(node, 0)


Importer = Callable[[Scope, OnnxNode], Value]

IMPORTERS: Mapping[str, Importer] = {
    "Add": _add,
    "AveragePool": onnx_pools.average_pool,
    "BatchNormalization": onnx_fold.batch_normalization,
    "Cast": onnx_shapes.cast,
    "Clip": _clip,
    "Concat": onnx_shapes.concat,
    "Constant": _constant,
    "Conv": conv,
    "DequantizeLinear": _dequantize_linear,
    "Dropout": onnx_shapes.dropout,
    "Flatten": onnx_shapes.flatten,
    "Gather": onnx_shapes.gather,
    "Gemm": gemm,
    "GlobalAveragePool": onnx_pools.global_average_pool,
    "Identity": _identity,
    "MatMul": matmul,
    "MaxPool": onnx_pools.max_pool,
    "Pad": onnx_shapes.pad,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QuantizeLinear": _quantize_linear,
    "ReduceMean": onnx_pools.reduce_mean,
    "Relu": _relu,
    "Reshape": onnx_shapes.reshape,
    "Shape": onnx_shapes.shape_of,
    "Softmax": _softmax,
    "Squeeze": onnx_shapes.squeeze,
    "Unsqueeze": onnx_shapes.unsqueeze,
    "com.microsoft.QGemm": qgemm,
    "com.microsoft.QLinearAdd": qlinear_add,
    "com.microsoft.QLinearAveragePool": onnx_pools.qlinear_average_pool,
    "com.microsoft.QLinearConcat": onnx_shapes.qlinear_concat,
    "com.microsoft.QLinearGlobalAveragePool": onnx_pools.qlinear_global_average_pool,
}


def import_onnx(data: bytes, name: str) -> Graph:
    """The graph of an ONNX file's contents; `name` is its path, for messages."""
    builder = GraphBuilder(name, "onnx")
    try:
        file = OnnxFile.read(data)
    except FrontendError as error:
        raise builder.error(f"no usable model, {error}; give a TFLite or ONNX file") from None
    readers = Counter(n for node in file.nodes for n in node.inputs) + Counter(file.outputs)
    scope = Scope(builder, readers)
    scope.values.update((n, Constant(n, data)) for n, data in file.constants.items())
    try:
        inputs = [_graph_input(scope, i.name, i.shape, i.dtype) for i in file.inputs]
        for node in file.nodes:
            _import_node(scope, node)
        outputs = [_graph_output(scope, output) for output in file.outputs]
    except Unsupported as error:
        raise builder.error(f"{error}; change the graph's inputs and outputs") from None
    builder.share_quant(_KEEPS_QUANT)
    builder.refuse_unquantised(_NEEDS_QUANT)
    return builder.finish(inputs, outputs)


def _graph_input(scope: Scope, name: str, shape: tuple[int, ...], dtype: str) -> str:
    if dtype in _QUANTISED_DTYPES:
        # Its quantisation is stated by its readers only.
        scope.declare(name, shape, None, dtype)
        scope.values[name] = Quantised(name)
    elif dtype == "float32":
        scope.builder.declare(name, TensorType(shape, "float32"))
        scope.values[name] = Real(name)
    else:
        raise scope.builder.error(f"input {name!r} must be float32, int8 or uint8, not {dtype}")
    return name


def _import_node(scope: Scope, node: OnnxNode) -> None:
    """Import one node, or note why that is not possible."""
    missing = any(isinstance(scope.values.get(n), Missing) for n in node.inputs)
    importer = IMPORTERS.get(node.op)
    result: Value = Missing()
    if importer is None:
        scope.builder.miss(node.source, "no importer for it")
    elif not missing:
        try:
            if not node.outputs:
                raise Unsupported("it has no output")
            result = importer(scope, node)
        except Unsupported as error:
            scope.builder.miss(node.source, str(error))
    scope.values.update((name, result) for name in node.outputs if name)


def _graph_output(scope: Scope, name: str) -> str:
    """Make sure that a tensor of the graph has the output's name."""
    value = scope.values.get(name)
    match value:
        case Dequantised(source):
            _dequantised_output(scope, source, name, name)
        case Quantised(source):
            if source != name:
                scope.builder.declare(name, scope.builder.type_of(source))
                view = _same_shape(scope, source)
                scope.builder.emit("reshape", [source], name, view, f"output {name!r}")
        case Missing():
            pass
        case Pending():
            try:
                _float_output(scope, value, name)
            except Unsupported as error:
                scope.builder.miss(value.source, str(error))
        case _:
            raise scope.builder.error(
                f"output {name!r} is not computed by a quantised operator; export it again"
            )
    return name


def _dequantised_output(scope: Scope, source: str, name: str, output: str) -> None:
    """A float32 tensor `name` of what the int8 tensor `source` stands for."""
    type_ = scope.builder.type_of(source)
    scope.builder.declare(name, TensorType(type_.shape, "float32", None, type_.layout))
    scope.builder.emit("dequantize", [source], name, {}, f"output {output!r}")


def _float_output(scope: Scope, value: Pending, name: str) -> None:
    """A result that is returned without being quantised: moved values, or a softmax, are fine."""
    bounded = value.range != (-math.inf, math.inf)
    if value.op == "qnn.softmax" and not bounded:
        given = f"{name}:input"
        _dequantised_output(scope, value.inputs[0], given, name)
        scope.builder.declare(name, scope.builder.type_of(given))
        scope.builder.emit("softmax_float", [given], name, {}, value.source)
    elif value.keep is not None and not bounded:
        type_ = scope.builder.type_of(value.keep)
        held = scope.emit(value, f"{name}:held", type_.quant, type_.source_dtype or "int8")
        _dequantised_output(scope, held.name, name, name)
    else:
        raise Unsupported(f"its result {name!r} is returned without being quantised")
