"""Chooses who computes a package's host operators: its object code, or numpy."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Literal, Protocol, get_args

from runtime.buffers import Frame
from runtime.device import DeviceError
from runtime.host_numpy import HostNumpy
from runtime.package import HostCall, Package

HostChoice = Literal["auto", "native", "numpy"]


Step = Callable[[Frame], None]
"""One step of a call plan on the arrays of a run."""


class Host(Protocol):
    """Whatever can do the host calls of a package."""

    def bind(self, call: HostCall, slots: Sequence[int]) -> Step:
        """`call` on the arrays in these slots, its inputs and then its outputs, which it fills."""


class _Native:
    """Host calls as functions of the package's object code."""

    def __init__(self, package: Package) -> None:
        from runtime.host_code import HostCode

        self._code = HostCode(package.host_object, package.host_triple)

    def bind(self, call: HostCall, slots: Sequence[int]) -> Step:
        function = self._code.function(call.symbol, len(slots))
        if len(slots) < 2:
            # What picks a single item gives it bare.
            return lambda frame: function(*[frame.addresses[slot] for slot in slots])
        pick = itemgetter(*slots)
        return lambda frame: function(*pick(frame.addresses))


class _Numpy:
    """Host calls as functions of numpy."""

    def __init__(self, package: Package) -> None:
        calls = [step for step in package.plan if isinstance(step, HostCall)]
        self._forms = HostNumpy(calls, package.tensors)

    def bind(self, call: HostCall, slots: Sequence[int]) -> Step:
        forms = self._forms
        return lambda frame: forms.call(call, [frame.arrays[slot] for slot in slots])


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
    return _Numpy(package), "numpy", reason


def _why_not_native(package: Package) -> str:
    if importlib.util.find_spec("llvmlite") is None:
        return "host code needs llvmlite to be loaded, which is not installed"
    from runtime.host_code import why_foreign

    return why_foreign(package.host_triple)
