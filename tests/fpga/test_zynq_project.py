"""Projects for the Zynq boards: what is in them, and that the check finds nothing in them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from fpga.boards import ip_xact, zynq_check
from fpga.boards.core_description import verilog_ports
from fpga.boards.device_tree import overlay
from fpga.boards.parts import LUT_MEMORY
from fpga.boards.zynq import BOARDS, BoardError, find_board
from fpga.boards.zynq_estimate import least
from fpga.boards.zynq_project import export
from vta_hw.rtl.resources import RESOURCES
from vta_hw.rtl.verilog import SHELL, verilog
from vta_hw.spec import registers
from vta_hw.spec.config import VtaConfig, named_configs
from vta_hw.spec.registers import Register

TINY = VtaConfig.load("tiny")
SPIRIT = "{http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009}"


@pytest.fixture(autouse=True)
def _tcl() -> None:
    try:
        zynq_check.interpreter()
    except zynq_check.NoTclError as error:
        pytest.skip(str(error))


def test_the_boards():
    assert set(BOARDS) == {"pynq-z1", "pynq-z2", "ultra96-v2", "zcu104"}
    for name, board in BOARDS.items():
        assert board.name == name and board.config in named_configs()
        assert set(board.part.available) == {*RESOURCES, LUT_MEMORY}
        system = board.system
        assert system.control_base <= board.control_address
        assert board.control_address < system.control_base + system.control_bytes
        config = VtaConfig.load(board.config)
        assert all(n <= 0.8 * board.part.available[r] for r, n in least(board, config).items())
    with pytest.raises(BoardError, match=r"^unknown board 'pynq'; known are pynq-z1, pynq-z2, ult"):
        find_board("pynq")


@pytest.mark.parametrize("name", BOARDS)
def test_nothing_is_wrong_with_a_project(name: str, tmp_path: Path):
    board = BOARDS[name]
    bus = VtaConfig.load(board.config).log_bus_width
    files = export(board, TINY.override([f"LOG_BUS_WIDTH={bus}"]), tmp_path / "p")
    assert all(path.is_file() for path in files)
    assert {path for path in (tmp_path / "p").rglob("*") if path.is_file()} == set(files)
    assert zynq_check.check(tmp_path / "p") == []
    record = json.loads((tmp_path / "p" / "vta.json").read_text())
    assert record["board"]["control_address"] == board.control_address
    assert f"{board.control_address:#x}" in (tmp_path / "p" / "settings.tcl").read_text()


@pytest.mark.long
@pytest.mark.parametrize("name", BOARDS)
def test_nothing_is_wrong_with_a_board_s_own_config(name: str, tmp_path: Path):
    board = BOARDS[name]
    export(board, VtaConfig.load(board.config), tmp_path / "p")
    assert zynq_check.check(tmp_path / "p") == []


def test_equal_arguments_give_equal_bytes(tmp_path: Path):
    board = BOARDS["pynq-z2"]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        export(board, TINY, tmp_path / name, clock_mhz=80)
    first = {p.relative_to(tmp_path / "a"): p.read_bytes() for p in (tmp_path / "a").rglob("*.*")}
    second = {p.relative_to(tmp_path / "b"): p.read_bytes() for p in (tmp_path / "b").rglob("*.*")}
    assert first == second and first
    assert "PCW_FPGA0_PERIPHERAL_FREQMHZ 80" in (tmp_path / "a" / "settings.tcl").read_text()


def test_the_description_is_ip_xact_and_has_every_register_and_port():
    root = ElementTree.fromstring(ip_xact.component_xml(TINY))
    assert root.tag == f"{SPIRIT}component"
    offsets = {
        register.findtext(f"{SPIRIT}name"): register.findtext(f"{SPIRIT}addressOffset")
        for register in root.iter(f"{SPIRIT}register")
    }
    assert len(offsets) == len(Register) + 2 * len(registers.COUNTERS)
    assert offsets["DRAM_LIMIT"] == "0x4c" and offsets["CYCLES_LOW"] == "0x80"
    assert all(offsets[register.name] == f"{int(register):#x}" for register in Register)
    ports = {port.findtext(f"{SPIRIT}name") for port in root.iter(f"{SPIRIT}port")}
    assert verilog_ports(verilog(TINY, SHELL), SHELL) == ip_xact.shell_ports(TINY)
    assert ports == set(ip_xact.shell_ports(TINY))
    # The order of IEEE 1685-2009, which Vivado holds a description to.
    order = [child.tag.removeprefix(SPIRIT) for child in root]
    assert order == [
        "vendor", "library", "name", "version", "busInterfaces", "addressSpaces", "memoryMaps",
        "model", "fileSets", "description", "parameters", "vendorExtensions",
    ]  # fmt: skip


def test_a_component_of_another_config_has_its_widths():
    wide = ElementTree.fromstring(ip_xact.component_xml(TINY.override(["LOG_BUS_WIDTH=7"])))
    widths = {
        port.findtext(f"{SPIRIT}name"): port.findtext(f".//{SPIRIT}left")
        for port in wide.iter(f"{SPIRIT}port")
    }
    assert (widths["m_axi_rdata"], widths["m_axi_wstrb"]) == ("127", "15")


@pytest.mark.parametrize(
    ("board", "config", "text"),
    [
        (
            "pynq-z1",
            "batch4",
            r"it needs at least 256 DSP, and the xc7z020clg400-1 has 220; choose",
        ),
        ("ultra96-v2", "wide", r"it needs at least \d+ BRAM, and the xczu3eg-sbva484-1-i has 216;"),
    ],
)
def test_what_cannot_fit_is_refused(board: str, config: str, text: str, tmp_path: Path):
    found = (
        VtaConfig.load("zcu104").override(
            ["LOG_WGT_BUFF_SIZE=20", "LOG_INP_BUFF_SIZE=14", "LOG_ACC_BUFF_SIZE=16"]
        )
        if config == "wide"
        else VtaConfig.load(config)
    )
    with pytest.raises(BoardError, match=text):
        export(BOARDS[board], found, tmp_path / "p")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_behind_by_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(BoardError, match=r"^folder '.*full' is not empty; name another one$"):
        export(BOARDS["zcu104"], TINY, tmp_path / "full")
    with pytest.raises(BoardError, match=r"^a clock of 900 MHz cannot be made; choose one from"):
        export(BOARDS["zcu104"], TINY, tmp_path / "p", clock_mhz=900)
    written: list[str] = []
    write_text = Path.write_text

    def failing(self: Path, text: str) -> int:
        if len(written) == 4:
            raise OSError(28, "No space left on device")
        written.append(self.name)
        return write_text(self, text)

    monkeypatch.setattr(Path, "write_text", failing)
    with pytest.raises(BoardError, match=r"^folder '.*p' cannot be written: No space left on dev"):
        export(BOARDS["zcu104"], TINY, tmp_path / "p")
    assert len(written) == 4
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine"]


def test_the_overlay_has_the_board_s_numbers():
    small, large = overlay(BOARDS["pynq-z1"]), overlay(BOARDS["zcu104"])
    assert "reg = <0x43c00000 0x1000>;" in small and "interrupts = <0 29 4>;" in small
    assert "reg = <0x0 0xa0000000 0x0 0x1000>;" in large and "interrupts = <0 89 4>;" in large
    assert "interrupt-parent = <&gic>;" in large
    for text in (small, large):
        assert text.count("{") == text.count("}")
        assert re.search(r'compatible = "generic-uio";', text)
