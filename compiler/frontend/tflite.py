"""Import int8 TFLite models: one function per operator, in `IMPORTERS`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import tflite

from compiler.errors import FrontendError
from compiler.frontend import tflite_layers as layers
from compiler.frontend.builder import GraphBuilder, Unsupported, check_same_quant
from compiler.frontend.flatcheck import check_model
from compiler.frontend.tflite_context import ImportContext, activation_name
from compiler.frontend.tflite_file import Operator, TfliteFile, read_options
from compiler.graph.ir import Graph, Quant


def _add(ctx: ImportContext, op: Operator) -> None:
    options = read_options(op, tflite.AddOptions)
    names = [ctx.activation(ctx.operand(op, position)) for position in (0, 1)]
    attrs = {"activation": activation_name(options.FusedActivationFunction())}
    ctx.builder.emit("qnn.add", names, ctx.activation(ctx.result(op)), attrs, op.source)


def _reshape(ctx: ImportContext, op: Operator) -> None:
    x, out = ctx.operand(op, 0), ctx.result(op)
    source, result = ctx.activation(x), ctx.activation(out)
    check_same_quant(x.held_quant, out.held_quant, "a reshape")
    ctx.builder.emit("reshape", [source], result, {"shape": out.shape}, op.source)


def _softmax(ctx: ImportContext, op: Operator) -> None:
    options = read_options(op, tflite.SoftmaxOptions)
    x, out = ctx.operand(op, 0), ctx.result(op)
    source, result = ctx.activation(x), ctx.activation(out)
    expected = Quant.per_tensor(1 / 256, -128)
    if str(out.held_quant) != str(expected):
        raise Unsupported(f"its output must have the quantisation {expected}, not {out.held_quant}")
    beta = float(options.Beta())
    if not 0 < beta < math.inf:
        raise Unsupported(f"beta must be positive, not {beta}")
    ctx.builder.emit("qnn.softmax", [source], result, {"beta": beta}, op.source)


def _clip(ctx: ImportContext, op: Operator, activation: str) -> None:
    source, result = ctx.activation(ctx.operand(op, 0)), ctx.activation(ctx.result(op))
    ctx.builder.emit("qnn.rescale", [source], result, {"activation": activation}, op.source)


def _relu(ctx: ImportContext, op: Operator) -> None:
    _clip(ctx, op, "relu")


def _relu6(ctx: ImportContext, op: Operator) -> None:
    _clip(ctx, op, "relu6")


def _quantize(ctx: ImportContext, op: Operator) -> None:
    x, out = ctx.operand(op, 0), ctx.result(op)
    result = ctx.activation(out)
    if x.dtype == "float32":
        source = ctx.declare(x)
        ctx.builder.emit("quantize", [source], result, {"rounding": "away"}, op.source)
        return
    source = ctx.activation(x)
    if str(x.held_quant) == str(out.held_quant):
        # int8 <-> uint8 with zero points 128 apart: the same values as the graph holds them.
        ctx.builder.emit("reshape", [source], result, {"shape": out.shape}, op.source)
    else:
        ctx.builder.emit("qnn.rescale", [source], result, {}, op.source)


def _dequantize(ctx: ImportContext, op: Operator) -> None:
    x, out = ctx.operand(op, 0), ctx.result(op)
    source = ctx.activation(x)
    ctx.builder.emit("dequantize", [source], ctx.declare(out), {}, op.source)


Importer = Callable[[ImportContext, Operator], None]

IMPORTERS: Mapping[str, Importer] = {
    "ADD": _add,
    "AVERAGE_POOL_2D": layers.average_pool_2d,
    "CONCATENATION": layers.concatenation,
    "CONV_2D": layers.conv_2d,
    "DEPTHWISE_CONV_2D": layers.depthwise_conv_2d,
    "DEQUANTIZE": _dequantize,
    "FULLY_CONNECTED": layers.fully_connected,
    "MAX_POOL_2D": layers.max_pool_2d,
    "MEAN": layers.mean,
    "PAD": layers.pad,
    "QUANTIZE": _quantize,
    "RELU": _relu,
    "RELU6": _relu6,
    "RESHAPE": _reshape,
    "SOFTMAX": _softmax,
}


def import_tflite(data: bytes, name: str) -> Graph:
    """The graph of a TFLite file's contents; `name` is its path, for messages."""
    builder = GraphBuilder(name, "tflite")
    try:
        check_model(data)
        file = TfliteFile.read(data)
    except FrontendError as error:
        raise builder.error(f"no readable TFLite file, {error}; fetch or export it again") from None
    ctx = ImportContext(file, builder)
    inputs = [_boundary(ctx, index) for index in file.inputs]
    for op in file.operators:
        importer = IMPORTERS.get(op.code)
        if importer is None:
            builder.miss(op.source, "no importer for it")
            continue
        try:
            importer(ctx, op)
        except Unsupported as error:
            builder.miss(op.source, str(error))
    outputs = [_boundary(ctx, index) for index in file.outputs]
    return builder.finish(inputs, outputs)


def _boundary(ctx: ImportContext, index: int) -> str:
    """Name of a graph input or output, declared."""
    tensor = ctx.file.tensors[index]
    if tensor.data is not None:
        raise ctx.builder.error(
            f"tensor {tensor.name!r} is constant and a graph input or output; export it again"
        )
    try:
        return ctx.declare(tensor)
    except Unsupported as error:
        raise ctx.builder.error(f"{error}; convert the graph's inputs and outputs") from None
