"""The benchmarks run, and compiling takes no longer than promised."""

from __future__ import annotations

import pytest

from benchmarks import compile_time
from tests.models import DIGITS, model_path

COMPILE_LIMIT_S = 3.0


def test_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(compile_time, "models", lambda folder: {"digits": DIGITS})
    compile_time.main(["--configs", "tiny", "--repeats", "1"])
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "digits" in line]
    name, config, *figures = row.split()
    assert (name, config) == ("digits", "tiny")
    assert len(figures) == 5
    assert all(float(figure) > 0 for figure in figures)


def test_models_below_a_folder(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compile_time, "_SHARED", tmp_path / "nowhere")
    clone = tmp_path / "tiny" / "trained_models"
    clone.mkdir(parents=True)
    (clone / "pretrainedResnet_quant.tflite").touch()
    found = compile_time.models(tmp_path / "tiny")
    assert found == {"digits": DIGITS, "ResNet-8": clone / "pretrainedResnet_quant.tflite"}


@pytest.mark.slow
def test_resnet8_compiles_fast_in_a_fresh_process():
    model = model_path("ic_resnet8_int8.tflite")
    assert compile_time.measure("ResNet-8", model, "default", 1).process_s < COMPILE_LIMIT_S
