"""What follows a convolution's sums costs: counted in the tensor expressions that say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compiler import te
from compiler.loop.expr import Binary, Call, Expr, Read, children
from compiler.topi.requant import Requantiser
from compiler.topi.steps import Step, StepChain
from vta_hw.spec.config import VtaConfig


@dataclass(frozen=True)
class TailWork:
    """Per tile: ALU operations, their cycles per accumulator, and operands loaded from outside."""

    operations: int
    cycles: int
    loads: int


def tail_work(requant: Requantiser, steps: Sequence[Step], config: VtaConfig) -> TailWork:
    """The work of a requantisation and the steps behind it."""
    shape = (1, 1, 1, 1, config.batch, config.block_out)
    acc = te.compute(shape, lambda *at: te.Const(0), "acc")
    vectors = te.placeholder((1, config.batch, config.block_out), "int32", "params")
    last = requant.stages(acc, lambda part, *at: vectors(part, *at[-2:]))
    loads = 0
    if steps:
        names = {name for step in steps for name in vars(step).values() if isinstance(name, str)}
        inputs = {name: te.placeholder(shape, "int8", name) for name in names}
        chain = StepChain("tail", shape, steps, inputs, config, (last,))
        last, loads = chain.last, len(chain.loads)
    bodies = [stage.body for stage in te.Schedule(last).stages if stage.tensor is not acc]
    found = [operation for body in bodies for operation in _operations(body)]
    return TailWork(len(found), sum(map(_cycles, found)), loads)


def _operations(body: Expr) -> list[Expr]:
    """The ALU operations of an expression; what stands in an index is none."""
    if isinstance(body, Read):
        return []
    inside = [operation for part in children(body) for operation in _operations(part)]
    return [*inside, body] if isinstance(body, Binary | Call) else inside


def _cycles(operation: Expr) -> int:
    """An operation on two accumulators reads the second one first; parameters are held."""
    reads = [part for part in children(operation) if _is_accumulator(part)]
    return 2 if len(reads) > 1 else 1


def _is_accumulator(part: Expr) -> bool:
    if isinstance(part, Read):
        return not isinstance(part.source, te.Tensor) or part.source.body is not None
    return isinstance(part, Binary | Call)
