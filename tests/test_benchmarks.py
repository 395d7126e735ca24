"""The benchmarks run and print what they promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import compile_time, rtl_speed, simulator
from runtime.device import open_device
from tests.models import DIGITS
from vta.bench import models as model_files
from vta_hw.spec.config import VtaConfig


def test_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(compile_time, "models", lambda folder: {"digits": DIGITS})
    monkeypatch.setattr(compile_time, "resnet18", lambda folder: {})
    compile_time.main(["--configs", "tiny", "--repeats", "1"])
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "digits" in line]
    name, config, *figures = row.split()
    assert (name, config) == ("digits", "tiny")
    assert len(figures) == 6
    assert all(float(figure.replace(",", "")) > 0 for figure in figures)


def test_models_below_a_folder(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model_files, "_BESIDE", tmp_path / "nowhere")
    clone = tmp_path / "tiny" / "trained_models"
    clone.mkdir(parents=True)
    (clone / "pretrainedResnet_quant.tflite").touch()
    found = compile_time.models(tmp_path / "tiny")
    assert found == {"digits": DIGITS, "ResNet-8": clone / "pretrainedResnet_quant.tflite"}


def test_the_program_that_keeps_gemm_busy():
    for config in map(VtaConfig.load, ("default", "mac64", "tiny")):
        stream, image = rtl_speed.gemm_load(config, tiles=8)
        result = open_device("cycle", config).run_stream(stream, image)
        assert result.ok
        assert result.cycles is not None
        assert result.counters["gemm_busy_cycles"] > 0.8 * result.cycles


@pytest.mark.slow
def test_speed_of_the_rtl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(rtl_speed, "models", lambda folder: {"digits": DIGITS})
    rtl_speed.main(["--configs", "tiny", "--repeats", "1"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if " tiny " in line]
    assert [line[0] for line in lines] == ["GEMM", "digits"]
    for _, _, *figures in lines:
        assert len(figures) == 4
        assert all(float(figure.replace(",", "")) > 0 for figure in figures)


def test_simulators_with_the_networks_that_are_there(monkeypatch: pytest.MonkeyPatch):
    commands: list[list[str]] = []

    def vta(command):
        commands.append(command)
        return 0

    monkeypatch.setattr(simulator, "vta", vta)
    monkeypatch.setattr(simulator, "models", lambda folder: {"ResNet-8": Path("r8.tflite")})
    monkeypatch.setattr(simulator, "resnet18", lambda folder: {"ResNet-18": folder / "r18.onnx"})
    assert simulator.main(["--json"]) == 0
    monkeypatch.setattr(simulator, "models", lambda folder: {})
    monkeypatch.setattr(simulator, "resnet18", lambda folder: {})
    assert simulator.main(["--write", "page.md"]) == 0
    full, least = commands
    assert full[:4] == ["bench", "simulator", "--resnet8", "r8.tflite"]
    assert full[4] == "--resnet18" and full[5].endswith(".onnx") and full[6:] == ["--json"]
    assert least == ["bench", "simulator", "--write", "page.md"]
