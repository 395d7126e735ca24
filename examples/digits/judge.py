"""ONNX Runtime as the judge of the example, set up so that its integer kernels are exact."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime


def inexact_because() -> str:
    """Why ONNX Runtime cannot be held to the bit on this machine; empty where it can.

    Its convolutions multiply unsigned by signed bytes. On x86 only VNNI adds such products in 32
    bits; older instructions add pairs in 16, which saturates.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"its kernels on {platform.machine()} have not been compared"
    flags = Path("/proc/cpuinfo")
    if flags.is_file() and "_vnni" in flags.read_text():
        return ""
    return "this CPU has no VNNI, without which its sums saturate"


class Judge:
    """An inference session on one thread of the CPU.

    With `intermediates`, `run` gives every quantised tensor as well as the model's outputs.
    """

    def __init__(self, path: str | Path, intermediates: bool = False) -> None:
        model = onnx.load(path)
        if intermediates:
            for node in model.graph.node:
                if node.op_type == "QuantizeLinear":
                    kind = onnx.helper.make_tensor_value_info(
                        node.output[0], onnx.TensorProto.UINT8, None
                    )
                    model.graph.output.append(kind)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._names: Sequence[str] = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        return dict(zip(self._names, self._session.run(None, inputs), strict=True))
