"""Each rule of the verifier fails on a function that breaks it and nothing else."""

from __future__ import annotations

import re

import pytest

from compiler import te
from compiler.errors import LoweringError
from compiler.loop.expr import Const, Read, Var, call, compare
from compiler.loop.nodes import (
    Access,
    Alloc,
    Apply,
    Buffer,
    Copy,
    For,
    Func,
    If,
    Region,
    Seq,
    Stmt,
    Store,
    Task,
)
from compiler.loop.units import GEMM, RESET
from compiler.loop.verify import verify
from vta_hw.spec.isa import Load

DRAM = Buffer("x", (4, 1, 4), "int8")
OTHER = Buffer("other", (4, 1, 4), "int8")
ACC = Buffer("a", (4, 1, 4), "int32", "acc")
INDEX = Var("i")
ZERO = Const(0)


def func(body: Stmt, *params: Buffer) -> Func:
    return Func("f", params or (DRAM, ACC), body)


def store(index, value=ZERO, buffer: Buffer = ACC) -> Store:
    return Store(buffer, (index, ZERO, ZERO), value)


GOOD: dict[str, Stmt] = {
    "store": For(INDEX, 4, store(INDEX, Read(DRAM, (INDEX, ZERO, ZERO)).astype("int32"))),
    "guard": For(INDEX, 4, If(compare("<", INDEX, 3), store(INDEX))),
    "allocation": Alloc(OTHER, Store(OTHER, (ZERO, ZERO, ZERO), Const(1, "int8"))),
    "copy": For(
        INDEX,
        4,
        Copy(
            Region(ACC, (INDEX, ZERO, ZERO), (1, 1, 4)),
            Region(DRAM, (INDEX, ZERO, ZERO), (1, 1, 4)),
            (0, 1, 2),
        ),
    ),
    "step": For(INDEX, 4, Apply(RESET, Access(ACC, (INDEX,)))),
    "loops one after the other": Seq((For(INDEX, 4, store(INDEX)), For(INDEX, 4, store(INDEX)))),
    "instruction": Task(Load(memory_type=2, x_size=1), DRAM),
}


@pytest.mark.parametrize("name", GOOD)
def test_well_formed(name: str) -> None:
    verify(func(GOOD[name]))  # raises otherwise


BAD: dict[str, tuple[Stmt, str]] = {
    "variable outside its loop": (store(INDEX), "variable 'i' is used outside its loop"),
    "variable of a condition": (
        If(compare("<", INDEX, 3), store(ZERO)),
        "variable 'i' is used outside its loop",
    ),
    "variable after its loop": (
        Seq((For(INDEX, 4, store(INDEX)), store(INDEX))),
        "variable 'i' is used outside its loop",
    ),
    "variable of a transfer": (
        Copy(
            Region(ACC, (ZERO, ZERO, ZERO), (1, 1, 4)),
            Region(DRAM, (INDEX, ZERO, ZERO), (1, 1, 4)),
            (0, 1, 2),
        ),
        "variable 'i' is used outside its loop",
    ),
    "variable of a step's source": (
        Apply(GEMM, Access(ACC, (ZERO,)), (Access(DRAM, (INDEX,)), Access(DRAM, (ZERO,)))),
        "variable 'i' is used outside its loop",
    ),
    "variable bound twice": (
        For(INDEX, 4, For(INDEX, 2, store(INDEX))),
        "loop variable 'i' is bound twice",
    ),
    "empty loop": (For(INDEX, 0, store(INDEX)), "loop 'i' has extent 0 and kind 'serial'"),
    "kind": (For(INDEX, 4, store(INDEX), "fast"), "loop 'i' has extent 4 and kind 'fast'"),
    "buffer stored outside its allocation": (
        store(ZERO, Const(0, "int8"), OTHER),
        "buffer 'other' is used outside its allocation",
    ),
    "buffer read outside its allocation": (
        store(ZERO, Read(OTHER, (ZERO, ZERO, ZERO)).astype("int32")),
        "buffer 'other' is used outside its allocation",
    ),
    "buffer copied outside its allocation": (
        Copy(
            Region(OTHER, (ZERO, ZERO, ZERO), (1, 1, 4)),
            Region(DRAM, (ZERO, ZERO, ZERO), (1, 1, 4)),
            (0, 1, 2),
        ),
        "buffer 'other' is used outside its allocation",
    ),
    "buffer of a step outside its allocation": (
        Apply(RESET, Access(OTHER, (ZERO,))),
        "buffer 'other' is used outside its allocation",
    ),
    "buffer of an instruction outside its allocation": (
        Task(Load(memory_type=2, x_size=1), OTHER),
        "buffer 'other' is used outside its allocation",
    ),
    "allocated twice": (
        Alloc(OTHER, Alloc(OTHER, store(ZERO))),
        "buffer 'other' is allocated twice",
    ),
    "parameter allocated": (Alloc(ACC, store(ZERO)), "buffer 'a' is allocated twice"),
    "rank of a store": (
        Store(ACC, (ZERO, ZERO), ZERO),
        "buffer 'a' has 3 axes, 2 are given",
    ),
    "rank of a read": (
        store(ZERO, Read(DRAM, (ZERO,)).astype("int32")),
        "buffer 'x' has 3 axes, 1 are given",
    ),
    "rank of a region": (
        Copy(
            Region(ACC, (ZERO, ZERO, ZERO), (1, 1, 4)),
            Region(DRAM, (ZERO, ZERO), (1, 4)),
            (0, 1),
        ),
        "buffer 'x' has 3 axes, 2 are given",
    ),
    "rank of a step": (
        Apply(RESET, Access(ACC, (ZERO, ZERO))),
        "buffer 'a' has 3 axes, 4 are given",
    ),
    "type of a store": (
        store(ZERO, Const(1, "int8")),
        "int8 is stored into 'a' of int32",
    ),
    "tensor instead of a buffer": (
        store(ZERO, te.placeholder((1,), "int32", "t")(0)),
        "'t' is read as a tensor, not as a buffer",
    ),
    "reduction": (
        store(ZERO, te.sum(Const(1), [te.reduce_axis(4, "k")])),
        "a reduction is left inside an expression",
    ),
    "extent of a transfer": (
        Copy(
            Region(ACC, (ZERO, ZERO, ZERO), (2, 1, 4)),
            Region(DRAM, (ZERO, ZERO, ZERO), (3, 1, 4)),
            (0, 1, 2),
        ),
        "copy of [3, 1, 4] of 'x' along axes [0, 1, 2] into [2, 1, 4] of 'a'",
    ),
    "axes of a transfer": (
        Copy(
            Region(ACC, (ZERO, ZERO, ZERO), (2, 1, 4)),
            Region(DRAM, (ZERO, ZERO, ZERO), (2, 1, 4)),
            (0, 1),
        ),
        "copy of [2, 1, 4] of 'x' along axes [0, 1] into [2, 1, 4] of 'a'",
    ),
    "axis of a transfer that stands still": (
        Copy(
            Region(ACC, (ZERO, ZERO, ZERO), (2, 1, 4)),
            Region(DRAM, (ZERO, ZERO, ZERO), (2, 1, 4)),
            (None, 1, 2),
        ),
        "copy of [2, 1, 4] of 'x' along axes [None, 1, 2] into [2, 1, 4] of 'a'",
    ),
    "unit": (Apply("vta.divide", Access(ACC, (ZERO,))), "no tensor unit is called 'vta.divide'"),
    "variable inside a call": (
        store(ZERO, call("shr", Const(1), INDEX + 1)),
        "variable 'i' is used outside its loop",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed(name: str) -> None:
    body, text = BAD[name]
    message = re.escape(f"loop IR is malformed: {text}")
    with pytest.raises(LoweringError, match=f"^{message}$"):
        verify(func(body))


def test_the_message_names_the_pass() -> None:
    with pytest.raises(LoweringError, match="^loop IR is malformed after inject_dma: variable 'i'"):
        verify(func(store(INDEX)), after="inject_dma")
