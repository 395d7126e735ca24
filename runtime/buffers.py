"""Between a model's arrays and what lies in memory: packing, and uint8 held as int8."""

from __future__ import annotations

import numpy as np

from runtime.package import TensorInfo

_UINT8_SHIFT = 0x80


def from_face(array: np.ndarray, tensor: TensorInfo) -> np.ndarray:
    """An array as the model's user gives it, in the type it is held in."""
    return _shift(array, tensor.dtype) if _is_shifted(tensor) else array


def to_face(array: np.ndarray, tensor: TensorInfo) -> np.ndarray:
    """An array as it is held, in the type that the model's user sees."""
    return _shift(array, tensor.face_dtype) if _is_shifted(tensor) else array


def pack(array: np.ndarray, tensor: TensorInfo) -> np.ndarray:
    """A model's array as it lies in device memory; lanes beyond N and C are zero."""
    order = [tensor.axes.index(a) for a in "NCHW" if a in tensor.axes]
    n, c, h, w = tensor.logical_nchw()
    rows, blocks, _, _, batch, block = tensor.packed_shape
    padded = np.zeros((rows * batch, blocks * block, h, w), tensor.dtype)
    padded[:n, :c] = array.transpose(order).reshape(n, c, h, w)
    split = padded.reshape(rows, batch, blocks, block, h, w)
    return np.ascontiguousarray(split.transpose(0, 2, 4, 5, 1, 3))


def unpack(packed: np.ndarray, tensor: TensorInfo) -> np.ndarray:
    """The model's array in what lies in device memory (bytes or an array of the packed shape)."""
    n, c, h, w = tensor.logical_nchw()
    rows, blocks, _, _, batch, block = tensor.packed_shape
    split = packed.view(tensor.dtype).reshape(tensor.packed_shape).transpose(0, 4, 1, 5, 2, 3)
    dense = split.reshape(rows * batch, blocks * block, h, w)[:n, :c]
    extents = dict(zip("NCHW", (n, c, h, w), strict=True))
    present = [a for a in "NCHW" if a in tensor.axes]
    dense = dense.reshape([extents[a] for a in present])
    return np.ascontiguousarray(dense.transpose([present.index(a) for a in tensor.axes]))


def _is_shifted(tensor: TensorInfo) -> bool:
    return tensor.dtype == "int8" and tensor.face_dtype == "uint8"


def _shift(array: np.ndarray, dtype: str) -> np.ndarray:
    # Adding 128 modulo 256 flips the top bit, in both directions.
    return (array.view(np.uint8) ^ np.uint8(_UINT8_SHIFT)).view(dtype)
