"""Run a graph on numpy integers: the definition that everything below the graph must equal."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.errors import GraphError
from compiler.graph.ir import Graph, Node
from compiler.graph.kernels import Array
from compiler.graph.ops import op_of


def evaluate_node(graph: Graph, node: Node, values: Mapping[str, Array]) -> Array:
    """The result of one node for the values of its operands (constants come from the graph)."""
    reference = op_of(node).reference
    if reference is None:
        raise GraphError(
            f"node {node.name!r} ({node.op}) has no arithmetic of its own; lower the graph with "
            "lower_qnn before it is evaluated"
        )
    operands = []
    for name in node.inputs:
        data = graph.tensors[name].data
        operands.append(values[name] if data is None else data)
    types = [graph.type_of(name) for name in node.inputs]
    return reference(operands, types, graph.type_of(node.outputs[0]), node.attrs)


def evaluate(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Every tensor's value, inputs included, keyed by name. Constants are left out."""
    values: dict[str, Array] = {}
    for name in graph.inputs:
        if name not in inputs:
            raise GraphError(f"graph input {name!r} has no value; give {graph.type_of(name)}")
        value, type_ = inputs[name], graph.type_of(name)
        if value.shape != type_.shape or value.dtype != type_.dtype:
            raise GraphError(
                f"graph input {name!r} must be {type_.dtype} of shape {type_.shape}, not "
                f"{value.dtype} of shape {value.shape}"
            )
        values[name] = value
    for node in graph.nodes:
        values[node.outputs[0]] = evaluate_node(graph, node, values)
    return values
