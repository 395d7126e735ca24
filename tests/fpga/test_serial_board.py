"""The driver over the serial link: a simulator behind registers behind the link's model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from fpga.driver.device import BoardDevice
from fpga.driver.selftest import check_board, is_good
from fpga.driver.serial_link import SerialLink
from fpga.protocol import Op, Request, Status
from runtime.device import DeviceError
from runtime.executor import Executor
from tests.fpga.fake_board import FakeBoard
from tests.fpga.link_model import GREETING, DeviceModel, ModelLine, Noise, clean, pty_board
from tests.runtime import networks
from vta.cli import main
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.registers import REGISTER_BYTES

pytest.importorskip("serial", reason="needs the extra 'fpga'")

CONFIG = VtaConfig.load("ulx3s")
MEMORY_BYTES = 1 << 18


class BoardModel(DeviceModel):
    """The link's end on a board that has a core."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.board = FakeBoard(CONFIG, np.zeros(self.greeting.memory_bytes, np.uint8))

    def _perform(self, request: Request) -> tuple[Status, bytes]:
        if request.op == Op.RESET:
            self.board.reset()
            return Status.OK, b""
        return super()._perform(request)

    def _register(self, request: Request) -> tuple[Status, bytes]:
        try:
            if request.op == Op.READ_REGISTER:
                word = self.board.read_register(request.address)
                return Status.OK, word.to_bytes(REGISTER_BYTES, "little")
            self.board.write_register(request.address, int.from_bytes(request.data, "little"))
        except DeviceError:
            return Status.BAD_ADDRESS, b""
        return Status.OK, b""

    def _block(self, request: Request) -> tuple[Status, bytes]:
        if request.op == Op.READ_MEMORY:
            return Status.OK, self.board.read_memory(request.address, request.count).tobytes()
        self.board.write_memory(request.address, np.frombuffer(request.data, np.uint8))
        return Status.OK, b""


def _model() -> BoardModel:
    return BoardModel(replace(GREETING, memory_bytes=MEMORY_BYTES))


def _link(noise: Callable[[bytes], bytes] = clean) -> SerialLink:
    return SerialLink(ModelLine(_model(), noise, noise), timeout_s=0.01, retries=40)


@pytest.mark.parametrize("rate", [0.0, 0.02])
def test_the_selftest_passes_over_a_bad_line(rate: float) -> None:
    link = _link(Noise(Random(1), rate))
    reports = check_board(link, memory_bytes=1 << 14)
    assert is_good(reports), reports
    assert (link.counts.retries > 0) == (rate > 0)


def test_a_network_runs_over_the_link(rng: np.random.Generator) -> None:
    link = _link()
    x = rng.integers(0, 256, networks.SHAPE, np.uint8)
    executor = Executor(networks.package(CONFIG, "uint8"), BoardDevice(CONFIG, link))
    got = executor.run({"in": x})
    np.testing.assert_array_equal(got.outputs["out"], networks.expected(x, 2))


def test_the_command_over_a_pty(capsys: pytest.CaptureFixture[str]) -> None:
    with pty_board(_model().feed) as board:
        options = ["--memory-bytes", "8192", "--json"]
        assert main(["selftest", "--device", f"ulx3s:{board.port}", *options]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [s["name"] for s in record["steps"] if s["verdict"] != "passed"] == []
