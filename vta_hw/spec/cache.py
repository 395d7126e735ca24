"""What is kept between runs because it takes long to make: files below one folder of the user.

Entries are named by hashes of everything that they were made from. Several processes may use the
folder at once; an entry that is damaged counts as absent.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vta_hw.spec.errors import VtaKitError

FOLDER_VARIABLE = "VTA_CACHE_DIR"
_DIGEST_BYTES = 32


class CacheError(VtaKitError):
    """The cache folder cannot be used."""


def cache_folder() -> Path:
    """``$VTA_CACHE_DIR``, or ``vta-kit`` in the user's cache folder; not necessarily there yet."""
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base, "vta-kit")
    try:
        return Path("~/.cache/vta-kit").expanduser()
    except RuntimeError as error:
        raise CacheError(
            f"the home folder of user {os.getuid()}, where the cache lies, is not known; set "
            f"{FOLDER_VARIABLE} to a folder that can be written"
        ) from error


def content_key(*parts: str | bytes) -> str:
    """A name for what was made from `parts`: equal only if all of them are."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(data)}:".encode() + data)
    return digest.hexdigest()[:32]


def entry(kind: str, key: str) -> Path:
    """Where an entry lies: its contents, and behind them their SHA-256."""
    return cache_folder() / kind / key


def load(kind: str, key: str) -> bytes | None:
    """The contents of an entry, or None if there is none or it is damaged."""
    path = entry(kind, key)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error) from error
    contents, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    return contents if hashlib.sha256(contents).digest() == digest else None


def store(kind: str, key: str, contents: bytes) -> None:
    """Keep an entry."""
    path = entry(kind, key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, contents + hashlib.sha256(contents).digest())
    except OSError as error:
        raise _unusable(path, error) from error


@contextmanager
def locked(kind: str, key: str) -> Iterator[None]:
    """Only one process at a time is in here for one entry, so that only one makes it."""
    path = entry(kind, f"{key}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w")
    except OSError as error:
        raise _unusable(path, error) from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def replace_file(path: Path, data: bytes) -> None:
    """Write a file through a temporary one beside it: no reader ever sees a part of it."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    # The only portable way to read it is to set it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _unusable(path: Path, error: OSError) -> CacheError:
    return CacheError(
        f"the cache file {str(path)!r} cannot be used: {error.strerror or error}; set "
        f"{FOLDER_VARIABLE} to a folder that can be written"
    )
