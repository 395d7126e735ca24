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
    window_attrs,
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


# -- operators on values of either form ----------------------------------------------------------


def _moved(scope: Scope, node: OnnxNode, op: str, name: str, attrs: Mapping[str, Any]) -> Value:
    """An operator that keeps the quantisation: at once on integers, later on their float view."""
    pending = Pending(op, (name,), attrs, node.source, keep=name)
    if isinstance(scope.value(node, 0), Quantised):
        type_ = scope.builder.type_of(name)
        dtype = type_.source_dtype or type_.dtype
        return scope.emit(pending, node.outputs[0], type_.quant, dtype)
    return pending


def _either(scope: Scope, node: OnnxNode) -> str:
    """Name of the first operand, an int8 tensor or its float view."""
    value = scope.value(node, 0)
    return value.name if isinstance(value, Quantised) else activation(scope, node, 0)


def _add(scope: Scope, node: OnnxNode) -> Value:
    names = (activation(scope, node, 0), activation(scope, node, 1))
    return Pending("qnn.add", names, {"activation": "none"}, node.source)


def _relu(scope: Scope, node: OnnxNode) -> Value:
    value = scope.value(node, 0)
    if isinstance(value, Pending):
        return value.within(0.0, math.inf)
    name = activation(scope, node, 0)
    return _moved(scope, node, "qnn.clip", name, {"activation": "relu"})


def _clip(scope: Scope, node: OnnxNode) -> Value:
    # Before opset 11 the bounds are attributes.
    bounds = [node.real("min", -math.inf), node.real("max", math.inf)]
    for index in (0, 1):
        if node.has(index + 1):
            limit = scope.constant(node, index + 1, "bound")
            if limit.size != 1:
                raise Unsupported("its bounds must be single numbers")
            bounds[index] = float(limit.reshape(-1)[0])
    value = scope.value(node, 0)
    if isinstance(value, Pending):
        return value.within(*bounds)
    name = activation(scope, node, 0)
    same = Pending("reshape", (name,), _same_shape(scope, name), node.source, keep=name)
    return same.within(*bounds)


def _pool(
    scope: Scope, node: OnnxNode, op: str, kernel: tuple[int, int], attrs: Mapping[str, Any]
) -> Value:
    name = _either(scope, node)
    window = window_attrs(node, scope.builder.type_of(name).shape, kernel)
    if node.integer("ceil_mode", 0) or window.pop("dilation") != (1, 1):
        raise Unsupported("ceil_mode must be 0 and dilations 1")
    if len([o for o in node.outputs if o]) != 1:
        raise Unsupported("it must have 1 output")
    attrs = {"kernel": kernel, **window, "layout": "NCHW", "activation": "none", **attrs}
    if op == "qnn.max_pool2d":
        return _moved(scope, node, op, name, attrs)
    if isinstance(scope.value(node, 0), Quantised):
        raise Unsupported("an average of integers needs their quantisation; use the QDQ form")
    return Pending(op, (name,), attrs, node.source)


def _max_pool(scope: Scope, node: OnnxNode) -> Value:
    kernel = node.integers("kernel_shape", (0, 0))
    return _pool(scope, node, "qnn.max_pool2d", (kernel[0], kernel[1]), {})


def _average_pool(scope: Scope, node: OnnxNode) -> Value:
    kernel = node.integers("kernel_shape", (0, 0))
    border = bool(node.integer("count_include_pad", 0))
    attrs = {"count_include_pad": border}
    return _pool(scope, node, "qnn.avg_pool2d", (kernel[0], kernel[1]), attrs)


def _global_average_pool(scope: Scope, node: OnnxNode) -> Value:
    shape = scope.builder.type_of(activation(scope, node, 0)).shape
    if len(shape) != 4:
        raise Unsupported(f"its operand must have 4 axes, not the shape {shape}")
    attrs = {"count_include_pad": False}
    return _pool(scope, node, "qnn.avg_pool2d", (shape[2], shape[3]), attrs)


def _flatten(scope: Scope, node: OnnxNode) -> Value:
    name = _either(scope, node)
    shape = scope.builder.type_of(name).shape
    axis = node.integer("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise Unsupported(f"axis {axis} does not fit the shape {shape}")
    axis = axis + len(shape) if axis < 0 else axis
    flat = (math.prod(shape[:axis]), math.prod(shape[axis:]))
    return _moved(scope, node, "reshape", name, {"shape": flat})


def _reshape(scope: Scope, node: OnnxNode) -> Value:
    name = _either(scope, node)
    old = scope.builder.type_of(name).shape
    wanted = [int(v) for v in scope.constant(node, 1, "shape").reshape(-1)]
    if not node.integer("allowzero", 0):
        wanted = [old[i] if v == 0 and i < len(old) else v for i, v in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = math.prod(v for v in wanted if v != -1)
        if rest < 1 or math.prod(old) % rest:
            raise Unsupported(f"the shape {old} cannot become {wanted}")
        wanted[wanted.index(-1)] = math.prod(old) // rest
    return _moved(scope, node, "reshape", name, {"shape": tuple(wanted)})


def _softmax(scope: Scope, node: OnnxNode) -> Value:
    name = activation(scope, node, 0)
    rank = len(scope.builder.type_of(name).shape)
    if node.integer("axis", -1) not in (-1, rank - 1):
        raise Unsupported(f"axis must be the last one, not {node.integer('axis', -1)}")
    return Pending("qnn.softmax", (name,), {"beta": 1.0}, node.source)


def _constant(scope: Scope, node: OnnxNode) -> Value:
    tensor = node.tensor("value")
    if tensor is None:
        raise Unsupported("its value must be a tensor")
    try:
        return Constant(node.outputs[0], read_tensor(tensor))
    except FrontendError as error:
        raise Unsupported(str(error)) from None


def _identity(scope: Scope, node: OnnxNode) -> Value:
    return scope.value(node, 0)


Importer = Callable[[Scope, OnnxNode], Value]

IMPORTERS: Mapping[str, Importer] = {
    "Add": _add,
    "AveragePool": _average_pool,
    "Clip": _clip,
    "Constant": _constant,
    "Conv": conv,
    "DequantizeLinear": _dequantize_linear,
    "Flatten": _flatten,
    "Gemm": gemm,
    "GlobalAveragePool": _global_average_pool,
    "Identity": _identity,
    "MatMul": matmul,
    "MaxPool": _max_pool,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QuantizeLinear": _quantize_linear,
    "Relu": _relu,
    "Reshape": _reshape,
    "Softmax": _softmax,
    "com.microsoft.QGemm": qgemm,
    "com.microsoft.QLinearAdd": qlinear_add,
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
            type_ = scope.builder.type_of(source)
            scope.builder.declare(name, TensorType(type_.shape, "float32", None, type_.layout))
            scope.builder.emit("dequantize", [source], name, {}, f"output {name!r}")
        case Quantised(source):
            if source != name:
                scope.builder.declare(name, scope.builder.type_of(source))
                view = _same_shape(scope, source)
                scope.builder.emit("reshape", [source], name, view, f"output {name!r}")
        case Missing():
            pass
        case Pending(_, _, _, source):
            scope.builder.miss(source, f"its result {name!r} is returned without being quantised")
        case _:
            raise scope.builder.error(
                f"output {name!r} is not computed by a quantised operator; export it again"
            )
    return name
