"""The compiled engine for CPUs that this one is not: LLVM accepts it, and uses what they have."""

from __future__ import annotations

import platform
import re
from collections import Counter
from functools import cache

import llvmlite.binding as llvm
import pytest

from vta_sim.lang import build, cpu
from vta_sim.lang.cpu import Cpu
from vta_sim.lang.kinds import Array, i8, i16, i32, kernel, u8
from vta_sim.lang.ops import dot2, dot4, load, store
from vta_sim.lang.translate import ModuleBuilder
from vta_sim.native.functional import run_order, shape_constants

X86 = "x86_64-unknown-linux-gnu"
ARM = "aarch64-unknown-linux-gnu"
SHAPE = (1, 16, 16)
_INSTRUCTION = re.compile(r"^\s+([a-z]\w*)\s+(.*)$", re.M)


@kernel
def four_products(total: Array[i32], weights: Array[i8], inputs: Array[u8]) -> None:
    """The operation that VNNI has."""
    made = dot4(load(total, 0, 16), load(weights, 0, 64), load(inputs, 0, 64))
    store(total, 0, made)


@kernel
def two_products(total: Array[i32], weights: Array[i16], inputs: Array[i16]) -> None:
    """The operation that SSE2 and AVX2 have."""
    made = dot2(load(total, 0, 16), load(weights, 0, 32), load(inputs, 0, 32))
    store(total, 0, made)


@cache
def _initialise() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def assembly(triple: str, target: Cpu, function: object, constants: dict[str, int]) -> str:
    """A function and all that it calls, verified, optimised, and assembled for any machine."""
    _initialise()
    builder = ModuleBuilder("other", constants, target.isa)
    assert callable(function)
    builder.export(function)
    machine = llvm.Target.from_triple(triple).create_target_machine(
        cpu=target.name, features=target.features, opt=3, reloc="pic"
    )
    builder.module.triple = triple
    builder.module.data_layout = str(machine.target_data)
    parsed = llvm.parse_assembly(str(builder.module))
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = True
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    text: str = machine.emit_assembly(parsed)
    assert machine.emit_object(parsed)
    return text


@cache
def _engine(triple: str, isa: str, shape: tuple[int, int, int] = SHAPE) -> str:
    target = cpu.for_isa(isa)
    return assembly(triple, target, run_order, shape_constants(*shape, isa))


def _uses(text: str, name: str, register: str) -> int:
    """How many instructions of this name have such an operand."""
    found = Counter(
        instruction for instruction, operands in _INSTRUCTION.findall(text) if register in operands
    )
    return found[name]


def test_vnni_multiplies_64_bytes_at_once():
    text = _engine(X86, "vnni")
    assert _uses(text, "vpdpbusd", "%zmm") >= 8


def test_inputs_are_the_unsigned_bytes():
    """vpdpbusd reads unsigned bytes from its second operand, signed ones from its third."""
    text = assembly(X86, cpu.for_isa("vnni"), four_products, {})
    (operands,) = (rest for name, rest in _INSTRUCTION.findall(text) if name == "vpdpbusd")
    signed, unsigned, _ = (part.strip() for part in operands.split(","))
    assert signed == "(%rsi)"  # the weights; AT&T's order is the reverse
    assert re.search(rf"vmovdq\w+\s+\(%rdx\), {unsigned}\b", text)


@pytest.mark.parametrize(
    ("isa", "name", "register", "count"),
    [("generic", "pmaddwd", "%xmm", 4), ("avx2", "vpmaddwd", "%ymm", 2)],
)
def test_pairs_of_words_are_multiplied_at_once(isa, name, register, count):
    alone = assembly(X86, cpu.for_isa(isa), two_products, {})
    assert _uses(alone, name, register) == count
    assert _uses(_engine(X86, isa), name, register) >= 8


def test_a_level_has_no_instructions_of_a_higher_one():
    generic, avx2 = (_engine(X86, isa) for isa in ("generic", "avx2"))
    assert not re.search(r"%[yz]mm", generic)
    assert not re.search(r"^\s+v[a-z]", generic, re.M)
    assert "%zmm" not in avx2
    assert "vpdpbusd" not in avx2


def test_neon_multiplies_vectors():
    """On aarch64 LLVM finds products of vectors for the plain form of the operations."""
    text = _engine(ARM, "generic")
    products = sum(_uses(text, name, "v") for name in ("smull", "smull2", "smlal", "smlal2", "mla"))
    assert products >= 16
    alone = assembly(ARM, cpu.for_isa("generic"), two_products, {})
    assert sum(_uses(alone, name, ".4h") + _uses(alone, name, ".8h") for name in _LONG) >= 8


_LONG = ("smull", "smull2", "smlal", "smlal2")


def _other_cpus() -> list[tuple[str, str]]:
    """What cannot run here; what can does so in `test_native_random`, on the same shapes."""
    x86 = [(X86, isa) for isa in ("generic", "avx2", "vnni")]
    if platform.machine() not in ("x86_64", "AMD64"):
        return x86
    able = [isa for _, isa in x86].index(cpu.detected())
    return [*x86[able + 1 :], (ARM, "generic")]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 2), (1, 2, 1), (4, 8, 8), (1, 32, 32)])
@pytest.mark.parametrize(("triple", "isa"), _other_cpus())
def test_blocks_of_other_shapes_compile_everywhere(triple, isa, shape):
    assert "run_order" in _engine(triple, isa, shape)


@pytest.mark.parametrize("isa", ["generic", "avx2", "vnni"])
def test_object_code_for_another_level_is_made(isa):
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("these levels are those of x86")
    shown: list[str] = []
    code = build.compile_functions(
        "other", (four_products,), {}, cpu.for_isa(isa), show=shown.append
    )
    assert code.startswith(b"\x7fELF")
    assert ("vpdpbusd" in shown[0]) == (isa == "vnni")


def test_this_cpu_is_known():
    features = llvm.get_host_cpu_features()
    able = cpu.detected()
    if able == "vnni":
        assert features["avx512vnni"] and features["avx2"]
    elif able == "avx2":
        assert features["avx2"] and features["fma"] and features["bmi2"]
    assert cpu.model_name()
