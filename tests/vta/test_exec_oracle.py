"""`vta exec` against the oracle: images, exit statuses and verdicts, through files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.gen_programs import ILLEGAL, Generated, illegal_program, legal_program, main
from tests.oracle import execute
from vta import cli
from vta_hw.spec.config import VtaConfig

STATUSES = {"ok": 0, "deadlock": 4}


def _judge(program: Generated, name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run the stored program as a user would and compare all that comes out."""
    program.save(folder)
    files = ["--insns", folder / "I.bin", "--dram", folder / "IN.bin", "--out", folder / "OUT.bin"]
    queue = f"LOG_CMD_QUEUE={program.config.log_cmd_queue}"
    capsys.readouterr()
    status = cli.main(
        ["exec", "--config", name, "--set", queue, "--json", *(str(part) for part in files)]
    )
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    expected = execute(program.config, program.stream, program.dram)
    fault = record["fault"] or {"class": None, "index": None}
    where = f"{name}, seed {program.seed}"
    assert record["status"] == expected.status, where
    assert (fault["class"], fault["index"]) == (expected.kind, expected.index), where
    assert status == STATUSES.get(expected.status, 3), where
    assert (folder / "OUT.bin").read_bytes() == expected.dram, where
    assert (folder / "IN.bin").read_bytes() == program.dram, where


@pytest.mark.parametrize("name", ["default", "mac64", "batch4", "tiny", "rect", "pynq"])
def test_exec_gives_the_oracles_image(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3):
        _judge(legal_program(VtaConfig.load(name), seed), name, tmp_path, capsys)


@pytest.mark.parametrize("kind", ILLEGAL)
def test_exec_gives_the_oracles_verdict(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate(("tiny", "default")):
        program = illegal_program(VtaConfig.load(name), seed, kind)
        _judge(program, name, tmp_path, capsys)


def test_generator_writes_what_exec_reads(tmp_path: Path) -> None:
    main([str(tmp_path / "a"), "--config", "tiny", "--seed", "7"])
    main([str(tmp_path / "b"), "--config", "tiny", "--seed", "7", "--illegal", "bad_pad"])
    config = VtaConfig.load("tiny")
    for folder, program in (
        ("a", legal_program(config, 7)),
        ("b", illegal_program(config, 7, "bad_pad")),
    ):
        assert (tmp_path / folder / "I.bin").read_bytes() == program.stream
        assert (tmp_path / folder / "IN.bin").read_bytes() == program.dram
