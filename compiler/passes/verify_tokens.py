"""Run the tokens of a finished stream, without its data: it must drain.

Token insertion gives streams that cannot wait in a circle; what could still stop one is a token
counter that fills up, or a bounded command queue.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.errors import LoweringError
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.dataflow import Dataflow
from vta_hw.spec.isa import TOKEN_MAX, Finish, Instruction, TokenQueue, Unknown, pops, pushes
from vta_hw.spec.result import Status


def verify_tokens(instructions: Sequence[Instruction], config: VtaConfig) -> None:
    """Raise `LoweringError` naming the instructions at which the stages would wait for ever."""
    if _drains_in_order(instructions):
        return
    flow = Dataflow(instructions, config.cmd_queue_depth)
    flow.run_alone()
    status, _ = flow.verdict()
    if status is not Status.OK:
        raise LoweringError(
            f"the instruction stream would end with {status} in config {config.name!r}: "
            f"{'; '.join(flow.waits())}; use larger tiles, so that fewer tokens are outstanding"
        )
    rest = {queue.name.lower(): flow.tokens[queue] for queue in TokenQueue if flow.tokens[queue]}
    if rest:
        raise LoweringError(f"the instruction stream leaves tokens behind: {rest}")


def _drains_in_order(instructions: Sequence[Instruction]) -> bool:
    """Whether the stream drains if each instruction retires before the next is fetched.

    That is one of the orders in which stages may run, and if one drains, all do (see
    `Dataflow.run_alone`). A stream that fails here may still drain in others.
    """
    tokens = [0] * len(TokenQueue)
    for insn in instructions:
        for queue in pops(insn):
            if not tokens[queue]:
                return False
            tokens[queue] -= 1
        for queue in pushes(insn):
            if tokens[queue] == TOKEN_MAX:
                return False
            tokens[queue] += 1
    ends = [index for index, insn in enumerate(instructions) if isinstance(insn, Finish | Unknown)]
    return (
        not any(tokens) and ends == [len(instructions) - 1] and isinstance(instructions[-1], Finish)
    )
