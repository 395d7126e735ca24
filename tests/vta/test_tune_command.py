"""`vta tune` and `vta compile --tuned`: what is found is compiled, other logs are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import vta
from tests.models import DIGITS
from vta.cli import main
from vta_hw.spec.config import VtaConfig

OPTIONS = ("--config", "mac64", "--trials", "4", "--jobs", "1")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of the digits network."""
    path = tmp_path_factory.mktemp("tune") / "digits.jsonl"
    assert main(["tune", str(DIGITS), "-o", str(path), *OPTIONS]) == 0
    return path


def test_a_tuned_package_takes_the_cycles_that_were_found(
    log: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The log is complete: asked again, nothing is measured."""
    before = log.read_text()
    assert main(["tune", str(DIGITS), "-o", str(log), *OPTIONS, "--json"]) == 0
    record = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert log.read_text() == before
    assert all(layer["measured"] == 0 for layer in record["layers"])
    assert record["cycles"] <= record["default_cycles"]
    cycles: dict[str, int] = {}
    for name, more in (("default", ()), ("tuned", ("--tuned", str(log)))):
        path = str(tmp_path / f"{name}.vta")
        assert main(["compile", str(DIGITS), "-o", path, "--config", "mac64", *more]) == 0
        package = vta.Package.load(path)
        executor = vta.load(package, "cycle")
        cycles[name] = executor.run(vta.random_inputs(package)).result.cycles or 0
    assert cycles["default"] - cycles["tuned"] == record["default_cycles"] - record["cycles"]


def test_the_table_names_layers_and_spaces(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(DIGITS), "-o", str(log), *OPTIONS]) == 0
    out = capfd.readouterr().out
    assert "legal points" in out
    assert "the network:" in out


@pytest.mark.parametrize("command", ["tune", "compile"])
def test_another_configuration_is_refused(
    log: Path, tmp_path: Path, command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = log.read_text()
    target = tmp_path / "out.vta"
    arguments = {
        "tune": ["tune", str(DIGITS), "-o", str(log)],
        "compile": ["compile", str(DIGITS), "-o", str(target), "--tuned", str(log)],
    }
    assert main([*arguments[command], "--config", "default"]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    for name in ("mac64", "default"):
        assert VtaConfig.load(name).hash in error
    assert not target.exists()
    assert log.read_text() == before


def test_broken_lines_are_counted(
    log: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spoilt = tmp_path / "spoilt.jsonl"
    spoilt.write_text("{broken\n" + log.read_text())
    target = str(tmp_path / "out.vta")
    arguments = ["compile", str(DIGITS), "-o", target, "--config", "mac64"]
    assert main([*arguments, "--tuned", str(spoilt)]) == 0
    assert "1 broken line" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"), [("--tuner", "best"), ("--trials", "0"), ("--jobs", "0")]
)
def test_options_that_make_no_sense(tmp_path: Path, option: str, value: str) -> None:
    path = tmp_path / "log"
    assert main(["tune", str(DIGITS), "-o", str(path), "--jobs", "1", option, value]) == 2
    assert not path.exists()


def test_without_the_extra_the_mend_is_named(tmp_path: Path) -> None:
    """Only the tuner that needs it asks for xgboost."""
    code = (
        "import sys; sys.modules['xgboost'] = None; from vta.cli import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    run = [sys.executable, "-c", code, "tune", str(DIGITS), "-o", str(tmp_path / "log"), *OPTIONS]
    refused = subprocess.run(run, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "extra 'tune'" in refused.stderr
    assert not (tmp_path / "log").exists()
    done = subprocess.run([*run, "--tuner", "random"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
