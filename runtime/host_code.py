"""Object code of host operators, loaded into this process. Needs llvmlite."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import llvmlite.binding as llvm
import numpy as np

from runtime.device import DeviceError

# ELF and Mach-O.
_OBJECT_MAGICS = (b"\x7fELF", b"\xcf\xfa\xed\xfe")
_SAME_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "armv7l": "armv7", "armv7a": "armv7"}


class HostCode:
    """The functions of one object file; each takes one pointer per array and returns nothing."""

    def __init__(self, object_code: bytes, triple: str) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        if reason := why_foreign(triple):
            raise DeviceError(
                f"the package's {reason}; compile the model with --host {here()} or run it with "
                f"--host-code numpy"
            )
        machine = llvm.Target.from_default_triple().create_target_machine()
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        # LLVM ends the process on what is no object file at all.
        if not object_code.startswith(_OBJECT_MAGICS):
            raise DeviceError("the package's host code is no object file; compile the model again")
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(object_code))
        self._engine.finalize_object()
        self._functions: dict[tuple[str, int], ctypes._CFunctionType] = {}

    def function(self, symbol: str, count: int) -> Callable[..., None]:
        """`symbol` as a function of `count` addresses; this object must outlive it."""
        key = (symbol, count)
        if key not in self._functions:
            address = self._engine.get_function_address(symbol)
            if not address:
                raise DeviceError(
                    f"the package's host code lacks the function {symbol!r}; "
                    f"compile the model again"
                )
            # A call lets other threads run: functions touch nothing but what they are given.
            self._functions[key] = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * count)(address)
        return self._functions[key]

    def call(self, symbol: str, arrays: Sequence[np.ndarray]) -> None:
        """Call `symbol` with these C-contiguous arrays, which must have the sizes it expects."""
        self.function(symbol, len(arrays))(*(array.ctypes.data for array in arrays))


def here() -> str:
    """The triple of this machine."""
    return str(llvm.get_process_triple())


def why_foreign(triple: str) -> str:
    """Why object code for `triple` does not run here, or an empty string."""
    if _machine(triple) == _machine(here()):
        return ""
    return f"host code is for {triple!r}, which this machine ({here()}) cannot run"


def _machine(triple: str) -> tuple[str, str]:
    # The vendor does not matter and the environment part is often left out.
    parts = [p for p in triple.split("-") if p not in ("unknown", "pc", "apple", "none")]
    arch = _SAME_MACHINES.get(parts[0], parts[0]) if parts else ""
    return arch, parts[1] if len(parts) > 1 else ""
