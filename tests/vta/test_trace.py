"""`--trace` and `vta diff` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.runtime import networks
from vta.cli import main
from vta_hw.spec import isa
from vta_hw.spec.asm import assemble
from vta_hw.spec.config import VtaConfig
from vta_sim.trace import KEY

CONFIG = VtaConfig.load("tiny")


def _exec(folder: Path, program: str, *options: str) -> int:
    stream = isa.encode_all(assemble(program, CONFIG), CONFIG)
    (folder / "I.bin").write_bytes(stream)
    (folder / "IN.bin").write_bytes(bytes(4096))
    files = ["--insns", folder / "I.bin", "--dram", folder / "IN.bin", "--out", folder / "OUT.bin"]
    return main(["exec", "--config", "tiny", *map(str, files), *options])


def test_traces_of_a_stream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = "load inp y=1 x=4 push_next\nfinish pop_prev"
    for name, latency in (("a", 10), ("b", 10), ("c", 11)):
        trace = str(tmp_path / f"{name}.json")
        options = ("--device", "cycle", "--trace", trace, "--set", f"DRAM_LATENCY={latency}")
        assert _exec(tmp_path, program, *options) == 0
    capsys.readouterr()
    assert main(["diff", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    assert capsys.readouterr().out == "equal\n"
    assert main(["diff", str(tmp_path / "a.json"), str(tmp_path / "c.json")]) == 1
    # Fetched with one more cycle of latency.
    assert capsys.readouterr().out == (
        "dispatch of instruction 0 (load inp y=1 x=4 push_next): in cycle 16, then in cycle 17; "
        "decided by F2, F3 of docs/timing.md\n"
    )


def test_trace_of_a_fault(tmp_path: Path) -> None:
    trace = tmp_path / "a.json"
    assert _exec(tmp_path, "load 6\nfinish", "--device", "cycle", "--trace", str(trace)) == 3
    (run,) = json.loads(trace.read_text())[KEY]["runs"]
    assert run["issue"][0] > 0 and run["retire"][0] == -1


def test_trace_of_a_package(tmp_path: Path) -> None:
    package = tmp_path / "net.vta"
    networks.package(VtaConfig.load("default")).save(package)
    trace = tmp_path / "a.json"
    assert main(["run", str(package), "--device", "cycle", "--trace", str(trace)]) == 0
    runs = json.loads(trace.read_text())[KEY]["runs"]
    assert runs and all(len(run["issue"]) == len(run["instructions"]) for run in runs)
    assert np.all([min(run["retire"]) > 0 for run in runs])


def test_complaints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _exec(tmp_path, "finish", "--trace", str(tmp_path / "a.json")) == 2
    assert "device 'functional' has no clock" in capsys.readouterr().err
    assert main(["diff", str(tmp_path / "I.bin"), str(tmp_path / "none.json")]) == 2
    assert "is no JSON" in capsys.readouterr().err
