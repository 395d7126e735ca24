"""Where trained networks come from: MLPerf Tiny's files, or the builders of `examples.imagenet`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from vta_hw.spec import cache

MODELS_VARIABLE = "VTA_MLPERF_TINY"
_CHECKOUT = Path(__file__).resolve().parent.parent.parent
_BESIDE = _CHECKOUT.parent / "shared" / "models"
_BUILT = "models"

UPSTREAM_NAMES: Mapping[str, str] = {
    "ic_resnet8_int8.tflite": "pretrainedResnet_quant.tflite",
    "ic_resnet8_fp32.tflite": "pretrainedResnet.tflite",
    "kws_dscnn_int8.tflite": "kws_ref_model.tflite",
    "kws_dscnn_fp32.tflite": "kws_ref_model_float32.tflite",
    "ad_autoencoder_int8.tflite": "ad01_int8.tflite",
    "ad_autoencoder_fp32.tflite": "ad01_fp32.tflite",
    "vww_mobilenet_int8.tflite": "vww_96_int8.tflite",
}
"""What files of MLPerf Tiny are called here, and in a clone of mlcommons/tiny."""


class MissingModelError(Exception):
    """A network that is not here; the text says why, and how to get it."""


def find_model(name: str, folder: Path | None = None) -> Path:
    """The file `name` of MLPerf Tiny's models, under any known name, in a folder or below it.

    Looked through are `folder`, or else the one that the environment variable VTA_MLPERF_TINY
    names, then `../shared/models` beside the checkout.
    """
    variable = os.environ.get(MODELS_VARIABLE)
    given = folder if folder is not None else Path(variable) if variable else None
    for place in (given, _BESIDE):
        if place is not None and place.is_dir():
            for known in (name, UPSTREAM_NAMES.get(name, name)):
                for path in sorted(place.rglob(known)):
                    return path
    asked = "" if given is None else f" in {str(given)!r}"
    raise MissingModelError(
        f"{name} is not here{asked}: clone mlcommons/tiny (the files lie under "
        f"benchmark/training/*/trained_models) and set {MODELS_VARIABLE} to that folder"
    )


def build_model(name: str, folder: Path, *, for_shifts: bool = False) -> Path:
    """Write a network of `examples.imagenet` into a folder; one built before is taken from cache.

    One `for_shifts` is quantised as the original VTA wants it: scales that are powers of two, zero
    points 0. The same builder makes the same network, so that its source is the key.
    """
    sources = sorted((_CHECKOUT / "examples" / "imagenet").glob("*.py"))
    if not sources:
        raise MissingModelError(
            f"{name} is built by examples/imagenet, which only a checkout has; use the command of "
            f"an installation in one"
        )
    path = folder / f"{name}.onnx"
    key = cache.content_key(name, repr(for_shifts), *(file.read_bytes() for file in sources))
    with cache.locked(_BUILT, key):
        contents = cache.load(_BUILT, key)
        if contents is not None:
            path.write_bytes(contents)
            return path
        command = [sys.executable, "-m", "examples.imagenet.build", name, "-o", str(path)]
        command += ["--power-of-two", "--symmetric"] if for_shifts else []
        # In the checkout: an installation knows the packages of the kit, not the examples.
        run = subprocess.run(command, cwd=_CHECKOUT, capture_output=True, text=True, check=False)
        if run.returncode:
            said = (run.stderr.splitlines() or ["no message"])[-1]
            raise MissingModelError(f"{name} cannot be built: {said}")
        cache.store(_BUILT, key, path.read_bytes())
    return path
