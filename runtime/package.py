"""The compiled network as one file.

A package is a zip with stored (uncompressed) members, so that any zip tool opens it and equal
packages have equal bytes. Its zip comment, the last bytes of the file, holds the format version and
the SHA-256 of all bytes before it; both are checked before anything else is read::

    manifest.json                      config, tensors, call plan, placements, layers
    program<i>/{program.json, instructions.bin, constants.bin}
    host.o                             object code of the host operators
    host_constants/<i>.npy             arrays that host operators read
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vta_hw.spec.config import VtaConfig
from vta_hw.spec.errors import VtaKitError
from vta_hw.spec.program import Program

FORMAT_VERSION = 1

_MAGIC = b"vta-package"
_TRAILER = re.compile(_MAGIC + rb" (\d{4}) sha256=([0-9a-f]{64})")
_TRAILER_BYTES = len(_MAGIC) + len(" 0001 sha256=") + 64
_ZIP_MAGIC = b"PK\x03\x04"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PROGRAM_MEMBERS = ("program.json", "instructions.bin", "constants.bin")

DTYPES = ("bool", "int8", "uint8", "int16", "int32", "int64", "float32", "float64")
STORAGES = ("host", "device")
PLACES = ("vta", "host", "view")


class PackageError(VtaKitError):
    """A package that is damaged, foreign, of another version or inconsistent in itself."""


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
        return int(np.prod(shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class HostCall:
    """Call `symbol` of the host object with pointers to `inputs`, then to `outputs`.

    Names are of tensors or, among the inputs, of host constants.
    """

    symbol: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    label: str = ""


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
        """Labels of the host calls, in order."""
        return tuple(s.label or s.symbol for s in self.plan if isinstance(s, HostCall))

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
        return _seal(members)

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
        members = _unseal(data, origin)
        try:
            return _build(members)
        except (VtaKitError, LookupError, ValueError, TypeError, AttributeError) as error:
            raise PackageError(f"package {origin!r} is malformed: {error}") from error


def is_package(data: bytes) -> bool:
    """Whether a file's contents are meant to be a package, sound or not."""
    return data.startswith(_ZIP_MAGIC) or _MAGIC in data[-_TRAILER_BYTES:]


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a file through a temporary one beside it, so that no partial file is ever left."""
    target = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise PackageError(
            f"cannot write {str(path)!r}: {error.strerror or error}; "
            f"name a file in an existing folder that you may write to"
        ) from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        raise PackageError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    # The only portable way to read it is to set it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


# -- consistency -----------------------------------------------------------------------------------


def _check_tensors(package: Package) -> None:
    for name in (*package.inputs, *package.outputs):
        if name not in package.tensors:
            raise PackageError(f"the model's input or output {name!r} is no tensor of the package")
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
                    if name not in package.tensors and name not in package.host_constants:
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
    table: dict[str, Any] = json.loads(members["manifest.json"])
    config = VtaConfig.from_dict(table["config"], str(table["config_name"]))
    if config.hash != table["config_hash"]:
        raise PackageError(
            f"its config has the hash {config.hash}, not the recorded {table['config_hash']}"
        )
    constants = {
        str(name): np.load(io.BytesIO(members[f"host_constants/{i}.npy"]), allow_pickle=False)
        for i, name in enumerate(table["host_constants"])
    }
    return Package(
        config=config,
        model=str(table["model"]),
        numerics=str(table["numerics"]),
        tensors={t["name"]: TensorInfo(**_tuples(t)) for t in table["tensors"]},
        inputs=_strings(table["inputs"]),
        outputs=_strings(table["outputs"]),
        plan=tuple(_step(entry) for entry in table["plan"]),
        programs=tuple(_program(members, i, config) for i in range(table["programs"])),
        placements=tuple({str(k): int(v) for k, v in p.items()} for p in table["placements"]),
        arena_bytes=int(table["arena_bytes"]),
        host_object=members["host.o"],
        host_triple=str(table["host_triple"]),
        host_constants=constants,
        layers=tuple(LayerRow(**row) for row in table["layers"]),
        exact=bool(table["exact"]),
        notes=_strings(table["notes"]),
    )


def _program(members: Mapping[str, bytes], index: int, config: VtaConfig) -> Program:
    own = {name: members[f"program{index}/{name}"] for name in _PROGRAM_MEMBERS}
    return Program.from_members(own, config)


def _step(entry: Mapping[str, Any]) -> PlanStep:
    if "vta" in entry:
        return VtaCall(int(entry["vta"]))
    return HostCall(**_tuples(entry["host"]))


def _tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}


def _strings(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(v) for v in values)


# -- container -------------------------------------------------------------------------------------


def _trailer(digest: str) -> bytes:
    return _MAGIC + f" {FORMAT_VERSION:04d} sha256={digest}".encode()


def _seal(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = _trailer("0" * 64)
        for name, data in members.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o644 << 16
            info.create_system = 3
            archive.writestr(info, data)
    body = buffer.getvalue()[:-_TRAILER_BYTES]
    return body + _trailer(hashlib.sha256(body).hexdigest())


def _unseal(data: bytes, origin: str) -> dict[str, bytes]:
    match = _TRAILER.fullmatch(data[-_TRAILER_BYTES:])
    if match is None:
        if data.startswith(_ZIP_MAGIC):
            raise PackageError(
                f"package {origin!r} is cut off, damaged or another kind of zip file; "
                f"compile the model again"
            )
        raise PackageError(f"{origin!r} is no VTA package; give a file that `vta compile` wrote")
    version = int(match[1])
    if version != FORMAT_VERSION:
        raise PackageError(
            f"package {origin!r} has format version {version}, this kit reads {FORMAT_VERSION}; "
            f"compile the model again with this kit"
        )
    body = data[:-_TRAILER_BYTES]
    if hashlib.sha256(body).hexdigest().encode() != match[2]:
        raise PackageError(
            f"package {origin!r} is damaged (its SHA-256 does not match); compile the model again"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, RuntimeError, LookupError, EOFError) as error:
        raise PackageError(f"package {origin!r} is malformed: {error}") from error
