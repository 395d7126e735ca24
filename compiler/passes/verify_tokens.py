"""Run the tokens of a finished stream, without its data: it must drain.

Token insertion gives streams that cannot wait in a circle; what could still stop one is a token
counter that fills up (they hold `TOKEN_MAX`) or a bounded command queue. Bounded queues of this
kind get stuck in every order of execution or in none, so one run decides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from compiler.errors import LoweringError
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import (
    TOKEN_MAX,
    Instruction,
    Stage,
    TokenQueue,
    pops,
    pushes,
    stage_of,
)


def verify_tokens(instructions: Sequence[Instruction], config: VtaConfig) -> None:
    """Raise `LoweringError` naming the instructions at which the stages would wait for ever."""
    queues: dict[Stage, deque[int]] = {stage: deque() for stage in Stage}
    tokens = dict.fromkeys(TokenQueue, 0)
    pushing: dict[Stage, int] = {}
    fetched, left = 0, len(instructions)
    progress = True
    while progress and left:
        progress = False
        while fetched < len(instructions):
            queue = queues[stage_of(instructions[fetched])]
            if len(queue) >= config.cmd_queue_depth:
                break
            queue.append(fetched)
            fetched += 1
            progress = True
        for stage, queue in queues.items():
            if stage not in pushing and queue:
                wanted = pops(instructions[queue[0]])
                if all(tokens[q] for q in wanted):
                    for q in wanted:
                        tokens[q] -= 1
                    pushing[stage] = queue.popleft()
                    progress = True
            if stage in pushing:
                given = pushes(instructions[pushing[stage]])
                if all(tokens[q] < TOKEN_MAX for q in given):
                    for q in given:
                        tokens[q] += 1
                    del pushing[stage]
                    left -= 1
                    progress = True
    if left:
        heads = {s.name.lower(): pushing.get(s, q[0] if q else None) for s, q in queues.items()}
        waiting = ", ".join(f"{s} at {n}" for s, n in heads.items() if n is not None)
        raise LoweringError(
            f"the instruction stream would deadlock in config {config.name!r}: {waiting}; "
            f"use larger tiles, so that fewer tokens are outstanding"
        )
    rest = {q.name.lower(): n for q, n in tokens.items() if n}
    if rest:
        raise LoweringError(f"the instruction stream leaves tokens behind: {rest}")
