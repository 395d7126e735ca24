"""What happens to an instruction between its dispatch and its retirement."""

from __future__ import annotations

from vta_hw.spec import machine
from vta_sim.lang.kinds import i64, kernel
from vta_sim.timing.parts import Core, StagePart


@kernel
def enter(core: Core, stage: StagePart, index: i64, n: i64) -> None:
    """An instruction is dispatched to its stage in cycle n."""
    stage.dispatched += 1
    core.dispatch[index] = n
    if stage.dispatched - stage.issued == 1:
        stage.to_issue.wake(n + machine.DISPATCH_TO_READY)


@kernel
def finish(core: Core, number: i64, index: i64, cycle: i64) -> None:
    """The work of an instruction of stage `number` is done in `cycle`, maybe a later one."""
    core.done[index] = cycle
    stage = core.stages[number]
    # The others are looked at when the one before them has retired.
    if stage.oldest() == index:
        stage.to_retire.wake(cycle + machine.DONE_TO_RETIRE)


@kernel
def fail(core: Core, number: i64, index: i64, cycle: i64, fault: i64) -> None:
    """An instruction is found bad, and done, in `cycle`."""
    core.bad[index] = fault
    finish(core, number, index, cycle)
