"""The kernels of a region -> one VTA program with tokens, micro-ops and DRAM symbols."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

import numpy as np

from compiler.context import CompileContext
from compiler.loop.nodes import Task
from compiler.loop.task_text import task_text
from compiler.passes.drop_repeated_loads import drop_repeated_loads
from compiler.passes.hoist_loads import hoist_loads
from compiler.passes.insert_tokens import NO_INSTRUCTION, Access, insert_tokens
from compiler.passes.interleave_tails import interleave_tails
from compiler.passes.mark_overlap import mark_overlap
from compiler.passes.place_micro_ops import place_micro_ops
from compiler.passes.run_beside import run_beside
from compiler.passes.split_last_tail import split_last_tail
from compiler.passes.split_products import split_products
from compiler.passes.verify_tokens import verify_tokens
from compiler.passes.zero_by_loads import hoist_zeroing, zero_by_loads
from vta_hw.spec.asm import disassemble_program, format_insn
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.footprint import Touch, footprint
from vta_hw.spec.isa import Alu, Gemm, Instruction, Load, Store, altered
from vta_hw.spec.program import Program, Relocation, Symbol


@dataclass(frozen=True)
class KernelCode:
    """One kernel's instructions and constants; `label` is the layer in the source map.

    One that `is_beside` is made to run beside the kernel before it.
    """

    label: str
    tasks: Sequence[Task]
    constants: Mapping[str, np.ndarray]
    is_beside: bool = False


@dataclass(frozen=True)
class DeviceTensor:
    """An activation in device memory: the program symbol that holds it, and its place."""

    symbol: str
    size_bytes: int
    offset: int


def emit_region(
    name: str,
    kernels: Sequence[KernelCode],
    tensors: Mapping[str, DeviceTensor],
    context: CompileContext,
) -> Program:
    """One instruction stream for all kernels, in order. `tensors` are keyed by buffer name."""
    config = context.config
    with context.step("split_last_tail"):
        cut = [split_last_tail(k.tasks, config) for k in kernels]
    tasks = [
        t.with_loc(f"{kernel.label}: {t.loc}")
        for kernel, parts in zip(kernels, cut, strict=True)
        for t in parts
    ]
    _dump_tasks(context, name, "split_last_tail", tasks)
    with context.step("split_products"):
        tasks = split_products(tasks, config, _with_others_beside(kernels, cut))
    _dump_tasks(context, name, "split_products", tasks)
    with context.step("zero_by_loads"):
        tasks = zero_by_loads(tasks, config)
    _dump_tasks(context, name, "zero_by_loads", tasks)
    with context.step("place_micro_ops"):
        placed = place_micro_ops(tasks, f"{name}.uops", config)
    _dump_tasks(context, name, "place_micro_ops", placed.tasks)
    constants = {n: a for kernel in kernels for n, a in kernel.constants.items()}
    constants[placed.buffer.name] = placed.words
    pool = f"{name}.constants"
    places, contents = _lay_out(constants, config)
    with context.step("footprints"):
        stream = _footprints(placed.tasks, placed.words, tensors, config)
        arena = max((t.offset + t.size_bytes for t in tensors.values()), default=0)
        sizes = {
            m.name.lower(): config.depth(m)
            for m in (MemType.INP, MemType.WGT, MemType.ACC, MemType.UOP)
        }
        sizes["dram"] = -(-arena // _unit(config)) + 1
    with context.step("drop_repeated_loads"):
        stream = drop_repeated_loads(stream, _constants(placed.tasks, constants))
    _dump_stream(context, name, "drop_repeated_loads", [access.insn for access in stream])
    with context.step("interleave_tails"):
        parts = _parts(stream, placed.tasks, kernels)
        parts = [
            (beside, part if beside else _interleaved(part, sizes, config))
            for beside, part in parts
        ]
    ordered = [access for _, part in parts for access in part]
    _dump_stream(context, name, "interleave_tails", [access.insn for access in ordered])
    with context.step("run_beside"):
        ordered = _joined(parts, sizes, config)
    _dump_stream(context, name, "run_beside", [access.insn for access in ordered])
    with context.step("hoist_loads"):
        ordered = hoist_loads(ordered, sizes)
    _dump_stream(context, name, "hoist_loads", [access.insn for access in ordered])
    with context.step("insert_tokens"):
        instructions, origins = insert_tokens(ordered, sizes)
    _dump_stream(context, name, "insert_tokens", instructions)
    with context.step("mark_overlap"):
        accesses = {access.origin: access for access in stream}
        instructions = mark_overlap(instructions, origins, accesses, sizes, config)
    _dump_stream(context, name, "mark_overlap", instructions)
    with context.step("verify_tokens"):
        verify_tokens(instructions, config)
    symbols = {t.symbol: Symbol(t.symbol, t.size_bytes) for t in tensors.values()}
    symbols[pool] = Symbol(pool, len(contents), contents)
    with context.step("emit"):
        program = _program(
            instructions, origins, placed.tasks, tensors, (pool, places), symbols, config
        )
    context.dump(name, "emit", lambda: disassemble_program(program))
    return program


def _with_others_beside(
    kernels: Sequence[KernelCode], tasks: Sequence[Sequence[Task]]
) -> list[range]:
    """The places in all tasks of kernels that the next one runs beside."""
    ends = list(accumulate(map(len, tasks), initial=0))
    return [range(ends[n], ends[n + 1]) for n, kernel in enumerate(kernels[1:]) if kernel.is_beside]


def _parts(
    stream: Sequence[Access], tasks: Sequence[Task], kernels: Sequence[KernelCode]
) -> list[tuple[bool, list[Access]]]:
    """Each kernel that runs beside the one before it, marked, and all that is between them."""
    labels = tuple(f"{kernel.label}: " for kernel in kernels if kernel.is_beside)

    def label(access: Access) -> str:
        loc = tasks[access.origin].loc
        return next((label for label in labels if loc.startswith(label)), "")

    return [(bool(key), list(group)) for key, group in groupby(stream, label)]


def _interleaved(
    part: Sequence[Access], sizes: Mapping[str, int], config: VtaConfig
) -> list[Access]:
    return hoist_zeroing(interleave_tails(part, sizes, config), config)


def _joined(
    parts: Sequence[tuple[bool, list[Access]]], sizes: Mapping[str, int], config: VtaConfig
) -> list[Access]:
    out: list[Access] = []
    first: list[Access] = []
    for is_beside, part in parts:
        if is_beside:
            out += run_beside(first, part, sizes, config)
            first = []
        else:
            out += first
            first = part
    return out + first


def _dump_stream(
    context: CompileContext, name: str, step: str, instructions: Sequence[Instruction]
) -> None:
    context.dump(name, step, lambda: "".join(f"{format_insn(i)}\n" for i in instructions))


def _dump_tasks(context: CompileContext, name: str, step: str, tasks: Sequence[Task]) -> None:
    context.dump(name, step, lambda: _tasks_text(tasks))


def _tasks_text(tasks: Sequence[Task]) -> str:
    """One task a line, below a comment wherever the source changes."""
    lines, last = [], ""
    for task in tasks:
        if task.loc != last:
            lines.append(f"; {task.loc}")
        last = task.loc
        lines.append(task_text(task))
    return "".join(line + "\n" for line in lines)


def _unit(config: VtaConfig) -> int:
    """Granularity of DRAM conflicts: one activation element."""
    return config.elem_bytes(MemType.OUT)


def _lay_out(
    constants: Mapping[str, np.ndarray], config: VtaConfig
) -> tuple[dict[str, int], bytes]:
    """Byte offset of each constant in the pool, and the pool. Offsets are whole elements of all."""
    align = max(config.elem_bytes(m) for m in MemType)
    places, pool = {}, bytearray()
    for name, array in constants.items():
        pool += bytes(-len(pool) % align)
        places[name] = len(pool)
        pool += np.ascontiguousarray(array).tobytes()
    return places, bytes(pool)


def _footprints(
    tasks: Sequence[Task],
    words: np.ndarray,
    tensors: Mapping[str, DeviceTensor],
    config: VtaConfig,
) -> list[Access]:
    """What each instruction touches; constants are never written and so left out of DRAM."""
    uop_memory = np.zeros(config.depth(MemType.UOP), np.uint32)
    # Rounds of loops repeat their instructions, in the same places.
    known: dict[Hashable, tuple[tuple[Touch, ...], tuple[Touch, ...]]] = {}
    none = np.zeros(0, np.uint32)
    out = []
    for index, task in enumerate(tasks):
        insn = task.insn
        start: int | None = None
        if task.operand is not None and task.operand.name in tensors:
            start = tensors[task.operand.name].offset
        uops = none
        if isinstance(insn, Load) and insn.memory_type == MemType.UOP:
            end = insn.sram_base + insn.x_size
            uop_memory[insn.sram_base : end] = words[insn.dram_base : insn.dram_base + insn.x_size]
        if isinstance(insn, Gemm | Alu):
            uops = uop_memory[insn.uop_bgn : insn.uop_end]
        key = (insn, uops.tobytes(), start)
        touches = known.get(key)
        if touches is None:
            touches = known[key] = _touches(insn, uops, start, config)
        out.append(Access(insn, *touches, index))
    return out


def _constants(tasks: Sequence[Task], constants: Mapping[str, object]) -> list[str | None]:
    """The name of the constant that each task reads, if it reads one."""
    names = [None if task.operand is None else task.operand.name for task in tasks]
    return [name if name in constants else None for name in names]


def _touches(
    insn: Instruction, uops: np.ndarray, start: int | None, config: VtaConfig
) -> tuple[tuple[Touch, ...], tuple[Touch, ...]]:
    """Reads and writes, those of DRAM if its tensor's place `start` is given."""
    touched = footprint(insn, uops, config)
    if touched.rows is None or start is None:
        return touched.reads, touched.writes
    moved = touched.rows.units(start, _unit(config))
    if isinstance(insn, Store):
        return touched.reads, (*touched.writes, moved)
    return (*touched.reads, moved), touched.writes


def _program(
    instructions: Sequence[Instruction],
    origins: Sequence[int],
    tasks: Sequence[Task],
    tensors: Mapping[str, DeviceTensor],
    pool: tuple[str, Mapping[str, int]],
    symbols: Mapping[str, Symbol],
    config: VtaConfig,
) -> Program:
    texts: dict[str, int] = {"": 0}
    out: list[Instruction] = []
    source_of: list[int] = []
    relocations: list[Relocation] = []
    for insn, origin in zip(instructions, origins, strict=True):
        task = tasks[origin] if origin != NO_INSTRUCTION else None
        source_of.append(texts.setdefault(task.loc if task else "", len(texts)))
        if task is not None and task.operand is not None and isinstance(insn, Load | Store):
            operand = task.operand.name
            if operand in tensors:
                symbol = tensors[operand].symbol
            else:
                symbol = pool[0]
                size = config.elem_bytes(MemType(insn.memory_type))
                insn = altered(insn, dram_base=insn.dram_base + pool[1][operand] // size)
            relocations.append(Relocation(len(out), symbol))
        out.append(insn)
    return Program(config, tuple(out), symbols, tuple(relocations), tuple(texts), tuple(source_of))
