"""The shell through Yosys for two FPGAs, and the page of what it takes of them."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models import REPO
from vta_hw.spec import cache, machine
from vta_hw.spec.config import MemType, VtaConfig, named_configs

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from vta_hw.rtl import resources
from vta_hw.rtl.resources import ECP5, TARGETS, XILINX7, SynthesisError, Target, Yosys
from vta_hw.rtl.verilog import SHELL, hardware_config, verilog

TINY = VtaConfig.load("tiny")
DATE = datetime.date(2031, 2, 3)
BLOCK_WIDTH = 36  # bits of a row of both families' smallest block RAM, at 512 rows
WORD, INDEX = 128, 32
# Block RAM is worth it from so many rows on.
LEAST_ROWS = {ECP5.name: 33, XILINX7.name: 65}
BLOCK_RAM = {ECP5.name: 1.0, XILINX7.name: 0.5}
FAULTS = {
    "undriven": "input c, input d, output q); wire loose; assign q = loose & d;",
    "driven-twice": "input c, input d, output q); assign q = d; assign q = c;",
    "loop": "input c, input d, output q); wire a; assign a = ~(a & c); assign q = a & d;",
    "latch": "input c, input d, output reg q); always @* if (c) q = d;",
    "tri-state": "input c, input d, inout q); assign q = c ? d : 1'bz;",
}


@pytest.fixture(scope="module")
def yosys() -> Yosys:
    try:
        return resources.find_yosys()
    except SynthesisError as error:
        pytest.skip(str(error))


def _memories(config: VtaConfig) -> Iterator[tuple[int, int]]:
    """Rows and width of all memories that belong in block RAM; one per reader."""
    bus = 1 << config.log_bus_width
    bits = {memory: 8 * config.elem_bytes(memory) for memory in MemType}
    uop_readers = 2 if config.has("overlap") else 1
    for memory, readers in ((MemType.UOP, uop_readers), (MemType.INP, 1), (MemType.WGT, 1)):
        banks = max(bus // bits[memory], 1)
        yield from [(config.depth(memory) // banks, bits[memory])] * banks * readers
    banks = 2 * max(bus // bits[MemType.OUT], 1)
    for memory in (MemType.ACC, MemType.OUT):
        yield from [(config.depth(memory) // banks, bits[memory])] * banks
    yield from [(config.cmd_queue_depth, WORD + INDEX)] * 3
    yield machine.FETCH_BUFFER, WORD


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(ECP5, marks=pytest.mark.slow),
        pytest.param(XILINX7, marks=pytest.mark.long),
    ],
    ids=lambda target: target.name,
)
def test_tiny_becomes_the_cells_that_it_should(target: Target, yosys: Yosys):
    # It fails by itself if a net has no driver or several, or drives itself.
    cells = resources.synthesise(verilog(hardware_config(TINY), SHELL), target, yosys)
    # Fails if there is a latch, a tri-state buffer, or anything else that is not of the target.
    used = resources.used(cells, target)
    blocks = [
        -(-width // BLOCK_WIDTH)
        for rows, width in _memories(TINY)
        if rows >= LEAST_ROWS[target.name]
    ]
    assert used["BRAM"] == BLOCK_RAM[target.name] * sum(blocks)
    # A product of 32 x 32 bits in each lane of the ALU takes four.
    assert used["DSP"] >= TINY.macs_per_cycle + 4 * TINY.batch * TINY.block_out
    # Registers of the pipelines, not of memories that should be in RAM.
    assert 4_000 < used["FF"] < 13_000
    assert used["FF"] < used["LUT"] < 32_000


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_core_must_not_have_is_refused(fault: str, yosys: Yosys):
    text = f"module top({FAULTS[fault]} endmodule\n"
    for target in TARGETS:
        with pytest.raises(
            SynthesisError, match=r"; this is a defect of the core$|^\S+.* has no use for cells of"
        ):
            resources.used(resources.synthesise(text, target, yosys, "top"), target)


@pytest.mark.slow
def test_a_limit_of_time_is_kept_and_not_remembered(
    yosys: Yosys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path))
    text = "module top(input c, input d, output q); assign q = c ^ d; endmodule\n"
    with pytest.raises(
        resources.OutOfTimeError, match=r"^synthesis for ECP5 takes longer than 0 s; allow more$"
    ):
        resources.synthesise(text, ECP5, yosys, "top", limit_seconds=0.01)
    assert resources.synthesise(text, ECP5, yosys, "top") == {"LUT4": 1}
    # A Yosys that cannot be called is not called.
    gone = Yosys(("no such program",), yosys.version)
    assert resources.synthesise(text, ECP5, gone, "top") == {"LUT4": 1}


def test_a_yosys_that_crashes_is_not_taken_for_a_bad_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path))
    crashing = Yosys(("false",), "Yosys 9.8")
    with pytest.raises(
        SynthesisError,
        match=r"^Yosys 9.8 ends with status 1 for ECP5 and does not say why; .*PATH$",
    ):
        resources.synthesise("module top(); endmodule\n", ECP5, crashing, "top")


def test_cells_are_read_and_weighed():
    counts = {
        "$scopeinfo": 9, "LUT4": 10, "CCU2C": 3, "TRELLIS_DPR16X4": 2, "PFUMX": 5,
        "TRELLIS_FF": 7, "DP16KD": 1,
    }  # fmt: skip
    part = {"num_cells_by_type": {"LUT4": 4}}
    text = json.dumps({"modules": {"\\a": part}, "design": {"num_cells_by_type": counts}})
    cells = resources.cell_counts(text)
    assert cells == {name: n for name, n in counts.items() if name != "$scopeinfo"}
    assert resources.used(cells, ECP5) == {"LUT": 28, "FF": 7, "BRAM": 1, "DSP": 0}
    cells = {"LUT6": 5, "INV": 1, "RAM64M": 2, "RAMB36E1": 2, "RAMB18E1": 3, "DSP48E1": 4}
    assert resources.used(cells, XILINX7) == {"LUT": 14, "FF": 0, "BRAM": 3.5, "DSP": 4}
    with pytest.raises(
        SynthesisError, match=r"^Xilinx 7 has no use for cells of type \$_TBUF_, LDCE; a core must"
    ):
        resources.used({"LUT2": 1, "$_TBUF_": 1, "LDCE": 2}, XILINX7)


def test_without_yosys_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resources.shutil, "which", lambda name: None)
    monkeypatch.setattr(resources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SynthesisError, match="^synthesis needs Yosys, .* install the extra 'fpga'"):
        resources.find_yosys()


def test_a_yosys_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "yosys"
    program.write_text("#!/bin/sh\necho 'Yosys 9.8 (git sha1 0)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert resources.find_yosys() == Yosys((str(program),), "Yosys 9.8")
    program.write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    with pytest.raises(SynthesisError, match="is no Yosys that works: broken$"):
        resources.find_yosys()


def test_hardware_that_is_the_same_has_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cells = {"LUT4": 12_345, "DP16KD": 3}
    asked = []

    def synthesise(text: str, target: Target, *rest: object, **limit: object) -> dict[str, int]:
        asked.append(target.name)
        if target is XILINX7:
            raise resources.OutOfTimeError("too long")
        return cells

    monkeypatch.setattr(resources, "synthesise", synthesise)
    monkeypatch.setattr(resources, "verilog", lambda config, top: "")
    configs = [VtaConfig.load(name) for name in ("zcu104", "tiny", "ultra96", "mac64")]
    rows = resources.measure(configs, ["tiny", "ultra96"], Yosys((), "Yosys 0"), 5)
    assert [row.names for row in rows[::2]] == [("tiny",), ("mac64",), ("zcu104", "ultra96")]
    assert asked == ["ECP5", "Xilinx 7"] * 2
    page = resources.page(rows, "Yosys 0", DATE)
    assert "Yosys 0, 2031-02-03.\n" in page
    assert "| `tiny` | 1 x 4 x 4 | 64 | ECP5 | 12,345 | 0 | 3 | 0 |\n" in page
    assert "| `tiny` | 1 x 4 x 4 | 64 | Xilinx 7 | - | - | - | - |\n" in page
    assert "| `zcu104`, `ultra96` | 1 x 16 x 16 | 128 | ECP5 | 12,345 | 0 | 3 | 0 |\n" in page
    assert "| `mac64` | 1 x 8 x 8 | 64 | ECP5 | - | - | - | - |\n" in page


def test_the_page_has_every_named_config():
    page = (REPO / resources.DEFAULT_PATH).read_text()
    for name in named_configs():
        lines = [line for line in page.splitlines() if f"`{name}`" in line and "|" in line]
        assert len(lines) == len(TARGETS), name
    assert re.search(r"^Yosys \d\S*, 20\d\d-\d\d-\d\d\.$", page, re.M)
    tiny = [line.split("|")[5:9] for line in page.splitlines() if "`tiny`" in line]
    assert all(re.fullmatch(r" [\d,.]+ ", cell) for line in tiny for cell in line)
