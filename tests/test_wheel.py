"""The wheel works where there is no checkout: in an empty environment, in another folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.models import DIGITS, REPO
from vta_hw.spec.config import VtaConfig, named_configs
from vta_hw.spec.isa import Finish, encode_all

pytestmark = pytest.mark.slow

_LEFT_OUT = (".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache")


def _run(command: Sequence[str | Path], folder: Path) -> str:
    # Nothing of the environment that runs the tests may be found from there.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}
    environment["VTA_CACHE_DIR"] = str(folder / "cache")
    run = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, f"{command} failed:\n{run.stdout}\n{run.stderr}"
    return run.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because setuptools writes into the tree that it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    shutil.copytree(REPO, copy, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    _run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, copy], folder)
    (built,) = folder.glob("vta_kit-*.whl")
    return built


def test_contents(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert top == {"vta", "vta_hw", "vta_sim", "compiler", "runtime", "fpga"}
    assert {f"vta_hw/spec/configs/{name}.json" for name in named_configs()} <= set(names)
    copy = wheel.parent / "source"
    source = {
        p.relative_to(copy).as_posix() for package in top for p in (copy / package).rglob("*.py")
    }
    assert source == {name for name in names if name.endswith(".py")}
    others = {
        p.relative_to(copy).as_posix()
        for p in (copy / "vta_hw" / "verilator").iterdir()
        if p.suffix in (".cpp", ".h", ".vlt")
    }
    assert others and others <= set(names)
    assert any(name.endswith("LICENSE") for name in names)


def test_install_compile_run(wheel: Path, tmp_path: Path):
    _run([sys.executable, "-m", "venv", "env"], tmp_path)
    binaries = tmp_path / "env" / "bin"
    install: list[str | Path] = [
        binaries / "python",
        "-m",
        "pip",
        "install",
        "-q",
        "-c",
        REPO / "constraints.txt",
    ]
    _run([*install, f"{wheel}[rtl]"], tmp_path)
    shutil.copy(DIGITS, tmp_path / "model.onnx")
    _run(
        [binaries / "vta", "compile", "model.onnx", "-o", "net.vta", "--config", "mac64"], tmp_path
    )
    output = _run([binaries / "vta", "run", "net.vta", "--output-dir", "out", "--json"], tmp_path)
    result = json.loads(output.splitlines()[-1])
    assert result["status"] == "ok"
    assert result["fault"] is None
    assert result["macs"] > 0
    assert result["host_macs"] == 0
    assert (tmp_path / "out").is_dir()
    _check_hardware(binaries / "vta", tmp_path)


def _check_hardware(vta: Path, folder: Path) -> None:
    """The installed package writes Verilog, and builds and runs its simulation."""
    _run([vta, "verilog", "--config", "tiny", "-o", "verilog"], folder)
    made = {path.name for path in (folder / "verilog").iterdir()}
    assert {"vta_core.v", "vta_shell.v", "vta.json", "vta_regs.h"} <= made
    program = encode_all([Finish()], VtaConfig.load("tiny"))
    (folder / "I.bin").write_bytes(program)
    (folder / "IN.bin").write_bytes(bytes(4096))
    command: list[str | Path] = [vta, "exec", "--config", "tiny", "--json"]
    command += ["--insns", "I.bin", "--dram", "IN.bin"]
    runs = [
        _run([*command, "--out", f"{device}.bin", "--device", device], folder)
        for device in ("rtl", "cycle")
    ]
    rtl, cycle = (json.loads(text.splitlines()[-1]) for text in runs)
    assert rtl["status"] == cycle["status"] == "ok"
    assert rtl["cycles"] == cycle["cycles"] > 0
