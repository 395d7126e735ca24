"""Where the tests find trained networks that this repository does not carry."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
DIGITS = REPO / "examples" / "digits" / "digits_int8.onnx"

_VARIABLE = "VTA_MLPERF_TINY"


def model_path(name: str) -> Path:
    """The file `name` of the MLPerf Tiny models; skips the calling test where there is none.

    It is looked for in `../shared/models` beside the repository, then in the folder (searched with
    its sub-folders, so a clone will do) that the environment variable VTA_MLPERF_TINY names.
    """
    beside = REPO.parent / "shared" / "models" / name
    if beside.is_file():
        return beside
    folder = os.environ.get(_VARIABLE)
    if folder:
        for path in sorted(Path(folder).rglob(name)):
            return path
        raise FileNotFoundError(f"${_VARIABLE} is {folder!r}, where no file {name!r} can be found")
    pytest.skip(
        f"{name} is not here: clone mlcommons/tiny (files lie under "
        f"benchmark/training/*/trained_models) and set {_VARIABLE} to that folder"
    )
