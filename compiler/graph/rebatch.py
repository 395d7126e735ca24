"""Another number of images at once: the batch axis of every activation gets a new extent.

The batch axis is the first one of every input, and so of all that is computed from the inputs. The
images of a batch must not see each other; an operator that would mix them is refused. A constant
that meets an activation as its equal (in an addition, say) is repeated for every image.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.errors import GraphError
from compiler.graph.ir import Graph, Node, Tensor
from compiler.graph.ops import check_graph

# Operators whose operands after the first are weights, which all images share.
_WITH_WEIGHTS = frozenset({"conv2d", "dense", "qnn.conv2d", "qnn.dense"})


def rebatch(graph: Graph, batch: int) -> Graph:
    """The graph for `batch` images at once: each gives what it gave alone.

    GraphError where the graph has no batch axis, or a node that does not keep images apart.
    """
    if batch < 1:
        raise GraphError(f"batch must be at least 1, not {batch}")
    old = _batch_of(graph)
    moved = set(graph.inputs)
    nodes: list[Node] = []
    tensors = [_resized(graph.tensors[name], batch) for name in graph.inputs]
    for node in graph.nodes:
        if not moved.intersection(node.inputs):
            nodes.append(node)
            continue
        _check_apart(graph, node, old, moved)
        inputs = []
        for position, name in enumerate(node.inputs):
            if name not in moved and not _is_weight(node, position):
                repeated = _repeated(graph.tensors[name], node, old, batch)
                tensors.append(repeated)
                name = repeated.name
            inputs.append(name)
        attrs = dict(node.attrs)
        if node.op == "reshape":
            attrs["shape"] = (batch, *tuple(attrs["shape"])[1:])
        nodes.append(replace(node, inputs=tuple(inputs), attrs=attrs))
        moved.update(node.outputs)
        tensors += [_resized(graph.tensors[name], batch) for name in node.outputs]
    for name in graph.outputs:
        if name not in moved:
            raise GraphError(
                f"graph output {name!r} depends on no input and so has no batch; leave out the "
                "batch option"
            )
    result = graph.with_nodes(nodes, tensors)
    check_graph(result)
    return result


def _batch_of(graph: Graph) -> int:
    """The first extent that all inputs have in common."""
    shapes = {name: graph.type_of(name).shape for name in graph.inputs}
    found = {shape[0] if shape else None for shape in shapes.values()}
    (old,) = found if len(found) == 1 else (None,)
    if old is None:
        listed = ", ".join(f"{name!r} of shape {shape}" for name, shape in shapes.items())
        raise GraphError(
            f"inputs must share their first axis, the batch, to be given another one, not "
            f"{listed or 'be none'}"
        )
    return old


def _is_weight(node: Node, position: int) -> bool:
    return position > 0 and node.op in _WITH_WEIGHTS


def _check_apart(graph: Graph, node: Node, old: int, moved: set[str]) -> None:
    """The node keeps the images of a batch apart, or GraphError."""
    why = ""
    shape = graph.type_of(node.inputs[0]).shape
    for name in node.outputs:
        result = graph.type_of(name)
        if result.shape[:1] != (old,):
            why = f"its result has the shape {result.shape}, whose first axis is no batch of {old}"
        elif result.quant is not None and result.quant.axis == 0 and old > 1:
            why = f"its result {name!r} has a scale per image"
    if any(_is_weight(node, i) and name in moved for i, name in enumerate(node.inputs)):
        why = "its weights are computed from the input"
    elif node.attrs.get("axis") == 0:
        why = "it joins tensors along the batch axis"
    elif "softmax" in node.op and len(shape) < 2:
        why = f"it normalises the shape {shape} along the batch axis"
    if why:
        raise GraphError(
            f"node {node.name!r} ({node.op}) cannot be given another batch: {why}; export the "
            "model with the batch that is wanted"
        )


def _resized(tensor: Tensor, batch: int) -> Tensor:
    type_ = tensor.type
    return replace(tensor, type=replace(type_, shape=(batch, *type_.shape[1:])))


def _repeated(tensor: Tensor, node: Node, old: int, batch: int) -> Tensor:
    """The constant once per image, under a name of its own."""
    data = tensor.data
    alike = data is not None and data.shape[:1] == (old,) and bool((data == data[:1]).all())
    if data is None or not alike:
        raise GraphError(
            f"node {node.name!r} ({node.op}) cannot be given another batch: its operand "
            f"{tensor.name!r} is no constant that is the same for every image; export the model "
            "with the batch that is wanted"
        )
    whole = np.repeat(data[:1], batch, axis=0)
    return Tensor(f"{tensor.name}:batch", replace(tensor.type, shape=whole.shape), whole)
