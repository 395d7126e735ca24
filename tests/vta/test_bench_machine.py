"""`vta bench machine`: the machine keeps its bounds, by exact counts."""

from __future__ import annotations

import json

import pytest

from vta.bench_machine import Figure, measure
from vta.cli import main
from vta_hw.spec.config import VtaConfig

OVERHEADS = {
    "GEMM, cycles beyond micro-ops": 4,
    "GEMM into one element": 4,
    "ALU immediate": 4,
    "ALU register, source held": 5,
    "ALU REQ, parameters held": 7,
    "LOAD ACC of padding, beyond vectors": 4,
    "GEMM beside ALU, other half of ACC": 0,
}


@pytest.mark.parametrize("name", ["default", "tiny", "mac64", "batch4", "rect", "pynq", "ultra96"])
def test_bounds_are_kept(name):
    config = VtaConfig.load(name)
    figures = {figure.name: figure for figure in measure(config)}
    assert all(figure.good for figure in figures.values())
    exact = {key: figures[key].value for key in OVERHEADS if key in figures}
    assert exact == {key: OVERHEADS[key] for key in exact}
    assert len(exact) == (7 if config.extensions else 5)


def test_shares_are_least_values():
    assert Figure("x", 0.96, 0.95, "share").good
    assert not Figure("x", 0.94, 0.95, "share").good
    assert not Figure("x", 5, 4, "cycles").good


def test_command(capsys):
    assert main(["bench", "machine", "--config", "tiny", "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["config"] == "tiny"
    assert all(figure["good"] for figure in record["figures"])


@pytest.mark.parametrize("setting", ["LOG_UOP_BUFF_SIZE=3", "LOG_ACC_BUFF_SIZE=10"])
def test_too_small(setting, capsys):
    assert main(["bench", "machine", "--config", "tiny", "--set", setting]) == 2
    said = capsys.readouterr().err
    assert said.startswith("vta: ") and said.count("\n") == 1 and "make LOG_" in said


def test_no_clock(capsys):
    assert main(["bench", "machine", "--device", "functional"]) == 2
    assert "clock" in capsys.readouterr().err
