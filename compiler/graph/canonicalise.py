"""Bring a graph into the forms that the code generator knows.

A dense layer over a flattened image becomes a convolution whose kernel is the whole image, with its
weights permuted, so that the flattening moves no data::

    x [N,H,W,C] -> reshape [N,H*W*C] -> dense      =>      x -> conv2d (kernel H x W) -> [N,1,1,O]

What remains of reshapes are views: they only add or drop axes of size 1 around the channels.

A pad becomes part of the convolutions, or maximum poolings, that alone read it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.graph.ir import Graph, Node, Tensor, TensorType
from compiler.graph.kernels import zero_point_of
from compiler.graph.ops import check_graph
from compiler.graph.shapes import axes_of


def canonicalise(graph: Graph) -> Graph:
    """The graph without data-moving reshapes before dense layers, and pads folded; values stay.

    A flattened or padded tensor that nothing else reads disappears; every other one stays.
    """
    for node in graph.nodes:
        if node.op == "dense":
            graph = _dense_over_image(graph, node)
    for node in graph.nodes:
        if node.op == "pad":
            graph = _fold_pad(graph, node)
    graph = _drop_dead(graph)
    check_graph(graph)
    return graph


def is_view(graph: Graph, node: Node) -> bool:
    """Whether a reshape keeps the channel axis and only adds or drops axes of size 1 beside it.

    Such a reshape is an alias in every layout: rows of channels stay rows of channels.
    """
    if node.op != "reshape":
        return False
    return _row(graph.type_of(node.inputs[0])) == _row(graph.type_of(node.outputs[0]))


def _row(type_: TensorType) -> tuple[int, ...]:
    """(rows, channels) where the tensor is a matrix but for axes of size 1, else its shape."""
    if len(type_.shape) == 4 and type_.layout in ("NHWC", "NCHW"):
        c_axis, h_axis, w_axis = axes_of(type_.layout)
        if type_.shape[h_axis] == type_.shape[w_axis] == 1:
            return type_.shape[0], type_.shape[c_axis]
    return type_.shape


def _dense_over_image(graph: Graph, dense: Node) -> Graph:
    x_name, w_name, bias = dense.inputs
    flatten = graph.producer(x_name)
    users = graph.consumers(dense.outputs[0])
    if flatten is None or flatten.op != "reshape" or is_view(graph, flatten):
        return graph
    image = graph.type_of(flatten.inputs[0])
    rows = graph.type_of(x_name).shape[0]
    weights = graph.tensors[w_name]
    if len(image.shape) != 4 or image.shape[0] != rows or image.layout not in ("NHWC", "NCHW"):
        return graph
    if [user.op for user in users] != ["requantize"] or weights.data is None:
        return graph
    permuted = _image_weights(weights, image, f"{w_name}:image")
    acc_type = _spatial(graph.type_of(dense.outputs[0]), image.layout)
    out_name = users[0].outputs[0]
    acc = Tensor(dense.outputs[0], acc_type)
    out = Tensor(f"{out_name}:image", _spatial(graph.type_of(out_name), image.layout))
    attrs = {
        "strides": (1, 1),
        "pads": (0, 0, 0, 0),
        "dilation": (1, 1),
        "groups": 1,
        "layout": image.layout,
    }
    conv = replace(dense, op="conv2d", inputs=(flatten.inputs[0], permuted.name, bias), attrs=attrs)
    scale = replace(users[0], outputs=(out.name,))
    shape = {"shape": graph.type_of(out_name).shape}
    view = Node(f"{out_name}:view", "reshape", (out.name,), (out_name,), shape, dense.source)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node is dense:
            nodes.append(conv)
        elif node is users[0]:
            nodes += [scale, view]
        else:
            nodes.append(node)
    return graph.with_nodes(nodes, [permuted, acc, out])


def _image_weights(weights: Tensor, image: TensorType, name: str) -> Tensor:
    """Dense weights [O, K] as convolution weights OIHW over the image that was flattened."""
    assert weights.data is not None
    spread = weights.data.reshape(weights.data.shape[0], *image.shape[1:])
    if image.layout == "NHWC":
        spread = spread.transpose(0, 3, 1, 2)
    data = np.ascontiguousarray(spread)
    return Tensor(name, replace(weights.type, shape=data.shape, layout="OIHW"), data)


def _spatial(type_: TensorType, layout: str) -> TensorType:
    """The type of [N, O] as an image of one pixel."""
    rows, channels = type_.shape
    shape = (rows, 1, 1, channels) if layout == "NHWC" else (rows, channels, 1, 1)
    return replace(type_, shape=shape, layout=layout)


def _fold_pad(graph: Graph, pad: Node) -> Graph:
    """Without the pad, if all that read it can pad by themselves."""
    (source,), (padded,) = pad.inputs, pad.outputs
    readers = graph.consumers(padded)
    if padded in graph.outputs or not readers:
        return graph
    if not all(_pads_alike(graph, reader, pad) for reader in readers):
        return graph
    names = {reader.name for reader in readers}
    nodes = []
    for node in graph.nodes:
        if node.name in names:
            pads = tuple(a + b for a, b in zip(node.attrs["pads"], pad.attrs["pads"], strict=True))
            inputs = (source, *node.inputs[1:])
            node = replace(node, inputs=inputs, attrs={**node.attrs, "pads": pads})
        nodes.append(node)
    return graph.with_nodes(nodes)


def _pads_alike(graph: Graph, node: Node, pad: Node) -> bool:
    """Whether a node's own padding can do what a pad before it does."""
    image, value = graph.type_of(pad.inputs[0]), pad.attrs["value"]
    if node.op == "conv2d":
        fills = value == zero_point_of(image)
        kernel = graph.type_of(node.inputs[1]).shape[2:]
    elif node.op == "max_pool2d":
        fills = value == -128
        kernel = node.attrs["kernel"]
    else:
        return False
    top, left, bottom, right = map(int.__add__, node.attrs["pads"], pad.attrs["pads"])
    # A window of nothing but padding is no window to either.
    return fills and max(top, bottom) < kernel[0] and max(left, right) < kernel[1]


def _drop_dead(graph: Graph) -> Graph:
    """Without nodes whose results nothing reads."""
    live = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if live.intersection(node.outputs):
            kept.append(node)
            live.update(node.inputs)
    return graph.with_nodes(reversed(kept))
