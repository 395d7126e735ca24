"""Configurations: the named ones, what is derived, what is refused and with which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vta_hw.spec.config import MemType, VtaConfig, config_keys, named_configs
from vta_hw.spec.errors import ConfigError

BASE: dict[str, Any] = {
    "LOG_BLOCK": 4,
    "LOG_UOP_BUFF_SIZE": 15,
    "LOG_INP_BUFF_SIZE": 15,
    "LOG_WGT_BUFF_SIZE": 18,
    "LOG_ACC_BUFF_SIZE": 17,
}


def test_names_of_the_configs() -> None:
    assert set(named_configs()) == {
        "batch4", "default", "mac64", "pynq", "rect", "tiny", "ulx3s", "ultra96", "zcu104",
    }  # fmt: skip


def test_default_geometry() -> None:
    config = VtaConfig.load("default")
    assert [config.elem_bytes(m) for m in MemType] == [4, 256, 16, 64, 16, 16]
    assert [config.depth(m) for m in MemType] == [8192, 1024, 2048, 2048, 2048, 2048]
    assert config.macs_per_cycle == 256
    assert config.cmd_queue_depth == 512
    assert config.extensions == {"requant", "pad_min", "overlap"}


def test_boards_differ_from_pynq_in_the_bus_only() -> None:
    pynq = VtaConfig.load("pynq")
    assert pynq.extensions == frozenset()
    for name in ("ultra96", "zcu104"):
        board = VtaConfig.load(name)
        assert board.log_bus_width == 7
        assert board.program_hash == pynq.program_hash
        assert board.hash != pynq.hash


def test_rectangular_geometry() -> None:
    rect = VtaConfig.load("rect")
    assert (rect.block_in, rect.block_out) == (16, 8)
    assert [rect.elem_bytes(m) for m in MemType] == [4, 128, 16, 32, 8, 8]


@pytest.mark.parametrize("name", ["default", "rect", "batch4", "zcu104"])
def test_dictionary_round_trip(name: str) -> None:
    config = VtaConfig.load(name)
    again = VtaConfig.from_dict(config.to_dict(), name)
    assert again == config
    assert again.hash == config.hash
    assert set(config.to_dict()) <= set(config_keys())


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(BASE))
    assert VtaConfig.load(path).name == "mine"
    path.write_text("{")
    with pytest.raises(ConfigError, match="not readable JSON"):
        VtaConfig.load(path)
    path.write_text("[1]")
    with pytest.raises(ConfigError, match="must hold one JSON object"):
        VtaConfig.load(path)


def test_settings_are_a_list_of_texts() -> None:
    text: Any = "LOG_CMD_QUEUE=3"
    with pytest.raises(ConfigError, match="^settings must be .* not the text 'LOG_CMD_QUEUE=3'"):
        VtaConfig.load("default").override(text)
    with pytest.raises(ConfigError, match="^setting 3 must be text of the form KEY=VALUE"):
        VtaConfig.load("default").override([3])  # type: ignore[list-item]
    assert VtaConfig.load("default").override([text]).cmd_queue_depth == 8


def test_override() -> None:
    config = VtaConfig.load("default").override(["DRAM_LATENCY=0x40", "EXTENSIONS=pad_min"])
    assert config.dram_latency == 64
    assert config.extensions == {"pad_min"}
    assert VtaConfig.load("default").override([]) == VtaConfig.load("default")
    assert VtaConfig.load("rect").override(["LOG_BLOCK=4"]).block_out == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # Sums of a micro-op that is too wide.
        ({"LOG_BLOCK": 3}, r"12 \(dst\) \+ 12 \(src\) \+ 12 \(wgt\) = 36 bits, more than 32"),
        ({"LOG_ACC_BUFF_SIZE": 18}, r"12 \(dst\) \+ 12 \(src\) \+ 10 \(wgt\) = 34 bits"),
        ({"LOG_INP_BUFF_SIZE": 16}, r"11 \(dst\) \+ 12 \(src\) \+ 10 \(wgt\) = 33 bits"),
        ({"LOG_WGT_BUFF_SIZE": 19}, r"11 \(dst\) \+ 11 \(src\) \+ 11 \(wgt\) = 33 bits"),
        ({"LOG_UOP_BUFF_SIZE": 16}, r"GEMM needs .* in its first word and .*"),
        ({"LOG_BLOCK": 7}, "one WGT element is 16384 bytes, more than a page of 4096"),
        ({"LOG_INP_BUFF_SIZE": 4}, "the INP buffer holds fewer than 2 elements of 16 bytes"),
        ({"LOG_INP_WIDTH": 2}, "LOG_INP_WIDTH must be 3"),
        ({"LOG_BATCH": "1"}, "LOG_BATCH must be an integer, not '1'"),
        ({"LOG_BUS_WIDTH": 10}, r"LOG_BUS_WIDTH must be within 5\.\.9, not 10"),
        ({"EXTENSIONS": ["turbo"]}, "unknown extension 'turbo'; known are requant"),
        ({"EXTENSIONS": "requant"}, "EXTENSIONS must be a list"),
        ({"LOG_FOO": 1}, "unknown key 'LOG_FOO'"),
        ({"TARGET": 3}, "TARGET must be text"),
    ],
)
def test_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VtaConfig.from_dict({**BASE, **change}, "mine")


def test_instruction_beyond_128_bits_names_its_sum() -> None:
    # Smaller WGT leaves the micro-op legal while the ALU factors outgrow their word.
    values = {**BASE, "LOG_ACC_BUFF_SIZE": 18, "LOG_WGT_BUFF_SIZE": 15, "LOG_INP_BUFF_SIZE": 14}
    with pytest.raises(ConfigError, match=r"ALU needs .* \+ 16 \(imm\) = \d+ after it"):
        VtaConfig.from_dict(values)


def test_overlap_bit_taken() -> None:
    with pytest.raises(ConfigError, match=r"'overlap' needs bit 63 of GEMM, which dst_factor_out"):
        VtaConfig.load("tiny").override(["LOG_ACC_BUFF_SIZE=15"])
    plain = ["LOG_ACC_BUFF_SIZE=15", "EXTENSIONS=requant,pad_min"]
    assert VtaConfig.load("tiny").override(plain).depth(MemType.ACC) == 2048


def test_depth_beyond_sram_base() -> None:
    values = {**BASE, "LOG_BLOCK": 0, "LOG_INP_BUFF_SIZE": 1, "LOG_WGT_BUFF_SIZE": 1}
    values |= {"LOG_ACC_BUFF_SIZE": 3, "LOG_UOP_BUFF_SIZE": 19}
    with pytest.raises(ConfigError, match=r"131072 elements, more than the 16-bit sram_base"):
        VtaConfig.from_dict(values)


@pytest.mark.parametrize("missing", ["LOG_BLOCK", "LOG_UOP_BUFF_SIZE"])
def test_missing_key(missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        VtaConfig.from_dict({k: v for k, v in BASE.items() if k != missing})


@pytest.mark.parametrize(
    ("setting", "message"),
    [("DRAM_LATENCY", "form KEY=VALUE"), ("DRAM_LATENCY=x", "must be an integer")],
)
def test_bad_setting(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VtaConfig.load("default").override([setting])


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match=r"'nowhere' is neither a file nor one of batch4"):
        VtaConfig.load("nowhere")
