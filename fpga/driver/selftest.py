"""The self-test: is this a machine that computes what it should, and if not, where does it begin?

Steps go from the outside to the inside, and each relies on those before it: who answers, registers,
memory, instruction fetch, each memory type and operation alone, products of growing size, a small
network, the counters. It runs on boards and, without the steps of a link, on every other device.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fpga.driver import selftest_board, selftest_machine
from fpga.driver.selftest_steps import (
    Bench,
    NotApplicable,
    Step,
    StepFailure,
    StepReport,
    StepVerdict,
)
from fpga.driver.transport import Transport
from runtime.device import Device, DeviceError
from vta_hw.spec.config import VtaConfig

MEMORY_BYTES = 1 << 16
"""How much memory is tested unless more is wanted."""

STEPS = (*selftest_board.STEPS, *selftest_machine.STEPS)
"""All steps, in their order."""

_BROKEN = (StepVerdict.FAILED, StepVerdict.SKIPPED)


def check_board(
    transport: Transport,
    config: VtaConfig | None = None,
    *,
    seed: int = 0,
    memory_bytes: int = MEMORY_BYTES,
    listener: Callable[[StepReport], None] | None = None,
) -> list[StepReport]:
    """Run all steps on a board whose core is for `config`, by default the named one it says it is.

    What its memory holds is lost. `memory_bytes` of it are tested, all over it: a march transfers
    ten times as much. `listener` gets each report at once.
    """
    bench = Bench(seed, memory_bytes, transport=transport, config=config)
    return _run(bench, listener)


def check_device(
    device: Device, *, seed: int = 0, listener: Callable[[StepReport], None] | None = None
) -> list[StepReport]:
    """Run the steps that need no link on any device."""
    return _run(Bench(seed, 0, device=device, config=device.config), listener)


def is_good(reports: list[StepReport]) -> bool:
    """Whether nothing failed."""
    return not any(report.verdict in _BROKEN for report in reports)


def _run(bench: Bench, listener: Callable[[StepReport], None] | None) -> list[StepReport]:
    reports: dict[str, StepReport] = {}
    for step in STEPS:
        report = reports[step.name] = _report(bench, step, reports)
        if listener is not None:
            listener(report)
    return list(reports.values())


def _report(bench: Bench, step: Step, before: dict[str, StepReport]) -> StepReport:
    if step.of_board and bench.transport is None:
        text = "this device is reached without a link"
        return StepReport(step.name, StepVerdict.NOT_APPLICABLE, text)
    for name in step.needs:
        if before[name].verdict in _BROKEN:
            text = f"step {name!r} {before[name].verdict}"
            return StepReport(step.name, StepVerdict.SKIPPED, text)
    if step.timed and bench.device is not None and not bench.device.has_clock:
        text = "this device has no clock"
        return StepReport(step.name, StepVerdict.NOT_APPLICABLE, text)
    start = time.perf_counter()
    try:
        figures = step.act(bench)
    except NotApplicable as reason:
        return StepReport(step.name, StepVerdict.NOT_APPLICABLE, str(reason))
    except (StepFailure, DeviceError) as error:
        seconds = time.perf_counter() - start
        return StepReport(step.name, StepVerdict.FAILED, str(error), {}, seconds)
    seconds = time.perf_counter() - start
    return StepReport(step.name, StepVerdict.PASSED, "", figures, seconds)
