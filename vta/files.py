"""Arrays in and out of files, by tensor name."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from runtime import npy
from runtime.package import Package, write_atomically
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
