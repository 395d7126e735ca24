"""Graph IR: operators on (quantised) tensors.

Grammar::

    Graph   ::= name, inputs: tensor names, outputs: tensor names, tensors, nodes (topological)
    Tensor  ::= name, TensorType, data (constants only)
    Node    ::= name, op, inputs: tensor names, outputs: tensor names, attrs, source

Every op has a shape rule and a numpy reference in `compiler.graph.ops`. All nodes are frozen; a
pass builds a new graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from compiler.errors import GraphError


@dataclass(frozen=True)
class Quant:
    """Affine quantisation: real = scale * (q - zero_point).

    `scale` is float32, one value or one per index of `axis`; so is `zero_point` (int64).
    """

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int | None = None

    @classmethod
    def per_tensor(cls, scale: float, zero_point: int) -> Quant:
        """One scale and zero point for the whole tensor."""
        return cls(np.array([scale], np.float32), np.array([zero_point], np.int64))

    @property
    def is_per_tensor(self) -> bool:
        """Whether one scale and zero point hold for the whole tensor."""
        return self.scale.size == 1

    def __str__(self) -> str:
        if self.is_per_tensor:
            return f"q({float(self.scale[0]):.9g}, {int(self.zero_point[0])})"
        return f"q({self.scale.size} scales, axis {self.axis})"


@dataclass(frozen=True)
class TensorType:
    """Shape, element type and quantisation of a tensor.

    `layout` names the axes ("NHWC", "NCHW", "NC") where operators care. `source_dtype` is the type
    the model file gives it where that differs: a uint8 tensor is held as int8, shifted by 128.
    """

    shape: tuple[int, ...]
    dtype: str
    quant: Quant | None = None
    layout: str = ""
    source_dtype: str = ""

    @property
    def size_bytes(self) -> int:
        """Bytes of a dense array of this type."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        dims = "x".join(map(str, self.shape)) or "scalar"
        return f"{self.dtype}[{dims}]" + (f" {self.quant}" if self.quant else "")


@dataclass(frozen=True)
class Tensor:
    """A value of the graph; constants carry `data`."""

    name: str
    type: TensorType
    data: np.ndarray | None = None

    @property
    def is_constant(self) -> bool:
        """Whether the value is known at compile time."""
        return self.data is not None


@dataclass(frozen=True)
class Node:
    """An application of an operator. `source` says where in the model file it stands."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "attrs", MappingProxyType(dict(self.attrs)))


@dataclass(frozen=True)
class Graph:
    """A network. `nodes` are in topological order; tensors are keyed by name.

    `source_format` is the kind of file it comes from: "tflite", "onnx" or "".
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    nodes: tuple[Node, ...]
    source_format: str = ""

    def __post_init__(self) -> None:
        known = {name for name, t in self.tensors.items() if t.is_constant} | set(self.inputs)
        for node in self.nodes:
            for name in node.inputs:
                if name not in known:
                    raise GraphError(
                        f"node {node.name!r} reads tensor {name!r} before anything writes it"
                    )
            known.update(node.outputs)
            for name in node.outputs:
                if name not in self.tensors:
                    raise GraphError(f"node {node.name!r} writes undeclared tensor {name!r}")
        for name in self.outputs:
            if name not in known:
                raise GraphError(f"graph output {name!r} is written by no node")

    def type_of(self, name: str) -> TensorType:
        """Type of a tensor."""
        return self.tensors[name].type

    def producer(self, name: str) -> Node | None:
        """The node that writes a tensor, or None for inputs and constants."""
        return next((n for n in self.nodes if name in n.outputs), None)

    def consumers(self, name: str) -> tuple[Node, ...]:
        """Nodes that read a tensor."""
        return tuple(n for n in self.nodes if name in n.inputs)

    def with_nodes(self, nodes: Iterable[Node], tensors: Iterable[Tensor] = ()) -> Graph:
        """The graph with these nodes; `tensors` are added, those that nothing uses are dropped."""
        nodes = tuple(nodes)
        table = {**self.tensors, **{t.name: t for t in tensors}}
        used = {*self.inputs, *self.outputs}
        for node in nodes:
            used.update(node.inputs, node.outputs)
        return replace(self, nodes=nodes, tensors={n: t for n, t in table.items() if n in used})

    def subgraph(self, nodes: Sequence[Node], name: str = "") -> Graph:
        """The nodes alone, reading and writing what crosses their border."""
        made = {name for node in nodes for name in node.outputs}
        inputs: dict[str, None] = {}
        for node in nodes:
            for tensor in node.inputs:
                if tensor not in made and not self.tensors[tensor].is_constant:
                    inputs[tensor] = None
        kept = {node.name for node in nodes}
        outputs = tuple(
            t
            for t in self.tensors
            if t in made
            and (t in self.outputs or any(c.name not in kept for c in self.consumers(t)))
        )
        part = replace(
            self,
            name=name or self.name,
            inputs=tuple(inputs),
            outputs=outputs,
            nodes=tuple(nodes),
        )
        return part.with_nodes(nodes)

    def __str__(self) -> str:
        lines = [f"graph {self.name}({', '.join(self.inputs)}) -> ({', '.join(self.outputs)})"]
        for node in self.nodes:
            outs = ", ".join(f"%{o}: {self.tensors[o].type}" for o in node.outputs)
            args = ", ".join(self._operand(i) for i in node.inputs)
            attrs = ", ".join(f"{k}={_brief(v)}" for k, v in node.attrs.items())
            lines.append(f"  {outs} = {node.op}({args})" + (f" {{{attrs}}}" if attrs else ""))
        return "\n".join(lines)

    def _operand(self, name: str) -> str:
        tensor = self.tensors[name]
        return f"const {tensor.type}" if tensor.is_constant else f"%{name}"


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        flat = value.ravel()
        head = ", ".join(str(v) for v in flat[:4])
        return f"[{head}{', ...' if flat.size > 4 else ''}]"
    return str(value)
