"""The outer form of a package file: a zip of stored members, sealed by version and SHA-256.

The zip comment, the last bytes of the file, holds the format version and the SHA-256 of all bytes
before it. Nothing else of a file is looked at before both are checked.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

from vta_hw.spec.cache import replace_file
from vta_hw.spec.errors import VtaKitError

FORMAT_VERSION = 1

_MAGIC = b"vta-package"
_TRAILER = re.compile(_MAGIC + rb" (\d{4}) sha256=([0-9a-f]{64})")
_TRAILER_BYTES = len(_MAGIC) + len(" 0001 sha256=") + 64
_ZIP_MAGIC = b"PK\x03\x04"
_REASON_CHARS_MAX = 200
_EPOCH = (1980, 1, 1, 0, 0, 0)


class PackageError(VtaKitError):
    """A package that is damaged, foreign, of another version or inconsistent in itself."""


def is_package(data: bytes) -> bool:
    """Whether a file's contents are meant to be a package, sound or not."""
    return data.startswith(_ZIP_MAGIC) or _MAGIC in data[-_TRAILER_BYTES:]


def seal(members: Mapping[str, bytes]) -> bytes:
    """The file's contents; equal members in equal order give equal bytes."""
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


def unseal(data: bytes, origin: str) -> dict[str, bytes]:
    """The members of a whole, sound file of this version; `origin` names it in errors."""
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
        return _members(data, origin)
    except (
        zipfile.BadZipFile, struct.error, ValueError, RuntimeError, LookupError, EOFError, OSError,
    ) as error:  # fmt: skip
        # Some of these messages quote as much of the file as they like.
        text = " ".join(f"{type(error).__name__}: {error}".split())[:_REASON_CHARS_MAX]
        raise PackageError(f"package {origin!r} is malformed: {text}") from error


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a file through a temporary one beside it, so that no partial file is ever left."""
    try:
        replace_file(Path(path), data)
    except OSError as error:
        raise PackageError(
            f"cannot write {str(path)!r}: {error.strerror or error}; "
            f"name a file in an existing folder that you may write to"
        ) from error


def _trailer(digest: str) -> bytes:
    return _MAGIC + f" {FORMAT_VERSION:04d} sha256={digest}".encode()


def _members(data: bytes, origin: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = archive.infolist()
        # Compressed or overlapping members could hold far more than the file's own size.
        stored = all(info.compress_type == zipfile.ZIP_STORED for info in infos)
        if not stored or sum(info.file_size for info in infos) > len(data):
            raise PackageError(
                f"package {origin!r} is malformed: its members must be stored one after the other"
            )
        for info in infos:
            if info.filename in found:
                raise PackageError(
                    f"package {origin!r} is malformed: member {info.filename!r} is there twice"
                )
            found[info.filename] = archive.read(info)
    return found
