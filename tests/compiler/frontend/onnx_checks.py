"""ONNX models held against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from compiler.errors import FrontendError
from compiler.frontend.onnx import import_onnx
from compiler.graph.canonicalise import canonicalise
from compiler.graph.ir import Graph
from compiler.graph.lower_qnn import lower_qnn
from compiler.graph.reference import evaluate, evaluate_node
from tests.compiler.runtimes import Array, OnnxRuntime, differences


def has_vnni() -> bool:
    """Without VNNI, ONNX Runtime's x86 kernels saturate products of unsigned and signed bytes."""
    cpuinfo = Path("/proc/cpuinfo")
    return not cpuinfo.is_file() or "vnni" in cpuinfo.read_text() or "asimd" in cpuinfo.read_text()


needs_vnni = pytest.mark.skipif(
    not has_vnni(), reason="ONNX Runtime saturates int8 products on a CPU without VNNI"
)


def load(model: onnx.ModelProto) -> Graph:
    return import_onnx(model.SerializeToString(), "net.onnx")


def check(model: onnx.ModelProto, rng: np.random.Generator, count: int = 8) -> Graph:
    """Every quantised tensor equals ONNX Runtime's, layer by layer and end to end."""
    graph = load(model)
    lowered = lower_qnn(graph)
    runtime = OnnxRuntime(model, graph)
    total: dict[str, int] = {}
    for _ in range(count):
        truth = runtime.run(random_inputs(graph, rng))
        for name, found in differences(lowered, truth).items():
            total[name] = total.get(name, 0) + found
        held = {name: truth[name] for name in graph.inputs}
        for form in (lowered, canonicalise(lowered)):
            values = evaluate(form, held)
            for name in graph.outputs:
                total[name] += int((values[name] != truth[name]).sum())
    assert not any(total.values()), total
    return lowered


def check_within_one(model: onnx.ModelProto, rng: np.random.Generator, share: float) -> None:
    """No quantised value is further than 1 from ONNX Runtime's, and few are not equal."""
    graph = load(model)
    lowered, runtime = lower_qnn(graph), OnnxRuntime(model, graph)
    unequal, total = 0, 0
    for _ in range(8):
        truth = runtime.run(random_inputs(graph, rng))
        values = {name: truth[name] for name in graph.inputs}
        for node in lowered.nodes:
            (name,) = node.outputs
            values[name] = evaluate_node(lowered, node, values)
            if name in truth and values[name].dtype == np.int8:
                error = values[name].astype(int) - truth[name]
                assert np.abs(error).max(initial=0) <= 1, name
                unequal, total = unequal + int((error != 0).sum()), total + error.size
                values[name] = truth[name]
    assert total and unequal <= share * total, f"{unequal} of {total}"


def random_inputs(graph: Graph, rng: np.random.Generator) -> dict[str, Array]:
    """Values for the graph's inputs, in the model's types."""
    inputs: dict[str, Array] = {}
    for name in graph.inputs:
        type_ = graph.type_of(name)
        if type_.dtype == "float32":
            inputs[name] = rng.normal(0, 2, type_.shape).astype(np.float32)
        else:
            info = np.iinfo(type_.source_dtype or "int8")
            inputs[name] = rng.integers(info.min, info.max + 1, type_.shape).astype(info.dtype)
    return inputs


def refuse(model: onnx.ModelProto, message: str) -> None:
    with pytest.raises(FrontendError, match=message) as caught:
        load(model)
    assert str(caught.value).startswith("model 'net.onnx': ")
    assert "\n" not in str(caught.value)
