"""Compiles functions of the language, keeps the object code, and loads it into this process."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numpy as np

import vta_hw.spec
import vta_sim
from vta_hw.spec import cache as disk
from vta_sim.lang import cpu, kinds
from vta_sim.lang.kinds import ArrayType, KernelError, Scalar, StructType

_KIND = "kernels"


@dataclass(frozen=True)
class Effort:
    """How hard LLVM tries: its level, how large a function may be to be put into its callers.

    `vectors` is whether loops are unrolled and turned into vector instructions.
    """

    level: int = 3
    inlining: int = 225
    vectors: bool = True


THOROUGH = Effort()
BRIEF = Effort(level=2, inlining=10, vectors=False)
"""For functions that decide much and compute little: as fast, and compiled in half the time."""


class Library:
    """Compiled functions; call them as methods of `call`.

    Arrays and structures are given as numpy arrays (or addresses), numbers as numbers.
    """

    def __init__(
        self,
        name: str,
        functions: Sequence[Callable[..., Any]],
        constants: Mapping[str, int],
        effort: Effort = THOROUGH,
    ) -> None:
        target = cpu.chosen()
        self.isa = target.isa
        code = object_code(name, functions, constants, target, effort)
        self._engine = _engine(code)
        self._calls = {f.__name__: self._entry(f) for f in functions}

    def _entry(self, function: Callable[..., Any]) -> Callable[..., Any]:
        shape = kinds.signature(function)
        address = self._engine.get_function_address(function.__name__)
        if not address:
            raise KernelError(f"the compiled library lacks {function.__name__!r}")
        result = None if shape.result is None else _c_type(shape.result)
        params = [_c_type(kind) for kind in shape.params.values()]
        made = ctypes.CFUNCTYPE(result, *params)(address)
        made.keeps = self._engine  # type: ignore[attr-defined]  # the code goes when this goes
        return made

    def __getitem__(self, name: str) -> Callable[..., Any]:
        """A compiled function; pointers are given as integers."""
        return self._calls[name]


def object_code(
    name: str,
    functions: Sequence[Callable[..., Any]],
    constants: Mapping[str, int],
    target: cpu.Cpu,
    effort: Effort = THOROUGH,
) -> bytes:
    """Object code for a CPU, from the cache or compiled now.

    The key names everything that it depends on: sources, constants, LLVM, architecture, features.
    """
    key = disk.content_key(
        _sources(),
        _other_sources(functions),
        name,
        repr(sorted(constants.items())),
        repr([f"{f.__module__}.{f.__name__}" for f in functions]),
        llvmlite.__version__,
        platform.machine(),
        repr((target, effort)),
    )
    found = disk.load(_KIND, key)
    if found is None:
        with disk.locked(_KIND, key):
            found = disk.load(_KIND, key)
            if found is None:
                found = compile_functions(name, functions, constants, target, effort)
                disk.store(_KIND, key, found)
    return found


def compile_functions(
    name: str,
    functions: Sequence[Callable[..., Any]],
    constants: Mapping[str, int],
    target: cpu.Cpu,
    effort: Effort = THOROUGH,
    show: Callable[[str], None] | None = None,
) -> bytes:
    """Translate, optimise and assemble; `show` is called with the optimised LLVM IR."""
    # Not needed where the cache has what is wanted.
    from vta_sim.lang.translate import ModuleBuilder

    builder = ModuleBuilder(name, constants, target.isa)
    for function in functions:
        builder.export(function)
    _initialise()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=target.name,
        features=target.features,
        opt=effort.level,
        reloc="pic",
        codemodel="jitdefault",
        jit=True,
    )
    builder.module.triple = machine.triple
    builder.module.data_layout = str(machine.target_data)
    try:
        parsed = llvm.parse_assembly(str(builder.module))
        parsed.verify()
    except RuntimeError as error:
        raise KernelError(f"LLVM refuses {name}: {' '.join(str(error).split())}") from error
    options = llvm.create_pipeline_tuning_options(speed_level=effort.level)
    options.inlining_threshold = effort.inlining
    options.loop_vectorization = options.slp_vectorization = effort.vectors
    options.loop_unrolling = effort.vectors
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    if show is not None:
        show(str(parsed))
    code: bytes = machine.emit_object(parsed)
    return code


@cache
def _sources() -> bytes:
    """All source that compiled functions are made of or take constants from."""
    folders = [Path(package.__path__[0]) for package in (vta_sim, vta_hw.spec)]
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return disk.content_key(*(path.read_bytes() for path in files)).encode()


def _other_sources(functions: Sequence[Callable[..., Any]]) -> bytes:
    """Source of functions that lie elsewhere, as far as their modules have it."""
    names = sorted({f.__module__ for f in functions if not f.__module__.startswith("vta_sim.")})
    files = [Path(str(sys.modules[name].__file__)) for name in names]
    return disk.content_key(*(path.read_bytes() for path in files)).encode()


@cache
def _initialise() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _engine(code: bytes) -> Any:
    _initialise()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        codemodel="jitdefault", jit=True
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


def _c_type(kind: Any) -> Any:
    if isinstance(kind, ArrayType | StructType):
        return ctypes.c_void_p
    assert isinstance(kind, Scalar)
    if kind.sort == "b":
        return ctypes.c_bool
    if kind.sort == "f":
        return ctypes.c_float
    return getattr(ctypes, f"c_{'u' if kind.sort == 'u' else ''}int{kind.bits}")


class Record:
    """One structure in memory that compiled functions work on.

    Fields are set and read by name; an array is set to a numpy array, which is kept alive. Inner
    structures and inline arrays are numpy views.
    """

    def __init__(self, cls: type) -> None:
        self._type = StructType(cls)
        self.array = np.zeros(1, self._type.dtype)
        self._row = self.array[0]
        self._kept: dict[str, np.ndarray] = {}
        self._others: dict[str, Sequence[np.ndarray]] = {}

    @property
    def address(self) -> int:
        """Where it lies."""
        return int(self.array.ctypes.data)

    def __setitem__(self, name: str, value: Any) -> None:
        item = self._type.fields[name]
        if isinstance(item.type, ArrayType) and not item.count:
            assert isinstance(value, np.ndarray) and value.flags.c_contiguous
            self._kept[name] = value
            self._row[name] = value.ctypes.data
        else:
            self._row[name] = value

    def __getitem__(self, name: str) -> Any:
        """A field; numbers are copies."""
        return self._row[name]

    def keep(self, name: str, arrays: Sequence[np.ndarray]) -> None:
        """Keep arrays alive that inner structures point to."""
        self._others[name] = arrays

    def others(self, name: str) -> Sequence[np.ndarray]:
        """What `keep` was given."""
        return self._others[name]

    def kept(self, name: str) -> np.ndarray:
        """The numpy array that a field was set to."""
        return self._kept[name]

    def embed(self, name: str, other: Record) -> None:
        """Set an inner structure to a copy of another record, whose arrays are kept alive."""
        self._row[name] = other.array[0]
        self._others[name] = (other.array, *other._kept.values())

    def copy_of(self, name: str, count: int, dtype: np.dtype[Any]) -> np.ndarray:
        """A copy of `count` elements that a field points to, wherever that is."""
        return self.view(int(self._row[name]), count, dtype).copy()

    @staticmethod
    def view(address: int, count: int, dtype: np.dtype[Any]) -> np.ndarray:
        """Memory of compiled functions as an array; it is theirs to free."""
        if not count:
            return np.zeros(0, dtype)
        data = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
        return np.ndarray(count, dtype, memoryview(data))
