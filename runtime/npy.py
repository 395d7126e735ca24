"""Reads .npy files from anyone.

numpy's own reader allocates whatever a header asks for, and raises exceptions of many kinds.
"""

from __future__ import annotations

import ast
import math
import re
from typing import Any

import numpy as np

_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
_HEADER_BYTES_MAX = 10_000
_AXES_MAX = 32
_NUMBER = re.compile(r"\|?b1|[<>|=]?([iu][1248]|f[248])")


def read_npy(data: bytes) -> np.ndarray:
    """The array of numbers in a .npy file's contents, read-only; ValueError says what is wrong."""
    if not data.startswith(_MAGIC) or len(data) < len(_MAGIC) + 2:
        raise ValueError("it is no .npy file")
    width = _LENGTH_BYTES.get(data[len(_MAGIC)])
    if width is None:
        raise ValueError(f"its format version {data[len(_MAGIC)]} is unknown")
    start = len(_MAGIC) + 2 + width
    end = start + int.from_bytes(data[start - width : start], "little")
    if end > min(len(data), _HEADER_BYTES_MAX):
        raise ValueError("its header is cut off or too long")
    dtype, shape, is_fortran = _header(data[start:end])
    contents = data[end:]
    if math.prod(shape) * dtype.itemsize != len(contents):
        raise ValueError(f"{len(contents)} bytes are no {dtype} of shape {shape}")
    return np.frombuffer(contents, dtype).reshape(shape, order="F" if is_fortran else "C")


def _header(text: bytes) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    try:
        header = ast.literal_eval(text.decode("latin-1").strip())
        descr, shape = header["descr"], header["shape"]
        is_fortran = bool(header["fortran_order"])
    except (
        ValueError, TypeError, SyntaxError, LookupError, MemoryError, RecursionError,
    ) as error:  # fmt: skip
        raise ValueError("its header is malformed") from error
    if not isinstance(descr, str) or not _NUMBER.fullmatch(descr):
        raise ValueError("its elements are no numbers")
    is_shape = isinstance(shape, tuple) and len(shape) <= _AXES_MAX
    if not is_shape or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError("its header is malformed")
    return np.dtype(descr), tuple(map(int, shape)), is_fortran
