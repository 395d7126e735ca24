"""Which machines host code is made for, and how others are refused."""

from __future__ import annotations

import re

import llvmlite.binding as llvm
import pytest

from compiler.emit.host import compile_host
from compiler.emit.host_targets import HOST_TARGETS, find_host_target, supported_triples
from compiler.errors import LoweringError
from compiler.loop.expr import Const
from compiler.loop.nodes import Buffer, Func, Store
from tests.compiler.emit.test_cross import MACHINES
from tests.models import REPO


def _one_store() -> Func:
    out = Buffer("out", (1,), "int32")
    return Func("f", (out,), Store(out, (Const(0),), Const(1)))


def test_documentation_lists_the_supported_triples() -> None:
    text = (REPO / "docs" / "running.md").read_text()
    table = text.partition("| triple | instructions |")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)) == supported_triples()
    assert {machine.triple for machine in MACHINES} == set(supported_triples())


@pytest.mark.parametrize(
    "triple",
    [
        "", "linux", "x86_64", "x86_64-linux", "z80-cpm", "nvptx64-nvidia-cuda", "amdgcn",
        "s390x-unknown-linux-gnu", "aarch64_be-unknown-linux-gnu", "armeb-unknown-linux-gnueabihf",
        "msp430", "avr", "bpf", "wasm32", "thumbv6m-none-eabi", "i686-unknown-linux-gnu",
        "x86_64-pc-windows-msvc", "x86_64-apple-darwin", "x86_64-unknown-linux-gnux32",
        "arm-linux-gnueabihf", "armv6-unknown-linux-gnueabihf", "armv7-unknown-linux-gnueabi",
        "armv7-unknown-linux-gnu", "riscv64-unknown-elf", "riscv32-unknown-linux-gnu",
        "aarch64-unknown-linux-gnueabihf", "x86_64-unknown-linux-gnu-extra",
    ],
)  # fmt: skip
def test_other_machines_are_refused(triple: str) -> None:
    with pytest.raises(LoweringError) as caught:
        find_host_target(triple)
    assert str(caught.value) == (
        f"host code cannot be made for the triple {triple!r}; use one of x86_64-unknown-linux-gnu, "
        "aarch64-unknown-linux-gnu, armv7-unknown-linux-gnueabihf, riscv64-unknown-linux-gnu"
    )
    with pytest.raises(LoweringError, match="^host code cannot be made for the triple"):
        compile_host([_one_store()], triple)


@pytest.mark.parametrize("arch", HOST_TARGETS)
def test_triples_without_vendor_give_the_same_code(arch: str) -> None:
    environment = HOST_TARGETS[arch].environments[0]
    code, triple = compile_host([_one_store()], f"{arch}-linux-{environment}")
    assert triple == f"{arch}-unknown-linux-{environment}"
    usual, _ = compile_host([_one_store()], HOST_TARGETS[arch].triple)
    assert code == usual


def test_errors_of_llvm_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("no such\n  instruction")

    monkeypatch.setattr(llvm.TargetMachine, "emit_object", fail)
    with pytest.raises(LoweringError) as caught:
        compile_host([_one_store()], supported_triples()[1])
    assert str(caught.value) == (
        "LLVM cannot make host code for 'aarch64-unknown-linux-gnu' (no such instruction); use "
        "another triple or another version of llvmlite"
    )
