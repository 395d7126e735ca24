"""The driver as a whole, on a board that is a simulator behind registers."""

from __future__ import annotations

import numpy as np
import pytest

import vta
from fpga.driver.device import BoardDevice
from runtime.device import DeviceError, open_device
from runtime.executor import Executor, ProgramFaultError
from runtime.package import HostCall, Package
from tests.fpga.fake_board import FakeBoard
from tests.models import DIGITS
from tests.runtime import networks
from vta_hw.spec import isa, registers
from vta_hw.spec.config import PAGE_BYTES, VtaConfig
from vta_hw.spec.result import Status

CONFIG = VtaConfig.load("ulx3s")
PHYSICAL = 0x1234_5000


@pytest.fixture(scope="module")
def made() -> Package:
    return networks.package(CONFIG, "uint8")


@pytest.fixture(scope="module")
def digits() -> Package:
    return vta.compile(DIGITS, "ulx3s").package


def _x(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"in": rng.integers(0, 256, networks.SHAPE, np.uint8)}


# -- results --------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [0, PHYSICAL])
@pytest.mark.parametrize("outputs", ["model", "all"])
def test_digits_run_as_on_the_cycle_device(digits: Package, base: int, outputs) -> None:
    board = FakeBoard(digits.config, base_address=base)
    inputs = vta.random_inputs(digits)
    got = Executor(digits, BoardDevice(digits.config, board)).run(inputs, outputs)
    expected = vta.load(digits, "cycle").run(inputs, outputs)
    assert [run.result for run in got.runs] == [run.result for run in expected.runs]
    assert got.outputs.keys() == expected.outputs.keys()
    for name, array in expected.outputs.items():
        np.testing.assert_array_equal(got.outputs[name], array)


def test_a_repeated_run_sends_its_inputs_only(digits: Package) -> None:
    board = FakeBoard(digits.config)
    executor = Executor(digits, BoardDevice(digits.config, board))
    executor.run(vta.random_inputs(digits, 1))
    board.calls.clear()
    board.bytes_written = 0
    second = vta.random_inputs(digits, 2)
    expected = vta.load(digits, "cycle").run(second)
    got = executor.run(second)
    for name, array in expected.outputs.items():
        np.testing.assert_array_equal(got.outputs[name], array)
    written = {name for step in digits.plan if isinstance(step, HostCall) for name in step.outputs}
    sent = [digits.tensors[name] for name in written]
    assert board.bytes_written == sum(t.size_bytes for t in sent if t.storage == "device")
    # All registers but CONTROL hold what they should from the run before.
    assert board.calls["write_register"] == board.calls["write_memory"] == 1


def test_bad_ends_are_those_of_the_cycle_device(made: Package, rng: np.random.Generator) -> None:
    inputs = _x(rng)
    board = FakeBoard(CONFIG, base_address=PHYSICAL)
    device = BoardDevice(CONFIG, board)
    for bad in (networks.broken(made), networks.deadlocked(made)):
        results = []
        for each in (device, open_device("cycle", CONFIG)):
            with pytest.raises(ProgramFaultError) as caught:
                Executor(bad, each).run(inputs)
            results.append(caught.value.result)
        got, expected = results
        assert got.status is expected.status and got.counters == expected.counters
        assert got.fault is not None and expected.fault is not None
        assert (got.fault.kind, got.fault.index) == (expected.fault.kind, expected.fault.index)
    assert board.resets == 2
    good = Executor(made, device).run(inputs)
    np.testing.assert_array_equal(good.outputs["out"], networks.expected(inputs["in"], 2))


def test_streams_stay_until_the_room_is_wanted(made: Package, rng: np.random.Generator) -> None:
    inputs = _x(rng)
    board = FakeBoard(CONFIG, 16 * PAGE_BYTES)
    device = BoardDevice(CONFIG, board)
    executor = Executor(made, device)
    executor.run(inputs)
    used = device.alloc(0)
    # All that is left: where the streams lie belongs to somebody else now.
    rest = device.alloc(device.memory_bytes - used)
    device.write(rest, np.full(device.memory_bytes - used, 7, np.uint8))
    with pytest.raises(DeviceError, match="has no room for 80 bytes of instructions beside the"):
        executor.run(inputs)
    assert (device.read(rest, device.memory_bytes - used) == 7).all()


def test_more_programs_than_fit_take_turns(made: Package, rng: np.random.Generator) -> None:
    inputs = _x(rng)
    needed = 2 * PAGE_BYTES + -(-made.arena_bytes // PAGE_BYTES) * PAGE_BYTES
    board = FakeBoard(CONFIG, needed + PAGE_BYTES)
    executor = Executor(made, BoardDevice(CONFIG, board))
    for _ in range(2):
        got = executor.run(inputs)
        np.testing.assert_array_equal(got.outputs["out"], networks.expected(inputs["in"], 2))


def test_a_stream_without_finish_ends(rng: np.random.Generator) -> None:
    device = BoardDevice(CONFIG, FakeBoard(CONFIG))
    image = np.zeros(64, np.uint8)
    result = device.run_stream(isa.encode_all([isa.Load(memory_type=0)], CONFIG), image)
    assert result.status is Status.NO_FINISH and result.fault is not None
    assert result == open_device("cycle", CONFIG).run_stream(
        isa.encode_all([isa.Load(memory_type=0)], CONFIG), image
    )


# -- what a board is ------------------------------------------------------------------------------


def test_another_config_is_refused_before_anything_is_changed() -> None:
    other = CONFIG.override(["DRAM_LATENCY=7"])
    board = FakeBoard(CONFIG)
    with pytest.raises(DeviceError) as caught:
        BoardDevice(other, board)
    text = str(caught.value)
    assert CONFIG.hash in text and other.hash in text and "vta bitstream --config" in text
    assert board.calls.keys() == {"read_register"}


@pytest.mark.parametrize(
    ("core_id", "words"),
    [
        (0xFFFFFFFF, "no VTA core answers at fake0: its register ID reads 0xffffffff"),
        (registers.CORE_ID + 1, "has version 2 of the register map and this kit knows version 1"),
    ],
)
def test_another_core_is_refused(core_id: int, words: str) -> None:
    board = FakeBoard(CONFIG, core_id=core_id)
    with pytest.raises(DeviceError, match=words):
        BoardDevice(CONFIG, board)
    assert board.calls.keys() == {"read_register"}


def test_a_network_that_does_not_fit_is_refused_before_anything_is_changed(made: Package) -> None:
    board = FakeBoard(CONFIG, 3 * PAGE_BYTES)
    device = BoardDevice(CONFIG, board)
    with pytest.raises(DeviceError, match=r"the network needs \d+ bytes of memory and device"):
        Executor(made, device)
    assert board.calls.keys() == {"read_register"}


@pytest.mark.parametrize(("base", "size"), [(100, 1 << 16), ((1 << 32) - PAGE_BYTES, 1 << 16)])
def test_memory_that_the_core_does_not_reach_is_refused(base: int, size: int) -> None:
    with pytest.raises(DeviceError, match="the core reaches whole pages below"):
        BoardDevice(CONFIG, FakeBoard(CONFIG, size, base_address=base))


def test_a_core_that_still_runs_is_reset() -> None:
    board = FakeBoard(CONFIG, polls=-1)
    board.write_register(registers.Register.CONTROL, 1)
    board.polls = 0
    BoardDevice(CONFIG, board)
    assert board.resets == 1


def test_a_timeline_is_refused() -> None:
    with pytest.raises(DeviceError, match="keeps no timeline of them; use cycle or rtl"):
        BoardDevice(CONFIG, FakeBoard(CONFIG), timeline=True)


# -- faults ---------------------------------------------------------------------------------------


def test_a_core_that_does_not_end_is_reset(made: Package, rng: np.random.Generator) -> None:
    board = FakeBoard(CONFIG)
    executor = Executor(made, BoardDevice(CONFIG, board, timeout_s=0.01))
    board.polls = -1
    with pytest.raises(DeviceError, match=r"the core at fake0 still runs after 0\.01 s; "):
        executor.run(_x(rng))
    assert board.resets == 1
    board.polls = 2
    inputs = _x(rng)
    got = executor.run(inputs)
    np.testing.assert_array_equal(got.outputs["out"], networks.expected(inputs["in"], 2))


def test_a_link_that_fails_anywhere_leaves_nothing_behind(
    made: Package, rng: np.random.Generator
) -> None:
    board = FakeBoard(CONFIG)
    executor = Executor(made, BoardDevice(CONFIG, board))
    inputs = _x(rng)
    executor.run(inputs)
    board.calls.clear()
    executor.run(inputs)
    for after in range(0, board.calls.total(), 7):
        board.fail_after = after
        with pytest.raises(DeviceError, match="does not answer"):
            executor.run(inputs)
        got = executor.run(inputs)
        np.testing.assert_array_equal(got.outputs["out"], networks.expected(inputs["in"], 2))


def test_a_reset_that_fails_is_made_up_for(made: Package, rng: np.random.Generator) -> None:
    board = FakeBoard(CONFIG)
    executor = Executor(made, BoardDevice(CONFIG, board))
    inputs = _x(rng)
    broken = True

    def on_call(name: str) -> None:
        if broken and name in ("reset", "write_register"):
            raise DeviceError("the cable is out")

    board.on_call = on_call
    for _ in range(2):
        with pytest.raises(DeviceError, match="the cable is out"):
            executor.run(inputs)
    assert board.resets == 0
    broken = False
    got = executor.run(inputs)
    assert board.resets == 1
    np.testing.assert_array_equal(got.outputs["out"], networks.expected(inputs["in"], 2))


def test_an_interrupt_resets_the_core(made: Package, rng: np.random.Generator) -> None:
    board = FakeBoard(CONFIG)
    executor = Executor(made, BoardDevice(CONFIG, board))
    seen = 0

    def on_call(name: str) -> None:
        nonlocal seen
        seen += name == "read_register"
        if name == "read_register" and seen == 2:
            raise KeyboardInterrupt

    board.on_call = on_call
    with pytest.raises(KeyboardInterrupt):
        executor.run(_x(rng))
    assert board.resets == 1


@pytest.mark.parametrize(
    ("register", "value", "words"),
    [
        (registers.Register.CONTROL, 0, "which is neither running nor ended"),
        (registers.Register.CYCLES, 1, "cycles and shows 1 in CYCLES"),
        (registers.Register.VERDICT, 99, "ended with verdict 99, which does not exist"),
        (registers.Register.VERDICT, 19, "ended with bad_launch for a sound launch"),
        (registers.Register.VERDICT, 5, "ended with sram_range for a sound launch"),
    ],
)
def test_registers_that_make_no_sense(
    made: Package, rng: np.random.Generator, register: int, value: int, words: str
) -> None:
    board = FakeBoard(CONFIG, polls=0)
    executor = Executor(made, BoardDevice(CONFIG, board))
    honest = board.read_register
    board.read_register = lambda at: value if at == register else honest(at)  # type: ignore
    with pytest.raises(DeviceError, match=words):
        executor.run(_x(rng))
    assert board.resets == 1


def test_an_index_beyond_the_program_is_no_verdict(made: Package, rng: np.random.Generator) -> None:
    board = FakeBoard(CONFIG)
    executor = Executor(networks.broken(made), BoardDevice(CONFIG, board))
    honest = board.read_register
    wrong = registers.Register.VERDICT_INDEX
    board.read_register = lambda at: 500 if at == wrong else honest(at)  # type: ignore
    with pytest.raises(DeviceError, match="names instruction 500 of 5 in its verdict dram_range"):
        executor.run(_x(rng))
