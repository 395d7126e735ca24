"""What the documents tell a reader to run, run as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import DIGITS, REPO, model_path

_BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FOREIGN_MODEL = re.compile(r"\b(ic|ad|kws)_\w+\.tflite\b")
_COMMAND = "import sys; sys.argv[0] = 'vta'; from vta.cli import main; sys.exit(main())"


def _blocks() -> list[tuple[str, str]]:
    return _BLOCK.findall((REPO / "README.md").read_text())


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Commands `vta` and `python` of the interpreter that runs the tests, models in the folder."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name, arguments in (("vta", f'-c "{_COMMAND}" '), ("python", "")):
        shim = binaries / name
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        shim.chmod(0o755)
    (tmp_path / "examples" / "digits").mkdir(parents=True)
    shutil.copy(DIGITS, tmp_path / "examples" / "digits")
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(REPO)}


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    run = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    return run.stdout


def test_readme_has_blocks():
    languages = [language for language, _ in _blocks()]
    assert languages.count("bash") >= 2
    assert languages.count("python") >= 1


@pytest.mark.parametrize("index", range(len(_blocks())))
def test_readme(index: int, tmp_path: Path, environment: dict[str, str]):
    language, code = _blocks()[index]
    for name in {m.group() for m in _FOREIGN_MODEL.finditer(code)}:
        shutil.copy(model_path(name), tmp_path)
    if language == "bash":
        # Without pipefail: `head` may close a pipe before its writer is done.
        output = _run(["bash", "-eu", "-c", code], tmp_path, environment)
    else:
        output = _run([sys.executable, "-c", code], tmp_path, environment)
    assert output


@pytest.mark.parametrize(
    "tutorial", sorted((REPO / "docs" / "tutorials").glob("*.py")), ids=lambda path: path.stem
)
def test_tutorial(tutorial: Path, tmp_path: Path, environment: dict[str, str]):
    assert _run([sys.executable, str(tutorial)], tmp_path, environment)


def test_there_are_tutorials():
    assert list((REPO / "docs" / "tutorials").glob("*.py"))


def test_links_of_the_documents_lead_somewhere():
    documents = [*REPO.glob("*.md"), *(REPO / "docs").rglob("*.md")]
    assert REPO / "README.md" in documents
    for document in documents:
        prose = re.sub(r"```.*?```|`[^`]*`", "", document.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", prose):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_files_that_the_documents_name_exist():
    folders = "vta|vta_hw|vta_sim|compiler|runtime|tests|docs|examples|benchmarks"
    for document in [*REPO.glob("*.md"), *(REPO / "docs").rglob("*.md")]:
        for name in re.findall(rf"`((?:{folders})/[\w./-]*)`", document.read_text()):
            assert (REPO / name).exists(), f"{document.name} names {name}"
