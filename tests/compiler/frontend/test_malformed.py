"""Damaged and foreign files: an error of one sentence that names the file, or an intact model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tflite

from compiler.errors import FrontendError, GraphError
from compiler.frontend import import_model
from compiler.frontend.flatcheck import check_model
from compiler.graph.lower_qnn import lower_qnn
from tests.compiler.frontend.test_onnx import qdq_network, qlinear_network
from tests.compiler.frontend.test_tflite import convolution

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def files() -> Files:
    rng = np.random.default_rng(7)
    return {
        "tflite": convolution(
            rng, size=(5, 5), channels=(3, 4), kernel=(3, 3), strides=(1, 1),
            padding=tflite.Padding.SAME, activation=1,
        ),
        "qdq": qdq_network(rng, "uint8").SerializeToString(),
        "qlinear": qlinear_network(rng, "int8", gemm=True).SerializeToString(),
    }  # fmt: skip


def attempt(path: Path, data: bytes) -> bool:
    """Import and lower; False when refused. Any other exception fails the test."""
    path.write_bytes(data)
    try:
        graph = import_model(path)
    except FrontendError as error:
        text = str(error)
        assert text.startswith(f"model {str(path)!r}"), text
        assert "\n" not in text
        return False
    try:
        lower_qnn(graph)
    except GraphError:
        return False
    return True


@pytest.mark.parametrize("kind", ["tflite", "qdq", "qlinear"])
def test_whole_files_are_accepted(kind: str, files: Files, tmp_path: Path) -> None:
    assert attempt(tmp_path / "net", files[kind])


@pytest.mark.parametrize("kind", ["tflite", "qdq", "qlinear"])
def test_truncated_files_are_refused(kind: str, files: Files, tmp_path: Path) -> None:
    data = files[kind]
    step = max(1, len(data) // 400)
    for size in range(0, len(data) - 1, step):
        if kind == "tflite" and not data[size:].strip(b"\0"):
            continue
        assert not attempt(tmp_path / "net", data[:size]), size


@pytest.mark.parametrize("kind", ["tflite", "qdq", "qlinear"])
def test_flipped_bytes_never_crash(
    kind: str, files: Files, rng: np.random.Generator, tmp_path: Path
) -> None:
    refused = 0
    for _ in range(600):
        data = bytearray(files[kind])
        for position in rng.integers(0, len(data), rng.integers(1, 5)):
            data[position] = rng.integers(0, 256)
        refused += not attempt(tmp_path / "net", bytes(data))
    # Weights may change without anyone noticing; structure may not.
    assert refused > 50


@pytest.mark.parametrize("kind", ["tflite", "qdq", "qlinear"])
def test_garbage_after_the_header_is_refused(
    kind: str, files: Files, rng: np.random.Generator, tmp_path: Path
) -> None:
    for size in (8, 16, 64, 4096):
        noise = rng.integers(0, 256, size, np.uint8).tobytes()
        assert not attempt(tmp_path / "net", files[kind][:8] + noise)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"hello world, this is no network", b"\x89PNG\r\n\x1a\n" * 10, b"PK\3\4" * 9],
)
def test_foreign_files_are_named(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    with pytest.raises(FrontendError, match="no usable model, it is no TFLite file and"):
        import_model(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FrontendError, match=r"cannot be read \(No such file or directory\); give"):
        import_model(tmp_path / "nowhere.onnx")
    with pytest.raises(FrontendError, match=r"cannot be read \(Is a directory\); give"):
        import_model(tmp_path)


def test_contents_decide_the_format_not_the_name(files: Files, tmp_path: Path) -> None:
    for kind, name in (("tflite", "net.onnx"), ("qdq", "net.tflite")):
        path = tmp_path / name
        path.write_bytes(files[kind])
        expected = "tflite" if kind == "tflite" else "onnx"
        assert import_model(path).source_format == expected


def test_offset_outside_of_the_file_is_named(files: Files) -> None:
    data = bytearray(files["tflite"])
    data[0:4] = (1 << 30).to_bytes(4, "little")
    with pytest.raises(FrontendError, match=f"^Model at byte {1 << 30} lies outside the file$"):
        check_model(bytes(data))
