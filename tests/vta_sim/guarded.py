"""Runs programs with an inaccessible page right behind, or right before, all that engines touch.

``python -m tests.vta_sim.guarded behind 300 --seed 0`` ends with status 0 and a line of counts, or
dies of the first access beyond a memory. Guarded are: DRAM, all memories of `Scratch`, the tables
of a program, the machine's UOP memory, what flow, planner and timing engine keep per instruction,
the rings of the timing engine; and what compiled functions allocate themselves, since `realloc` and
`free` are replaced for them. It is a program of its own because it must be allowed to crash.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import mmap
import sys
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from tests.vta_sim import engines
from tests.vta_sim.native_sweep import MACHINES, Pick, machine, pick
from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Alu, AluOp, Finish, Gemm, Instruction, Load, MicroOp, Rounding, Store
from vta_hw.spec.words import from_stream
from vta_sim.lang import build
from vta_sim.native import flow, functional, gemm_plan, table
from vta_sim.native import machine as machines
from vta_sim.native.volatile import VolatileProgramError
from vta_sim.timing import simulate

PAGE = mmap.PAGESIZE
_PROT_NONE, _READ_WRITE, _PRIVATE_ANONYMOUS = 0, 3, 0x22
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class Guard:
    """Gives memory that ends where an inaccessible page begins, or begins where one ends."""

    def __init__(self, behind: bool) -> None:
        self.behind = behind
        self.blocks: dict[int, tuple[int, int, int]] = {}
        """By address of what is used: where its pages begin, their bytes, its own bytes."""
        self.count = 0
        self.resized = 0

    def allocate(self, size: int) -> int:
        """The address of `size` bytes of zeros."""
        room = -(-size // PAGE) * PAGE
        total = room + PAGE
        start = _libc.mmap(None, total, _READ_WRITE, _PRIVATE_ANONYMOUS, -1, 0)
        if start in (None, _FAILED):
            raise MemoryError(f"no memory for {size} bytes")
        forbidden = start + room if self.behind else start
        if _libc.mprotect(forbidden, PAGE, _PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
        address = start + room - size if self.behind else start + PAGE
        self.blocks[address] = (start, total, size)
        self.count += 1
        return address

    def release(self, address: int) -> None:
        """Give memory back; it is inaccessible from now on."""
        if address:
            start, total, _ = self.blocks.pop(address)
            _libc.munmap(start, total)

    def resize(self, address: int | None, size: int) -> int:
        """As C's realloc."""
        moved = self.allocate(size)
        self.resized += 1
        if address:
            ctypes.memmove(moved, address, min(size, self.blocks[address][2]))
            self.release(address)
        return moved

    def array(self, shape: Any, dtype: Any) -> np.ndarray:
        """An array of zeros; its pages go when it goes."""
        kind = np.dtype(dtype)
        count = int(np.prod(shape))
        address = self.allocate(count * kind.itemsize)
        memory = (ctypes.c_char * max(1, count * kind.itemsize)).from_address(address)
        weakref.finalize(memory, self.release, address)
        if not count:
            # An array of nothing, yet with its address: compiled functions are given that.
            return np.ndarray(0, kind, memory)
        return np.ndarray(shape, kind, memoryview(memory).cast("B"))

    def copied(self, values: np.ndarray) -> np.ndarray:
        """The same values."""
        made = self.array(values.shape, values.dtype)
        made[...] = values
        return made


class _Numpy(SimpleNamespace):
    """What the engines call numpy: arrays that they make are guarded."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self._guard = guard

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def zeros(self, shape: Any, dtype: Any = float) -> np.ndarray:
        return self._guard.array(shape, dtype)

    def full(self, shape: Any, value: Any, dtype: Any) -> np.ndarray:
        made = self.zeros(shape, dtype)
        made[...] = value
        return made

    def ascontiguousarray(self, values: Any, dtype: Any = None) -> np.ndarray:
        return self._guard.copied(np.asarray(values, dtype))


def replace_allocators(guard: Guard) -> list[Any]:
    """Let compiled functions that are loaded from now on use guarded memory; keep what is given."""
    resize = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(guard.resize)
    release = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda address: guard.release(address or 0))
    for name, function in (("realloc", resize), ("free", release)):
        address = ctypes.cast(function, ctypes.c_void_p).value
        assert address
        llvm.add_symbol(name, address)
    return [resize, release]


def replace_numpy(guard: Guard) -> None:
    """Let the engines' own arrays be guarded."""
    for module in (build, flow, functional, gemm_plan, machines, table, simulate):
        if hasattr(module, "np"):
            module.np = _Numpy(guard)  # type: ignore[attr-defined]


def guard_scratch(guard: Guard, scratch: functional.Scratch) -> None:
    """Move the memories of a scratch to the ends of their pages."""
    moved: dict[int, Any] = {}
    for name in ("acc", "wgt", "is_packed", "inp_words", "inp_bytes", "packed_words"):
        _move(guard, scratch, name, moved)
    for name in ("packed_bytes", "sums", "scratch"):
        _move(guard, scratch, name, moved)
    scratch._cleared = [(moved[id(memory)], start) for memory, start in scratch._cleared]


def _move(guard: Guard, scratch: functional.Scratch, name: str, moved: dict[int, Any]) -> None:
    if scratch.record[name]:
        old = scratch.record.kept(name)
        moved[id(old)] = guard.copied(old)
        scratch.record[name] = moved[id(old)]


def guard_tables(guard: Guard, program: functional.FunctionalProgram) -> None:
    """Move all tables of a program; that of instructions is guarded, and its address is known."""
    for name, rows in program.tables.items():
        if name != "insns":
            program.tables[name] = guard.copied(rows)


def run(guard: Guard, chosen: Pick, layout: str | None) -> str:
    """Run one program on both engines, all of it guarded; how it ended."""
    launch = chosen.launch
    dram = guard.copied(launch.memory())
    words = from_stream(launch.stream)
    try:
        program = functional.FunctionalProgram(launch.config, words, dram, **launch.options)
    except VolatileProgramError:
        return "volatile"
    guard_tables(guard, program)
    assert program.is_current(dram)
    scratch = functional.Scratch(launch.config, layout)
    guard_scratch(guard, scratch)
    scratch.run(program, dram)
    simulate.time_program(
        launch.config,
        words,
        dram,
        insn_base=chosen.insn_base,
        timeline=True,
        **launch.options,
    )
    return program.result.fault.kind if program.result.fault else "ok"


def last_elements(config: VtaConfig, stores: bool) -> engines.Launch:
    """A program on the first and last elements of every memory; its LOADs or STOREs end DRAM."""
    memories = (MemType.UOP, MemType.INP, MemType.WGT, MemType.ACC, MemType.ACC_8BIT)
    size = max(16, *(config.elem_bytes(m) for m in memories))
    insns: list[Instruction] = []
    for memory in memories:
        depth, last = config.depth(memory), size // config.elem_bytes(memory) - 1
        far: dict[str, Any] = {"sram_base": depth - 1, "dram_base": last, "y_size": 1, "x_size": 1}
        insns.append(Load(memory_type=memory, **far))
        insns.append(Load(memory_type=memory, y_size=1, x_size=1, x_pad_1=min(15, depth - 1)))
        if depth >= 2:
            insns.append(Load(memory_type=memory, sram_base=depth - 2, y_pad_0=1, **_ONE))
        insns.append(Load(memory_type=memory, **far))
    acc, inp, wgt = (config.depth(m) - 1 for m in (MemType.ACC, MemType.INP, MemType.WGT))
    uop = config.depth(MemType.UOP) - 1
    for at in (0, uop):  # micro-op 0 is zero: it has the first elements
        loops: dict[str, Any] = {"uop_bgn": at, "uop_end": at + 1, "iter_out": 1, "iter_in": 1}
        insns += [Gemm(**loops), Gemm(reset=True, **loops)]
        for op in tuple(AluOp)[: AluOp.REQ if config.has("requant") else AluOp.RDHM]:
            insns.append(Alu(alu_opcode=op, **loops))
            insns.append(Alu(alu_opcode=op, use_imm=True, imm=-3, **loops))
    insns += _last_parameters(config)
    if stores:
        last_out = size // config.elem_bytes(MemType.OUT) - 1
        places: dict[str, Any] = {"sram_base": acc, "dram_base": last_out}
        insns.append(Store(memory_type=MemType.OUT, sram_base=acc, **_ONE))
        insns.append(Store(memory_type=MemType.OUT, **_ONE, **places))
    insns.append(Finish())
    dram = bytearray(size)
    word = MicroOp(dst=acc, src=min(acc, inp), wgt=wgt)
    dram[-4:] = isa.encode_uop(word, config).to_bytes(4, "little")
    launch = engines.Launch(config, isa.encode_all(insns, config), bytes(dram))
    return launch.with_stores_apart() if stores else launch


_ONE: dict[str, Any] = {"y_size": 1, "x_size": 1}


def _last_parameters(config: VtaConfig) -> list[Instruction]:
    """REQ in all modes, whose third parameter is the last accumulator."""
    depth = config.depth(MemType.ACC)
    if not config.has("requant") or depth < 3:
        return []
    loops: dict[str, Any] = {"uop_end": 1, "iter_out": 2, "iter_in": 1}
    return [
        Alu(alu_opcode=AluOp.REQ, imm=mode << 8, src_factor_out=depth - 3, **loops)
        for mode in Rounding
    ]


def one_beyond(config: VtaConfig) -> Iterator[engines.Launch]:
    """Programs with an access one element, or one byte, beyond a memory: all must be refused."""
    memories = (MemType.UOP, MemType.INP, MemType.WGT, MemType.ACC, MemType.ACC_8BIT, MemType.OUT)
    for memory in memories:
        form = Store if memory is MemType.OUT else Load
        size = config.elem_bytes(memory)
        far: dict[str, Any] = {"sram_base": config.depth(memory)}
        yield _alone(config, form(memory_type=memory, **far, **_ONE), size)
        yield _alone(config, form(memory_type=memory, dram_base=3, **_ONE), 4 * size - 1)
        yield _alone(config, form(memory_type=memory, **_ONE), size - 1)
    uop = config.depth(MemType.UOP)
    past: dict[str, Any] = {"uop_bgn": uop - 1, "uop_end": uop + 1, "iter_out": 1, "iter_in": 1}
    yield _alone(config, Gemm(**past), 0)
    yield _alone(config, Alu(**past), 0)
    depths = {"dst": MemType.ACC, "src": MemType.INP, "wgt": MemType.WGT}
    for name, memory in depths.items():
        yield _alone(config, Gemm(**_reaching(name, config.depth(memory))), 0)
    depth = config.depth(MemType.ACC)
    for name in ("dst", "src"):
        for use_imm in (False, True):
            yield _alone(config, Alu(alu_opcode=2, use_imm=use_imm, **_reaching(name, depth)), 0)
    if config.has("requant") and depth >= 4:
        for last in range(depth - 2, depth + 1):
            req = Alu(alu_opcode=AluOp.REQ, **_reaching("src", last))
            yield _alone(config, req, 0)


def _reaching(name: str, index: int) -> dict[str, Any]:
    """Loops over micro-op 0 whose greatest index of one operand is this one; others stay at 0."""
    steps = {f"{name}_factor_out": index - 1, f"{name}_factor_in": 1}
    return {"uop_end": 1, "iter_out": 2, "iter_in": 2, **steps}


def _alone(config: VtaConfig, insn: Instruction, dram_bytes: int) -> engines.Launch:
    return engines.Launch(config, isa.encode_all([insn, Finish()], config), bytes(dram_bytes))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run programs, guarded."""
    parser = argparse.ArgumentParser(prog="python -m tests.vta_sim.guarded", description=__doc__)
    parser.add_argument("where", choices=("behind", "before"))
    parser.add_argument("programs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layout", default=None)
    parser.add_argument("--machines", nargs="*", default=sorted(MACHINES))
    parser.add_argument("--provoke", action="store_true", help="access a guard page on purpose")
    options = parser.parse_args(arguments)
    faulthandler.enable()
    guard = Guard(options.where == "behind")
    kept = replace_allocators(guard)
    replace_numpy(guard)
    counts: Counter[str] = Counter()
    for name in options.machines:
        for stores in (False, True):
            launch = last_elements(machine(name), stores)
            counts[f"last elements: {run(guard, Pick(name, launch, 0), options.layout)}"] += 1
        for launch in one_beyond(machine(name)):
            counts[f"one beyond: {run(guard, Pick(name, launch, 0), options.layout)}"] += 1
    if options.provoke:
        _provoke(guard)
    for seed in range(options.seed, options.seed + options.programs):
        chosen = pick(options.machines[seed % len(options.machines)], seed)
        print(chosen.name, file=sys.stderr, flush=True)
        counts[run(guard, chosen, options.layout)] += 1
    print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    print(f"{guard.count} guarded memories, {guard.resized} of them made by compiled functions")
    assert guard.resized and kept
    return 0


def _provoke(guard: Guard) -> None:
    """A plan that goes one element too far, as if `legality` had let it pass."""
    config = machine("tiny")
    launch = last_elements(config, stores=False)
    dram = guard.copied(launch.memory())
    program = functional.FunctionalProgram(
        config, from_stream(launch.stream), dram, **launch.options
    )
    step = 1 if guard.behind else -config.depth(MemType.ACC)
    guard_tables(guard, program)
    program.tables["uops"] += step
    scratch = functional.Scratch(config)
    guard_scratch(guard, scratch)
    print("provoking", flush=True)
    scratch.run(program, dram)


if __name__ == "__main__":
    sys.exit(main())
