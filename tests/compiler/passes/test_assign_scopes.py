"""Buffers in memories that can hold them, and what is refused."""

from __future__ import annotations

import pytest

from compiler.errors import CapacityError
from compiler.loop.nodes import Alloc, Buffer, Func, Seq
from compiler.passes.assign_scopes import assign_scopes
from tests.compiler.kernels import KERNELS
from tests.compiler.passes.checks import check_equal, check_golden
from tests.compiler.passes.shorthand import TINY, refused
from tests.conftest import Golden
from vta_hw.spec.config import VtaConfig


@pytest.mark.parametrize("kind", ["conv"])
def test_text(kind: str, golden: Golden) -> None:
    check_golden("assign_scopes", kind, golden)


@pytest.mark.parametrize("name", KERNELS)
def test_same_result(name: str, seed: int) -> None:
    check_equal("assign_scopes", name, seed)


def allocated(buffer: Buffer) -> Func:
    return Func("f", (), Alloc(buffer, Seq(())))


@pytest.mark.parametrize(
    "buffer",
    [
        Buffer("x", (256, 1, 4), "int8", "inp"),
        Buffer("w", (8, 8, 4, 4), "int8", "wgt"),
        Buffer("a", (16, 16, 1, 4), "int32", "acc"),
        Buffer("one", (1, 4), "int32", "acc"),
    ],
    ids=lambda buffer: buffer.name,
)
def test_buffers_that_fit_exactly(buffer: Buffer) -> None:
    func = allocated(buffer)
    assert assign_scopes(func, TINY) is func


@pytest.mark.parametrize("scope", ["dram", "host"])
def test_intermediate_tensors_are_on_chip(scope: str) -> None:
    with refused(
        f"buffer 'x' is in scope '{scope}'; a VTA kernel needs its intermediate tensors in "
        f"inp, wgt, acc (set_scope)"
    ):
        assign_scopes(allocated(Buffer("x", (2, 1, 4), "int8", scope)), TINY)


@pytest.mark.parametrize(
    ("scope", "dtype", "holds"),
    [("inp", "int32", "int8"), ("wgt", "uint8", "int8"), ("acc", "int8", "int32")],
)
def test_memories_hold_one_type(scope: str, dtype: str, holds: str) -> None:
    with refused(f"buffer 'x' holds {dtype}, memory '{scope}' holds {holds}"):
        assign_scopes(allocated(Buffer("x", (2, 4, 4), dtype, scope)), TINY)


@pytest.mark.parametrize(
    ("scope", "dtype", "shape", "element"),
    [
        ("inp", "int8", (2, 2, 4), (1, 4)),
        ("inp", "int8", (4,), (1, 4)),
        ("wgt", "int8", (2, 1, 4), (4, 4)),
        ("acc", "int32", (2, 1, 8), (1, 4)),
    ],
)
def test_buffers_end_in_one_element(
    scope: str, dtype: str, shape: tuple[int, ...], element: tuple[int, int]
) -> None:
    with refused(
        f"buffer 'x' of shape {list(shape)} must end in one '{scope}' element, {list(element)}"
    ):
        assign_scopes(allocated(Buffer("x", shape, dtype, scope)), TINY)


def test_elements_differ_by_config() -> None:
    batch4 = VtaConfig.load("batch4")
    assign_scopes(allocated(Buffer("x", (2, 4, 8), "int8", "inp")), batch4)
    with refused("buffer 'x' of shape [2, 1, 4] must end in one 'inp' element, [4, 8]"):
        assign_scopes(allocated(Buffer("x", (2, 1, 4), "int8", "inp")), batch4)


@pytest.mark.parametrize(
    ("scope", "dtype", "shape", "count", "depth"),
    [
        ("inp", "int8", (257, 1, 4), 257, 256),
        ("wgt", "int8", (5, 13, 4, 4), 65, 64),
        ("acc", "int32", (16, 17, 1, 4), 272, 256),
    ],
)
def test_a_buffer_larger_than_its_memory(
    scope: str, dtype: str, shape: tuple[int, ...], count: int, depth: int
) -> None:
    with refused(
        f"buffer 'x' takes {count} elements of '{scope}', which has {depth}; use smaller tiles",
        CapacityError,
    ):
        assign_scopes(allocated(Buffer("x", shape, dtype, scope)), TINY)
