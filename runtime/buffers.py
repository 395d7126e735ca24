"""Between a model's arrays and what lies in memory: packing, uint8 held as int8, planned arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from runtime.device import Device, DeviceError
from runtime.package import TensorInfo

_UINT8_SHIFT = 0x80


def from_face(array: np.ndarray, tensor: TensorInfo) -> np.ndarray:
    """An array as the model's user gives it, in the type it is held in."""
    return _shift(array, tensor.dtype) if is_shifted(tensor) else array


def to_face(array: np.ndarray, tensor: TensorInfo) -> np.ndarray:
    """An array as it is held, in the type that the model's user sees."""
    return _shift(array, tensor.face_dtype) if is_shifted(tensor) else array


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
    """The model's array in what lies in device memory (bytes or an array of the packed shape).

    It shares no memory with `packed`.
    """
    extents = dict(zip("NCHW", tensor.logical_nchw(), strict=True))
    parts = {"N": (0, 4), "C": (1, 5), "H": (2,), "W": (3,)}
    axes = [*tensor.axes, *(a for a in "NCHW" if a not in tensor.axes)]
    split = packed.view(tensor.dtype).reshape(tensor.packed_shape)
    # One copy brings everything into place; another one is due only where lanes are left out.
    moved = split.transpose([part for a in axes for part in parts[a]]).copy()
    rows, blocks, height, width, batch, block = tensor.packed_shape
    whole = {"N": rows * batch, "C": blocks * block, "H": height, "W": width}
    dense = moved.reshape([whole[a] for a in axes])[tuple(slice(extents[a]) for a in axes)]
    return np.ascontiguousarray(dense).reshape(tensor.shape)


def is_shifted(tensor: TensorInfo) -> bool:
    """Whether the array is held in another type than the model's user sees."""
    return tensor.dtype == "int8" and tensor.face_dtype == "uint8"


def _shift(array: np.ndarray, dtype: str) -> np.ndarray:
    # Adding 128 modulo 256 flips the top bit, in both directions.
    return (array.view(np.uint8) ^ np.uint8(_UINT8_SHIFT)).view(dtype)


# -- the arrays of a call plan --------------------------------------------------------------------


class Frame:
    """The arrays of one run by slot, each with its address in this process."""

    __slots__ = ("addresses", "arrays")

    def __init__(self, arrays: Iterable[np.ndarray], addresses: Iterable[int]) -> None:
        self.arrays = list(arrays)
        self.addresses = list(addresses)

    def put(self, slot: int, array: np.ndarray) -> None:
        """Let a slot hold a C-contiguous array."""
        self.arrays[slot] = array
        self.addresses[slot] = array.ctypes.data


@dataclass(frozen=True)
class _View:
    """DRAM that a slot shows, as bytes or as a tensor is packed."""

    slot: int
    address: int
    size_bytes: int
    tensor: TensorInfo | None

    def look(self, device: Device) -> np.ndarray | None:
        """The array; None on a device whose DRAM is elsewhere."""
        view = device.view(self.address, self.size_bytes)
        if view is None or self.tensor is None:
            return view
        return view.view(self.tensor.dtype).reshape(self.tensor.packed_shape)


class Slots:
    """Numbered places for the arrays of a call plan, most of them the same in every run.

    Views of DRAM are good while `generation` is the device's; `renew` makes them so again.
    """

    def __init__(self, device: Device) -> None:
        self.generation = device.generation
        self._device = device
        self._base = Frame((), ())
        self._views: list[_View] = []
        self._fresh: list[tuple[int, Callable[[], np.ndarray]]] = []

    def empty(self) -> int:
        """A slot that every run fills by itself."""
        self._base.arrays.append(_NOTHING)
        self._base.addresses.append(0)
        return len(self._base.arrays) - 1

    def hold(self, array: np.ndarray) -> int:
        """A slot for this array."""
        slot = self.empty()
        self._base.put(slot, array if array.flags.c_contiguous else array.copy())
        return slot

    def make(self, slot: int, tensor: TensorInfo) -> None:
        """Give a slot an array for `tensor` that serves all runs."""
        self._base.put(slot, _maker(tensor)())

    def make_fresh(self, slot: int, tensor: TensorInfo) -> None:
        """Give a slot an array for `tensor` that is another one in every run."""
        self._fresh.append((slot, _maker(tensor)))

    def view(self, address: int, size_bytes: int, tensor: TensorInfo | None = None) -> int | None:
        """A slot for DRAM itself, as bytes or as `tensor` is packed; None where that cannot be."""
        if tensor is not None and address % np.dtype(tensor.dtype).itemsize:
            return None
        view = _View(len(self._base.arrays), address, size_bytes, tensor)
        array = view.look(self._device)
        if array is None:
            return None
        self._base.put(self.empty(), array)
        self._views.append(view)
        return view.slot

    def frame(self) -> Frame:
        """The arrays of a new run."""
        if self._device.generation != self.generation:
            self.renew(self._base)
        frame = Frame(self._base.arrays, self._base.addresses)
        for slot, make in self._fresh:
            frame.put(slot, make())
        return frame

    def renew(self, frame: Frame) -> None:
        """Look again for views of DRAM that has moved, for `frame` and for runs to come."""
        self.generation = self._device.generation
        for view in self._views:
            array = view.look(self._device)
            assert array is not None, "a device that shows its DRAM goes on doing so"
            for each in (self._base, frame):
                each.put(view.slot, array)


_NOTHING = np.zeros(0, np.uint8)


def _maker(tensor: TensorInfo) -> Callable[[], np.ndarray]:
    """What makes zeros for a tensor, as it is stored."""
    shape = tensor.packed_shape if tensor.storage == "device" else tensor.shape
    dtype = np.dtype(tensor.dtype)

    def make() -> np.ndarray:
        try:
            return np.zeros(shape, dtype)
        except MemoryError as error:
            raise DeviceError(
                f"this machine has no memory for tensor {tensor.name!r} of {tensor.size_bytes} "
                f"bytes; run a smaller network"
            ) from error

    return make
