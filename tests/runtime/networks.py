"""Small packages made by hand: x + 1 on the ALU between a packing and an unpacking host call."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.emit.host import compile_host
from compiler.graph.ir import TensorType
from compiler.topi import host
from runtime.package import HostCall, LayerRow, Package, TensorInfo, VtaCall
from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.program import Program, Relocation, Symbol

SHAPE = (1, 2, 3, 20)


def increment(
    config: VtaConfig, source: TensorInfo, target: TensorInfo, imm: int = 1, *, finish: bool = True
) -> Program:
    """target = source + imm, element by element, wrapping to int8."""
    count = source.size_bytes // config.elem_bytes(MemType.ACC_8BIT)
    uop = isa.encode_uop(isa.MicroOp(dst=0, src=0), config).to_bytes(4, "little")
    instructions: tuple[isa.Instruction, ...] = (
        isa.Load(memory_type=MemType.UOP, y_size=1, x_size=1, x_stride=1),
        isa.Load(memory_type=MemType.ACC_8BIT, y_size=1, x_size=count, x_stride=count),
        isa.Alu(
            uop_bgn=0,
            uop_end=1,
            iter_out=1,
            iter_in=count,
            dst_factor_in=1,
            src_factor_in=1,
            alu_opcode=isa.AluOp.ADD,
            use_imm=True,
            imm=imm,
            push_next=True,
        ),
        isa.Store(
            memory_type=MemType.OUT,
            y_size=1,
            x_size=count,
            x_stride=count,
            pop_prev=True,
            push_prev=True,
        ),
        isa.Finish(pop_next=finish),
    )
    return Program(
        config,
        instructions,
        {
            "uops": Symbol("uops", 4, uop),
            source.name: Symbol(source.name, source.size_bytes),
            target.name: Symbol(target.name, target.size_bytes),
        },
        (Relocation(0, "uops"), Relocation(1, source.name), Relocation(3, target.name)),
        ("increment",),
        (0,) * len(instructions),
    )


def device_tensor(
    config: VtaConfig, name: str, source_dtype: str = "", view_of: str = ""
) -> TensorInfo:
    """A packed activation of `SHAPE`."""
    return TensorInfo(
        name=name,
        dtype="int8",
        shape=SHAPE,
        layout="NHWC",
        source_dtype=source_dtype,
        storage="device",
        batch=config.batch,
        block=config.block_in,
        view_of=view_of,
    )


def package(config: VtaConfig, source_dtype: str = "", steps: int = 2) -> Package:
    """`steps` programs that add 1 each: in -> mid1 -> ... -> out, one arena slot in turn."""
    host_type = TensorType(SHAPE, "int8", layout="NHWC")
    pack = host.pack(host_type, config.batch, config.block_in, "pack_in")
    unpack = host.unpack(host_type, config.batch, config.block_in, "unpack_out")
    code, triple = compile_host([pack.func, unpack.func])
    names = ["in", *(f"mid{i}" for i in range(1, steps)), "out"]
    held = [
        TensorInfo(name=n, dtype="int8", shape=SHAPE, layout="NHWC", source_dtype=source_dtype)
        for n in ("in", "out")
    ]
    packed = [device_tensor(config, f"{n}.packed", source_dtype, view_of=n) for n in names]
    size = packed[0].size_bytes
    # Two slots in turn: what was read is overwritten by the next step but one.
    slots = {tensor.name: index % 2 * size for index, tensor in enumerate(packed)}
    programs = [increment(config, a, b) for a, b in zip(packed, packed[1:], strict=False)]
    return Package(
        config=config,
        model="increment",
        numerics="litert-ref",
        tensors={t.name: t for t in (*held, *packed)},
        inputs=("in",),
        outputs=("out",),
        plan=(
            HostCall("pack_in", ("in",), ("in.packed",), "pack"),
            *(VtaCall(i) for i in range(steps)),
            HostCall("unpack_out", ("out.packed",), ("out",), "unpack"),
        ),
        programs=tuple(programs),
        placements=tuple({n: slots[n] for n in p.symbols if n != "uops"} for p in programs),
        arena_bytes=2 * size,
        host_object=code,
        host_triple=triple,
        layers=(
            LayerRow(name="increment", op="add", where="vta", instructions=5 * steps),
            LayerRow(name="checksum", op="dense", where="host", reason="by hand", macs=7),
        ),
    )


def broken(good: Package) -> Package:
    """The same, but its first program faults: it stores beyond DRAM."""
    program = good.programs[0]
    store = program.instructions[3]
    assert isinstance(store, isa.Store)
    bad = (*program.instructions[:3], replace(store, dram_base=1 << 30), program.instructions[4])
    return replace(good, programs=(replace(program, instructions=bad), *good.programs[1:]))


def deadlocked(good: Package) -> Package:
    """The same, but its first program waits for a token that nobody gives."""
    program = good.programs[0]
    load = program.instructions[1]
    assert isinstance(load, isa.Load)
    waiting = (program.instructions[0], replace(load, pop_prev=True), *program.instructions[2:])
    return replace(good, programs=(replace(program, instructions=waiting), *good.programs[1:]))


def expected(array: np.ndarray, steps: int) -> np.ndarray:
    """`array` + steps on the int8 that is held, in the array's own type."""
    held = array.astype(np.int16) - (128 if array.dtype == np.uint8 else 0)
    wrapped = (held + steps).astype(np.int8)
    if array.dtype == np.uint8:
        return (wrapped.astype(np.int16) + 128).astype(np.uint8)
    return wrapped
