"""Where the tests find trained networks that this repository does not carry."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
DIGITS = REPO / "examples" / "digits" / "digits_int8.onnx"

_VARIABLE = "VTA_MLPERF_TINY"
# What the files are called in a clone of mlcommons/tiny.
_UPSTREAM = {
    "ic_resnet8_int8.tflite": "pretrainedResnet_quant.tflite",
    "ic_resnet8_fp32.tflite": "pretrainedResnet.tflite",
    "kws_dscnn_int8.tflite": "kws_ref_model.tflite",
    "kws_dscnn_fp32.tflite": "kws_ref_model_float32.tflite",
    "ad_autoencoder_int8.tflite": "ad01_int8.tflite",
    "ad_autoencoder_fp32.tflite": "ad01_fp32.tflite",
}


def model_path(name: str) -> Path:
    """The file `name` of the MLPerf Tiny models; skips the calling test where there is none.

    It is looked for in `../shared/models` beside the repository, then in the folder that the
    environment variable VTA_MLPERF_TINY names and below it, so a clone will do.
    """
    beside = REPO.parent / "shared" / "models" / name
    if beside.is_file():
        return beside
    folder = os.environ.get(_VARIABLE)
    if folder is None:
        pytest.skip(
            f"{name} is not here: clone mlcommons/tiny (the files lie under "
            f"benchmark/training/*/trained_models) and set {_VARIABLE} to that folder"
        )
    found = [p for n in (name, _UPSTREAM.get(name, name)) for p in sorted(Path(folder).rglob(n))]
    if not found:
        pytest.skip(f"{_VARIABLE} is {folder!r}, and no file there is {name} under any known name")
    return found[0]
