"""From a fused kernel of the graph to the template that VTA runs it with, or the reason why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compiler.graph.fuse import Kernel
from compiler.graph.ir import Graph, Node, TensorType
from compiler.topi import conv2d as conv
from compiler.topi import pool
from compiler.topi.conv2d import Conv2d, ConvBuild, reach
from compiler.topi.elementwise import check_supported as check_elementwise
from compiler.topi.elementwise import elementwise
from compiler.topi.kernel import KernelTemplate, Packed
from compiler.topi.pool import Pool, PoolBuild, Rescaled
from compiler.topi.pool_beside import Windows
from compiler.topi.requant import Requant
from compiler.topi.requant_plain import requantiser
from compiler.topi.steps import (
    Add,
    Clip,
    LinearAdd,
    Rescale,
    Scale,
    ScaledAdd,
    Step,
    clipped,
    linear_approximation,
)
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Rounding

Build = Callable[[], KernelTemplate]

_MODES = {"double": Rounding.DOUBLE, "single": Rounding.SINGLE, "float": Rounding.FLOAT}


def device_name(tensor: str) -> str:
    """Name of the packed form, in device memory, of a tensor of the model."""
    return f"{tensor}@vta"


def packed(name: str, type_: TensorType) -> Packed:
    """Logical extents of an activation, from the axis letters of its layout."""
    axes = type_.layout or "NC"
    extent = dict(zip(axes, type_.shape, strict=True))
    return Packed(
        device_name(name), extent["N"], extent["C"], extent.get("H", 1), extent.get("W", 1)
    )


def select(kernel: Kernel, graph: Graph, config: VtaConfig) -> Build | str:
    """A function that builds the kernel's template, or why VTA cannot run the kernel."""
    for name in (*kernel.inputs, *kernel.outputs):
        reason = _unpackable(graph.type_of(name))
        if reason:
            return f"tensor {name!r} {reason}"
    rule = _RULES.get(kernel.anchor.op)
    if rule is None:
        return f"VTA has no operator {kernel.anchor.op!r}"
    if config.block_in != config.block_out:
        return "the compiler needs a config whose BLOCK_IN equals BLOCK_OUT"
    return rule(kernel, graph, config)


def _unpackable(type_: TensorType) -> str | None:
    if type_.dtype != "int8":
        return f"is {type_.dtype}, not int8"
    axes = type_.layout or ("NC" if len(type_.shape) == 2 else "")
    if sorted(axes) not in (sorted("NC"), sorted("NCHW")) or len(axes) != len(type_.shape):
        return f"of shape {list(type_.shape)} is neither an image nor a matrix"
    return None


def _tail(kernel: Kernel, expected: str) -> tuple[Node, int, int, tuple[Node, ...]] | str:
    """The `expected` node after the anchor, the clip bounds that follow it, and what is left."""
    nodes = kernel.nodes[1:]
    if not nodes or nodes[0].op != expected:
        return f"{kernel.anchor.op!r} without {expected!r} gives no int8 result"
    low, high = -128, 127
    for count, node in enumerate(nodes[1:], start=1):
        if node.op != "clip":
            return nodes[0], low, high, nodes[count:]
        low, high = max(low, node.attrs["min"]), min(high, node.attrs["max"])
    return nodes[0], low, high, ()


def _requant(attrs: Any, low: int, high: int) -> Requant:
    return Requant(
        _MODES[attrs["mode"]],
        np.asarray(attrs["multiplier"]),
        np.asarray(attrs["left"]),
        np.asarray(attrs["right"]),
        int(attrs["zero_point"]),
        max(low, int(attrs["clamp_min"])),
        min(high, int(attrs["clamp_max"])),
    )


def _zero_point(graph: Graph, name: str) -> int:
    quant = graph.type_of(name).quant
    assert quant is not None, "int8 activations are quantised"
    return int(quant.zero_point[0])


def _conv(kernel: Kernel, graph: Graph, config: VtaConfig) -> Build | str:
    node, tail = kernel.anchor, _tail(kernel, "requantize")
    if isinstance(tail, str):
        return tail
    weights, bias = graph.tensors[node.inputs[1]].data, graph.tensors[node.inputs[2]].data
    if weights is None or bias is None:
        return "weights and bias must be constants"
    strides, pads, groups = (1, 1), (0, 0, 0, 0), 1
    if node.op == "conv2d":
        strides, pads = tuple(node.attrs["strides"]), tuple(node.attrs["pads"])
        if tuple(node.attrs["dilation"]) != (1, 1):
            return f"dilation {tuple(node.attrs['dilation'])} is not supported on VTA"
        groups = int(node.attrs["groups"])
    else:
        weights = weights[:, :, None, None]
    requantize, low, high, rest = tail
    steps = _steps(rest, kernel, graph, config)
    if isinstance(steps, str):
        return steps
    spec = Conv2d(
        packed(node.inputs[0], graph.type_of(node.inputs[0])),
        packed(kernel.outputs[0], graph.type_of(kernel.outputs[0])),
        weights,
        bias,
        strides,
        pads,
        _zero_point(graph, node.inputs[0]),
        requantiser(_requant(requantize.attrs, low, high), config).within(reach(weights, bias)),
        groups,
        node.attrs.get("terms"),
        tuple(steps),
        tuple(device_name(name) for name in kernel.inputs),
    )
    windows = _windows_behind(kernel, graph, config)
    return conv.check_supported(spec, config) or ConvBuild(node.name, spec, config, windows)


def _windows_behind(kernel: Kernel, graph: Graph, config: VtaConfig) -> Windows | None:
    """Those of the pooling that alone reads a kernel's result, if it runs on VTA."""
    readers = graph.consumers(kernel.outputs[0])
    if len(readers) != 1 or readers[0].op != "max_pool2d" or not config.has("overlap"):
        return None
    (output,) = readers[0].outputs
    reader, inputs = readers[0], (kernel.outputs[0],)
    behind = Kernel(reader.name, (reader,), inputs, (output,), reader)
    found = _pool(behind, graph, config)
    return found.pool.windows if isinstance(found, PoolBuild) else None


def _pool(kernel: Kernel, graph: Graph, config: VtaConfig) -> Build | str:
    node = kernel.anchor
    low, high = int(node.attrs["clamp_min"]), int(node.attrs["clamp_max"])
    if node.op == "avg_pool2d" and node.attrs["mode"] not in ("litert", "requant"):
        return f"an average rounded as {node.attrs['mode']!r} is not supported on VTA"
    for other in kernel.nodes[1:]:
        if other.op != "clip":
            return f"{other.op!r} cannot follow a pooling operator in one kernel"
        low, high = max(low, other.attrs["min"]), min(high, other.attrs["max"])
    spec = Pool(
        packed(node.inputs[0], graph.type_of(node.inputs[0])),
        packed(kernel.outputs[0], graph.type_of(kernel.outputs[0])),
        tuple(node.attrs["kernel"]),
        tuple(node.attrs["strides"]),
        tuple(node.attrs["pads"]),
        node.op == "max_pool2d",
        bool(node.attrs.get("count_include_pad", False)),
        low,
        high,
        _rescaled(node),
    )
    return pool.check_supported(spec, config) or PoolBuild(node.name, spec, config)


def _rescaled(node: Node) -> Rescaled | None:
    if node.attrs.get("mode") != "requant":
        return None
    zeros = int(node.attrs["in_zero_point"]), int(node.attrs["out_zero_point"])
    return Rescaled(*zeros, float(node.attrs["scale"]))


def _elementwise(kernel: Kernel, graph: Graph, config: VtaConfig) -> Build | str:
    steps = _steps(kernel.nodes, kernel, graph, config)
    if isinstance(steps, str):
        return steps
    result = packed(kernel.outputs[0], graph.type_of(kernel.outputs[0]))
    inputs = [device_name(name) for name in kernel.inputs]
    return check_elementwise(steps, config) or (
        lambda: elementwise(kernel.anchor.name, result, steps, inputs, config)
    )


def _steps(
    nodes: Sequence[Node], kernel: Kernel, graph: Graph, config: VtaConfig
) -> list[Step] | str:
    """The last nodes of a kernel as steps; where others stand before them, their result is 0."""
    places: dict[str, int] = {}
    if len(nodes) < len(kernel.nodes):
        places[kernel.nodes[-1 - len(nodes)].outputs[0]] = 0
    first = len(places)
    shapes = {graph.type_of(name).shape for node in nodes for name in (*node.inputs, *node.outputs)}
    steps: list[Step] = []
    for node in nodes:
        if any(graph.tensors[name].is_constant for name in node.inputs):
            return f"{node.op!r} with a constant operand is not supported on VTA"
        operands = [places.get(name, device_name(name)) for name in node.inputs]
        step = _step(node, operands, graph, config)
        if isinstance(step, str):
            return step
        last = first + len(steps) - 1
        if steps and places.get(node.inputs[0]) == last and _is_read_once(graph, node.inputs[0]):
            merged = clipped(steps[-1], step)
            if merged is not None:
                steps[-1] = merged
                places[node.outputs[0]] = last
                continue
        places[node.outputs[0]] = last + 1
        steps.append(step)
    if len(shapes) > 1:
        return f"operands of different shapes {sorted(map(list, shapes))} are not broadcast"
    return steps


def _is_read_once(graph: Graph, name: str) -> bool:
    return name not in graph.outputs and len(graph.consumers(name)) == 1


def _step(node: Node, operands: list[str | int], graph: Graph, config: VtaConfig) -> Step | str:
    match node.op:
        case "add" if node.attrs["mode"] == "linear":
            return _linear_add(node, operands)
        case "add" if node.attrs["mode"] == "scaled":
            return _scaled_add(node, operands, config)
        case "add":
            step = _add(node, graph, operands)
            return step if config.has("requant") else linear_approximation(step)
        case "rescale":
            out = requantiser(_requant(node.attrs, -128, 127), config)
            return Rescale(operands[0], int(node.attrs["in_zero_point"]), out)
        case "clip":
            return Clip(operands[0], int(node.attrs["min"]), int(node.attrs["max"]))
    return f"VTA has no operator {node.op!r}"


def _add(node: Node, graph: Graph, operands: list[str | int]) -> Add:
    out = Scale(*(int(v) for v in node.attrs["out"]))
    requant = Requant(
        _MODES[node.attrs["mode"]],
        np.array([out.multiplier]),
        np.array([out.left]),
        np.array([out.right]),
        _zero_point(graph, node.outputs[0]),
        int(node.attrs["clamp_min"]),
        int(node.attrs["clamp_max"]),
    )
    zeros = (_zero_point(graph, node.inputs[0]), _zero_point(graph, node.inputs[1]))
    scales = tuple(Scale(*(int(v) for v in node.attrs[key])) for key in ("lhs", "rhs"))
    return Add(
        operands[0],
        operands[1],
        zeros,
        int(node.attrs["left_shift"]),
        (scales[0], scales[1]),
        requant,
    )


def _scaled_add(node: Node, operands: list[str | int], config: VtaConfig) -> ScaledAdd:
    a, zero = node.attrs, np.zeros(1, np.int64)
    scale = np.array([a["scale"]], np.float32)
    bounds = int(a["clamp_min"]), int(a["clamp_max"])
    out = Requant(Rounding.FLOAT, scale, zero, zero, int(a["zero_point"]), *bounds)
    multipliers = int(a["lhs_multiplier"]), int(a["rhs_multiplier"])
    return ScaledAdd(
        operands[0], operands[1], multipliers, int(a["bias"]), requantiser(out, config)
    )


def _linear_add(node: Node, operands: list[str | int]) -> LinearAdd:
    a = node.attrs
    return LinearAdd(
        operands[0],
        operands[1],
        (int(a["lhs_multiplier"]), int(a["rhs_multiplier"])),
        int(a["bias"]),
        int(a["shift"]),
        int(a["zero_point"]),
        int(a["clamp_min"]),
        int(a["clamp_max"]),
    )


_RULES: dict[str, Callable[[Kernel, Graph, VtaConfig], Build | str]] = {
    "conv2d": _conv,
    "dense": _conv,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "add": _elementwise,
    "clip": _elementwise,
    "rescale": _elementwise,
}

VTA_OPS = frozenset({*_RULES, "requantize"})
"""Operators with a form on VTA; `requantize` has it as the end of a layer."""
