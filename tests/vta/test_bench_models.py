"""Where trained networks are looked for, and that a built one is built once."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vta.bench import models
from vta.bench.models import MODELS_VARIABLE, MissingModelError, build_model, find_model
from vta_hw.spec.cache import FOLDER_VARIABLE


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without any; what lies beside the checkout is out of sight."""
    monkeypatch.setattr(models, "_BESIDE", tmp_path / "nothing")
    monkeypatch.delenv(MODELS_VARIABLE, raising=False)
    return tmp_path


def test_models_are_found_under_both_names(nowhere: Path, monkeypatch: pytest.MonkeyPatch):
    clone = nowhere / "tiny" / "trained_models"
    clone.mkdir(parents=True)
    (clone / "ad01_int8.tflite").touch()
    name = "ad_autoencoder_int8.tflite"
    assert find_model(name, nowhere / "tiny") == clone / "ad01_int8.tflite"
    monkeypatch.setenv(MODELS_VARIABLE, str(nowhere))
    assert find_model(name) == clone / "ad01_int8.tflite"
    (nowhere / name).touch()
    assert find_model(name) == nowhere / name
    monkeypatch.setattr(models, "_BESIDE", clone)
    assert find_model(name, nowhere / "elsewhere") == clone / "ad01_int8.tflite"


def test_a_model_that_is_not_there(nowhere: Path):
    with pytest.raises(MissingModelError, match=f"clone mlcommons/tiny .* set {MODELS_VARIABLE}"):
        find_model("kws_dscnn_int8.tflite")
    with pytest.raises(MissingModelError, match="is not here in '.*gone'"):
        find_model("kws_dscnn_int8.tflite", nowhere / "gone")


def test_a_network_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        Path(command[command.index("-o") + 1]).write_bytes(b"a network")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(models.subprocess, "run", run)
    for _ in range(2):
        path = build_model("resnet18", tmp_path)
        assert path.read_bytes() == b"a network"
        path.unlink()
    build_model("resnet18", tmp_path, for_shifts=True)
    plain, shifted = commands
    assert "--power-of-two" not in plain and "--power-of-two" in shifted


def test_a_network_that_cannot_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "Traceback\nno module onnxruntime\n")

    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(models.subprocess, "run", run)
    with pytest.raises(MissingModelError, match="resnet18 cannot be built: no module onnxruntime"):
        build_model("resnet18", tmp_path)
    monkeypatch.setattr(models, "_CHECKOUT", tmp_path)
    with pytest.raises(MissingModelError, match="which only a checkout has"):
        build_model("resnet18", tmp_path)
