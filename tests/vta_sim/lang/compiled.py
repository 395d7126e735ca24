"""Compiles the functions of tests, and says what integers of a width hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from vta_sim.lang.build import Library, Record
from vta_sim.lang.kinds import KernelError
from vta_sim.lang.translate import ModuleBuilder


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the language, to be called with numbers, arrays and records."""
    call = Library("tests", [function], {})[function.__name__]

    def called(*args: Any) -> Any:
        return call(*(_given(arg) for arg in args))

    return called


def _given(arg: Any) -> Any:
    if isinstance(arg, np.ndarray):
        assert arg.flags.c_contiguous
        return arg.ctypes.data
    return arg.address if isinstance(arg, Record) else arg


def refusal(function: Callable[..., Any], constants: Mapping[str, int] | None = None) -> str:
    """Why a function cannot be translated."""
    try:
        ModuleBuilder("refused", constants or {}, "generic").export(function)
    except KernelError as error:
        return str(error)
    raise AssertionError(f"{function.__name__} was translated")


def cut(value: int, kind: np.dtype[Any]) -> int:
    """What a variable of this width holds after it was set to `value`."""
    bits = 8 * kind.itemsize
    value &= (1 << bits) - 1
    return value - (1 << bits) if kind.kind == "i" and value >> bits - 1 else value
