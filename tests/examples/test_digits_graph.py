"""The integer reference of the digits graph equals ONNX Runtime, operator by operator."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.frontend.model import import_model
from compiler.graph.ir import Graph
from compiler.graph.lower_qnn import lower_qnn
from compiler.graph.reference import evaluate
from examples.digits import data, judge
from tests.models import DIGITS

pytestmark = pytest.mark.skipif(
    bool(judge.inexact_because()), reason=f"ONNX Runtime: {judge.inexact_because()}"
)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return lower_qnn(import_model(DIGITS), "ort")


def _as_held(array: np.ndarray) -> np.ndarray:
    """uint8 tensors are held as int8, shifted by 128."""
    if array.dtype != np.uint8:
        return array
    return (array.astype(np.int16) - 128).astype(np.int8)


def test_every_tensor_of_every_image(graph: Graph):
    runtime = judge.Judge(DIGITS, intermediates=True)
    compared = 0
    for index, image in enumerate(data.load().test_images):
        ours = evaluate(graph, {"image": image[None]})
        for name, expected in runtime.run({"image": image[None]}).items():
            assert name in ours
            np.testing.assert_array_equal(ours[name], _as_held(expected), f"{name} of {index}")
            compared += expected.size
    # Quantised image, three convolutions, pooling, flattening, quantised logits and logits.
    assert compared == 539 * (64 + 1024 + 1024 + 256 + 128 + 128 + 10 + 10)
