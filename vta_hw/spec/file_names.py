"""Names of tensors and layers as names of files."""

from __future__ import annotations

import hashlib
import re

STEM_CHARACTERS_MAX = 100
"""Longer stems are cut here: file systems end at 255 bytes, and callers put more around a stem."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_HASH_DIGITS = 10


def file_stem(name: str) -> str:
    """The name with what file systems dislike replaced by ``_``.

    A long one is cut, and a hash of the whole name takes the place of what is gone.
    """
    stem = _UNSAFE.sub("_", name) or "_"
    if len(stem) <= STEM_CHARACTERS_MAX:
        return stem
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{stem[:STEM_CHARACTERS_MAX]}-{digest[:_HASH_DIGITS]}"
