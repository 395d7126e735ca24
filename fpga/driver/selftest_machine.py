"""Steps of the self-test that run programs, on a board or on any other device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from fpga.driver import selftest_programs as programs
from fpga.driver.selftest_steps import Bench, Figure, NotApplicable, Step, StepFailure
from fpga.driver.sketch import Region, Sketch, carry_out
from runtime.device import Device
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Alu, AluOp, Gemm, Instruction, Load, Stage, Store, stage_of
from vta_hw.spec.registers import STAGE_STATES, Register, byte_counter, state_counter
from vta_hw.spec.result import RunResult

_GEMM_BYTES_MAX = 20_000

_FETCH = "the path of instruction fetch, and how the core reaches memory"
_STORE = "LOAD ACC_8BIT, STORE, and the write channel of memory"


def _run(bench: Bench, sketch: Sketch, look_at: str) -> RunResult:
    """Run a sketch and compare all of its memory with what the definition gives."""
    device, config = _subject(bench)
    stream = sketch.finish()
    image = sketch.image()
    expected = image.copy()
    carry_out(config, sketch.instructions, expected)
    result = device.run_stream(stream, image)
    if not result.ok:
        reason = f": {result.fault.text}" if result.fault is not None else ""
        raise StepFailure(f"the program ended with {result.status}{reason}: look at {look_at}")
    wrong = np.flatnonzero(image != expected)
    if wrong.size:
        at = int(wrong[0])
        raise StepFailure(
            f"{_place(sketch.regions, at, config)} is {int(image[at]):#04x}, not "
            f"{int(expected[at]):#04x}, and {wrong.size} of {image.size} bytes differ: look at "
            f"{look_at}"
        )
    return result


def _place(regions: list[Region], at: int, config: VtaConfig) -> str:
    for region in regions:
        if region.start <= at < region.start + region.size:
            element, byte = divmod(at - region.start, config.elem_bytes(region.memory))
            return f"byte {byte} of element {element} of {region.name!r} (image byte {at:#x})"
    return f"image byte {at:#x}, which nothing should have written"


def _figures(result: RunResult) -> dict[str, Figure]:
    figures: dict[str, Figure] = {"instructions": result.instructions}
    if result.cycles is not None:
        figures["cycles"] = result.cycles
    return figures


def _fetch(bench: Bench) -> Mapping[str, Figure]:
    _, config = _subject(bench)
    result = _run(bench, programs.fetch(config), _FETCH)
    if result.instructions != 2:
        raise StepFailure(
            f"{result.instructions} instructions retired, not 2, of a program that ended well: "
            f"look at the counters"
        )
    if bench.transport is not None:
        for expected, when in ((1, "after a run"), (0, "after 1 was written to it")):
            got = bench.transport.read_register(Register.IRQ_STATUS)
            if got != expected:
                raise StepFailure(
                    f"register {Register.IRQ_STATUS.name} reads {got:#x}, not {expected}, {when}: "
                    f"look at the control port"
                )
            bench.transport.write_register(Register.IRQ_STATUS, 1)
    return _figures(result)


def _single(
    name: str, make: Callable[[VtaConfig, np.random.Generator], Sketch], look_at: str
) -> Callable[[Bench], Mapping[str, Figure]]:
    def act(bench: Bench) -> Mapping[str, Figure]:
        _, config = _subject(bench)
        return _figures(_run(bench, make(config, bench.rng(name)), look_at))

    return act


def _alu(bench: Bench, op: AluOp) -> Mapping[str, Figure]:
    _, config = _subject(bench)
    if op not in programs.alu_ops(config):
        raise NotApplicable(f"config {config.name!r} has no {op.name}")
    sketch = programs.alu(config, bench.rng(op.name), op)
    return _figures(_run(bench, sketch, f"the ALU's {op.name}"))


def _gemm(bench: Bench) -> Mapping[str, Figure]:
    """Products of growing size; what is measured is of the largest."""
    _, config = _subject(bench)
    figures: dict[str, Figure] = {}
    for size in programs.gemm_sizes(config, _GEMM_BYTES_MAX):
        sketch = programs.gemm(config, bench.rng(f"gemm {size}"), size)
        look_at = (
            f"the MAC array, and GEMM's loops ({size} x {size} blocks, smaller ones are right)"
        )
        result = _run(bench, sketch, look_at)
        figures = {**_figures(result), "blocks": size, **_rate(result, config)}
    return figures


def _rate(result: RunResult, config: VtaConfig) -> dict[str, Figure]:
    """Multiplications of a run, and their share of what the array could have done."""
    figures: dict[str, Figure] = {"macs": result.macs}
    if result.cycles:
        figures["array_use"] = round(result.macs / result.cycles / config.macs_per_cycle, 4)
    return figures


def _network(bench: Bench) -> Mapping[str, Figure]:
    _, config = _subject(bench)
    look_at = "the order of STORE and LOAD INP, which the tokens give"
    result = _run(bench, programs.network(config), look_at)
    figures = {**_figures(result), **_rate(result, config)}
    clock_hz = bench.transport.identity.clock_hz if bench.transport is not None else 0
    if clock_hz and result.cycles is not None:
        figures["microseconds"] = round(result.cycles / clock_hz * 1e6, 3)
    return figures


def _counters(bench: Bench) -> Mapping[str, Figure]:
    """Counters are what the program does, fit each other, and are the same once more."""
    _, config = _subject(bench)
    sketch = programs.network(config)
    runs = [_run(bench, each, "the step network") for each in (sketch, programs.network(config))]
    wanted = expected_counters(config, sketch.instructions)
    for result in runs:
        for name, value in wanted.items():
            _expect(name, result.counters[name], value, "what the program does")
        cycles = result.counters["cycles"]
        if cycles <= 0:
            raise StepFailure(f"a run took {cycles} cycles: look at the counters")
        for stage, states in STAGE_STATES.items():
            total = sum(result.counters[state_counter(stage, state)] for state in states)
            what = f"all states of the {stage.name.lower()} stage"
            _expect(what, total, cycles, "the cycles of the run")
    first, second = (result.counters for result in runs)
    # Memory that is refreshed may make a run longer or shorter; it changes no amount.
    timed = {name for name in first if name.endswith("_cycles") or name == "cycles"}
    for name in first.keys() - (timed if bench.transport is not None else set()):
        _expect(name, second[name], first[name], "that of the first of two equal runs")
    return {
        "counters": len(first),
        "cycles": first["cycles"],
        "cycles_again": second["cycles"],
    }


def _expect(name: str, got: int, expected: int, why: str) -> None:
    if got != expected:
        raise StepFailure(
            f"counter {name} is {got}, not {expected} ({why}): look at the counters, and whether "
            f"registers can be read reliably"
        )


def expected_counters(config: VtaConfig, instructions: list[Instruction]) -> dict[str, int]:
    """The counters that follow from a sketch's instructions alone; each has one micro-op range."""
    found = dict.fromkeys(("gemm_ops", "gemm_reset_ops", "alu_ops"), 0)
    found |= {f"{stage.name.lower()}_instructions": 0 for stage in Stage}
    found |= {byte_counter(memory): 0 for memory in MemType}
    for insn in instructions:
        found[f"{stage_of(insn).name.lower()}_instructions"] += 1
        match insn:
            case Load() | Store():
                memory = MemType(insn.memory_type)
                moved = insn.y_size * insn.x_size * config.elem_bytes(memory)
                found[byte_counter(memory)] += moved
            case Gemm() | Alu():
                kind = "alu_ops" if isinstance(insn, Alu) else "gemm_ops"
                if isinstance(insn, Gemm) and insn.reset:
                    kind = "gemm_reset_ops"
                found[kind] += insn.iter_out * insn.iter_in * (insn.uop_end - insn.uop_bgn)
    return found


def _subject(bench: Bench) -> tuple[Device, VtaConfig]:
    assert bench.device is not None and bench.config is not None
    return bench.device, bench.config


_BOARD = ("identity", "registers", "memory", "addresses")
_LOADS = ("load acc", "load uop", "load inp", "load wgt")
STEPS = (
    Step("fetch", _fetch, _BOARD),
    Step("store", _single("store", programs.store, _STORE), ("fetch",)),
    Step("load acc", _single("load acc", programs.load_acc, "LOAD ACC, and ALU SHR"), ("store",)),
    Step("load uop", _single("load uop", programs.load_uop, "LOAD UOP"), ("load acc",)),
    Step("load inp", _single("load inp", programs.load_inp, "LOAD INP, and GEMM"), ("store",)),
    Step("load wgt", _single("load wgt", programs.load_wgt, "LOAD WGT, and GEMM"), ("store",)),
    *(Step(f"alu {op.name.lower()}", partial(_alu, op=op), ("load acc",)) for op in AluOp),
    Step("gemm", _gemm, ("load inp", "load wgt")),
    Step("network", _network, ("gemm", *_LOADS)),
    Step("counters", _counters, ("network",), timed=True),
)
