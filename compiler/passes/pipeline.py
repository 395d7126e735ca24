"""The ordered list of passes, from a scheduled tensor expression to VTA instructions."""

from __future__ import annotations

from collections.abc import Callable

from compiler.context import CompileContext
from compiler.loop.nodes import Func
from compiler.loop.printer import to_text
from compiler.loop.verify import verify
from compiler.passes.allocate_sram import Layout, allocate_sram, places_text
from compiler.passes.assign_scopes import assign_scopes
from compiler.passes.emit_tasks import emit_tasks
from compiler.passes.inject_alu import inject_alu
from compiler.passes.inject_dma import inject_dma
from compiler.passes.lower_schedule import lower_schedule
from compiler.passes.lower_virtual_threads import lower_virtual_threads
from compiler.passes.reuse_in_place import reuse_in_place
from compiler.passes.tensorize import tensorize
from compiler.te.schedule import Schedule
from compiler.te.tensor import Tensor


def lower_to_tasks(
    schedule: Schedule,
    params: tuple[Tensor, ...],
    name: str,
    context: CompileContext,
    before: Layout | None = None,
) -> tuple[Func, Layout]:
    """A kernel as a flat sequence of instructions, without tokens and with unplaced micro-ops.

    Beside it its layout in the scratchpads; `before` is that of the kernel that runs before.
    """
    config = context.config

    def run(step: str, work: Callable[[], Func]) -> Func:
        with context.step(step):
            func = work()
        if context.verify:
            with context.step("verify"):
                verify(func, step)
        context.dump(name, step, lambda: to_text(func))
        return func

    func = run("lower_schedule", lambda: lower_schedule(schedule, params, name))
    func = run("assign_scopes", lambda: assign_scopes(func, config))
    func = run("tensorize", lambda: tensorize(func))
    func = run("reuse_in_place", lambda: reuse_in_place(func))
    func = run("inject_dma", lambda: inject_dma(func))
    func = run("inject_alu", lambda: inject_alu(func, config))
    func = run("lower_virtual_threads", lambda: lower_virtual_threads(func))
    with context.step("allocate_sram"):
        places = allocate_sram(func, config, before)
    context.dump(name, "allocate_sram", lambda: places_text(places))
    return run("emit_tasks", lambda: emit_tasks(func, places, config)), places
