"""From Verilog to a bitstream with programs that stand for the tools."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from fpga.boards.ecp5_parts import LFE5U_85F
from fpga.build import ecp5, tools
from fpga.build.ecp5 import BITSTREAM, Built, Design
from fpga.build.stages import BuildError, BuildFolder
from fpga.build.tools import ToolError
from tests.fpga.fake_tools import FakeTools
from tests.models import REPO

REPORT: dict[str, Any] = json.loads((REPO / "tests/fpga/reports/nextpnr.json").read_text())
EXAMPLE = Design("top", lambda: "module top", ("source",), "pins", 50_000_000, LFE5U_85F)


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTools:
    made = FakeTools(tmp_path / "tools", REPORT)
    monkeypatch.setenv("PATH", f"{made.folder}{os.pathsep}{os.environ['PATH']}")
    return made


def build(folder: Path, *seeds: int, design: Design = EXAMPLE) -> tuple[Built, list[str]]:
    told: list[str] = []
    built = ecp5.build(
        design, BuildFolder(folder / "out"), ecp5.find_tools(), seeds or (1,), told.append
    )
    return built, told


def test_a_build(fakes: FakeTools, tmp_path: Path):
    built, told = build(tmp_path)
    assert told == [
        "writing Verilog",
        "synthesis",
        "moving registers into multipliers",
        "place and route with seed 1",
        "packing the bitstream",
    ]
    assert fakes.calls() == ["yosys", "nextpnr-ecp5", "ecppack"]
    assert (tmp_path / "out" / BITSTREAM).read_text() == "bits of placed with 1"
    log = tmp_path / "out" / "log" / "place-and-route-1.log"
    assert log.read_text() == "placing\n"
    again, told = build(tmp_path)
    assert told == [] == fakes.calls()
    assert again.figures == built.figures
    assert [step.taken_over for step in again.steps] == [True] * 5


def test_the_best_seed_is_kept(fakes: FakeTools, tmp_path: Path):
    fakes.faster = {"2": 3.0, "3": 1.0}
    fakes.write()
    built, _ = build(tmp_path, 1, 2, 3)
    assert built.seed == 2
    assert list(built.reached_hz) == [1, 2, 3]
    assert (tmp_path / "out" / BITSTREAM).read_text() == "bits of placed with 2"
    fakes.calls()
    # Of what was tried, only the packing of another one is to do.
    assert build(tmp_path, 1)[0].seed == 1
    assert fakes.calls() == ["ecppack"]


def test_among_equal_seeds_the_first_is_kept(fakes: FakeTools, tmp_path: Path):
    assert build(tmp_path, 5, 3, 4)[0].seed == 5


@pytest.mark.parametrize(
    ("design", "calls"),
    [
        (replace(EXAMPLE, constraints="other pins"), ["nextpnr-ecp5"]),
        (replace(EXAMPLE, clock_hz=60_000_000), ["nextpnr-ecp5"]),
        (replace(EXAMPLE, sources=("changed",)), []),
        (
            replace(EXAMPLE, verilog=lambda: "module new", sources=("new",)),
            ["yosys", "nextpnr-ecp5"],
        ),
    ],
    ids=["pins", "clock", "same Verilog", "Verilog"],
)
def test_only_what_depends_on_a_change_is_done(
    design: Design, calls: list[str], fakes: FakeTools, tmp_path: Path
):
    build(tmp_path)
    fakes.calls()
    build(tmp_path, design=design)
    assert fakes.calls() == calls


def test_another_version_of_a_tool_is_another_tool(fakes: FakeTools, tmp_path: Path):
    build(tmp_path)
    fakes.calls()
    fakes.version = "0.71"
    fakes.write()
    build(tmp_path)
    assert fakes.calls() == ["yosys", "nextpnr-ecp5", "ecppack"]


def test_a_failure_says_where_to_read_on_and_can_be_resumed(fakes: FakeTools, tmp_path: Path):
    fakes.failing = "nextpnr-ecp5"
    fakes.write()
    with pytest.raises(ToolError, match=r"status 1: ERROR: out of luck; .*place-and-route-1\.log"):
        build(tmp_path)
    assert not (tmp_path / "out" / BITSTREAM).exists()
    fakes.calls()
    fakes.failing = ""
    fakes.write()
    build(tmp_path)
    assert fakes.calls() == ["nextpnr-ecp5", "ecppack"]


def test_a_build_that_is_ended_stops_its_tool_and_tidies_up(tmp_path: Path):
    out, pid = tmp_path / "out", tmp_path / "pid"
    tool = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    program = f"""
import sys
from fpga.build.stages import BuildFolder, Stage
from fpga.build.tools import Tool, run
tool = Tool("sleep", (sys.executable, "-c", {tool!r}), "sleep 1")
stage = Stage("s", "s", (), (), ("x",), lambda work, log: run(tool, (), work, log))
BuildFolder({str(out)!r}).run(stage, print)
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=REPO)
    while not (pid.exists() and pid.read_text()):
        assert process.poll() is None
        time.sleep(0.02)
    process.terminate()
    assert process.wait(20) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert not (out / ".work").exists()


def test_what_does_not_fit_is_refused_before_it_is_placed(fakes: FakeTools, tmp_path: Path):
    fakes.cells["MULT18X18D"] = 157
    fakes.write()
    with pytest.raises(BuildError, match="needs 157 DSP and LFE5U-85F-6BG381C has 156; choose"):
        build(tmp_path)
    assert fakes.calls() == ["yosys"]


def test_a_report_of_another_kind_is_refused(fakes: FakeTools, tmp_path: Path):
    fakes.report = {"fmax": {}, "utilization": {}}
    fakes.write()
    with pytest.raises(BuildError, match="lacks or mistakes 'TRELLIS_COMB'; use a version"):
        build(tmp_path)


def test_a_tool_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match="needs nextpnr-ecp5, .* install the extra 'fpga' or a"):
        tools.find(tools.NEXTPNR)


def test_a_program_of_that_name_that_is_another(fakes: FakeTools):
    (fakes.folder / "ecppack").write_text("#!/bin/sh\necho what; exit 3\n")
    with pytest.raises(ToolError, match="ecppack' is no ecppack that works: what; put another"):
        tools.find(tools.ECPPACK)
