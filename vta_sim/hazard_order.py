"""Which instructions are complete before which others start, by tokens and order within a stage.

The k-th token pushed on a counter is the k-th one popped, in every run. So "A is complete before B
starts" holds in all runs just if a chain of these leads from A to B: next in the same stage; pop
of the token that it pushed. What bounded queues and full counters add is not counted: they make
things wait on one machine that need not wait on another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vta_hw.spec.isa import Stage, TokenQueue
from vta_sim.hazard_trace import Step

Clock = tuple[int, int, int]
"""Per stage, how many of its first steps are complete."""

Event = tuple[Step, int, Clock]
"""A step that starts, its position in its stage, and what is complete in every run then."""


def in_order(steps: Sequence[Step]) -> Iterator[Event]:
    """Every step that gets to start, its position in its stage, and its clock.

    They come in an order in which they can run one after the other; per stage in program order.
    The clock says what is complete in every run when the step starts. Hints change nothing in
    relation to other stages: compute instructions issue in order, so each starts after the pops
    of all older ones, and they retire and push in order.
    """
    queues = {stage: [step for step in steps if step.stage is stage] for stage in Stage}
    position = dict.fromkeys(Stage, 0)
    clocks = {stage: [0, 0, 0] for stage in Stage}
    pushed: dict[TokenQueue, list[Clock]] = {queue: [] for queue in TokenQueue}
    popped = dict.fromkeys(TokenQueue, 0)
    moved = True
    while moved:
        moved = False
        for stage, queue in queues.items():
            clock = clocks[stage]
            while position[stage] < len(queue):
                step = queue[position[stage]]
                if any(popped[token] == len(pushed[token]) for token in step.pops):
                    break
                for token in step.pops:
                    sent = pushed[token][popped[token]]
                    popped[token] += 1
                    clock[:] = map(max, clock, sent)
                yield step, position[stage], (clock[0], clock[1], clock[2])
                position[stage] += 1
                clock[stage] = position[stage]
                for token in step.pushes:
                    pushed[token].append((clock[0], clock[1], clock[2]))
                moved = True
