"""Arrays in and out of files, by tensor name."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime import npy
from runtime.package import Package, TensorInfo, write_atomically
from vta.api import UsageError, make_folder, read_bytes
from vta_hw.spec.file_names import file_stem

_NPZ_MAGIC = b"PK\x03\x04"
INDEX_FILE = "tensors.json"


def file_names(names: Iterable[str]) -> dict[str, str]:
    """The .npy file of each name; where two would share one, the later gets a number."""
    files: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        stem = unique = file_stem(name)
        count = 1
        while unique in taken:
            count += 1
            unique = f"{stem}_{count}"
        taken.add(unique)
        files[name] = f"{unique}.npy"
    return files


def read_npy(path: str | Path) -> np.ndarray:
    """The array in a .npy file."""
    data = read_bytes(path)
    if data.startswith(_NPZ_MAGIC):
        raise UsageError(f"file {str(path)!r} holds several arrays; give one .npy file per input")
    try:
        return npy.read_npy(data)
    except ValueError as error:
        raise UsageError(
            f"file {str(path)!r} is no readable .npy array of numbers ({error}); write it with "
            f"numpy.save"
        ) from error


def read_named(package: Package, settings: Iterable[str]) -> dict[str, np.ndarray]:
    """Arrays of ``NAME=FILE`` settings; NAME is an input's name or its form in file names."""
    stems = {file.removesuffix(".npy"): name for name, file in file_names(package.inputs).items()}
    arrays: dict[str, np.ndarray] = {}
    for setting in settings:
        # A tensor's name may hold an equals sign, so the longest name that fits wins.
        fitting = [n for n in (*package.inputs, *stems) if setting.startswith(f"{n}=")]
        if not fitting:
            raise UsageError(
                f"input {setting!r} must have the form NAME=FILE.npy with one of the model's "
                f"inputs {', '.join(map(repr, package.inputs))}"
            )
        chosen = max(fitting, key=len)
        name = stems.get(chosen, chosen)
        if name in arrays:
            raise UsageError(f"input {name!r} is given twice; give it once")
        arrays[name] = read_npy(setting[len(chosen) + 1 :])
    return arrays


def read_folder(package: Package, folder: Path) -> dict[str, np.ndarray]:
    """An array per input of the model, from ``<input>.npy`` in a folder."""
    if not folder.is_dir():
        raise UsageError(f"{str(folder)!r} is no folder; name one that holds .npy files")
    arrays = {}
    for name, file in file_names(package.inputs).items():
        path = folder / file
        if not path.is_file():
            raise UsageError(f"folder {str(folder)!r} lacks {path.name!r} for input {name!r}")
        arrays[name] = read_npy(path)
    return arrays


@dataclass(frozen=True)
class Item:
    """The input of one inference among several: its name, and a file per input of the model.

    `reason` says why the files were taken for that, where it may not be what was meant.
    """

    name: str
    paths: Mapping[str, Path]
    reason: str = ""


def find_items(package: Package, folder: Path) -> list[Item]:
    """The inferences that a folder has input for, sorted by name; none if it is that of one alone.

    They are its sub-folders, or for a model of one input its .npy files if none is that input's.
    A folder that lacks a file of an item is refused.
    """
    files = file_names(package.inputs)
    if not folder.is_dir() or any((folder / file).exists() for file in files.values()):
        return []
    # Names with a dot before them are hidden, and `..` would be another folder of results.
    entries = sorted(entry for entry in os.listdir(folder) if not entry.startswith("."))
    loose = [e for e in entries if e.endswith(".npy") and (folder / e).is_file()]
    holders = [e for e in entries if (folder / e).is_dir()]
    if any((folder / holder / file).exists() for holder in holders for file in files.values()):
        if loose:
            raise UsageError(
                f"folder {str(folder)!r} holds sub-folders with inputs and also the file "
                f"{loose[0]!r}; leave one of the two kinds in it"
            )
        return [_item_in(folder / holder, files) for holder in holders]
    if len(files) != 1:
        return []
    [(name, file)] = files.items()
    reason = f"folder {str(folder)!r} lacks {file!r} for input {name!r}, so that all its files run"
    return [Item(e.removesuffix(".npy"), {name: folder / e}, reason) for e in loose]


def _item_in(folder: Path, files: Mapping[str, str]) -> Item:
    for name, file in files.items():
        if not (folder / file).is_file():
            raise UsageError(
                f"folder {str(folder)!r} lacks {file!r} for input {name!r}, which other folders "
                f"beside it have; add the file or take the folder out"
            )
    return Item(folder.name, {name: folder / file for name, file in files.items()})


def read_item(package: Package, item: Item) -> dict[str, np.ndarray]:
    """The arrays of an item; a file that holds none of the input's type and shape is refused."""
    try:
        return {name: _read_as(package.tensors[name], item.paths[name]) for name in item.paths}
    except UsageError as error:
        if item.reason:
            raise UsageError(f"{error} ({item.reason})") from error
        raise


def _read_as(tensor: TensorInfo, path: Path) -> np.ndarray:
    array = read_npy(path)
    if array.dtype != np.dtype(tensor.face_dtype) or array.shape != tensor.shape:
        raise UsageError(
            f"file {str(path)!r} must be {tensor.face_dtype} of shape {_shape(tensor.shape)}, not "
            f"{array.dtype} of shape {_shape(array.shape)}; convert it first"
        )
    return array


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def write_folder(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``<tensor>.npy`` for each array, and an index of them, `INDEX_FILE`."""
    make_folder(folder)
    index: dict[str, dict[str, object]] = {}
    files = file_names(arrays)
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        write_atomically(folder / files[name], buffer.getvalue())
        index[name] = {
            "file": files[name],
            "dtype": str(array.dtype),
            "shape": list(array.shape),
        }
    write_atomically(folder / INDEX_FILE, json.dumps(index, indent=1).encode() + b"\n")
