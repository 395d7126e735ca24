"""Libraries of compiled functions: what names an entry of the cache, and how one is made."""

from __future__ import annotations

import gc
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.vta_sim.lang.compiled import compiled
from vta_hw.spec import cache as disk
from vta_hw.spec.cache import CacheError
from vta_sim.lang import build, cpu
from vta_sim.lang.build import BRIEF, THOROUGH, Library, object_code
from vta_sim.lang.cpu import CPU_VARIABLE, Cpu
from vta_sim.lang.kinds import Array, KernelError, f32, i8, i64, kernel, parameter, u8

SIZE = parameter("SIZE")


@kernel
def scaled(n: i64) -> i64:
    return n * SIZE


@kernel
def other(n: i64) -> i64:
    return n - SIZE


@kernel
def no_result(out: Array[i64], flag: bool, x: f32, small: i8, byte: u8) -> None:
    out[0] = 1 if flag else 2
    out[1] = 100 if x > 0.5 else 200
    out[2] = small
    out[3] = byte


@kernel
def far_place(out: Array[i64]) -> Array[i64]:
    return out


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache of this test alone."""
    monkeypatch.setenv(disk.FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "kernels"


@pytest.fixture
def compilations(monkeypatch):
    """The names of what is compiled."""
    names = []
    function = build.compile_functions

    def counting(name, *args, **options):
        names.append(name)
        return function(name, *args, **options)

    monkeypatch.setattr(build, "compile_functions", counting)
    return names


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix != ".lock")


def test_the_same_is_compiled_once(folder, compilations):
    for _ in range(3):
        assert Library("numbers", [scaled], {"SIZE": 3})["scaled"](14) == 42
    assert compilations == ["numbers"]
    assert len(_entries(folder)) == 1


def test_everything_that_code_depends_on_names_it(folder, compilations, monkeypatch):
    target = cpu.chosen()
    object_code("numbers", [scaled], {"SIZE": 3}, target)
    object_code("others", [scaled], {"SIZE": 3}, target)
    object_code("numbers", [scaled], {"SIZE": 4}, target)
    object_code("numbers", [scaled, other], {"SIZE": 3}, target)
    object_code("numbers", [other], {"SIZE": 3}, target)
    object_code("numbers", [scaled], {"SIZE": 3}, target, BRIEF)
    object_code("numbers", [scaled], {"SIZE": 3}, Cpu(target.isa, target.name, ""))
    monkeypatch.setattr(build, "_sources", lambda: b"another version of the simulators")
    object_code("numbers", [scaled], {"SIZE": 3}, target)
    monkeypatch.setattr(build.platform, "machine", lambda: "another")
    object_code("numbers", [scaled], {"SIZE": 3}, target)
    monkeypatch.setattr(build.llvmlite, "__version__", "another")
    object_code("numbers", [scaled], {"SIZE": 3}, target)
    assert len(compilations) == len(_entries(folder)) == (10 if target.features else 9)
    object_code("numbers", [scaled], {"SIZE": 3}, target, THOROUGH)
    assert len(compilations) == len(_entries(folder))


def test_source_elsewhere_names_it_too(folder, compilations, tmp_path, monkeypatch):
    """Functions of a module that is no part of the simulators: it is read as well."""
    monkeypatch.syspath_prepend(str(tmp_path))
    text = (
        "from vta_sim.lang.kinds import i64, kernel\n"
        "@kernel\n"
        "def made(n: i64) -> i64:\n"
        "    return {}\n"
    )
    file = tmp_path / "made_for_a_test.py"
    file.write_text(text.format("n + 1"))
    module = importlib.import_module("made_for_a_test")
    try:
        assert Library("made", [module.made], {})["made"](1) == 2
        Library("made", [module.made], {})
        file.write_text(text.format("n + 1  # changed"))
        Library("made", [module.made], {})
    finally:
        sys.modules.pop("made_for_a_test")
    assert len(compilations) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_damaged_entry_is_made_again(folder, compilations, damage):
    Library("numbers", [scaled], {"SIZE": 5})
    (entry,) = _entries(folder)
    good = entry.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    bad = {"cut": good[:-1], "flipped": bytes(flipped), "empty": b"", "text": b"no code" * 20}
    entry.write_bytes(bad[damage])
    assert Library("numbers", [scaled], {"SIZE": 5})["scaled"](4) == 20
    assert len(compilations) == 2
    assert entry.read_bytes() == good


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    """Also for root, who may write anywhere: a file stands where the folder should be."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv(disk.FOLDER_VARIABLE, str(blocked))
    with pytest.raises(CacheError, match=f"cannot be used.*set {disk.FOLDER_VARIABLE} to a folder"):
        Library("numbers", [scaled], {"SIZE": 6})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(tmp_path, monkeypatch):
    tmp_path.chmod(0o500)
    monkeypatch.setenv(disk.FOLDER_VARIABLE, str(tmp_path / "cache"))
    with pytest.raises(CacheError, match=f"set {disk.FOLDER_VARIABLE} to a folder"):
        Library("numbers", [scaled], {"SIZE": 6})


def test_two_processes_compile_once(folder):
    """The second waits for the first; both have the functions in the end."""
    program = (
        "from tests.vta_sim.lang import test_build as t\n"
        "from vta_sim.lang import build\n"
        "made = build.compile_functions\n"
        "def counting(*args, **options):\n"
        "    print('compiled', flush=True)\n"
        "    return made(*args, **options)\n"
        "build.compile_functions = counting\n"
        "print(build.Library('numbers', [t.scaled], {'SIZE': 7})['scaled'](6))\n"
    )
    command = [sys.executable, "-c", program]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = [process.communicate(timeout=120)[0].split() for process in started]
    assert all(process.returncode == 0 for process in started)
    assert [words[-1] for words in printed] == ["42"] * 3
    assert sum("compiled" in words for words in printed) == 1
    assert len(_entries(folder)) == 1


def test_numbers_of_all_types_are_passed():
    out = np.zeros(4, np.int64)
    call = compiled(no_result)
    assert call(out, True, 0.75, -128, 255) is None
    assert out.tolist() == [1, 100, -128, 255]
    call(out, False, 0.25, 127, 0)
    assert out.tolist() == [2, 200, 127, 0]
    assert compiled(far_place)(out) == out.ctypes.data


def test_a_function_outlives_its_library():
    call = Library("numbers", [scaled], {"SIZE": 9})["scaled"]
    gc.collect()
    assert call(5) == 45


def test_what_is_compiled_can_be_seen():
    shown: list[str] = []
    build.compile_functions("numbers", [scaled], {"SIZE": 8}, cpu.chosen(), show=shown.append)
    assert "@scaled(i64" in shown[0]
    assert "shl" in shown[0]  # times 8, optimised


# -- levels of the CPU ----------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["", "generic", "avx2", "vnni"])
def test_the_level_that_is_asked_for(level, monkeypatch):
    monkeypatch.setenv(CPU_VARIABLE, level)
    levels = ["generic", "avx2", "vnni"]
    able = cpu.detected()
    if not level or levels.index(level) <= levels.index(able):
        assert cpu.chosen() == cpu.for_isa(level or able)
        assert Library("numbers", [scaled], {"SIZE": 2}).isa == (level or able)
        return
    expected = f"{CPU_VARIABLE} is {level!r}, which this CPU cannot do; set it to {able!r} or below"
    with pytest.raises(KernelError, match=expected):
        cpu.chosen()


def test_a_level_that_does_not_exist(monkeypatch):
    monkeypatch.setenv(CPU_VARIABLE, "sse9")
    expected = f"{CPU_VARIABLE} must be one of generic, avx2, vnni, not 'sse9'"
    with pytest.raises(KernelError, match=expected):
        cpu.chosen()


@pytest.mark.parametrize(
    ("features", "machine", "expected"),
    [
        ({}, "x86_64", "generic"),
        (dict.fromkeys(cpu._AVX2, True), "x86_64", "avx2"),
        ({**dict.fromkeys(cpu._AVX2, True), "bmi2": False}, "x86_64", "generic"),
        (dict.fromkeys((*cpu._AVX2, *cpu._VNNI), True), "AMD64", "vnni"),
        (dict.fromkeys((*cpu._AVX2, *cpu._VNNI), True), "aarch64", "generic"),
        ({**dict.fromkeys((*cpu._AVX2, *cpu._VNNI), True), "avx512vnni": False}, "x86_64", "avx2"),
        (dict.fromkeys(cpu._VNNI, True), "x86_64", "generic"),
    ],
)
def test_what_a_cpu_can_do(features, machine, expected, monkeypatch):
    monkeypatch.setattr(cpu.llvm, "get_host_cpu_features", lambda: features)
    monkeypatch.setattr(cpu.platform, "machine", lambda: machine)
    assert cpu.detected.__wrapped__() == expected
