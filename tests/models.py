"""Where the tests find trained networks that this repository does not carry."""

from __future__ import annotations

from pathlib import Path

import pytest

from vta.bench.models import MissingModelError, find_model

REPO = Path(__file__).resolve().parent.parent
DIGITS = REPO / "examples" / "digits" / "digits_int8.onnx"


def model_path(name: str) -> Path:
    """The file `name` of the MLPerf Tiny models; skips the calling test where there is none.

    `vta.bench.models` says where it is looked for.
    """
    try:
        return find_model(name)
    except MissingModelError as error:
        pytest.skip(str(error))
