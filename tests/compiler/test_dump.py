"""The intermediate forms that a compilation writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compiler.context import CompileContext
from compiler.driver import compile_model
from tests.models import DIGITS, REPO
from vta_hw.spec import asm
from vta_hw.spec.config import VtaConfig

DEFAULT = VtaConfig.load("default")
# Steps that only check, or whose result is the package itself.
FORMLESS = {"verify_tokens", "package"}


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump of the digits network, two images at once."""
    folder = tmp_path_factory.mktemp("dump")
    compile_model(DIGITS, DEFAULT, dump_dir=folder, batch=2)
    return folder


def documented_steps() -> list[str]:
    """The first column of the table of steps."""
    text = (REPO / "docs" / "compiler.md").read_text()
    table = text.partition("| step |")[2].partition("\n\n")[0]
    rows = [line for line in table.splitlines()[2:] if line.startswith("|")]
    return [step for row in rows for step in row.split("|")[1].strip().split(", ")]


def test_the_table_is_found() -> None:
    assert {"import", "template", "allocate_sram", "emit", *FORMLESS} <= set(documented_steps())


@pytest.mark.parametrize("step", [s for s in documented_steps() if s not in FORMLESS])
def test_every_documented_step_has_a_file(step: str, dump: Path) -> None:
    files = list(dump.glob(f"*-{step}.txt"))
    assert files
    assert all(path.stat().st_size for path in files)


def test_every_file_is_of_a_documented_step(dump: Path) -> None:
    steps = {path.stem.rpartition("-")[2] for path in dump.iterdir()}
    assert steps == set(documented_steps()) - FORMLESS


def test_files_are_numbered_in_order_of_the_table(dump: Path) -> None:
    names = sorted(path.name for path in dump.iterdir())
    assert [int(name[:4]) for name in names] == list(range(len(names)))
    order = documented_steps()
    graph = [n.removesuffix(".txt").rpartition("-")[2] for n in names if "-graph-" in n]
    assert graph == [step for step in order if step in graph]


def test_what_the_last_forms_are(dump: Path) -> None:
    package = compile_model(DIGITS, DEFAULT, batch=2).package
    (listing,) = dump.glob("*-region0-emit.txt")
    assert listing.read_text() == asm.disassemble_program(package.programs[0])
    (llvm,) = dump.glob("*-host_codegen.txt")
    defined = set(re.findall(r'^define void @"?([^"(]+)"?\(', llvm.read_text(), re.MULTILINE))
    lowered = {p.stem[5:].rpartition("-")[0] for p in dump.glob("*-host_lowering.txt")}
    assert defined == lowered != set()
    (offsets, *_) = sorted(dump.glob("*-allocate_sram.txt"))
    assert re.fullmatch(r"((inp|wgt|acc) \d+\.\.\d+(,\d+\.\.\d+)? \S+\n)+", offsets.read_text())


def test_a_new_dump_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    old = CompileContext(DEFAULT, tmp_path)
    for step in ("a", "b", "c"):
        old.dump("old", step, lambda: "")
    kept = ["0000-notes.md", "2024-notes.txt", "notes.txt", "001-x.txt", "0001-a b.txt"]
    for name in kept:
        (tmp_path / name).write_text("mine")
    (tmp_path / "0002-folder.txt").mkdir()
    new = CompileContext(DEFAULT, tmp_path)
    new.dump("new", "a", lambda: "text")
    new.dump("new", "b", lambda: "text")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted([*kept, "0002-folder.txt", "0000-new-a.txt", "0001-new-b.txt"])


def test_long_names_make_files(tmp_path: Path) -> None:
    context = CompileContext(DEFAULT, tmp_path)
    for name in ("layer/" * 60, "layer/" * 60 + "x"):
        context.dump(name, "emit_tasks", lambda: "text")
    names = [path.name for path in tmp_path.iterdir()]
    assert len(set(names)) == 2
    assert all(n.endswith("-emit_tasks.txt") and len(n) < 150 for n in names)


def test_nothing_is_made_for_no_folder() -> None:
    def text() -> str:
        raise AssertionError("asked for")

    CompileContext(DEFAULT).dump("x", "y", text)
