"""The foreign runtimes as functions: inputs to every tensor that they can show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import onnxruntime
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from compiler.graph.ir import Graph
from compiler.graph.reference import evaluate_node

Array = np.ndarray[Any, Any]


class LiteRT:
    """LiteRT with all results of operators kept: its reference kernels, or XNNPACK and the rest.

    XNNPACK runs chains of operators as one; here each result is an output, so that all are shown.
    """

    def __init__(self, model: Path | bytes, xnnpack: bool = False) -> None:
        content = model if isinstance(model, bytes) else model.read_bytes()
        kind = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_REF
        self._interpreter = Interpreter(
            model_content=_with_all_outputs(content) if xnnpack else content,
            experimental_op_resolver_type=kind,
            experimental_preserve_all_tensors=not xnnpack,
            num_threads=1,
        )
        self._interpreter.allocate_tensors()
        self._indices: dict[str, int] = {}
        for detail in self._interpreter.get_tensor_details():
            self._indices.setdefault(detail["name"], detail["index"])

    @property
    def delegated(self) -> bool:
        """Whether XNNPACK runs a part of the model."""
        return any(d["op_name"] == "DELEGATE" for d in self._interpreter._get_ops_details())

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Every tensor by name, uint8 ones moved to int8 as the graph holds them."""
        for name, value in inputs.items():
            self._interpreter.set_tensor(self._indices[name], value)
        self._interpreter.invoke()
        values = {}
        for name, index in self._indices.items():
            try:
                values[name] = held(self._interpreter.get_tensor(index))
            except ValueError:
                # Scratch tensors of kernels have no data to show.
                continue
        return values


def _with_all_outputs(model: bytes) -> bytes:
    """The model with every operator's results as outputs of the graph, its own first."""
    content = schema.ModelT.InitFromPackedBuf(model, 0)
    graph = content.subgraphs[0]
    made = [int(index) for op in graph.operators for index in op.outputs]
    own = [int(index) for index in graph.outputs]
    graph.outputs = np.array([*own, *(i for i in made if i not in own)], np.int32)
    builder = flatbuffers.Builder(len(model))
    builder.Finish(content.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class OnnxRuntime:
    """ONNX Runtime on the CPU, one thread, all optimisations; quantised tensors are exported."""

    def __init__(self, model: onnx.ModelProto, graph: Graph) -> None:
        shown = onnx.ModelProto()
        shown.CopyFrom(model)
        known = {output.name for output in shown.graph.output}
        written = {name for node in shown.graph.node for name in node.output}
        for name, tensor in graph.tensors.items():
            if name in written and name not in known and tensor.type.dtype == "int8":
                kind = onnx.TensorProto.UINT8 if tensor.type.source_dtype else onnx.TensorProto.INT8
                value = onnx.helper.make_tensor_value_info(name, kind, tensor.type.shape)
                shown.graph.output.append(value)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            shown.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name, uint8 ones moved to int8 as the graph holds them."""
        names = [output.name for output in self._session.get_outputs()]
        values = dict(zip(names, self._session.run(names, dict(inputs)), strict=True))
        return {name: held(value) for name, value in {**inputs, **values}.items()}


def held(value: Array) -> Array:
    """A tensor as the graph holds it: uint8 becomes int8, moved by 128."""
    return (value.astype(np.int16) - 128).astype(np.int8) if value.dtype == np.uint8 else value


def differences(graph: Graph, truth: Mapping[str, Array]) -> dict[str, int]:
    """Per tensor that the runtime shows: values that differ, each layer on the runtime's inputs.

    Accumulators, which no runtime shows, come from the layer's own reference.
    """
    values = {name: truth[name] for name in graph.inputs}
    counts = {}
    for node in graph.nodes:
        (name,) = node.outputs
        result = evaluate_node(graph, node, values)
        if name in truth:
            counts[name] = int((result != truth[name]).sum())
            values[name] = truth[name]
        else:
            values[name] = result
    return counts
