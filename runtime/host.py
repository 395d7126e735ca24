"""Chooses who computes a package's host operators: its object code, or numpy."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Literal, Protocol, get_args

import numpy as np

from runtime.device import DeviceError
from runtime.host_numpy import HostNumpy
from runtime.package import HostCall, Package

HostChoice = Literal["auto", "native", "numpy"]


class Host(Protocol):
    """Whatever can do the host calls of a package."""

    def call(self, call: HostCall, arrays: Sequence[np.ndarray]) -> None:
        """Do `call` on its inputs, then its outputs; the outputs are filled."""


class _Native:
    """Host calls as functions of the package's object code."""

    def __init__(self, package: Package) -> None:
        from runtime.host_code import HostCode

        self._code = HostCode(package.host_object, package.host_triple)

    def call(self, call: HostCall, arrays: Sequence[np.ndarray]) -> None:
        self._code.call(call.symbol, arrays)


def open_host(package: Package, choice: HostChoice = "auto") -> tuple[Host, str, str]:
    """The host of a package, which one it is ("native" or "numpy"), and why if "auto" chose numpy.

    "auto" takes the object code where it runs on this machine, numpy elsewhere.
    """
    if choice not in get_args(HostChoice):
        raise DeviceError(
            f"host code must be one of {', '.join(get_args(HostChoice))}, not {choice!r}"
        )
    reason = "" if choice == "numpy" else _why_not_native(package)
    if choice == "native" and importlib.util.find_spec("llvmlite") is None:
        raise DeviceError(f"the package's {reason}; install llvmlite or use --host-code numpy")
    if choice == "native" or (choice == "auto" and not reason):
        return _Native(package), "native", ""
    calls = [step for step in package.plan if isinstance(step, HostCall)]
    return HostNumpy(calls, package.tensors), "numpy", reason


def _why_not_native(package: Package) -> str:
    if importlib.util.find_spec("llvmlite") is None:
        return "host code needs llvmlite to be loaded, which is not installed"
    from runtime.host_code import why_foreign

    return why_foreign(package.host_triple)
