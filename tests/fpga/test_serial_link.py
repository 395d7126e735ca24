"""The driver's half of the link against a model of the board: over a bad line, and over a pty."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from fpga.driver import serial_port
from fpga.driver.link_session import LinkSession, NoAnswer
from fpga.driver.serial_link import RUN_LIMIT_MS, SerialLink
from fpga.protocol import (
    BLOCK_BYTES,
    Answer,
    Op,
    Request,
    Status,
    frame,
)
from tests.fpga.link_model import (
    GREETING,
    LAUNCH,
    DeviceModel,
    ModelLine,
    Noise,
    TimedLine,
    clean,
    damage,
    exercise,
    pty_board,
)
from vta_hw.spec.errors import DeviceError
from vta_hw.spec.registers import Register

serial = pytest.importorskip("serial", reason="needs the extra 'fpga'")

BAUD = 3_000_000


def open_model(
    model: DeviceModel,
    there: Callable[[bytes], bytes] = clean,
    back: Callable[[bytes], bytes] = clean,
    retries: int = 40,
) -> SerialLink:
    return SerialLink(ModelLine(model, there, back), timeout_s=0.01, retries=retries)


def test_everything_works_over_a_good_line():
    model = DeviceModel()
    link = open_model(model)
    exercise(link, model, Random(1), 60)
    assert link.identity.board == "ulx3s"
    assert (link.identity.memory_bytes, link.identity.clock_hz) == (1 << 16, 64_000_000)
    assert link.counts.retries == link.counts.bad_frames == link.counts.stale_answers == 0
    assert model.deframer.bad == 0
    assert model.run_limit_ms == RUN_LIMIT_MS
    link.set_run_limit(5)
    assert model.run_limit_ms == 5
    assert link.statistics() == replace(model.statistics, frames_good=model.good)
    link.reset()
    assert model.resets == 1 and not model.registers
    line = link._line
    link.close()
    assert isinstance(line, ModelLine) and line.closed


@pytest.mark.parametrize("kind", Noise.KINDS)
@pytest.mark.parametrize("way", ["there", "back", "both"])
def test_nothing_goes_wrong_over_a_bad_line(kind: str, way: str):
    random = Random(f"{kind} {way}")
    model = DeviceModel()
    noise = Noise(random, 0.15, (kind,))
    there, back = (noise if way in (name, "both") else clean for name in ("there", "back"))
    link = open_model(model, there, back)
    exercise(link, model, random, 150)
    assert noise.done > 10
    if kind != "twice":
        assert link.counts.retries > 0


def test_a_repeat_of_a_launch_is_not_carried_out():
    """The answer is lost after the launch: once done, answered twice."""
    model = DeviceModel()
    lost = 0

    def lose_answers_of_writes(piece: bytes) -> bytes:
        nonlocal lost
        if piece[3] & 0x7F == Op.WRITE_REGISTER and lost < 3:
            lost += 1
            return b""
        return piece

    link = open_model(model, back=lose_answers_of_writes)
    link.write_register(*LAUNCH)
    assert model.writes == [LAUNCH] and model.repeats == 3
    assert link.counts.retries == 3
    link.write_register(*LAUNCH)
    assert model.writes == [LAUNCH, LAUNCH]


def test_a_new_host_is_not_taken_for_the_old_one():
    """Both begin with the same numbers, and both launch."""
    model = DeviceModel()
    for _ in range(2):
        line = ModelLine(model)
        session = LinkSession(line, BAUD, timeout_s=0.01, retries=3)
        session._sequence = 7
        session.ask(Request(0, Op.IDENTIFY))
        session.ask(Request(0, Op.WRITE_REGISTER, 0, 4, b"\1\0\0\0"))
    assert len(model.writes) == 2


def test_the_same_number_after_all_others_have_been_used():
    model = DeviceModel()
    session = LinkSession(ModelLine(model), BAUD, timeout_s=0.01, retries=3)
    launch = Request(0, Op.WRITE_REGISTER, 0, 4, b"\1\0\0\0")
    session.ask(launch)
    first = session._sequence
    session._sequence = first - 2
    session.ask(Request(0, Op.READ_REGISTER, 0, 4))
    session.ask(launch)
    assert session._sequence == first and len(model.writes) == 2


@pytest.mark.parametrize(("latency_ms", "least"), [(0, 0.97), (2, 0.97), (16, 0.96)])
def test_blocks_keep_the_line_busy(latency_ms: int, least: float):
    """With requests under way that fit the board's buffer; a converter may take 16 ms."""
    size, baud = 1 << 19, 3_000_000
    model = DeviceModel(replace(GREETING, memory_bytes=size))
    line = TimedLine(model, baud, latency_ms / 1000)
    link = SerialLink(line, baud=baud)
    # As weights are: no byte more often than others, 0.8 % is added by stuffing.
    data = np.frombuffer(Random(5).randbytes(size), np.uint8)
    begin = line.now()
    link.write_memory(0, data)
    middle = line.now()
    assert (link.read_memory(0, size) == data).all()
    for seconds in (middle - begin, line.now() - middle):
        share = 10 * size / baud / seconds
        print(f"{latency_ms} ms: {size / seconds / 1000:.0f} kB/s, {share:.3f} of the line's rate")
        assert share > least
    assert GREETING.buffer_bytes // 2 < line.most_kept <= GREETING.buffer_bytes
    assert link.counts.retries == 0


def test_lost_blocks_are_sent_again_before_their_deadline():
    model = DeviceModel()
    pieces = 0

    def lose_some(piece: bytes) -> bytes:
        nonlocal pieces
        pieces += len(piece) > BLOCK_BYTES
        return b"" if len(piece) > BLOCK_BYTES and pieces % 10 == 5 else piece

    line = ModelLine(model, there=lose_some)
    link = SerialLink(line, timeout_s=10.0)
    data = np.arange(40 * BLOCK_BYTES, dtype=np.uint32).astype(np.uint8)
    before = line.now()
    link.write_memory(3, data)
    assert line.now() - before < 1.0, "it waited for a deadline"
    assert link.counts.retries == 4
    assert bytes(model.memory[3 : 3 + len(data)]) == data.tobytes()


def test_bad_answers_are_asked_for_again_soon():
    model = DeviceModel()
    spoilt = iter([True, False] * 10)

    def spoil(piece: bytes) -> bytes:
        return damage(piece, "flip", Random(3)) if next(spoilt) else piece

    line = ModelLine(model)
    link = SerialLink(line, timeout_s=10.0)
    line._back = spoil
    before = line.now()
    for _ in range(10):
        link.read_register(0)
    assert line.now() - before < 1.0
    assert link.counts.bad_frames == link.counts.retries == 10


def test_progress_is_reported():
    link = open_model(DeviceModel())
    seen: list[tuple[int, int]] = []
    link.progress = lambda done, size: seen.append((done, size))
    link.read_memory(0, 2 * BLOCK_BYTES + 5)
    assert seen == [(size, 2053) for size in (1024, 2048, 2053)]


def test_what_the_board_refuses_is_said():
    model = DeviceModel(broken=0x8000)
    link = open_model(model)
    zeros = np.zeros(5000, np.uint8)
    with pytest.raises(DeviceError, match=r"^bytes 0xffff to 0x10001 are not within the memory"):
        link.read_memory(0xFFFF, 2)
    with pytest.raises(DeviceError, match=r"^board on 'model' does not have register 0x28"):
        link.read_register(0x28)
    with pytest.raises(DeviceError, match=r"^board on 'model' does not have register 0x40"):
        link.write_register(Register.ID, 1)
    with pytest.raises(DeviceError, match=r"got no answer inside itself for memory from 0x7000"):
        link.write_memory(0x7000, zeros)
    with pytest.raises(DeviceError, match=r"got no answer inside itself for memory from 0x7fff"):
        link.read_memory(0x7FFF, 2)
    model.running = True
    for access in (lambda: link.read_memory(0, 9000), lambda: link.write_memory(1, zeros)):
        with pytest.raises(DeviceError, match=r"while its core runs; wait for the end of the run"):
            access()
    model.running = False
    assert link.read_memory(0, 4000).any() == any(model.memory[:4000])
    with pytest.raises(TypeError):
        link.write_memory(0, np.zeros((2, 2), np.uint8))


def test_silence_is_reported_with_counts():
    model = DeviceModel()
    line = ModelLine(model)
    link = SerialLink(line, timeout_s=0.01, retries=3)
    line._there = lambda piece: b""
    with pytest.raises(NoAnswer, match=r"did not answer READ_REGISTER in 4 tries .* 3 sent again"):
        link.read_register(0)
    with pytest.raises(NoAnswer, match=r"did not answer READ_MEMORY in 4 tries"):
        link.read_memory(0, 9000)
    line._there = clean
    assert not link.read_memory(0, 9000).any()


# Over a pseudo-terminal, with the driver as it is.


def test_a_board_on_a_port():
    model = DeviceModel()
    with pty_board(model.feed) as board:
        link = SerialLink(board.port, expected_board="ulx3s", timeout_s=10.0)
        exercise(link, model, Random(2), 40)
        assert link.counts.retries == 0
        link.close()
        link.close()


def test_a_bad_line_to_a_board_on_a_port():
    model, random = DeviceModel(), Random(4)
    noise = Noise(random, 0.03)

    def respond(data: bytes) -> bytes:
        return b"".join(map(noise, model.frames(noise(data))))

    with pty_board(respond) as board:
        link = SerialLink(board.port, timeout_s=0.1, retries=40)
        exercise(link, model, random, 150)
        assert noise.done > 5 and link.counts.retries > 0
        link.close()


def refusal(port: str, **options) -> str:
    with pytest.raises(DeviceError) as caught:
        SerialLink(port, timeout_s=0.2, **options)
    text = str(caught.value)
    assert "\n" not in text and ";" in text, "one sentence, with its mend"
    return text


def test_a_port_that_is_not_there(tmp_path):
    assert "there is no serial port" in refusal(str(tmp_path / "ttyUSB7"))


def test_a_port_that_is_no_port(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    assert "is no serial port that runs at 3000000 baud" in refusal(str(path))


def test_a_port_that_somebody_uses():
    with pty_board(DeviceModel().feed) as board:
        link = SerialLink(board.port)
        assert "is in use by another program" in refusal(board.port)
        link.close()
        SerialLink(board.port).close()


def test_a_port_that_may_not_be_opened(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise serial.SerialException(13, "Permission denied")

    monkeypatch.setattr(serial, "Serial", refuse)
    assert "may not be opened by this user" in refusal("/dev/ttyUSB0")


def test_no_pyserial(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "serial", None)
    with pytest.raises(DeviceError, match="install the kit with its extra 'fpga'"):
        serial_port.SerialPort("/dev/ttyUSB0", BAUD)


def test_nobody_answers():
    with pty_board(lambda data: b"") as board:
        assert "nothing answers on" in refusal(board.port)


def test_something_else_answers():
    with pty_board(lambda data: b"login: ") as board:
        assert "does not speak the kit's link" in refusal(board.port)


def test_something_echoes():
    with pty_board(lambda data: data) as board:
        assert "echoes what is sent" in refusal(board.port)


def test_something_that_never_stops_talking():
    talks = threading.Event()
    with pty_board(lambda data: b"") as board:

        def talk() -> None:
            while not talks.is_set():
                os.write(board._master, b"boot... " * 20)
                time.sleep(0.005)

        thread = threading.Thread(target=talk)
        thread.start()
        assert "does not speak the kit's link" in refusal(board.port)
        talks.set()
        os.set_blocking(board._master, False)
        thread.join()


@pytest.mark.parametrize("expected", [None, "ulx3s"])
def test_another_version(expected: str | None):
    model = DeviceModel(replace(GREETING, version=2))
    with pty_board(model.feed) as board:
        text = refusal(board.port, expected_board=expected)
    assert "speaks version 2 of the link and this kit version 1" in text
    assert model.asked == {Op.IDENTIFY}


def test_another_board():
    model = DeviceModel(replace(GREETING, board="icepi"))
    with pty_board(model.feed) as board:
        assert "is a 'icepi', not a 'ulx3s'" in refusal(board.port, expected_board="ulx3s")
    assert model.asked == {Op.IDENTIFY}


def test_an_answer_that_is_no_greeting():
    def respond(data: bytes) -> bytes:
        if data.count(b"\x7e") < 2:
            # The flag that comes first has come alone.
            return b""
        sequence = int.from_bytes(data[data.rindex(b"\x7e", 0, -1) + 1 :][:2], "little")
        return frame(Answer(sequence, Op.IDENTIFY, Status.OK, b"something else").encode())

    with pty_board(respond) as board:
        assert "does not speak the kit's link" in refusal(board.port)


def test_a_board_that_is_unplugged():
    model = DeviceModel()
    with pty_board(model.feed) as board:
        link = SerialLink(board.port)
        board.after_bytes = 10_000
        with pytest.raises(DeviceError, match=r"broke down in use .* cable and power"):
            link.write_memory(0, np.zeros(1 << 16, np.uint8))
        with pytest.raises(DeviceError, match=r"broke down in use"):
            link.read_register(0)
        link.close()


@pytest.mark.parametrize("limit", [-1, 1 << 24])
def test_a_run_limit_that_is_none(limit: int):
    with pytest.raises(DeviceError, match=r"^run_limit_ms must be in \[0, 16777216\), not"):
        SerialLink("nowhere", run_limit_ms=limit)
