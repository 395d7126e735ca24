"""Turn quantised operators into core operators with explicit integer arithmetic.

The rounding of each operator is a measured property of the runtime that is taken as the reference:
LiteRT's reference kernels ("litert-ref") round convolution and addition twice and the fully
connected layer once, in Q31; LiteRT's default kernels ("xnnpack") and ONNX Runtime ("ort") scale
accumulators by a float32. "ties-up" is no runtime: every value is scaled once, by a Q31 multiplier,
and rounded to the nearest, ties up. It is what adding a bias and shifting do, exactly, where scales
are powers of two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from compiler.errors import GraphError
from compiler.graph import lower_layers, lower_moves
from compiler.graph.ir import Graph, Node, Tensor
from compiler.graph.lowering import Lowered
from compiler.graph.ops import check_graph

NUMERICS = ("litert-ref", "xnnpack", "ort", "ties-up")
_DEFAULT = {"tflite": "litert-ref", "onnx": "ort"}


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
        rule = RULES.get(node.op)
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


Rule = Callable[[Graph, Node, str], Lowered]

RULES: Mapping[str, Rule] = {
    "qnn.conv2d": lower_layers.accumulate,
    "qnn.dense": lower_layers.accumulate,
    "qnn.add": lower_layers.add,
    "qnn.max_pool2d": lower_layers.max_pool2d,
    "qnn.avg_pool2d": lower_layers.avg_pool2d,
    "qnn.mean": lower_layers.mean,
    "qnn.softmax": lower_layers.softmax,
    "qnn.clip": lower_moves.clip,
    "qnn.rescale": lower_moves.rescale,
    "qnn.pad": lower_moves.pad,
    "qnn.concat": lower_moves.concat,
    "quantize": lower_moves.quantize,
}
"""A rule (graph, node, runtime) per operator whose arithmetic depends on the runtime."""
