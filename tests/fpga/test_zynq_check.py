"""The check of a project finds what is planted in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from fpga.boards import zynq_check
from fpga.boards.zynq import BOARDS
from fpga.boards.zynq_project import export
from vta_hw.spec.config import VtaConfig

BLOCKS, SETTINGS, RUN = "block_design.tcl", "settings.tcl", "run.tcl"
COMPONENT, SHELL = "ip/component.xml", "ip/hdl/vta_shell.v"

# What is changed where, and what must be said of it.
DEFECTS: dict[str, tuple[str, str, str, str]] = {
    "misspelt pin": (
        BLOCKS, "reset/ext_reset_in", "reset/ext_reset", "there is no pin reset/ext_reset",
    ),
    "unknown command": (
        BLOCKS, "save_bd_design", "save_block_design", "there is no command save_block_design",
    ),
    "unknown cell": (
        BLOCKS, "vta/$core_reset", "core/$core_reset",
        "there is no cell core, wanted for core/aresetn",
    ),
    "unknown type of cell": (
        SETTINGS, "vta_kit:vta:vta_shell:1.0", "vta_kit:vta:vta_core:1.0",
        "cell vta is of the unknown type vta_kit:vta:vta_core:1.0",
    ),
    "unknown IP core": (
        BLOCKS, "add_ip xlconcat", "add_ip concatenation",
        "run.tcl ends with an error: this Vivado has no IP core concatenation; take one that",
    ),
    "unconnected reset": (
        BLOCKS, "vta/$core_reset ", "", "pin vta/aresetn (reset_n) is not connected",
    ),
    "unconnected clock": (
        BLOCKS, "ps/$memory_clock", "", "pin ps/S_AXI_HP0_ACLK (clock) is not connected",
    ),
    "reset of the wrong sense": (
        BLOCKS, "reset/peripheral_aresetn", "reset/peripheral_reset",
        "a net joins pins that do not fit together: control/aresetn (reset_n)",
    ),
    "clock on a reset": (
        BLOCKS, "connect_pins ps/$system_reset", "connect_pins ps/$system_clock",
        "a net joins pins that do not fit together",
    ),
    "pin driven twice": (
        BLOCKS, "validate_bd_design",
        "connect_pins reset/interconnect_aresetn vta/$core_reset\nvalidate_bd_design",
        "is driven twice",
    ),
    "two clocks": (
        BLOCKS, " control/aclk", "",
        "interfaces control/M00_AXI and vta/s_axi have different clocks",
    ),
    "master to master": (
        BLOCKS, "memory/M00_AXI ps/$memory_port", "memory/M00_AXI ps/$control_port",
        "interfaces memory/M00_AXI and ps/M_AXI_GP0 are both masters",
    ),
    "interface left open": (
        BLOCKS, "connect_buses vta/$core_master memory/S00_AXI", "",
        "interface vta/m_axi is not connected",
    ),
    "interface connected twice": (
        BLOCKS, "validate_bd_design",
        "connect_buses control/M00_AXI memory/S00_AXI\nvalidate_bd_design",
        "interface control/M00_AXI is connected twice",
    ),
    "port that is switched off": (
        SETTINGS, "CONFIG.PCW_USE_S_AXI_HP0 1", "CONFIG.PCW_USE_S_AXI_HP0 0",
        "there is no bus ps/S_AXI_HP0",
    ),
    "unknown parameter": (
        SETTINGS, "PCW_IRQ_F2P_INTR", "PCW_IRQ_INTR", "has no parameter CONFIG.PCW_IRQ_INTR",
    ),
    "width that the port cannot have": (
        SETTINGS, "DATA_WIDTH 64", "DATA_WIDTH 128",
        "cell /ps: CONFIG.PCW_S_AXI_HP0_DATA_WIDTH cannot be 128",
    ),
    "no automation": (
        BLOCKS, "apply_bd_automation -rule xilinx.com:bd_rule:$system_ip -config $rule $ps", "",
        "interfaces DDR, FIXED_IO of ps are left open",
    ),
    "address beyond the port": (
        SETTINGS, "control_address {0x43c00000}", "control_address {0x83c00000}",
        "segment vta/s_axi/reg0 at 0x83c00000 of 0x1000 bytes is beyond what ps/Data reaches",
    ),
    "address not aligned": (
        SETTINGS, "control_address {0x43c00000}", "control_address {0x43c00800}",
        "segment vta/s_axi/reg0 at 0x43c00800 of 0x1000 bytes is not aligned to its size",
    ),
    "range that is not the register map's": (
        SETTINGS, "control_bytes {0x1000}", "control_bytes {0x10000}",
        "of 0x10000 bytes should have 0x1000",
    ),
    "memory at another address": (
        BLOCKS, "-offset 0x0 ", "-offset 0x20000000 ", "should begin at 0x0",
    ),
    "segments that overlap": (
        BLOCKS, "validate_bd_design",
        "assign_bd_address -offset 0x43c00000 -range 0x1000 -target_address_space ps/Data "
        "vta/s_axi/reg0\nvalidate_bd_design",
        "segments vta/s_axi/reg0 and vta/s_axi/reg0 overlap",
    ),
    "segment without an address": (
        BLOCKS, "assign_bd_address -offset 0x0", "list", "has no address in vta/m_axi",
    ),
    "unassociated clock": (
        COMPONENT, "m_axi:s_axi", "m_axi", "interface s_axi is associated with no clock",
    ),
    "register beyond its block": (
        COMPONENT, ">0x1f4<", ">0x1ffe<",
        "register STORE_IDLE_CYCLES_HIGH ends at 0x2002, beyond its block",
    ),
    "port that the Verilog lacks": (
        SHELL, "input aresetn;", "input resetn;",
        "component.xml has the port aresetn, the Verilog has not",
    ),
    "port of another width": (
        SHELL, "output [31:0] m_axi_araddr;", "output [39:0] m_axi_araddr;",
        "port m_axi_araddr is ('out', 32) in component.xml, ('out', 40) in the Verilog",
    ),
    "port mapped to nothing": (
        COMPONENT, "<spirit:name>AWVALID</spirit:name>", "<spirit:name>AWVALUE</spirit:name>",
        "interface m_axi maps no AWVALID",
    ),
    "file that does not exist": (
        COMPONENT, "hdl/vta_shell.v", "hdl/vta.v",
        "component.xml names the file hdl/vta.v, which does not exist",
    ),
    "constraints that do not exist": (
        RUN, "constraints.xdc", "timing.xdc", "timing.xdc is added and does not exist",
    ),
    "folder of IP cores elsewhere": (
        RUN, "[file join $folder ip]", "[file join $folder cores]", "has no component.xml",
    ),
    "unknown command in constraints": (
        "constraints.xdc", "set_property", "set_properties", "there is no command set_properties",
    ),
    "address that is no number": (
        SETTINGS, "dram_bytes {0x20000000}", "dram_bytes {512M}", "assign_bd_address does not take",
    ),
    "description that is no XML": (
        COMPONENT, "</spirit:component>", "", "component.xml is no XML: ",
    ),
    "no validation": (BLOCKS, "validate_bd_design", "", "validate_bd_design is never called"),
    "no look at the timing": (
        RUN, "if {$slack < 0}", "if {0}", "a bitstream comes out although timing is not met",
    ),
    "no handoff": (
        RUN, "file copy -force [lindex $handoff 0]", "list", "out/vta.hwh is not made",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        zynq_check.interpreter()
    except zynq_check.NoTclError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("zynq") / "project"
    export(BOARDS["pynq-z1"], VtaConfig.load("tiny"), folder)
    return folder


@pytest.fixture
def planted(project: Path, tmp_path: Path) -> Callable[[str, str, str], Path]:
    def plant(name: str, before: str, after: str) -> Path:
        folder = tmp_path / "project"
        shutil.copytree(project, folder)
        text = (folder / name).read_text()
        assert before in text, f"{name} has no {before!r} to change"
        (folder / name).write_text(text.replace(before, after, 1))
        return folder

    return plant


def test_a_good_project_is_good_and_stays_as_it_is(project: Path):
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    assert zynq_check.check(project) == []
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_are_found(defect: str, planted: Callable[[str, str, str], Path]):
    name, before, after, text = DEFECTS[defect]
    findings = zynq_check.check(planted(name, before, after))
    assert any(text in finding for finding in findings), findings


def test_a_missing_file_is_named(project: Path, tmp_path: Path):
    for name in (RUN, COMPONENT):
        folder = tmp_path / name.replace("/", "-")
        shutil.copytree(project, folder)
        (folder / name).unlink()
        assert zynq_check.check(folder) == [f"{name} does not exist"]


def test_both_interpreters_say_the_same(
    planted: Callable[[str, str, str], Path], monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("tkinter")
    folder = planted(*DEFECTS["unconnected reset"][:3])
    found = zynq_check.check(folder)
    monkeypatch.setattr(zynq_check, "interpreter", lambda: "tkinter")
    assert zynq_check.check(folder) == found != []


def test_without_tcl_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(zynq_check.shutil, "which", lambda name: None)
    monkeypatch.setattr(zynq_check.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(zynq_check.NoTclError, match="^checking a project needs Tcl; install tclsh"):
        zynq_check.interpreter()
