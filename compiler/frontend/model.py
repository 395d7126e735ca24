"""Read a model file, whatever its format."""

from __future__ import annotations

from pathlib import Path

from compiler.errors import FrontendError
from compiler.graph.ir import Graph

_TFLITE_MAGIC = b"TFL3"


def import_model(path: str | Path) -> Graph:
    """The graph of a TFLite or ONNX file; the contents decide which, not the name.

    Raises FrontendError, in one sentence that names the file, for whatever cannot be imported.
    """
    name = str(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FrontendError(
            f"model {name!r} cannot be read ({reason}); give the path of a TFLite or ONNX file"
        ) from None
    # Each format's package is loaded only when a file needs it: they are slow to import.
    if data[4:8] == _TFLITE_MAGIC:
        from compiler.frontend.tflite import import_tflite

        return import_tflite(data, name)
    from compiler.frontend.onnx import import_onnx

    return import_onnx(data, name)
