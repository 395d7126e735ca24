"""When the ALU asks for slots and what it leaves in ACC: rules A1 to A3, G3, G4, step by step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.rtl import alu_model
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Alu, AluOp, FaultClass, MicroOp
from vta_hw.spec.machine import ACC_HAZARD

FORWARDED = (AluOp.MIN, AluOp.MAX, AluOp.ADD, AluOp.SHR)


@dataclass
class Course:
    """One instruction: per slot (cycle, index, whether it is acc[dst]'s), and its end."""

    slots: list[tuple[int, int, bool]] = field(default_factory=list)
    waits: set[int] = field(default_factory=set)
    done: int = 0
    fault: int = 0
    amount: int = 0


def _steps(job: Alu, uops: Sequence[MicroOp]) -> Iterator[tuple[int, int] | None]:
    """dst and src of each micro-op in order; None: beyond the UOP memory."""
    for o in range(job.iter_out):
        for n in range(job.iter_in):
            for u in range(job.uop_bgn, job.uop_end):
                if u >= len(uops):
                    yield None
                    continue
                yield (
                    uops[u].dst + o * job.dst_factor_out + n * job.dst_factor_in,
                    uops[u].src + o * job.src_factor_out + n * job.src_factor_in,
                )


def follow(
    job: Alu,
    uops: Sequence[MicroOp],
    acc: list[list[int]],
    issue: int,
    free: Callable[[int], bool],
    bins: Counter[str],
) -> Course:
    """Run `job`, issued in `issue`, on `acc`, with slots granted in the cycles that are `free`."""
    course = Course(done=issue + 1)
    operation = AluOp(job.alu_opcode)
    sources = 3 if operation == AluOp.REQ else 1
    last_write: dict[int, int] = {}
    held: list[list[int]] = []
    before: int | None = None
    overwritten = False
    cycle = issue + 2

    def grant(index: int, waits_for_writes: bool, write: bool) -> int:
        nonlocal cycle
        while True:
            age = cycle - last_write.get(index, -ACC_HAZARD)
            if waits_for_writes and age < ACC_HAZARD:
                bins[f"{'slow dst' if write else 'source'} waits at {age}"] += 1
            elif free(cycle):
                break
            else:
                bins["conflict"] += 1
            course.waits.add(cycle)
            cycle += 1
        course.slots.append((cycle, index, write))
        if write:
            age = cycle - last_write.get(index, -99)
            if age <= ACC_HAZARD + 1:
                bins[f"{'slow' if waits_for_writes else 'fast'} dst again after {age}"] += 1
            last_write[index] = cycle
        cycle += 1
        return cycle - 1

    for step in _steps(job, uops):
        fault = _fault(step, sources, len(acc))
        if fault or step is None:
            course.done, course.fault = cycle, fault
            bins[f"fault {fault}"] += 1
            return course
        dst, src = step
        if not job.use_imm:
            stale = overwritten and operation != AluOp.REQ
            if src != before or stale:
                bins["src changed" if src != before else "src overwritten"] += before is not None
                for i in range(sources):
                    grant(src + i, True, False)
                held = [list(acc[src + i]) for i in range(sources)]
                overwritten = False
            else:
                bins["src held"] += 1
                bins["held though overwritten"] += overwritten
        second = [[job.imm]] * len(acc[0]) if job.use_imm else list(zip(*held, strict=True))
        course.done = grant(dst, operation not in FORWARDED, True)
        acc[dst] = [
            alu_model.apply(operation, a, b, job.imm) for a, b in zip(acc[dst], second, strict=True)
        ]
        overwritten |= dst in range(src, src + sources)
        before = src
        course.amount += 1
    return course


def _fault(step: tuple[int, int] | None, sources: int, depth: int) -> int:
    if step is None:
        return FaultClass.UOP_RANGE
    dst, src = step
    return FaultClass.INDEX_RANGE if dst >= depth or src + sources > depth else 0


def depths(config: VtaConfig) -> tuple[int, int]:
    """Micro-ops, and elements of ACC."""
    return config.depth(MemType.UOP), config.depth(MemType.ACC)
