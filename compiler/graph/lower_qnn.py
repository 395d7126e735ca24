"""Turn quantised operators into core operators with explicit integer arithmetic.

The rounding of each operator is a measured property of the runtime that is taken as the reference:
LiteRT's reference kernels ("litert-ref") round convolution and addition twice and the fully
connected layer once, in Q31; ONNX Runtime ("ort") scales accumulators by a float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from compiler.errors import GraphError
from compiler.graph.ir import Graph, Node, Tensor, TensorType
from compiler.graph.kernels import quant_of, zero_point_of
from compiler.graph.numerics import Multiplier, quantize_multiplier, quantize_real
from compiler.graph.ops import check_graph
from compiler.graph.softmax import exp_table

NUMERICS = ("litert-ref", "ort")
_DEFAULT = {"tflite": "litert-ref", "onnx": "ort"}
_ADD_LEFT_SHIFT = 20

Attrs = dict[str, Any]


def default_numerics(graph: Graph) -> str:
    """The runtime whose arithmetic a graph's source format implies."""
    return _DEFAULT.get(graph.source_format, "litert-ref")


def lower_qnn(graph: Graph, numerics: str | None = None) -> Graph:
    """The graph in core operators, equal to the named runtime to the bit.

    `numerics` is one of `NUMERICS`; None means what the source format's own runtime does. An
    error names every node that the runtime's arithmetic cannot be had for.
    """
    chosen = default_numerics(graph) if numerics is None else numerics
    if chosen not in NUMERICS:
        raise GraphError(f"numerics must be one of {', '.join(NUMERICS)}, not {chosen!r}")
    nodes: list[Node] = []
    tensors: list[Tensor] = []
    refused: list[str] = []
    for node in graph.nodes:
        rule = _RULES.get(node.op)
        if rule is None:
            nodes.append(node)
            continue
        try:
            new_nodes, new_tensors = rule(graph, node, chosen)
        except GraphError as error:
            refused.append(str(error))
            continue
        nodes += new_nodes
        tensors += new_tensors
    if refused:
        raise GraphError(" - also, ".join(refused))
    lowered = graph.with_nodes(nodes, tensors)
    check_graph(lowered)
    return lowered


def activation_range(activation: str, type_: TensorType) -> tuple[int, int]:
    """The int8 bounds that a fused activation leaves of a quantised result."""
    zero_point, scale = zero_point_of(type_), quant_of(type_).scale[0]
    match activation:
        case "none":
            return -128, 127
        case "relu":
            return max(-128, zero_point), 127
        case "relu6":
            return max(-128, zero_point), min(127, quantize_real(6.0, scale, zero_point))
        case "relu_n1_to_1":
            least = quantize_real(-1.0, scale, zero_point)
            return max(-128, least), min(127, quantize_real(1.0, scale, zero_point))
    raise GraphError(f"activation must be none, relu, relu6 or relu_n1_to_1, not {activation!r}")


def _bounds(graph: Graph, node: Node) -> Attrs:
    least, greatest = activation_range(
        node.attrs.get("activation", "none"), graph.type_of(node.outputs[0])
    )
    return {"clamp_min": least, "clamp_max": greatest}


def _without(node: Node, *keys: str) -> Attrs:
    return {k: v for k, v in node.attrs.items() if k not in keys}


def _fixed_point(graph: Graph, node: Node) -> Attrs:
    """Q31 multipliers of an accumulator, one per weight scale."""
    x, w, out = (quant_of(graph.type_of(n)) for n in (*node.inputs[:2], node.outputs[0]))
    parts = [
        _factor(node, float(x.scale[0]) * float(scale) / float(out.scale[0])) for scale in w.scale
    ]
    return {
        "multiplier": np.array([p.multiplier for p in parts], np.int32),
        "left": np.array([p.left for p in parts], np.int32),
        "right": np.array([p.right for p in parts], np.int32),
    }


def _factor(node: Node, factor: float) -> Multiplier:
    try:
        return quantize_multiplier(factor)
    except ValueError as error:
        raise GraphError(
            f"node {node.name!r}: {error}; requantise the model with a larger output scale"
        ) from None


def _float_scale(graph: Graph, node: Node) -> Attrs:
    x, w, out = (quant_of(graph.type_of(n)) for n in (*node.inputs[:2], node.outputs[0]))
    # The order of the two float32 roundings is ONNX Runtime's.
    scale = (x.scale[0] * w.scale) / out.scale[0]
    zero = np.zeros(scale.size, np.int32)
    return {"multiplier": scale.astype(np.float32), "left": zero, "right": zero}


def _lower_accumulate(graph: Graph, node: Node, numerics: str) -> tuple[list[Node], list[Tensor]]:
    """qnn.conv2d and qnn.dense: an accumulator and its requantisation."""
    (name,) = node.outputs
    out = graph.type_of(name)
    acc = Tensor(f"{name}:acc", TensorType(out.shape, "int32", layout=out.layout))
    op = node.op.removeprefix("qnn.")
    if numerics == "ort":
        mode, scales = "float", _float_scale(graph, node)
    else:
        mode, scales = ("single" if op == "dense" else "double"), _fixed_point(graph, node)
    attrs = {
        "mode": mode,
        **scales,
        "zero_point": zero_point_of(out),
        **_bounds(graph, node),
    }
    first = Node(node.name, op, node.inputs, (acc.name,), _without(node, "activation"), node.source)
    second = Node(f"{node.name}:requantize", "requantize", (acc.name,), (name,), attrs, node.source)
    return [first, second], [acc]


def _lower_add(graph: Graph, node: Node, numerics: str) -> tuple[list[Node], list[Tensor]]:
    if numerics == "ort":
        raise _no_exact_form(node, "addition")
    a, b, out = (quant_of(graph.type_of(n)).scale[0] for n in (*node.inputs, node.outputs[0]))
    double = 2.0 * float(max(a, b))
    attrs = {
        "mode": "double",
        "left_shift": _ADD_LEFT_SHIFT,
        "lhs": _factor(node, float(a) / double),
        "rhs": _factor(node, float(b) / double),
        "out": _factor(node, double / ((1 << _ADD_LEFT_SHIFT) * float(out))),
        **_bounds(graph, node),
    }
    return [Node(node.name, "add", node.inputs, node.outputs, attrs, node.source)], []


def _no_exact_form(node: Node, what: str) -> GraphError:
    return GraphError(
        f"node {node.name!r}: ONNX Runtime computes the quantised {what} in floating point, which "
        "has no exact integer form here; choose numerics litert-ref"
    )


def _lower_pool(graph: Graph, node: Node, numerics: str) -> tuple[list[Node], list[Tensor]]:
    attrs = {**_without(node, "activation"), **_bounds(graph, node)}
    op = node.op.removeprefix("qnn.")
    if op == "avg_pool2d":
        if numerics == "ort":
            raise _no_exact_form(node, "average pooling")
        _check_average(graph, node)
        attrs["mode"] = "litert"
    return [Node(node.name, op, node.inputs, node.outputs, attrs, node.source)], []


def _check_average(graph: Graph, node: Node) -> None:
    """LiteRT averages the integers as they are: both sides must have one quantisation."""
    x, out = (graph.type_of(name) for name in (node.inputs[0], node.outputs[0]))
    if str(x.quant) != str(out.quant):
        raise GraphError(
            f"node {node.name!r}: average pooling must keep the quantisation {x.quant}, not change "
            f"it to {out.quant}; quantise both sides alike"
        )
    if node.attrs["count_include_pad"] and any(node.attrs["pads"]) and zero_point_of(x):
        raise GraphError(
            f"node {node.name!r}: padding that counts in an average needs the zero point 0, not "
            f"{zero_point_of(x)}; export the pooling with count_include_pad=0"
        )


def _lower_clip(graph: Graph, node: Node, numerics: str) -> tuple[list[Node], list[Tensor]]:
    least, greatest = activation_range(node.attrs["activation"], graph.type_of(node.outputs[0]))
    attrs = {"min": least, "max": greatest}
    return [Node(node.name, "clip", node.inputs, node.outputs, attrs, node.source)], []


def _lower_softmax(graph: Graph, node: Node, numerics: str) -> tuple[list[Node], list[Tensor]]:
    if numerics == "ort":
        raise _no_exact_form(node, "softmax")
    beta = node.attrs["beta"]
    out = quant_of(graph.type_of(node.outputs[0]))
    if (float(out.scale[0]), int(out.zero_point[0])) != (1 / 256, -128):
        raise GraphError(
            f"node {node.name!r}: LiteRT's softmax gives the quantisation q(1/256, -128), not "
            f"{out}; quantise its result so"
        )
    try:
        table = exp_table(quant_of(graph.type_of(node.inputs[0])).scale[0], beta)
    except ValueError as error:
        raise GraphError(f"node {node.name!r}: {error}; quantise its input again") from None
    attrs = {"mode": "litert", "beta": beta, "table": table}
    return [Node(node.name, "softmax", node.inputs, node.outputs, attrs, node.source)], []


_Rule = Callable[[Graph, Node, str], tuple[list[Node], list[Tensor]]]
_RULES: Mapping[str, _Rule] = {
    "qnn.conv2d": _lower_accumulate,
    "qnn.dense": _lower_accumulate,
    "qnn.add": _lower_add,
    "qnn.max_pool2d": _lower_pool,
    "qnn.avg_pool2d": _lower_pool,
    "qnn.clip": _lower_clip,
    "qnn.softmax": _lower_softmax,
}
