"""The self-test passes on machines that are right, and says what is wrong with others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fpga.driver import selftest, selftest_programs
from fpga.driver.memory_check import ADDRESS_CELL_BYTES, spread
from fpga.driver.selftest import check_board, check_device
from fpga.driver.selftest_steps import StepReport
from fpga.driver.sketch import carry_out
from runtime.device import DeviceError, open_device
from tests.fpga.fake_board import FakeBoard
from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig, named_configs
from vta_hw.spec.isa import Alu, AluOp, Gemm, Load, Store
from vta_hw.spec.registers import Register, counter_address

CONFIG = VtaConfig.load("tiny")
_OF_BOARD = ["identity", "registers", "memory", "addresses"]


def _by_verdict(reports: list[StepReport], verdict: str) -> list[str]:
    return [report.name for report in reports if report.verdict == verdict]


def _text(reports: list[StepReport], name: str) -> str:
    [report] = [report for report in reports if report.name == name]
    return report.text


# -- machines that are right ----------------------------------------------------------------------


@pytest.mark.parametrize("base", [0, 0x4000_0000])
def test_a_good_board_passes(base: int) -> None:
    board = FakeBoard(CONFIG, base_address=base)
    seen: list[StepReport] = []
    reports = check_board(board, seed=3, listener=seen.append)
    assert reports == seen and selftest.is_good(reports)
    assert _by_verdict(reports, "passed") == [step.name for step in selftest.STEPS]
    figures = {report.name: report.figures for report in reports}
    assert figures["identity"]["config"] == "tiny"
    assert figures["memory"]["tested_bytes"] == selftest.MEMORY_BYTES
    assert int(figures["network"]["cycles"]) > 0 and int(figures["network"]["microseconds"]) > 0
    assert all(report.seconds > 0 for report in reports)


@pytest.mark.parametrize("name", named_configs())
def test_the_simulators_pass_for_every_config(name: str) -> None:
    for device in ("functional", "cycle"):
        reports = check_device(open_device(device, VtaConfig.load(name)))
        assert selftest.is_good(reports)
        missing = _by_verdict(reports, "not applicable")
        assert missing[: len(_OF_BOARD)] == _OF_BOARD
        assert ("counters" in missing) == (device == "functional")
        assert ("alu req" in missing) == (not VtaConfig.load(name).has("requant"))


def test_the_reference_multiplies_as_numpy_does() -> None:
    config = VtaConfig.load("batch4")
    sketch = selftest_programs.gemm(config, np.random.default_rng(5), 4)
    sketch.finish()
    image = sketch.image()
    carry_out(config, sketch.instructions, image)
    shapes = {
        "inputs": (4, 4, config.batch, config.block_in),
        "weights": (4, 4, config.block_out, config.block_in),
        "products": (4, 4, config.batch, config.block_out),
    }
    arrays = {
        region.name: image[region.start : region.start + region.size].view(np.int8)
        for region in sketch.regions
    }
    inputs, weights, products = (arrays[n].reshape(s).astype(int) for n, s in shapes.items())
    sums = np.einsum("mkbi,nkoi->nmbo", inputs, weights)
    shift = sketch.instructions[-5]
    assert isinstance(shift, Alu) and shift.alu_opcode == AluOp.SHR
    np.testing.assert_array_equal(products, np.clip(sums >> shift.imm, -128, 127))
    assert len(np.unique(products)) > 100


# -- machines that are not ------------------------------------------------------------------------


def test_an_unknown_config_must_be_named() -> None:
    config = CONFIG.override(["DRAM_LATENCY=5"])
    reports = check_board(FakeBoard(config))
    assert "none of the named ones has: give --config" in _text(reports, "identity")
    assert _by_verdict(reports, "failed") == ["identity"]
    assert len(_by_verdict(reports, "skipped")) == len(selftest.STEPS) - 1
    assert _text(reports, "fetch") == "step 'identity' failed"
    assert _text(reports, "gemm") == "step 'load inp' skipped"
    assert selftest.is_good(check_board(FakeBoard(config), config))


def test_another_config_than_the_cores_fails() -> None:
    reports = check_board(FakeBoard(CONFIG), VtaConfig.load("mac64"))
    assert "was built for a config with hash" in _text(reports, "identity")


class _StuckRegister(FakeBoard):
    """Bit 4 of INSN_COUNT is not connected."""

    def write_register(self, offset: int, value: int) -> None:
        super().write_register(offset, value & ~0x10 if offset == Register.INSN_COUNT else value)


class _WritableId(FakeBoard):
    """What should only be read can be written."""

    def write_register(self, offset: int, value: int) -> None:
        if offset == Register.ID:
            self._registers[offset] = value
            return
        super().write_register(offset, value)


class _ShortMemory(FakeBoard):
    """Address bit 15 of memory is not connected."""

    def read_memory(self, address: int, size_bytes: int) -> np.ndarray:
        return super().read_memory(address & ~0x8000, size_bytes)

    def write_memory(self, address: int, data: np.ndarray) -> None:
        super().write_memory(address & ~0x8000, data)


class _StuckMemory(FakeBoard):
    """Bit 3 of every byte above 64 KiB is always set."""

    def read_memory(self, address: int, size_bytes: int) -> np.ndarray:
        return super().read_memory(address, size_bytes) | np.uint8(8 * (address >= 1 << 16))


class _WrongCounter(FakeBoard):
    """Loads of INP are not counted."""

    def read_register(self, offset: int) -> int:
        word = super().read_register(offset)
        return 0 if offset == counter_address("load_inp_bytes") else word


@pytest.mark.parametrize(
    ("kind", "step", "words"),
    [
        (_StuckRegister, "registers", "INSN_COUNT at 0x08 reads 0xffffffef, not 0xffffffff, after"),
        (_WritableId, "registers", "register ID at 0x40 reads 0xa9abbefe, not 0x56544101, as"),
        (_StuckMemory, "memory", "0x5d, not 0x55, in element 2 of March C-; 4096 of 4096 bytes"),
        (_ShortMemory, "addresses", "holds what was written to 0x8000: look at address bits 15"),
        (_WrongCounter, "counters", "counter load_inp_bytes is 0, not "),
    ],
)
def test_a_broken_board(kind: type[FakeBoard], step: str, words: str) -> None:
    reports = check_board(kind(CONFIG), memory_bytes=1 << 14)
    assert _by_verdict(reports, "failed") == [step]
    assert words in _text(reports, step)
    assert not selftest.is_good(reports)


def test_a_processor_that_bus_errors_kill_is_spared() -> None:
    board = _WritableId(CONFIG)
    board.survives_bus_errors = False
    assert selftest.is_good(check_board(board))


_Twist = Callable[[isa.Instruction], isa.Instruction]


def _mul_adds(insn: isa.Instruction) -> isa.Instruction:
    if isinstance(insn, Alu) and insn.alu_opcode == AluOp.MUL:
        return isa.altered(insn, alu_opcode=AluOp.ADD)
    return insn


def _no_pads(insn: isa.Instruction) -> isa.Instruction:
    if isinstance(insn, Load) and insn.memory_type == MemType.INP and insn.x_pad_0:
        return isa.altered(insn, x_pad_0=insn.x_pad_0 - 1, x_pad_1=insn.x_pad_1 + 1)
    return insn


def _high_acc(insn: isa.Instruction) -> isa.Instruction:
    if isinstance(insn, Store):
        return isa.altered(insn, sram_base=insn.sram_base & ~64)
    return insn


def _one_round(insn: isa.Instruction) -> isa.Instruction:
    return isa.altered(insn, iter_out=1) if isinstance(insn, Gemm) else insn


def _bad_store(insn: isa.Instruction) -> isa.Instruction:
    return isa.altered(insn, dram_base=1 << 30) if isinstance(insn, Store) else insn


@pytest.mark.parametrize(
    ("twist", "failed", "words"),
    [
        (_mul_adds, ["alu mul"], "'MUL by -32768, bits 7:0'"),
        (_no_pads, ["load inp"], "of 'a box with its pads' (image byte"),
        (_high_acc, ["store"], "of 'ACC entries 0, 1, 2, 4, 8, 16, 32, 64, 128, 255'"),
        (_one_round, ["gemm"], "(2 x 2 blocks, smaller ones are right)"),
        (_bad_store, ["store"], "the program ended with fault: instruction "),
    ],
)
def test_a_broken_core(twist: _Twist, failed: list[str], words: str) -> None:
    board = FakeBoard(CONFIG)

    def twisted(stream: bytes) -> bytes:
        return isa.encode_all(map(twist, isa.decode_all(stream, CONFIG)), CONFIG)

    board.twist = twisted
    reports = check_board(board)
    assert _by_verdict(reports, "failed") == failed
    assert words in _text(reports, failed[0])


def test_a_link_that_breaks_is_a_failure() -> None:
    board = FakeBoard(CONFIG)

    def on_call(name: str) -> None:
        if name == "write_memory" and board.calls["reset"] >= 2:
            raise DeviceError("the board does not answer; see whether its cable is plugged in")

    board.on_call = on_call
    reports = check_board(board)
    assert _by_verdict(reports, "failed") == ["memory"]
    assert "does not answer" in _text(reports, "memory")


# -- memory ---------------------------------------------------------------------------------------


def test_all_of_memory_can_be_tested() -> None:
    board = FakeBoard(CONFIG, 1 << 17)
    reports = check_board(board, memory_bytes=1 << 30)
    tested = {report.name: report.figures.get("tested_bytes") for report in reports}
    assert tested["memory"] == tested["addresses"] == 1 << 17


@pytest.mark.parametrize("size", [1, 300, 5000, 1 << 20])
def test_cells_are_spread_over_memory(size: int) -> None:
    cells = spread(1 << 16, ADDRESS_CELL_BYTES, size)
    assert len(set(cells)) == len(cells) == min(256, max(1, size // ADDRESS_CELL_BYTES))
    assert cells[0] == 0 and (len(cells) == 1 or cells[-1] == (1 << 16) - ADDRESS_CELL_BYTES)
