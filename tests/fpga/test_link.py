"""The board's end of the link in simulation: against the model, the driver, and all that fails."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from tests.fpga.link_model import GREETING, MAPPED, DeviceModel, Noise
from tests.fpga.test_serial_link import exercise
from tests.rtl.bench import parameters, rng, run_cocotb
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.registers import Register

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("cocotbext.axi", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from cocotb.task import bridge  # noqa: E402
from cocotb.triggers import Timer  # noqa: E402

from fpga.driver.serial_link import SerialLink  # noqa: E402
from fpga.protocol import (  # noqa: E402
    BLOCK_BYTES,
    CARRIES_DATA,
    FLAG,
    STALL_MS,
    Answer,
    Op,
    Request,
    Statistics,
    Status,
    frame,
)
from fpga.soc.link import Link  # noqa: E402
from fpga.soc.link_rx import BUFFER_BYTES  # noqa: E402
from fpga.soc.link_watchdog import ANSWER_CYCLES, RESET_CYCLES  # noqa: E402
from tests.fpga.link_bench import BAUD, CLOCK_HZ, CYCLE_NS, Board, SimulatedLine  # noqa: E402

HERE = replace(GREETING, buffer_bytes=BUFFER_BYTES, clock_hz=CLOCK_HZ)
LAUNCH = (int(Register.CONTROL), 1)


async def start(dut, **options) -> tuple[Board, SimulatedLine, Random]:
    random = rng()
    config = VtaConfig.load(parameters()["config"])
    board = Board(dut, DeviceModel(HERE), random, config)
    board.model.memory[:] = random.randbytes(len(board.model.memory))
    await board.start()
    line = SimulatedLine(board, **options)
    await line.put(bytes([FLAG]))
    return board, line, random


async def ask(line: SimulatedLine, request: Request) -> Answer:
    await line.put(frame(request.encode()))
    (content,) = await line.contents(1)
    return Answer.decode(content)


async def statistics(line: SimulatedLine) -> Statistics:
    return Statistics.decode((await ask(line, Request(99, Op.STATISTICS))).data)


def random_request(random: Random, sequence: int) -> Request:
    """One that makes sense in most of its parts."""
    op = random.choice([*Op, *Op, 0, 9, 0x83, 255])
    count = random.choice({2: [4], 3: [4], 4: [1, 4, 33], 5: [1, 4, 21]}.get(op, [0]))
    if random.random() < 0.1:
        count = random.choice([0, 1, 4, BLOCK_BYTES + 1, 0x8004])
    address = random.randrange(GREETING.memory_bytes)
    if op in (Op.READ_REGISTER, Op.WRITE_REGISTER):
        address = random.choice([*MAPPED, *MAPPED, 0x28, 0x7C, 1, 0x1000])
    elif op == Op.SET_RUN_LIMIT:
        address = random.choice([0, 0xFFFFFF, 0x1000000])
    elif random.random() < 0.3:
        end = GREETING.memory_bytes
        address = random.choice([0, end - count, end - count + 1, end, 0xFFFFFFFF]) % (1 << 32)
    size = count if op in CARRIES_DATA and count < 100 else 0
    size += random.random() < 0.05
    return Request(sequence, op, address, count, random.randbytes(size))


@cocotb.test()
async def answers_are_those_of_the_model(dut):
    board, line, random = await start(dut)
    twin = DeviceModel(HERE)
    twin.memory[:] = board.model.memory
    twin.feed(bytes([FLAG]))
    board.model.broken = twin.broken = 0xF000
    sequence, request = 0, None
    for step in range(parameters()["steps"]):
        if step % 20 == 0:
            board.most_wait = random.choice([0, 3, 30])
        twin.running = random.random() < 0.2
        board.set_running(twin.running)
        if request is None or random.random() < 0.85:
            sequence = random.choice([sequence, sequence + 1, random.getrandbits(16)]) % (1 << 16)
            request = random_request(random, sequence)
        (expected,) = twin.frames(frame(request.encode()))
        answer = await ask(line, request)
        assert frame(answer.encode()) == expected, (step, request, answer)
    assert board.model.memory == twin.memory
    assert board.model.writes == twin.writes and board.model.registers == twin.registers
    assert board.resets == twin.resets > 0 and twin.repeats > 0
    assert board.settle_to_write == {1}
    board.finish()


@cocotb.test()
async def the_driver_finds_its_way_over_a_bad_line(dut):
    """The real driver, damage in both directions."""
    random = rng()
    there, back = Noise(random, 0.15), Noise(random, 0.008, ("flip", "lose", "insert", "twice"))
    board, line, random = await start(dut, there=there, back=back)

    def drive() -> SerialLink:
        link = SerialLink(line, baud=BAUD, timeout_s=0.02, retries=30)
        exercise(link, board.model, random, parameters()["steps"], (1, 7, 40, 300))
        return link

    link = await bridge(drive)()
    assert there.done > 3 and back.done > 3 and link.counts.retries > 5
    assert board.settle_to_write == {1} and board.resets == 0
    board.finish()


@cocotb.test()
async def blocks_keep_the_line_busy(dut):
    board, line, random = await start(dut)
    board.most_wait = 0
    size = 4 * BLOCK_BYTES
    data = np.frombuffer(random.randbytes(size), np.uint8)

    def drive() -> tuple[SerialLink, float, float]:
        link = SerialLink(line, baud=BAUD, expected_board="ulx3s")
        begin = line.now()
        link.write_memory(5, data)
        middle = line.now()
        assert (link.read_memory(5, size) == data).all()
        return link, middle - begin, line.now() - middle

    link, written_s, read_s = await bridge(drive)()
    assert link.counts.retries == 0
    least = 10 * size / BAUD
    print(f"of the line's rate: {least / written_s:.3f} written, {least / read_s:.3f} read")
    assert least / written_s > 0.93 and least / read_s > 0.93
    board.finish()


@cocotb.test()
async def what_does_not_answer_is_reset(dut):
    board, line, _ = await start(dut)
    read = Request(1, Op.READ_MEMORY, 0x123, 5)
    write = Request(2, Op.WRITE_MEMORY, 0x123, 5, b"abcde")
    register = Request(3, Op.READ_REGISTER, 0, 4)
    launch = Request(4, Op.WRITE_REGISTER, 0, 4, b"\1\0\0\0")
    cases = [(read, "ar"), (read, "r"), (write, "aw"), (write, "w"), (write, "b")]
    cases += [(register, "ar"), (register, "r"), (launch, "aw"), (launch, "b"), (launch, "settle")]
    for number, (request, dead) in enumerate(cases, 1):
        board.dead = {dead}
        request = replace(request, sequence=10 * number)
        assert (await ask(line, request)).status is Status.BUS_ERROR, (request, dead)
        board.dead = set()
        assert (await statistics(line)).watchdog_resets == number == board.resets
        board.model.registers[0] = 7
        assert (await ask(line, register)).data == b"\7\0\0\0"
        request = replace(request, sequence=10 * number + 1)
        assert (await ask(line, request)).status is Status.OK, (request, dead)
    assert board.model.memory[0x123 : 0x123 + 5] == b"abcde"
    assert board.settle_to_write == {1}
    board.finish()


@cocotb.test()
async def a_run_that_takes_too_long_is_reset(dut):
    board, line, _ = await start(dut)
    ms_ns = CYCLE_NS * CLOCK_HZ // 1000

    async def run(limit_ms: int) -> float:
        """Milliseconds until the reset; 20 without one."""
        assert (await ask(line, Request(1, Op.SET_RUN_LIMIT, limit_ms))).status is Status.OK
        before = board.resets
        board.set_running(True)
        for waited in range(200):
            if board.resets > before:
                return waited / 10
            await Timer(ms_ns // 10, unit="ns")
        board.set_running(False)
        return 20

    assert 3 <= await run(3) <= 4.3
    assert await run(0) == 20
    assert await run(25) == 20
    assert 7 <= await run(7) <= 8.3
    assert (await statistics(line)).watchdog_resets == board.resets == 2
    # A request that is under way then is told.
    await ask(line, Request(1, Op.SET_RUN_LIMIT, 3))
    board.set_running(True)
    board.dead = {"ar"}
    begin = line.time()
    assert (await ask(line, Request(2, Op.READ_REGISTER, 0, 4))).status is Status.BUS_ERROR
    assert line.time() - begin < ANSWER_CYCLES / CLOCK_HZ
    assert board.resets == 3


@cocotb.test()
async def resets_last_and_memory_stays(dut):
    board, line, _ = await start(dut)
    before = bytes(board.model.memory)
    board.set_running(True)
    assert (await ask(line, Request(1, Op.READ_MEMORY, 0, 4))).status is Status.BUSY
    await line.put(frame(Request(2, Op.RESET).encode()))
    while not int(dut.core_reset.value):
        await board.cycles(1)
    cycles = 0
    while int(dut.core_reset.value):
        cycles += 1
        await board.cycles(1)
    assert RESET_CYCLES <= cycles <= RESET_CYCLES + 2
    (content,) = await line.contents(1)
    assert Answer.decode(content) == Answer(2, Op.RESET, Status.OK)
    answer = await ask(line, Request(2, Op.RESET))
    assert answer.status is Status.OK and board.resets == 1, "it was carried out again"
    assert (await ask(line, Request(3, Op.READ_MEMORY, 0, 4))).data == before[:4]
    assert (await statistics(line)).repeats == 1


@cocotb.test()
async def what_is_no_frame_is_counted_and_dropped(dut):
    board, line, random = await start(dut)
    register = Request(5, Op.READ_REGISTER, 0, 4)
    whole = frame(register.encode())
    await ask(line, register)
    await Timer(CYCLE_NS * 10, unit="ns")
    assert int(dut.active.value) and not int(dut.error.value)
    bad = 0
    for piece in (
        whole[:-3] + bytes([whole[-3] ^ 0x10]) + whole[-2:],
        whole[:4] + whole[5:],
        frame(b"too short"[:8]),
        frame(bytes(range(256)) * 5),
        bytes([FLAG, 0x7D, 0x41, FLAG]),
        bytes([FLAG, 1, 0x7D, FLAG]),
        whole[:5] + whole,
    ):
        bad += 1
        await line.put(piece)
        assert (await ask(line, register)).status is Status.OK
        if piece.endswith(whole):
            assert len(await line.contents(1, 0.01)) == 1
        seen = await statistics(line)
        assert (seen.frames_bad, seen.frames_stalled, seen.frames_overrun) == (bad, 0, 0), piece
    assert int(dut.error.value)
    # A byte without its stop bit, in the middle of a frame.
    await line.put(whole[:6])
    await line.idle()
    await line.bits(0b0_1010_1010_0 | 1 << 10, 12)
    await line.put(whole[6:])
    assert (await ask(line, register)).status is Status.OK
    assert (await statistics(line)).frames_bad == bad + 1
    # A frame that stops, and comes to its end too late.
    await line.put(whole[:6])
    await line.idle()
    await Timer(CYCLE_NS * CLOCK_HZ // 1000 * (STALL_MS + 2), unit="ns")
    await line.put(whole[6:])
    assert not await line.contents(1, 0.01)
    assert (await ask(line, register)).status is Status.OK
    seen = await statistics(line)
    assert (seen.frames_bad, seen.frames_stalled) == (bad + 1, 1)
    await Timer(CYCLE_NS * CLOCK_HZ // 1000 * 70, unit="ns")
    assert not int(dut.error.value) and not int(dut.active.value)


def simulated(*names: str, config: str = "ulx3s", steps: int = 0, seed: int = 0) -> None:
    link = Link(
        VtaConfig.load(config),
        clock_hz=CLOCK_HZ,
        baud=BAUD,
        board=GREETING.board,
        memory_bytes=GREETING.memory_bytes,
    )
    parameters = {"config": config, "steps": steps}
    run_cocotb(link, __name__, names, seed=seed, parameters=parameters)


@pytest.mark.parametrize(("config", "steps"), [("ulx3s", 250), ("default", 60)])
def test_answers_are_those_of_the_model(config: str, steps: int, request: pytest.FixtureRequest):
    seed = request.config.getoption("--seed")
    simulated("answers_are_those_of_the_model", config=config, steps=steps, seed=seed)


def test_the_driver_finds_its_way_over_a_bad_line(request: pytest.FixtureRequest):
    seed = request.config.getoption("--seed")
    simulated("the_driver_finds_its_way_over_a_bad_line", steps=40, seed=seed)


def test_blocks_keep_the_line_busy():
    simulated("blocks_keep_the_line_busy")


def test_nothing_stays_stuck():
    simulated(
        "what_does_not_answer_is_reset",
        "a_run_that_takes_too_long_is_reset",
        "resets_last_and_memory_stays",
        "what_is_no_frame_is_counted_and_dropped",
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"board": ""}, "^board must be a name of 1 to 16 letters"),
        ({"board": "a name that is too long"}, "^board must be"),
        ({"memory_bytes": 1 << 32}, r"^memory_bytes must be in \[1024, 2\^32\)"),
    ],
)
def test_what_cannot_be_built_is_refused(options: dict, text: str):
    with pytest.raises(ValueError, match=text):
        Link(VtaConfig.load("ulx3s"), clock_hz=CLOCK_HZ, baud=BAUD, **options)
