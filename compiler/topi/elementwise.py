"""Kernels of element-wise int8 operators alone: chains of steps over chunks of a flat sequence.

The packed layout of all tensors is the same, so that their shape does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler import te
from compiler.errors import CapacityError
from compiler.loop.expr import reads
from compiler.topi.kernel import KernelTemplate, Packed
from compiler.topi.steps import Step, StepChain, needs
from vta_hw.spec.config import MemType, VtaConfig


def check_supported(steps: Sequence[Step], config: VtaConfig) -> str | None:
    """Why VTA cannot run a chain of steps in `config`, or None if it can."""
    tiles, vectors = needs(steps, config)
    depth = config.depth(MemType.ACC)
    if tiles + vectors > depth:
        return (
            f"{tiles} operands and {vectors} parameter vectors need as many elements of 'acc', "
            f"config {config.name!r} has {depth}"
        )
    return None


def elementwise(
    name: str, out: Packed, steps: Sequence[Step], inputs: Sequence[str], config: VtaConfig
) -> KernelTemplate:
    """A chain of element-wise steps; the last one's result is `out`.

    Scheduled by chunks of elements, with two virtual threads where the chunks pair up.
    """
    shape = out.shape(config)
    flat = (int(np.prod(shape[:4])), *shape[4:])
    operands = {n: te.placeholder(flat, "int8", n) for n in inputs}
    chain = StepChain(name, flat, steps, operands, config)
    last = chain.last
    result = te.compute(flat, lambda e, b, o: last(e, b, o).astype("int8"), out.name)
    s = te.Schedule(result)
    tiles, vectors = needs(steps, config)
    chunk, threads = _chunk(flat[0], tiles, vectors, config.depth(MemType.ACC))
    if not chunk:
        raise CapacityError(f"kernel {name!r}: {check_supported(steps, config)}")
    e, b, o = s[result].axes
    e_o, e_i = s[result].split(e, chunk)
    thread, e_o = s[result].split(e_o, nparts=threads)
    s[result].reorder(thread, e_o, e_i, b, o)
    s[result].vthread(thread)
    for stage in s.stages[:-1]:
        stage.set_scope("acc")
        stage.compute_at(s[result], e_o)
    constants, params = {}, []
    if vectors:
        readers = [
            t.tensor for t in s.stages if any(r.source is chain.params for r in reads(t.body))
        ]
        s.cache_read(chain.params, "acc", readers)
        constants = {chain.params.name: chain.vectors}
        params = [chain.params]
    order = (*operands.values(), *params, result)
    knobs = {"tile": chunk, "threads": threads}
    return KernelTemplate(name, s, order, constants, 0, knobs, chain.is_exact)


def _chunk(count: int, loads: int, vectors: int, depth: int) -> tuple[int, int]:
    """(elements per chunk, threads): the largest chunk that fits, with two threads if possible."""
    for threads in (2, 1):
        room = (depth - vectors) // (loads * threads)
        fitting = [d for d in range(1, min(room, count) + 1) if count % d == 0]
        fitting = [d for d in fitting if count // d % threads == 0]
        if fitting:
            return fitting[-1], threads
    return 0, 1
