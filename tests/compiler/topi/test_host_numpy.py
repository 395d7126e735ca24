"""Host operators in numpy, compiled, and in the graph's reference: the same bits."""

from __future__ import annotations

import json

import numpy as np
import pytest

from compiler.emit.host import host_function
from compiler.graph.ir import TensorType
from compiler.topi import host
from compiler.topi.host import HOST_OPS
from compiler.topi.host_kernel import HostKernel, describe_attrs
from runtime.host_numpy import FORMS, HostNumpy
from runtime.package import HostCall, TensorInfo
from tests.compiler.topi.host_cases import CASE_OPS, Array, random_case, tensor_info

CASES = 40


def _compiled(kernel: HostKernel, *arrays: Array) -> Array:
    out = kernel.func.params[-1]
    made = np.full(out.shape, 85, out.dtype)
    host_function(kernel.func)(*arrays, *kernel.constants.values(), made)
    return made


def test_every_operator_has_all_forms() -> None:
    assert set(HOST_OPS) == set(CASE_OPS)
    assert set(FORMS) == {*HOST_OPS, "pack", "unpack"}


@pytest.mark.parametrize("op", CASE_OPS)
def test_numpy_compiled_and_reference_are_equal(op: str, rng: np.random.Generator) -> None:
    for number in range(CASES):
        case = random_case(op, rng)
        result = case.in_numpy()
        expected = case.reference()
        assert result.dtype == expected.dtype and result.shape == expected.shape
        np.testing.assert_array_equal(result, expected, f"{number}: {case}")
        if number % 4 == 0:
            compiled = _compiled(case.kernel, *case.inputs)
            np.testing.assert_array_equal(compiled, result, f"{number}: {case}")


@pytest.mark.parametrize("op", CASE_OPS)
def test_what_describes_an_operator_is_json(op: str, rng: np.random.Generator) -> None:
    for _ in range(5):
        attrs = describe_attrs(random_case(op, rng).node.attrs)
        assert json.loads(json.dumps(attrs, allow_nan=False)) == attrs


def test_numbers_of_numpy_become_plain() -> None:
    attrs = {"a": (np.int64(3), (1, np.float32(0.5))), "b": np.zeros(3), "c": "x"}
    assert describe_attrs(attrs) == {"a": [3, [1, 0.5]], "c": "x"}


@pytest.mark.parametrize(("batch", "block"), [(1, 16), (4, 8)])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "NC"])
def test_pack_and_unpack(batch: int, block: int, layout: str, rng: np.random.Generator) -> None:
    for _ in range(5):
        shape = tuple(int(v) for v in rng.integers(1, 20, len(layout)))
        type_ = TensorType(shape, "int8", layout=layout)
        packed = TensorInfo(
            name="p", dtype="int8", shape=shape, layout=layout, storage="device",
            batch=batch, block=block,
        )  # fmt: skip
        tensors = {"x": tensor_info("x", type_), "p": packed}
        there, back = HostCall("f", ("x",), ("p",), "pack"), HostCall("g", ("p",), ("x",), "unpack")
        runner = HostNumpy([there, back], tensors)
        x = rng.integers(-128, 128, shape, np.int8)
        made, again = np.full(packed.packed_shape, 85, np.int8), np.zeros(shape, np.int8)
        runner.call(there, [x, made])
        np.testing.assert_array_equal(_compiled(host.pack(type_, batch, block, "f"), x), made)
        noise = rng.integers(-128, 128, made.shape, np.int8)
        ones = np.zeros_like(made)
        runner.call(there, [np.ones_like(x), ones])
        noisy = np.where(ones == 1, made, noise)
        runner.call(back, [noisy.reshape(-1).view(np.uint8), again])
        np.testing.assert_array_equal(again, x)
        unpack = host.unpack(type_, batch, block, "g")
        np.testing.assert_array_equal(_compiled(unpack, noisy), x)
