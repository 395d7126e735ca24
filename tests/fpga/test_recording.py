"""Sessions with a board, recorded and played again without it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fpga.driver.device import BoardDevice
from fpga.driver.recording import RecordingError, RecordingTransport, ReplayTransport
from fpga.driver.selftest import check_board, is_good
from fpga.driver.transport import Transport
from runtime.device import DeviceError
from runtime.executor import Executor
from tests.fpga.fake_board import FakeBoard
from tests.runtime import networks
from vta_hw.spec.config import PAGE_BYTES, VtaConfig

CONFIG = VtaConfig.load("tiny")
RECORDINGS = Path(__file__).parent / "recordings"
X = np.arange(np.prod(networks.SHAPE), dtype=np.uint8).reshape(networks.SHAPE)


def _run_network(transport: Transport) -> np.ndarray:
    executor = Executor(networks.package(CONFIG, "uint8"), BoardDevice(CONFIG, transport))
    executor.run({"in": X})
    return executor.run({"in": X}).outputs["out"]


def _test_board(transport: Transport) -> np.ndarray:
    reports = check_board(transport, seed=1, memory_bytes=2 * PAGE_BYTES)
    assert is_good(reports), reports
    return np.array([int(r.figures.get("cycles", 0)) for r in reports])


def _recorded(act: Callable[[Transport], np.ndarray], path: Path) -> np.ndarray:
    transport = RecordingTransport(FakeBoard(CONFIG), path)
    try:
        return act(transport)
    finally:
        transport.close()


# A change of the driver changes what it asks for: then `--update-golden` records the sessions anew.
@pytest.mark.parametrize(("name", "act"), [("run", _run_network), ("selftest", _test_board)])
def test_the_driver_still_plays_recorded_sessions(
    name: str,
    act: Callable[[Transport], np.ndarray],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    kept = RECORDINGS / f"{name}.jsonl"
    if request.config.getoption("--update-golden"):
        RECORDINGS.mkdir(exist_ok=True)
        _recorded(act, kept)
    fresh = tmp_path / kept.name
    expected = _recorded(act, fresh)
    np.testing.assert_array_equal(act(ReplayTransport(kept)), expected)
    # Compressed memory may differ from one zlib to another.
    old, new = (
        [{k: v for k, v in json.loads(line).items() if k != "result"} for line in text.splitlines()]
        for text in (kept.read_text(), fresh.read_text())
    )
    assert old == new


def test_a_replay_is_the_board_that_was_recorded(tmp_path: Path) -> None:
    board = FakeBoard(CONFIG, base_address=PAGE_BYTES)
    board.survives_bus_errors = False
    recording = RecordingTransport(board, tmp_path / "s.jsonl")
    replay = ReplayTransport(tmp_path / "s.jsonl")
    for transport in (recording, replay):
        assert transport.identity == board.identity
        assert transport.base_address == PAGE_BYTES and not transport.survives_bus_errors
    recording.close()
    assert board.is_closed


def test_errors_are_recorded(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    recording = RecordingTransport(FakeBoard(CONFIG), path)
    for transport in (recording, ReplayTransport(path)):
        with pytest.raises(DeviceError, match="register 0x60 of the board answers with an error"):
            transport.read_register(0x60)
        assert transport.read_registers(0x40, 1) == [0x56544101]


def test_an_interrupt_ends_a_replay(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    board = FakeBoard(CONFIG)
    recording = RecordingTransport(board, path)

    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    board.on_call = interrupt
    with pytest.raises(KeyboardInterrupt):
        recording.reset()
    with pytest.raises(RecordingError, match="line 2: the recorded session was interrupted here"):
        ReplayTransport(path).reset()


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda t: t.reset(), r"line 2: the driver does reset\(\) where the recording has write_"),
        (lambda t: t.write_memory(0, np.ones(3, np.uint8)), r"line 2: .* has write_memory\(addr"),
        (lambda t: t.write_memory(4, np.zeros(3, np.uint8)), r"line 2: .*address=4, .*address=0, "),
    ],
)
def test_a_replay_is_strict(tmp_path: Path, act: Callable[[Transport], None], words: str) -> None:
    path = tmp_path / "s.jsonl"
    recording = RecordingTransport(FakeBoard(CONFIG), path)
    recording.write_memory(0, np.zeros(3, np.uint8))
    recording.close()
    with pytest.raises(RecordingError, match=words):
        act(ReplayTransport(path))
    replay = ReplayTransport(path)
    replay.write_memory(0, np.zeros(3, np.uint8))
    with pytest.raises(RecordingError, match="line 3: .* the recording has the end of the session"):
        replay.reset()
    replay.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: it does not begin with a session of format 1"),
        ('{"session": 9}\n', "line 1: it does not begin with a session of format 1"),
        ('{"session": 1}\n', "line 1: its session lacks what a board says of itself"),
        ("[1]\n", "line 1: this is no JSON object"),
        ('{"session"', "line 1: this is no JSON object; the file is cut off"),
        ("\xff\xfe", "is no recording of a session"),
    ],
)
def test_what_is_no_recording(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(RecordingError, match=words):
        ReplayTransport(path)


@pytest.mark.parametrize(
    ("result", "words"),
    [("?", "cannot be unpacked"), (3, "cannot be unpacked"), ("eJwDAAAAAAE=", "0 bytes of memory")],
)
def test_memory_that_cannot_be_unpacked(tmp_path: Path, result: object, words: str) -> None:
    path = tmp_path / "s.jsonl"
    recording = RecordingTransport(FakeBoard(CONFIG), path)
    recording.read_memory(0, 5)
    lines = path.read_text().splitlines()
    lines[1] = json.dumps({**json.loads(lines[1]), "result": result})
    path.write_text("\n".join(lines))
    with pytest.raises(RecordingError, match=words):
        ReplayTransport(path).read_memory(0, 5)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be written: Is a directory; name another"):
        RecordingTransport(FakeBoard(CONFIG), tmp_path)
    with pytest.raises(RecordingError, match="cannot be read: No such file or directory"):
        ReplayTransport(tmp_path / "nothing")
