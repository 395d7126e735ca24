"""One scheduled tensor expression -> a VTA program: the compiler used as a language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from compiler.context import CompileContext
from compiler.emit.vta import DeviceTensor, KernelCode, emit_region
from compiler.loop.nodes import Func, tasks_of
from compiler.passes.lower_schedule import lower_schedule
from compiler.passes.pipeline import lower_to_tasks
from compiler.te.schedule import Schedule
from compiler.te.tensor import Tensor
from vta_hw.spec.config import PAGE_BYTES, VtaConfig
from vta_hw.spec.program import Program


def lower(schedule: Schedule, params: Sequence[Tensor], name: str = "kernel") -> Func:
    """The loop nest of a schedule, before any pass; ``compiler.loop.printer.to_text`` shows it."""
    return lower_schedule(schedule, params, name)


def build(
    schedule: Schedule,
    params: Sequence[Tensor],
    config: VtaConfig,
    name: str = "kernel",
    dump_dir: Path | None = None,
    *,
    verify: bool = True,
) -> Program:
    """A program with one DRAM symbol per parameter, named like the tensor, holding its dense array.

    `dump_dir` gets every intermediate form. With `verify` each of them is checked.
    """
    context = CompileContext(config, dump_dir, verify)
    func, _ = lower_to_tasks(schedule, tuple(params), name, context)
    tensors, offset = {}, 0
    for buffer in func.params:
        tensors[buffer.name] = DeviceTensor(buffer.name, buffer.size_bytes, offset)
        offset += -(-buffer.size_bytes // PAGE_BYTES) * PAGE_BYTES
    program = emit_region(name, [KernelCode(name, tasks_of(func), {})], tensors, context)
    typed = {
        p.name: replace(program.symbols[p.name], dtype=p.dtype, shape=p.shape) for p in func.params
    }
    return replace(program, symbols={**program.symbols, **typed})
