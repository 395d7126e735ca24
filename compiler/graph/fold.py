"""Compute at compile time what depends on constants only."""

from __future__ import annotations

from compiler.graph.ir import Graph, Node, Tensor
from compiler.graph.ops import op_of
from compiler.graph.reference import evaluate_node


def fold_constants(graph: Graph) -> Graph:
    """The graph with every node over constants replaced by its value.

    Graph outputs stay computed by a node, so that each still has a producer.
    """
    nodes: list[Node] = []
    for node in graph.nodes:
        constant = all(graph.tensors[name].is_constant for name in node.inputs)
        if not constant or op_of(node).reference is None or node.outputs[0] in graph.outputs:
            nodes.append(node)
            continue
        (name,) = node.outputs
        value = Tensor(name, graph.type_of(name), evaluate_node(graph, node, {}))
        graph = graph.with_nodes(graph.nodes, [value])
    return graph.with_nodes(nodes)
