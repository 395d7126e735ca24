"""Convolutions over few channels read windows that the host has unfolded into channels.

A block of channels that holds 3 leaves 13 of 16 columns of the array idle. The input of a network
is packed on the host anyway; there the kernel's columns, and the rows that one step of the window
moves over (or all rows), become channels too::

    x [N,3,224,224] -> conv2d 7x7/2           =>
    x -> unfold 2x7/2 [N,42,115,112] -> conv2d 4x1 [N,64,112,112]

The weights are permuted, with zeros for taps that the kernel does not have. The padding becomes
part of the unfolded image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from compiler.graph.ir import Graph, Node, Tensor
from compiler.graph.kernels import zero_point_of
from compiler.graph.ops import check_graph
from compiler.graph.shapes import axes_of
from vta_hw.spec.config import MemType, VtaConfig


def unfold_narrow(graph: Graph, config: VtaConfig) -> Graph:
    """The graph with an `unfold` before each convolution of the input that gains by it."""
    for node in graph.nodes:
        if node.op == "conv2d" and _is_candidate(graph, node):
            best = min(_choices(graph, node, config), key=lambda choice: choice.cycles)
            if best.rows:
                graph = _unfolded(graph, node, best.rows)
    check_graph(graph)
    return graph


def _is_candidate(graph: Graph, conv: Node) -> bool:
    """Whether the host makes the image of a plain convolution, for it alone."""
    image = conv.inputs[0]
    producer = graph.producer(image)
    return (
        (producer is None or producer.op == "quantize")
        and len(graph.consumers(image)) == 1
        and conv.attrs["groups"] == 1
        and tuple(conv.attrs["dilation"]) == (1, 1)
        and graph.tensors[conv.inputs[1]].data is not None
        and graph.type_of(image).layout in ("NCHW", "NHWC")
    )


@dataclass(frozen=True)
class _Choice:
    """Rows of the kernel in a window (0: as it is), and modelled cycles."""

    rows: int
    cycles: int


def _choices(graph: Graph, conv: Node, config: VtaConfig) -> Iterator[_Choice]:
    """The slower of array and bus; the host writes the image over a bus as wide."""
    image, out = graph.type_of(conv.inputs[0]), graph.type_of(conv.outputs[0])
    c_axis, h_axis, w_axis = axes_of(image.layout)
    outputs, channels, kh, kw = graph.type_of(conv.inputs[1]).shape
    rows_out, columns_out = (out.shape[axis] for axis in axes_of(out.layout)[1:])
    batches = -(-image.shape[0] // config.batch)
    bus = (1 << config.log_bus_width) // 8

    def choice(rows: int, channels: int, taps: int, pixels: int) -> _Choice:
        blocks = -(-channels // config.block_in)
        steps = -(-outputs // config.block_out) * blocks * taps * rows_out * columns_out
        moved = blocks * pixels * config.elem_bytes(MemType.INP) // bus
        return _Choice(rows, batches * (max(steps, moved) + moved))

    yield choice(0, channels, kh * kw, image.shape[h_axis] * image.shape[w_axis])
    for rows in sorted({min(kh, conv.attrs["strides"][0]), kh}):
        taps = -(-kh // rows)
        pixels = (rows_out + taps - 1) * columns_out
        yield choice(rows, rows * kw * channels, taps, pixels)


def _unfolded(graph: Graph, conv: Node, rows: int) -> Graph:
    """The graph with windows of `rows` rows of the kernel made by the host."""
    image, out = graph.type_of(conv.inputs[0]), graph.type_of(conv.outputs[0])
    weights = graph.tensors[conv.inputs[1]]
    assert weights.data is not None
    folded = _weights(weights.data, rows)
    taps = folded.shape[2]
    rows_out, columns_out = (out.shape[axis] for axis in axes_of(out.layout)[1:])
    size = (rows_out + taps - 1, columns_out)
    shape = list(image.shape)
    for axis, extent in zip(axes_of(image.layout), (folded.shape[1], *size), strict=True):
        shape[axis] = extent
    windows = Tensor(
        f"{conv.inputs[0]}:windows", replace(image, shape=tuple(shape), source_dtype="")
    )
    unfold = Node(
        windows.name,
        "unfold",
        (conv.inputs[0],),
        (windows.name,),
        {
            "kernel": (rows, weights.data.shape[3]),
            "strides": tuple(conv.attrs["strides"]),
            "before": tuple(conv.attrs["pads"][:2]),
            "size": size,
            "value": zero_point_of(image),
            "layout": image.layout,
        },
        conv.source,
    )
    permuted = Tensor(
        f"{conv.inputs[1]}:windows", replace(weights.type, shape=folded.shape), folded
    )
    attrs = {"strides": (1, 1), "pads": (0, 0, 0, 0), "terms": weights.data[0].size}
    inputs = (windows.name, permuted.name, conv.inputs[2])
    after = replace(conv, inputs=inputs, attrs={**conv.attrs, **attrs})
    nodes = [part for n in graph.nodes for part in ((unfold, after) if n is conv else (n,))]
    return graph.with_nodes(nodes, [windows, permuted])


def _weights(weights: np.ndarray, rows: int) -> np.ndarray:
    """[O, C, KH, KW] as [O, rows * KW * C, ceil(KH / rows), 1]."""
    outputs, channels, kh, kw = weights.shape
    taps = -(-kh // rows)
    full = np.zeros((outputs, channels, taps * rows, kw), weights.dtype)
    full[:, :, :kh] = weights
    parted = full.reshape(outputs, channels, taps, rows, kw).transpose(0, 3, 4, 1, 2)
    return np.ascontiguousarray(parted.reshape(outputs, -1, taps, 1))
