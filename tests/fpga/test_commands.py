"""Boards in the command line: ``vta run``, ``vta exec`` and ``vta selftest``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fpga.driver.transport import Transport
from runtime.device import DeviceError
from tests.fpga.fake_board import FakeBoard
from tests.runtime import networks
from vta import board as on_board
from vta import devices
from vta.cli import main
from vta.devices import BoardKind
from vta_hw.spec import isa
from vta_hw.spec.config import VtaConfig

CONFIG = VtaConfig.load("ulx3s")
BOARDS: list[FakeBoard] = []


def _open(argument: str) -> Transport:
    if argument == "broken":
        raise DeviceError("port 'broken' cannot be opened; name another one")
    board = FakeBoard(CONFIG, 1 << 20 if argument == "large" else 1 << 13)
    BOARDS.append(board)
    return board


@pytest.fixture(autouse=True)
def fake_boards(monkeypatch: pytest.MonkeyPatch) -> None:
    BOARDS.clear()
    kinds = {**devices.BOARDS, "fake": BoardKind("SIZE", "fake:large", _open)}
    monkeypatch.setattr(devices, "BOARDS", kinds)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.vta"
    networks.package(CONFIG, "uint8").save(path)
    return path


def _run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def _last(capsys: pytest.CaptureFixture[str]) -> dict:
    record: dict = json.loads(capsys.readouterr().out.splitlines()[-1])
    return record


def test_run_on_a_board(net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = {}
    for device in ("fake:large", "cycle"):
        folder = tmp_path / device.partition(":")[0]
        assert _run("run", net, "--device", device, "--output-dir", folder, "--json") == 0
        records[device] = _last(capsys)
    np.testing.assert_array_equal(*(np.load(tmp_path / d / "out.npy") for d in ("fake", "cycle")))
    got, expected = records.values()
    assert got["device"] == "fake:fake0"
    for key in ("status", "cycles", "counters", "instructions", "config"):
        assert got[key] == expected[key]


def test_a_recorded_run_is_replayed(
    net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s.jsonl"
    assert _run("run", net, "--device", "fake:large", "--record", path, "--seed", 3, "--json") == 0
    first = _last(capsys)
    assert _run("run", net, "--device", f"replay:{path}", "--seed", 3, "--json") == 0
    assert _last(capsys)["cycles"] == first["cycles"]
    assert _run("run", net, "--device", f"replay:{path}", "--seed", 4) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"vta: recording {str(path)!r}, line ") and "write_memory" in error


def test_many_inputs(net: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(3):
        np.save(folder / f"{index}.npy", np.full(networks.SHAPE, index, np.uint8))
    assert _run("run", net, "--device", "fake:large", "--inputs", folder) == 0
    [board] = BOARDS
    assert board.calls["write_memory"] == 2 + 2 + 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "fake:large", "--waves", "w.vcd"], "'fake:large' has no signals to record"),
        (["--device", "fake:large", "--engine", "plain"], "'fake:large' has one engine only"),
        (["--device", "fake:large", "--trace", "t.json"], "keeps no timeline"),
        (["--device", "fake:large", "--report-uninitialised"], "cannot tell which SRAM"),
        (["--device", "fake:large", "--set", "DRAM_LATENCY=9"], "build it with `vta bitstream"),
        (["--device", "fake:small"], "bytes of memory and device 'fake:fake0' has 8192"),
        (["--device", "fake:broken"], "port 'broken' cannot be opened"),
        (["--device", "fake"], "lacks where its board is; give it as in fake:large"),
        (["--device", "fake:"], "lacks where its board is; give it as in fake:large"),
        (["--device", "fake:large", "--record", "."], "recording '.' cannot be written"),
        (["--device", "cycle", "--record", "s.jsonl"], "is no board whose session could be"),
        (["--device", "ulx3s:port,fast"], "must be a number of bits per second, not 'fast'"),
        (
            ["--device", "warp:core"],
            "device must be one of functional, cycle, rtl, cycle-ulx3s, ulx3s:PORT",
        ),
        (["--device", "replay:nothing"], "recording 'nothing' cannot be read"),
    ],
)
def test_complaints(
    net: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _run("run", net, *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[1].startswith("vta: ") and words in lines[1]
    assert all(board.is_closed for board in BOARDS)
    written = [board.calls.keys() & {"write_memory", "write_register"} for board in BOARDS]
    assert not any(written)


def test_exec_on_a_board(tmp_path: Path) -> None:
    (tmp_path / "i.bin").write_bytes(isa.encode_all([isa.Finish()], CONFIG))
    (tmp_path / "d.bin").write_bytes(bytes(range(64)))
    options = [f"--{n}={tmp_path / f}" for n, f in (("insns", "i.bin"), ("dram", "d.bin"))]
    out = tmp_path / "o.bin"
    assert _run("exec", *options, "--out", out, "--device", "fake:large", "--config", "ulx3s") == 0
    assert out.read_bytes() == bytes(range(64))


@pytest.mark.parametrize(
    ("port", "expected"),
    [("/dev/ttyUSB1", {}), ("/dev/ttyUSB1,115200", {"baud": 115200})],
)
def test_the_port_of_a_ulx3s(
    port: str, expected: dict, monkeypatch: pytest.MonkeyPatch, net: Path
) -> None:
    asked = []

    def serial_link(*arguments: str, **options: object) -> Transport:
        asked.append((arguments, options))
        return FakeBoard(CONFIG)

    monkeypatch.setattr("fpga.driver.serial_link.SerialLink", serial_link)
    assert devices.open_transport(f"ulx3s:{port}").identity.board == "fake"
    assert asked == [(("/dev/ttyUSB1",), {"expected_board": "ulx3s", **expected})]


# -- selftest -------------------------------------------------------------------------------------


def test_selftest_of_a_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.jsonl"
    options = ["--memory-bytes", "8192", "--seed", "2", "--json"]
    records = []
    for device in (["fake:large", "--record", str(path)], [f"replay:{path}"]):
        assert _run("selftest", "--device", *device, *options) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("identity   passed") and "21 of 21 steps passed" in lines[-2]
        records.append(json.loads(lines[-1]))
    assert BOARDS[0].is_closed
    first, second = records
    assert first["ok"] and first["seed"] == 2
    for before, after in zip(first["steps"], second["steps"], strict=True):
        assert before["verdict"] == after["verdict"] == "passed"
        assert before["figures"].get("cycles") == after["figures"].get("cycles")


def test_selftest_says_what_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("selftest", "--device", "fake:large", "--config", "mac64", "--json") == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("identity   failed") and "was built for config " in out[0]
    assert out[-2] == "0 of 21 steps passed, 1 failed (identity)"
    assert not json.loads(out[-1])["ok"] and json.loads(out[-1])["steps"][1]["verdict"] == "skipped"


def test_selftest_of_a_simulator(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("selftest", "--device", "cycle", "--config", "tiny", "--seed", "9") == 0
    assert "17 of 21 steps passed, 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "warp"], "device must be one of functional"),
        (["--device", "cycle", "--record", "s"], "is no board whose session could be"),
        (["--device", "cycle", "--seed", "-1"], "--seed must be at least 0"),
        (["--device", "fake:large", "--memory-bytes", "0"], "--memory-bytes must be at least 1"),
        (["--device", "fake:broken"], "cannot be opened"),
        (["--device", "mmio:nothing,here"], "is no buffer of u-dma-buf"),
    ],
)
def test_selftest_complaints(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert _run("selftest", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("vta: ") and error.count("\n") == 1 and words in error


def test_the_commands_that_need_numpy_alone(
    net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert on_board.main(["selftest", "--device", "fake:large", "--memory-bytes", "4096"]) == 0
    assert "21 of 21 steps passed" in capsys.readouterr().out
    assert on_board.main(["run", str(net), "--device", "fake:large"]) == 0
    assert "ok: " in capsys.readouterr().out
    assert all(board.is_closed for board in BOARDS)
    networks.broken(networks.package(CONFIG)).save(net)
    assert on_board.main(["run", str(net), "--device", "fake:large"]) == 3
    assert "ended with fault at instruction 3" in capsys.readouterr().err
    assert on_board.main(["run", str(net), "--device", "fake:broken"]) == 2
    assert capsys.readouterr().err == "vta: port 'broken' cannot be opened; name another one\n"
