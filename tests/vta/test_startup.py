"""What the command line imports before it runs anything: every start pays for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.models import REPO

_HEAVY = {"numpy", "rich", "compiler", "llvmlite", "onnx", "tflite", "vta_sim", "amaranth"}
_PROGRAM = """
import sys
from vta.cli import main
status = main(sys.argv[1:])
print(status, *sorted({name.split(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def _started(*arguments: str) -> tuple[int, set[str]]:
    """Exit status of a command in a process of its own, and the packages loaded by it."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments], cwd=REPO, capture_output=True, text=True
    )
    status, *names = done.stderr.splitlines()[-1].split()
    return int(status), set(names)


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--help"], ["compile", "--help"], ["run", "--help"], ["exec", "--help"]),
        *(["check", "--help"], ["bench", "machine", "--help"], ["complie"], ["run", "--bogus"]),
        *(["selftest", "--help"], ["selftest", "--bogus"]),
        *(["profile", "--help"], ["bench", "layers", "--help"], ["bench", "networks", "--help"]),
    ],
)
def test_help_and_complaints_import_nothing_heavy(arguments: list[str]):
    status, loaded = _started(*arguments)
    assert status == (0 if "--help" in arguments else 2)
    assert "typer" in loaded and not loaded & _HEAVY


def test_the_configurations_are_shown_without_numpy():
    status, loaded = _started("info", "default")
    assert status == 0 and not loaded & (_HEAVY - {"numpy"})
