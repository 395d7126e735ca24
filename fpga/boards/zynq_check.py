"""Runs a project's Tcl with stand-ins for Vivado's commands, and finds what Vivado would refuse."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

from fpga.boards.block_model import BlockModel
from fpga.boards.core_description import read_core
from fpga.boards.vivado_ips import BOARD_FILES, IPS
from fpga.boards.zynq import BoardError
from fpga.boards.zynq_project import CORE_FOLDER, RESULTS

_SCRIPT = "run.tcl"
_TIMEOUT_SECONDS = 60
_VALUED = {
    "-type", "-vlnv", "-rule", "-config", "-offset", "-range", "-target_address_space", "-part",
    "-fileset", "-files", "-filter", "-file", "-jobs", "-to_step",
}  # fmt: skip
"""Options that are followed by a value."""

_LOOK_UPS = {
    "get_bd_pins": "pin",
    "get_bd_intf_pins": "bus",
    "get_bd_addr_spaces": "space",
    "get_bd_addr_segs": "segment",
}
_WANTED = (
    "validate_bd_design", "make_wrapper", "launch_runs", "write_hw_platform",
)  # fmt: skip


class NoTclError(BoardError):
    """There is nothing here that can run Tcl."""


def check(folder: str | Path) -> list[str]:
    """What is wrong with an exported project, one sentence each; empty if nothing is.

    The folder is not changed. Needs ``tclsh``, or Python's ``tkinter``.
    """
    source = Path(folder)
    component = source / CORE_FOLDER / "component.xml"
    for path in (component, source / _SCRIPT):
        if not path.is_file():
            return [f"{path.relative_to(source)} does not exist"]
    try:
        core = read_core(component)
    except ElementTree.ParseError as error:
        return [f"component.xml is no XML: {error}"]
    findings = list(core.findings)
    with tempfile.TemporaryDirectory(prefix="vta-") as temporary:
        copy = Path(temporary, "project")
        shutil.copytree(source, copy)
        for board_parts in (BOARD_FILES, ()):
            calls = _run(copy, [core.ip.vlnv, *IPS], board_parts, slack_ns=0.1)
            model = BlockModel({core.ip.vlnv: core.ip})
            new = _replay(model, calls, copy)
            findings += [text for text in new + model.findings if text not in findings]
        findings += [f"{name} is not made" for name in RESULTS if not (copy / name).is_file()]
        # A design that misses its timing must not come out of it.
        calls = _run(copy, [core.ip.vlnv, *IPS], BOARD_FILES, slack_ns=-0.1)
        if not any(words[0] == "failed" for words in calls) or (copy / RESULTS[0]).is_file():
            findings.append("a bitstream comes out although timing is not met")
    return findings


def interpreter() -> str:
    """What runs Tcl here: the path of ``tclsh``, or ``tkinter``."""
    found = shutil.which("tclsh")
    if found is not None:
        return found
    if importlib.util.find_spec("_tkinter") is not None:
        return "tkinter"
    raise NoTclError("checking a project needs Tcl; install tclsh, or Python's tkinter")


def _run(
    folder: Path, ips: Sequence[str], board_parts: Sequence[str], slack_ns: float
) -> list[list[str]]:
    """Source the script with the stand-ins; the calls, each a list of words."""
    log = folder.parent / "calls.log"
    stub = (resources.files("fpga.boards") / "tcl" / "vivado_stub.tcl").read_text()
    driver = "\n".join(
        (
            f"set log_path {{{log}}}",
            f"set slack_ns {slack_ns}",
            f"set known_ips {{{' '.join(ips)}}}",
            f"set known_boards {{{' '.join(board_parts)}}}",
            "set argv {}",
            stub,
            f"if {{[catch {{source {{{folder / _SCRIPT}}}}} message]}} {{record failed $message}}",
            "close $log_file",
        )
    )
    path = folder.parent / "driver.tcl"
    path.write_text(driver)
    command = interpreter()
    if command == "tkinter":
        import tkinter

        tkinter.Tcl().eval(driver)
    else:
        done = subprocess.run(
            [command, str(path)], capture_output=True, text=True, timeout=_TIMEOUT_SECONDS,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise BoardError(f"the stand-ins for Vivado fail: {done.stderr.strip()}")
    lines = log.read_text().splitlines()
    return [[_plain(word) for word in line.split("\t")] for line in lines]


def _plain(word: str) -> str:
    return word.replace("\\n", "\n").replace("\\t", "\t").replace("\\\\", "\\")


def _arguments(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Options with their values (flags: empty), and the other words."""
    options: dict[str, str] = {}
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in _VALUED:
            options[word] = next(rest, "")
        elif word[:1] == "-" and word[1:2].isalpha():
            options[word] = ""
        else:
            others.append(word)
    return options, others


def _replay(model: BlockModel, calls: Sequence[Sequence[str]], folder: Path) -> list[str]:
    findings = []
    for command, *words in calls:
        options, others = _arguments(words)
        if command == "unknown":
            findings.append(f"there is no command {words[0]}")
        elif command == "failed":
            findings.append(f"{_SCRIPT} ends with an error: {words[0]}")
        elif command in _LOOK_UPS:
            for path in others:
                if "-quiet" not in options:
                    model.look_up(_LOOK_UPS[command], path)
        elif command == "add_files":
            findings += [
                f"{path} is added and does not exist" for path in others if not _file(path)
            ]
        elif command == "set_property":
            findings += _set_property(model, options, others, folder)
        else:
            try:
                _build(model, command, options, others)
            except (ValueError, IndexError, TypeError):
                findings.append(f"{command} does not take {' '.join(words)}")
    called = {command for command, *_ in calls}
    findings += [f"{name} is never called" for name in _WANTED if name not in called]
    return findings


def _file(path: str) -> bool:
    return Path(path).is_file()


def _build(model: BlockModel, command: str, options: dict[str, str], others: list[str]) -> None:
    if command == "create_bd_cell":
        model.create_cell(options.get("-vlnv", ""), others[-1])
    elif command == "apply_bd_automation":
        model.automate(options.get("-rule", ""), others[-1])
    elif command == "connect_bd_net":
        model.connect_pins(others)
    elif command == "connect_bd_intf_net":
        model.connect_buses(*others[:2])
    elif command == "assign_bd_address":
        begin, size = (int(options.get(name, "0"), 0) for name in ("-offset", "-range"))
        model.assign(options.get("-target_address_space", ""), others[-1], begin, size)
    elif command == "exclude_bd_addr_seg":
        model.exclude(options.get("-target_address_space", ""), others[-1])
    elif command == "validate_bd_design":
        model.validate()


def _set_property(
    model: BlockModel, options: dict[str, str], others: list[str], folder: Path
) -> list[str]:
    if "-dict" in options:
        words = others[0].split()
        values = dict(zip(words[::2], words[1::2], strict=False))
    else:
        values = {others[0]: others[1]}
    target = others[-1]
    if target.startswith("/") and not model.configure(target, values):
        return [f"there is no cell {target} to set properties of"]
    repositories = values.get("ip_repo_paths", "").split()
    return [
        f"the folder {path} of IP cores has no component.xml"
        for path in repositories
        if not (folder / path / "component.xml").is_file()
    ]
