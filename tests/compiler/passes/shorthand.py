"""Short ways to write functions of loop IR on the memories of `tiny`."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from compiler import te
from compiler.errors import LoweringError
from vta_hw.spec.config import VtaConfig

TINY = VtaConfig.load("tiny")
ELEMENT = (1, 4)
"""One element of INP and ACC in `tiny`."""


def refused(text: str, error: type[LoweringError] = LoweringError):
    """The whole message."""
    return pytest.raises(error, match=f"^{re.escape(text)}$")


def on_accumulator(
    inputs: dict[str, tuple[int, ...]], *stages: Callable[..., te.Tensor], dtype: str = "int32"
) -> tuple[te.Schedule, tuple[te.Tensor, ...]]:
    """Inputs loaded into ACC, stages computed there, the last one stored as int8.

    Each stage is a function of the loaded inputs and the stages before it.
    """
    given = [te.placeholder((*shape, *ELEMENT), dtype, name) for name, shape in inputs.items()]
    tensors: list[te.Tensor] = []
    for source in given:
        tensors.append(_load(source))
    for stage in stages:
        tensors.append(stage(*tensors))
    last = tensors[-1]
    out = te.compute(last.shape, lambda *at: last(*at).astype("int8"), "out")
    s = te.Schedule(out)
    for tensor in tensors:
        if any(stage.tensor is tensor for stage in s.stages):
            s[tensor].set_scope("acc")
    return s, (*given, out)


def _load(source: te.Tensor) -> te.Tensor:
    return te.compute(source.shape, lambda *at: source(*at).astype("int32"), f"{source.name}.acc")
