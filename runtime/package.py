"""The compiled network as one file.

A package is a zip with stored (uncompressed) members, so that any zip tool opens it and equal
packages have equal bytes. Version and checksum are checked before anything else is read, as
`runtime.container` describes; so host code is never loaded from a file that was changed::

    manifest.json                      config, tensors, call plan, placements, layers
    program<i>/{program.json, instructions.bin, constants.bin}
    host.o                             object code of the host operators
    host_constants/<i>.npy             arrays that host operators read
"""

from __future__ import annotations

import io
import json
import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from runtime.container import PackageError, is_package, seal, unseal, write_atomically
from runtime.npy import read_npy
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.errors import VtaKitError
from vta_hw.spec.program import Program

__all__ = [
    "HostCall",
    "LayerRow",
    "Package",
    "PackageError",
    "PlanStep",
    "TensorInfo",
    "VtaCall",
    "is_package",
    "write_atomically",
]

_PROGRAM_MEMBERS = ("program.json", "instructions.bin", "constants.bin")

DTYPES = ("bool", "int8", "uint8", "int16", "int32", "int64", "float32", "float64")
STORAGES = ("host", "device")
PLACES = ("vta", "host", "view")

TENSOR_BYTES_MAX = 1 << 32
"""No tensor is greater than what VTA can address."""
_AXES_MAX = 32


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _is_tuple_of(is_item: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, tuple) and all(map(is_item, value))


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, value))


# What the fields of the classes below are declared as -> what they may hold.
_FIELD_TYPES: Mapping[str, Callable[[object], bool]] = {
    "str": _is_text,
    "int": _is_integer,
    "tuple[str, ...]": _is_tuple_of(_is_text),
    "tuple[int, ...]": _is_tuple_of(_is_integer),
    "tuple[float, ...]": _is_tuple_of(_is_number),
    "Mapping[str, Any]": _is_table,
}


def _check_fields(record: TensorInfo | HostCall | LayerRow) -> None:
    """The declared types hold: a manifest is JSON and may hold anything."""
    for item in fields(record):
        value = getattr(record, item.name)
        if not _FIELD_TYPES[str(item.type)](value):
            raise PackageError(
                f"{item.name} of {type(record).__name__} must be {item.type}, "
                f"not {reprlib.repr(value)}"
            )


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """A value that the call plan passes on.

    `shape` and `layout` (axis letters, e.g. ``NHWC``) are the model's, for packed device tensors
    too; `dtype` is the element type in memory, `source_dtype` the one the model file gives where
    it differs (uint8 held as int8, shifted by 128). A device tensor is packed by `batch` and
    `block` (see `packed_shape`); `view_of` names the model's tensor that it represents.
    With `alias_of` it has no memory of its own but lies in that device tensor's.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    layout: str = ""
    source_dtype: str = ""
    storage: str = "host"
    view_of: str = ""
    alias_of: str = ""
    batch: int = 0
    block: int = 0

    def __post_init__(self) -> None:
        _check_fields(self)
        if self.dtype not in DTYPES or self.face_dtype not in DTYPES:
            raise PackageError(
                f"tensor {self.name!r}: element type must be one of {', '.join(DTYPES)}, "
                f"not {self.dtype!r} seen as {self.face_dtype!r}"
            )
        if self.storage not in STORAGES:
            raise PackageError(
                f"tensor {self.name!r}: storage must be one of {', '.join(STORAGES)}, "
                f"not {self.storage!r}"
            )
        if self.storage == "device":
            if self.batch < 1 or self.block < 1:
                raise PackageError(
                    f"device tensor {self.name!r} needs a batch and a block of at least 1, "
                    f"not {self.batch} and {self.block}"
                )
            self.logical_nchw()
        if len(self.scale) != len(self.zero_point):
            raise PackageError(
                f"tensor {self.name!r} must have as many zero points as scales, not "
                f"{len(self.zero_point)} for {len(self.scale)}"
            )
        if len(self.shape) > _AXES_MAX or min(self.shape, default=1) < 0:
            raise PackageError(
                f"tensor {self.name!r} must have at most {_AXES_MAX} axes, none of them negative, "
                f"not the shape {self.shape}"
            )
        if self.size_bytes > TENSOR_BYTES_MAX:
            raise PackageError(
                f"tensor {self.name!r} takes {self.size_bytes} bytes, more than the "
                f"{TENSOR_BYTES_MAX} that VTA can address"
            )

    @property
    def face_dtype(self) -> str:
        """Element type that a user of the model sees."""
        return self.source_dtype or self.dtype

    @property
    def axes(self) -> str:
        """The axis letters, in the order of `shape`; a matrix without a layout is ``NC``."""
        return self.layout or ("NC" if len(self.shape) == 2 else "")

    def logical_nchw(self) -> tuple[int, int, int, int]:
        """Extents of N, C, H and W; axes that the layout lacks count 1."""
        axes = self.axes
        extents = dict(zip(axes, self.shape, strict=False))
        if not len(axes) == len(self.shape) == len(extents) or not {"N", "C"} <= set(axes):
            raise PackageError(
                f"tensor {self.name!r}: layout {self.layout!r} does not name the axes N, C, H, W "
                f"of shape {self.shape}"
            )
        n, c, h, w = (extents.pop(axis, 1) for axis in "NCHW")
        if extents:
            raise PackageError(
                f"tensor {self.name!r}: layout {self.layout!r} has axes other than N, C, H, W"
            )
        return n, c, h, w

    @property
    def packed_shape(self) -> tuple[int, ...]:
        """Shape in device memory: [ceil(N / batch), ceil(C / block), H, W, batch, block]."""
        n, c, h, w = self.logical_nchw()
        return (-(-n // self.batch), -(-c // self.block), h, w, self.batch, self.block)

    @property
    def size_bytes(self) -> int:
        """Bytes that it takes where it is stored."""
        shape = self.packed_shape if self.storage == "device" else self.shape
        return math.prod(shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class HostCall:
    """Call `symbol` of the host object with pointers to `inputs`, then to `outputs`.

    Names are of tensors or, among the inputs, of host constants. `op` and `attrs` (JSON values)
    say what the function computes, for machines that the object code is not for; the operands'
    types are those of the named tensors, and what is an array is among the constants.
    """

    symbol: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    op: str = ""
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True)
class VtaCall:
    """Run a program on the device; its symbols without contents are device tensors."""

    program: int


PlanStep = HostCall | VtaCall


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """What became of one operator of the model; byte counts are its instructions' DRAM traffic."""

    name: str
    op: str
    where: str
    reason: str = ""
    macs: int = 0
    instructions: int = 0
    bytes_loaded: int = 0
    bytes_stored: int = 0

    def __post_init__(self) -> None:
        _check_fields(self)
        if self.where not in PLACES:
            raise PackageError(
                f"layer {self.name!r} must be placed on one of {', '.join(PLACES)}, "
                f"not {self.where!r}"
            )


@dataclass(frozen=True, kw_only=True)
class Package:
    """A compiled network: everything that a run needs, without the compiler.

    `placements[i]` gives, for each symbol without contents of `programs[i]`, its byte offset in the
    one arena of `arena_bytes` that all programs share; a name has one offset everywhere. `exact`
    says whether the outputs equal those of the runtime that `numerics` names.
    """

    config: VtaConfig
    model: str
    numerics: str
    tensors: Mapping[str, TensorInfo]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    plan: tuple[PlanStep, ...]
    programs: tuple[Program, ...] = ()
    placements: tuple[Mapping[str, int], ...] = ()
    arena_bytes: int = 0
    host_object: bytes = b""
    host_triple: str = ""
    host_constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    layers: tuple[LayerRow, ...] = ()
    exact: bool = True
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_tensors(self)
        _check_plan(self)
        _check_placements(self)

    @property
    def host_macs(self) -> int:
        """Multiply-accumulates of one inference that the host does."""
        return sum(row.macs for row in self.layers if row.where == "host")

    @property
    def host_operators(self) -> tuple[str, ...]:
        """Operators of the host calls, in order."""
        return tuple(s.op or s.symbol for s in self.plan if isinstance(s, HostCall))

    def save(self, path: str | Path) -> None:
        """Write the package; the file appears whole or not at all."""
        write_atomically(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The file's contents; equal packages give equal bytes."""
        members = {"manifest.json": _manifest(self), "host.o": self.host_object}
        for index, program in enumerate(self.programs):
            for name, data in program.to_members().items():
                members[f"program{index}/{name}"] = data
        for index, array in enumerate(self.host_constants.values()):
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            members[f"host_constants/{index}.npy"] = buffer.getvalue()
        return seal(members)

    @classmethod
    def load(cls, path: str | Path) -> Package:
        """Read a package; a file that is not whole and sound is refused with `PackageError`."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise PackageError(
                f"package {str(path)!r} cannot be read: {error.strerror or error}"
            ) from error
        return cls.from_bytes(data, str(path))

    @classmethod
    def from_bytes(cls, data: bytes, origin: str = "package") -> Package:
        """Read what `to_bytes` gave; `origin` names it in errors."""
        members = unseal(data, origin)
        try:
            return _build(members)
        except VtaKitError as error:
            raise PackageError(f"package {origin!r} is malformed: {error}") from error
        except RecursionError as error:
            raise PackageError(f"package {origin!r} is malformed: JSON nested too deep") from error
        except (LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise PackageError(f"package {origin!r} is malformed: {text}") from error


# -- consistency -----------------------------------------------------------------------------------


def _check_tensors(package: Package) -> None:
    for name in (*package.inputs, *package.outputs):
        if name not in package.tensors:
            raise PackageError(f"the model's input or output {name!r} is no tensor of the package")
    for name in package.inputs:
        if package.tensors[name].storage != "host":
            raise PackageError(f"the model's input {name!r} must be a tensor of the host")
    for name, tensor in package.tensors.items():
        if name != tensor.name:
            raise PackageError(f"tensor {tensor.name!r} is filed under the name {name!r}")
        if tensor.alias_of:
            base = package.tensors.get(tensor.alias_of)
            if base is None or base.alias_of or base.size_bytes != tensor.size_bytes:
                raise PackageError(
                    f"tensor {name!r} must be an alias of a tensor of its size, "
                    f"not of {tensor.alias_of!r}"
                )


def _check_plan(package: Package) -> None:
    for step in package.plan:
        match step:
            case VtaCall(program):
                if not 0 <= program < len(package.programs):
                    raise PackageError(f"the call plan runs program {program}, which is absent")
            case HostCall(symbol, inputs, outputs):
                for name in (*inputs, *outputs):
                    is_constant = name in package.host_constants and name in inputs
                    if name not in package.tensors and not is_constant:
                        raise PackageError(
                            f"host call {symbol!r} refers to tensor {name!r}, which is absent"
                        )


def _check_placements(package: Package) -> None:
    if len(package.placements) != len(package.programs):
        raise PackageError(
            f"the package places {len(package.placements)} programs, "
            f"it holds {len(package.programs)}"
        )
    offsets: dict[str, int] = {}
    for program, placement in zip(package.programs, package.placements, strict=True):
        if program.config.program_hash != package.config.program_hash:
            raise PackageError(
                f"a program is for config {program.config.name!r}, the package for "
                f"{package.config.name!r}"
            )
        for symbol in program.symbols.values():
            if symbol.contents is not None:
                continue
            if symbol.name not in placement:
                raise PackageError(f"symbol {symbol.name!r} has no place in the arena")
            offset = placement[symbol.name]
            if not 0 <= offset <= package.arena_bytes - symbol.size_bytes:
                raise PackageError(
                    f"symbol {symbol.name!r} lies at {offset}..{offset + symbol.size_bytes}, "
                    f"outside the arena of {package.arena_bytes} bytes"
                )
            if offsets.setdefault(symbol.name, offset) != offset:
                raise PackageError(f"symbol {symbol.name!r} has two places in the arena")
            tensor = package.tensors.get(symbol.name)
            if tensor is None or tensor.storage != "device":
                raise PackageError(f"symbol {symbol.name!r} is no device tensor of the package")
            if tensor.size_bytes != symbol.size_bytes:
                raise PackageError(
                    f"symbol {symbol.name!r} takes {symbol.size_bytes} bytes, its tensor "
                    f"{tensor.size_bytes}"
                )


# -- manifest --------------------------------------------------------------------------------------


def _manifest(package: Package) -> bytes:
    plan = [
        {"vta": step.program} if isinstance(step, VtaCall) else {"host": asdict(step)}
        for step in package.plan
    ]
    table = {
        "config": package.config.to_dict(),
        "config_name": package.config.name,
        "config_hash": package.config.hash,
        "model": package.model,
        "numerics": package.numerics,
        "exact": package.exact,
        "notes": package.notes,
        "tensors": [asdict(tensor) for tensor in package.tensors.values()],
        "inputs": package.inputs,
        "outputs": package.outputs,
        "plan": plan,
        "programs": len(package.programs),
        "placements": [dict(p) for p in package.placements],
        "arena_bytes": package.arena_bytes,
        "host_triple": package.host_triple,
        "host_constants": list(package.host_constants),
        "layers": [asdict(row) for row in package.layers],
    }
    return json.dumps(table, indent=1, allow_nan=False).encode()


def _build(members: Mapping[str, bytes]) -> Package:
    table = json.loads(members["manifest.json"])
    config = VtaConfig.from_dict(_mapping(table["config"]), _text(table["config_name"]))
    if config.hash != table["config_hash"]:
        raise PackageError(
            f"its config has the hash {config.hash}, not the recorded "
            f"{reprlib.repr(table['config_hash'])}"
        )
    constants = {
        _text(name): _array(members[f"host_constants/{i}.npy"])
        for i, name in enumerate(_list(table["host_constants"]))
    }
    return Package(
        config=config,
        model=_text(table["model"]),
        numerics=_text(table["numerics"]),
        tensors={t["name"]: TensorInfo(**_tuples(t)) for t in _list(table["tensors"])},
        inputs=_texts(table["inputs"]),
        outputs=_texts(table["outputs"]),
        plan=tuple(_step(entry) for entry in _list(table["plan"])),
        programs=tuple(_program(members, i, config) for i in range(_integer(table["programs"]))),
        placements=tuple(
            {name: _integer(offset) for name, offset in _mapping(entry).items()}
            for entry in _list(table["placements"])
        ),
        arena_bytes=_integer(table["arena_bytes"]),
        host_object=members["host.o"],
        host_triple=_text(table["host_triple"]),
        host_constants=constants,
        layers=tuple(LayerRow(**_mapping(row)) for row in _list(table["layers"])),
        exact=table["exact"] is True,
        notes=_texts(table["notes"]),
    )


def _program(members: Mapping[str, bytes], index: int, config: VtaConfig) -> Program:
    own = {name: members[f"program{index}/{name}"] for name in _PROGRAM_MEMBERS}
    return Program.from_members(own, config)


def _step(entry: Mapping[str, Any]) -> PlanStep:
    if "vta" in _mapping(entry):
        return VtaCall(_integer(entry["vta"]))
    return HostCall(**_tuples(entry["host"]))


def _array(data: bytes) -> np.ndarray:
    array = read_npy(data)
    if array.dtype.name not in DTYPES or not array.dtype.isnative or not array.flags.c_contiguous:
        raise PackageError(f"a host constant must be a C-ordered array, not of {array.dtype}")
    return array


# -- values of the manifest: each of the type that is expected, or refused -------------------------


def _mapping(value: Any) -> dict[str, Any]:
    return _expect(value, isinstance(value, dict), "an object")


def _list(value: Any) -> list[Any]:
    return _expect(value, isinstance(value, list), "a list")


def _text(value: Any) -> str:
    return _expect(value, _is_text(value), "text")


def _integer(value: Any) -> int:
    return _expect(value, _is_integer(value), "an integer")


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(item) for item in _list(value))


def _expect(value: Any, is_right: bool, what: str) -> Any:
    if not is_right:
        raise PackageError(f"the manifest has {reprlib.repr(value)} where {what} belongs")
    return value


def _tuples(table: Any) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in _mapping(table).items()}
