"""`vta check` and `vta.check`."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import vta
from runtime.package import Package
from tests.runtime import networks
from vta.cli import main
from vta_hw.spec import isa
from vta_hw.spec.asm import assemble
from vta_hw.spec.config import VtaConfig

TINY = VtaConfig.load("tiny")
RACE = """
    load uop y=1 x=1 stride=1
    load inp y=1 x=4 stride=4
    gemm uop=0..1 iter=1/4 src=0/1
    finish
    """


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str

    @property
    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return record


Check = Callable[..., Said]


@pytest.fixture
def check(capfd: pytest.CaptureFixture[str]) -> Check:
    def run(*arguments: object) -> Said:
        capfd.readouterr()
        status = main(["check", *(str(a) for a in arguments)])
        text = capfd.readouterr()
        return Said(status, text.out, text.err)

    return run


@pytest.fixture
def raw(tmp_path: Path) -> Callable[[str], tuple[object, ...]]:
    def write(text: str) -> tuple[object, ...]:
        stream, image = tmp_path / "I.bin", tmp_path / "IN.bin"
        stream.write_bytes(isa.encode_all(assemble(text, TINY), TINY))
        image.write_bytes(bytes(4096))
        return stream, "--config", "tiny", "--dram", image

    return write


Raw = Callable[[str], tuple[object, ...]]


@pytest.fixture(scope="module")
def made() -> Package:
    return networks.package(VtaConfig.load("default"), steps=2)


def _without_pop(package: Package) -> Package:
    """The first program's store no longer waits for the sum."""
    program, rest = package.programs
    insns = [
        replace(insn, pop_prev=False) if isinstance(insn, isa.Store) else insn
        for insn in program.instructions
    ]
    return replace(package, programs=(replace(program, instructions=tuple(insns)), rest))


def test_clean_package(check: Check, made: Package, tmp_path: Path) -> None:
    made.save(tmp_path / "n.vta")
    said = check(tmp_path / "n.vta", "--json")
    assert (said.status, said.err) == (0, "")
    count = sum(len(program.instructions) for program in made.programs)
    assert said.out.startswith(f"clean: {count} instructions checked, ")
    assert said.record["status"] == "clean"
    assert said.record["fault"] is None
    assert said.record["hazards"] == 0
    assert said.record["instructions"] == count
    assert [program["status"] for program in said.record["programs"]] == ["clean"] * 2


def test_hazard_in_a_package(check: Check, made: Package, tmp_path: Path) -> None:
    _without_pop(made).save(tmp_path / "n.vta")
    said = check(tmp_path / "n.vta", "--json")
    assert said.status == 3
    assert said.out.startswith("program 0: nothing orders instruction 1 (load acc_8bit ")
    assert "; increment)" in said.out
    assert said.record["status"] == "hazard"
    assert said.record["hazards"] == 2
    assert said.record["programs"][1]["status"] == "clean"
    (hazard, other) = said.record["programs"][0]["hazards"]
    assert (hazard["first"]["index"], hazard["second"]["index"]) == (1, 3)
    assert (other["first"]["index"], other["second"]["index"]) == (2, 3)
    assert hazard["conflicts"][0]["memory"] == "acc"


def test_hazard_in_a_raw_stream(check: Check, raw: Raw) -> None:
    said = check(*raw(RACE))
    assert said.status == 3
    assert said.out.splitlines()[0] == (
        "nothing orders instruction 1 (load inp y=1 x=4 stride=4) and instruction 2 (gemm uop=0..1 "
        "iter=1/4 src=0/1): both touch inp 0..3, which the first writes and the second reads; add "
        "a token between them"
    )
    assert said.out.splitlines()[-1].startswith("1 found: 4 instructions checked, ")


def test_fault_and_deadlock_in_packages(check: Check, made: Package, tmp_path: Path) -> None:
    networks.broken(made).save(tmp_path / "f.vta")
    said = check(tmp_path / "f.vta")
    assert said.status == 3
    assert said.out.startswith("program 0: instruction 3 (store out dram=")
    networks.deadlocked(made).save(tmp_path / "d.vta")
    said = check(tmp_path / "d.vta")
    assert said.status == 4
    assert said.out.startswith("program 0: the program is stuck: compute instruction 1 waits for ")


def test_deadlock(check: Check, raw: Raw) -> None:
    said = check(*raw("load uop pop_prev\nfinish"), "--json")
    assert said.status == 4
    assert said.record["status"] == "deadlock"
    assert said.record["fault"]["index"] == 0
    assert "waits for a token load_to_compute" in said.out


def test_fault_outweighs_deadlock(check: Check, raw: Raw) -> None:
    said = check(*raw("load uop pop_prev\nload inp sram=255 y=1 x=2 stride=2\nfinish"), "--json")
    assert said.status == 3
    assert said.record["status"] == "fault"
    assert said.record["fault"]["class"] == "sram_range"


def test_notes_do_not_fail(check: Check, raw: Raw) -> None:
    said = check(*raw("load uop push_prev\nfinish"))
    assert said.status == 0
    assert said.out.startswith("note: 1 token compute_to_load never popped")


def test_pairs_are_limited(check: Check, raw: Raw) -> None:
    text = RACE.replace("load inp", "load inp y=1 x=1 stride=1\nload inp", 1)
    said = check(*raw(text), "--max-pairs", 1, "--json")
    assert said.status == 3
    assert said.record["programs"][0]["more_hazards"] is True
    assert "there are more hazards than these 1" in said.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "vta: a raw stream is checked with the DRAM image it would run on; give --dram\n"),
        (
            ("--max-pairs", "0"),
            "vta: the number of listed hazards must be at least 1, not 0\n",
        ),
    ],
)
def test_usage_of_raw_streams(
    check: Check, raw: Raw, options: tuple[str, ...], message: str
) -> None:
    stream = raw(RACE)[0]
    assert check(stream, *options) == Said(2, "", message)


def test_cut_off_stream(check: Check, raw: Raw, tmp_path: Path) -> None:
    arguments = raw(RACE)
    (tmp_path / "I.bin").write_bytes(bytes(20))
    said = check(*arguments)
    assert said.status == 2
    assert "must be a multiple of 16 bytes long, not 20" in said.err


def test_usage_of_packages(check: Check, made: Package, tmp_path: Path) -> None:
    made.save(tmp_path / "n.vta")
    said = check(tmp_path / "n.vta", "--config", "tiny")
    assert said.status == 2
    assert "config 'tiny' does not match" in said.err
    said = check(tmp_path / "n.vta", "--dram", tmp_path / "n.vta")
    assert said.status == 2
    assert "a DRAM image belongs to a raw stream" in said.err


def test_the_function_takes_packages_programs_and_streams(made: Package) -> None:
    assert [report.clean for report in vta.check(made)] == [True, True]
    (report,) = vta.check(made.programs[0])
    assert report.clean
    stream = isa.encode_all(assemble(RACE, TINY), TINY)
    (report,) = vta.check(stream, "tiny", dram=bytes(4096))
    assert [(h.race.first, h.race.second) for h in report.hazards] == [(1, 2)]
