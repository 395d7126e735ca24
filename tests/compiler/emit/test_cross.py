"""Host code for other machines: what its object files say, and what it does under an emulator."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from compiler.driver import compile_model
from compiler.emit.host import compile_host
from compiler.graph.ir import TensorType
from compiler.graph.softmax import exp_table, softmax_int8
from compiler.topi import host
from compiler.topi.host_kernel import HostKernel
from runtime import buffers
from runtime.executor import Executor
from runtime.package import HostCall, Package, TensorInfo
from tests.compiler.emit.elf import read_elf
from tests.compiler.topi.host_cases import CASE_OPS, Array, random_case
from tests.models import DIGITS
from vta_hw.spec.config import VtaConfig

CASES = 3
GUARD_BYTES = 32
C_LIBRARY = {"malloc", "free", "abort", "memcpy", "memset", "memmove"}
_RELOCATABLE = 1


@dataclass(frozen=True)
class Machine:
    """A machine that code is made for, and the Debian tools that run it."""

    triple: str
    bits: int
    number: int
    flags: int
    emulator: str
    compiler: str
    helpers: frozenset[str] = frozenset()


MACHINES = [
    Machine("x86_64-unknown-linux-gnu", 64, 62, 0, "qemu-x86_64", "x86_64-linux-gnu-gcc"),
    Machine("aarch64-unknown-linux-gnu", 64, 183, 0, "qemu-aarch64", "aarch64-linux-gnu-gcc"),
    # ABI version 5; conversions and divisions that 32-bit machines lack come from libgcc.
    Machine(
        "armv7-unknown-linux-gnueabihf", 32, 40, 5 << 24, "qemu-arm", "arm-linux-gnueabihf-gcc",
        frozenset({"__aeabi_f2lz", "__aeabi_idiv", "__aeabi_ldivmod", "__aeabi_idivmod"}),
    ),
    # Compressed instructions and the double-float ABI.
    Machine("riscv64-unknown-linux-gnu", 64, 243, 5, "qemu-riscv64", "riscv64-linux-gnu-gcc"),
]  # fmt: skip


@dataclass(frozen=True)
class _Call:
    kernel: HostKernel
    arrays: tuple[Array, ...]
    expected: Array


def _calls(rng: np.random.Generator) -> list[_Call]:
    """Every operator, some times, and results in numpy."""
    calls = []
    for op in CASE_OPS:
        for number in range(CASES):
            case = random_case(op, rng, f"{op}_{number}")
            arrays = (*case.inputs, *case.kernel.constants.values())
            calls.append(_Call(case.kernel, arrays, case.in_numpy()))
    shape = (2, 3, 5, 7)
    info = TensorInfo(
        name="p", dtype="int8", shape=shape, layout="NHWC", storage="device", batch=2, block=4
    )
    x = rng.integers(-128, 128, shape, np.int8)
    type_, packed = TensorType(shape, "int8", layout="NHWC"), buffers.pack(x, info)
    calls.append(_Call(host.pack(type_, 2, 4, "pack"), (x,), packed))
    calls.append(_Call(host.unpack(type_, 2, 4, "unpack"), (packed,), x))
    # Temporaries that are too large for the stack.
    table, rows = exp_table(np.float32(0.1), 1.0), rng.integers(-128, 128, (300, 20), np.int8)
    large = host.softmax(rows.shape, table, "large")
    calls.append(_Call(large, (rows, *large.constants.values()), softmax_int8(rows, table)))
    return calls


@pytest.fixture(scope="module")
def calls(request: pytest.FixtureRequest) -> list[_Call]:
    seed = int(request.config.getoption("--seed"))
    print("seed", seed)
    return _calls(np.random.default_rng(seed))


@pytest.fixture(scope="module", params=MACHINES, ids=lambda m: m.triple)
def machine(request: pytest.FixtureRequest) -> Machine:
    chosen: Machine = request.param
    return chosen


@pytest.fixture(scope="module")
def code(machine: Machine, calls: list[_Call]) -> bytes:
    made, triple = compile_host([call.kernel.func for call in calls], machine.triple)
    assert triple == machine.triple
    return made


def test_objects_of_other_machines(machine: Machine, code: bytes, calls: list[_Call]) -> None:
    funcs = [call.kernel.func for call in calls]
    elf = read_elf(code)
    assert elf.kind == _RELOCATABLE and elf.little_endian
    assert (elf.bits, elf.machine, elf.flags) == (machine.bits, machine.number, machine.flags)
    assert set(elf.functions) == {func.name for func in funcs}
    assert min(elf.functions.values()) > 0
    assert elf.undefined <= C_LIBRARY | machine.helpers
    assert {"malloc", "free"} <= elf.undefined


def test_the_reader_agrees_with_another_one(code: bytes, tmp_path: Path) -> None:
    if shutil.which("nm") is None:
        pytest.skip("nm is not here: install binutils")
    (tmp_path / "host.o").write_bytes(code)
    run = subprocess.run(["nm", "host.o"], cwd=tmp_path, capture_output=True, text=True, check=True)
    words = [line.split() for line in run.stdout.splitlines()]
    elf = read_elf(code)
    assert {w[-1] for w in words if w[-2] == "T"} == set(elf.functions)
    assert {w[-1] for w in words if w[-2] == "U"} == elf.undefined


def _initialiser(name: str, array: Array) -> str:
    values = ",".join(map(str, array.tobytes())) or "0"
    return f"static unsigned char {name}[] __attribute__((aligned(64))) = {{{values}}};"


def _program(calls: list[_Call]) -> str:
    """C that calls every function and writes all results, each with a guard behind it."""
    lines, body = ["#include <stdio.h>", "#include <string.h>"], []
    for number, call in enumerate(calls):
        names = [f"in{number}_{i}" for i in range(len(call.arrays))]
        lines += [_initialiser(n, a) for n, a in zip(names, call.arrays, strict=True)]
        size = call.expected.nbytes + GUARD_BYTES
        lines.append(f"static unsigned char out{number}[{size}] __attribute__((aligned(64)));")
        pointers = ", ".join(["void *"] * (len(names) + 1))
        lines.append(f"void {call.kernel.func.name}({pointers});")
        body += [
            f"memset(out{number}, 85, {size});",
            f"{call.kernel.func.name}({', '.join([*names, f'out{number}'])});",
            f"fwrite(out{number}, 1, {size}, stdout);",
        ]
    return "\n".join([*lines, "int main(void) {", *body, "return 0;", "}"])


def test_execution_under_an_emulator(
    machine: Machine, code: bytes, calls: list[_Call], tmp_path: Path
) -> None:
    for tool in (machine.emulator, machine.compiler):
        if shutil.which(tool) is None:
            package = machine.compiler.removesuffix("-gcc")
            pytest.skip(f"{tool} is not here: install qemu-user and gcc-{package}")
    (tmp_path / "host.o").write_bytes(code)
    (tmp_path / "main.c").write_text(_program(calls))
    build = [machine.compiler, "-static", "-w", "main.c", "host.o", "-o", "main"]
    subprocess.run(build, cwd=tmp_path, check=True)
    run = subprocess.run([machine.emulator, tmp_path / "main"], capture_output=True, check=True)
    at = 0
    for call in calls:
        size = call.expected.nbytes
        got = np.frombuffer(run.stdout, call.expected.dtype, call.expected.size, at)
        name = call.kernel.func.name
        np.testing.assert_array_equal(got.reshape(call.expected.shape), call.expected, name)
        assert run.stdout[at + size : at + size + GUARD_BYTES] == b"\x55" * GUARD_BYTES, name
        at += size + GUARD_BYTES
    assert at == len(run.stdout)


def test_a_network_for_another_machine(rng: np.random.Generator) -> None:
    config = VtaConfig.load("default")
    here = compile_model(DIGITS, config).package
    there = compile_model(DIGITS, config, host_triple="riscv64-unknown-linux-gnu").package
    symbols = {step.symbol for step in there.plan if isinstance(step, HostCall)}
    elf = read_elf(there.host_object)
    assert elf.machine == 243 and set(elf.functions) == symbols
    native, foreign = Executor(here), Executor(Package.from_bytes(there.to_bytes()))
    assert (native.host_code, foreign.host_code) == ("native", "numpy")
    for _ in range(5):
        name, tensor = next((n, here.tensors[n]) for n in here.inputs)
        x = rng.normal(0, 1, tensor.shape).astype(tensor.face_dtype)
        expected = native.run({name: x}, "all").outputs
        outputs = foreign.run({name: x}, "all").outputs
        assert outputs.keys() == expected.keys()
        for key, array in expected.items():
            np.testing.assert_array_equal(outputs[key], array, key)
