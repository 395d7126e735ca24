"""Where the cycles of a run went: every cycle has exactly one reason.

The array is what a run should keep busy, so the question asked of each cycle n is why GEMM does not
multiply in it. The answer is found in this order, and nowhere else:

1. GEMM is granted a slot for a micro-op that multiplies: `gemm`.
2. Such an instruction is in the unit, and not done: `gemm_interval` in the cycle after its issue,
   in which it cannot ask yet; else it was refused its slot: `acc_conflict`.
3. The stage's next instruction, its *head*, must wait until older ones have left the stage (rule
   G1): the reason is what those do.
4. The head issues in n: what it does itself.
5. The head has not been ready for want of instructions (F3, S1): `fetch`.
6. A counter that it pops is 0. The token comes from an instruction of another stage. If that one is
   in flight, the reason is what its stage does up to it; if it is still to be issued, steps 4 to 7
   are asked about the head of its stage. A load that waits for a buffer thus leads back to the
   compute stage, and to what that is doing.
7. Otherwise only the distance between two issues is missing: `issue`.

*What instructions do* is told by the oldest of them that is not done, or if all are done and just
retire, by the oldest: of those that are in flight, retirement is in order. An instruction stands
for its kind from its issue to its retirement, both included, so that the beginning and the end of
an instruction count for it. A product that ends or begins is `gemm_interval`.

`vta_sim.timing` gives what this is derived from; `docs/timing.md` has the rules.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import (
    Alu,
    Finish,
    Gemm,
    Instruction,
    Load,
    Stage,
    Store,
    TokenQueue,
    pops,
    pushes,
    stage_of,
)
from vta_hw.spec.machine import DISPATCH_TO_READY, FIRST_SLOT, ISSUE_INTERVAL
from vta_hw.spec.semantics import IntArray
from vta_sim.timing.simulate import Timing


class Reason(StrEnum):
    """What a cycle went into."""

    GEMM = "gemm"
    GEMM_INTERVAL = "gemm_interval"
    ACC_CONFLICT = "acc_conflict"
    ALU = "alu"
    RESET = "reset"
    LOAD_UOP = "load_uop"
    LOAD_ACC = "load_acc"
    LOAD_INP = "load_inp"
    LOAD_WGT = "load_wgt"
    STORE = "store"
    FETCH = "fetch"
    ISSUE = "issue"
    END = "end"


REASON_DOCS: Mapping[Reason, str] = {
    Reason.GEMM: "the array multiplies",
    Reason.GEMM_INTERVAL: "a product begins or ends: issue to first slot, last slot to retirement",
    Reason.ACC_CONFLICT: "GEMM's slot of ACC went to a load",
    Reason.ALU: "the ALU works, and what comes next has to wait for it",
    Reason.RESET: "accumulators are zeroed, and what comes next has to wait for it",
    Reason.LOAD_UOP: "micro-ops are loaded",
    Reason.LOAD_ACC: "parameters or operands are loaded into ACC",
    Reason.LOAD_INP: "inputs are loaded",
    Reason.LOAD_WGT: "weights are loaded",
    Reason.STORE: "results are stored",
    Reason.FETCH: "instructions are fetched",
    Reason.ISSUE: "instructions without work, and the least distance between two issues",
    Reason.END: "after the last instruction, until the machine is known to rest",
}
REASONS = tuple(Reason)


@dataclass(frozen=True, eq=False)
class Stalls:
    """The reason of every cycle: from starts[i] to before starts[i + 1] it is REASONS[reasons[i]].

    The first span begins in cycle 0, the last one ends with the run.
    """

    starts: IntArray
    reasons: IntArray
    cycles: int

    def count(self, first: int = 0, end: int | None = None) -> dict[Reason, int]:
        """Cycles per reason, of the cycles `first` to before `end` (default: of all)."""
        stop = self.cycles if end is None else end
        ends = np.append(self.starts[1:], self.cycles)
        lengths = np.minimum(ends, stop) - np.maximum(self.starts, first)
        sums = np.zeros(len(REASONS), np.int64)
        np.add.at(sums, self.reasons, np.maximum(lengths, 0))
        return {reason: int(sums[number]) for number, reason in enumerate(REASONS)}


def attribute(config: VtaConfig, instructions: Sequence[Instruction], timing: Timing) -> Stalls:
    """Find the reason of every cycle of a run that ended well and was timed with a timeline."""
    return _Run(config, instructions, timing).stalls()


# -- what instructions do -------------------------------------------------------------------------


def kind_of(insn: Instruction) -> Reason:
    """What an instruction is there for."""
    match insn:
        case Gemm():
            return Reason.RESET if insn.reset else Reason.GEMM_INTERVAL
        case Alu():
            return Reason.ALU
        case Load() if insn.x_size and sum(insn.sram_shape):
            return _load_kind(insn)
        case Store() if insn.x_size and insn.y_size:
            return Reason.STORE
        case _:
            return Reason.ISSUE


def _load_kind(insn: Load) -> Reason:
    match MemType(insn.memory_type):
        case MemType.INP:
            return Reason.LOAD_INP
        case MemType.WGT:
            return Reason.LOAD_WGT
        case MemType.UOP:
            return Reason.LOAD_UOP
        case _:
            # Rows of padding alone: this is how accumulators are zeroed beside GEMM.
            return Reason.LOAD_ACC if insn.y_size else Reason.RESET


def _token_givers(instructions: Sequence[Instruction]) -> dict[int, list[int]]:
    """For each instruction that pops, those whose tokens it gets: the k-th pushed, the k-th popped.

    A counter is pushed by one stage and popped by one, each in the order of the program.
    """
    pushed: dict[TokenQueue, list[int]] = {queue: [] for queue in TokenQueue}
    for index, insn in enumerate(instructions):
        for queue in pushes(insn):
            pushed[queue].append(index)
    popped = dict.fromkeys(TokenQueue, 0)
    givers: dict[int, list[int]] = {}
    for index, insn in enumerate(instructions):
        for queue in pops(insn):
            givers.setdefault(index, []).append(pushed[queue][popped[queue]])
            popped[queue] += 1
    return givers


@dataclass(frozen=True, eq=False)
class _Stage:
    """The instructions of a stage, in order, and when each was issued and retired."""

    order: list[int]
    issue: list[int]
    retire: list[int]

    def flight(self, n: int) -> tuple[int, int]:
        """In cycle n the instructions from the first place to before the second are in flight."""
        return bisect_left(self.retire, n), bisect_left(self.issue, n)


class _Run:
    """One run, and the questions above about each of its cycles."""

    def __init__(
        self, config: VtaConfig, instructions: Sequence[Instruction], timing: Timing
    ) -> None:
        line, work = timing.result.timeline, timing.work
        if not timing.result.ok or line is None or work is None:
            raise ValueError("only runs that ended well and have a timeline are attributed")
        self.instructions, self.cycles = instructions, line.cycles
        self.slots = work.gemm_slots
        self.dispatch: list[int] = line.dispatch.tolist()
        self.issue: list[int] = line.issue.tolist()
        self.retire: list[int] = line.retire.tolist()
        self.done: list[int] = work.done.tolist()
        self.kinds = [kind_of(insn) for insn in instructions]
        self.givers = _token_givers(instructions)
        self.has_overlap = config.has("overlap")
        orders: dict[Stage, list[int]] = {stage: [] for stage in Stage}
        self.place: list[int] = []
        self.stage: list[Stage] = []
        for index, insn in enumerate(instructions):
            stage = stage_of(insn)
            self.place.append(len(orders[stage]))
            self.stage.append(stage)
            orders[stage].append(index)
        self.stages = {
            stage: _Stage(order, [self.issue[i] for i in order], [self.retire[i] for i in order])
            for stage, order in orders.items()
        }

    def stalls(self) -> Stalls:
        """Products first, then the cycles between them."""
        spans = list(self._products())
        idle = _gaps(((first, last) for first, last, _ in spans), self.cycles)
        spans += self._between(idle)
        spans.sort()
        starts = np.array([first for first, _, _ in spans], np.int64)
        numbers = {reason: number for number, reason in enumerate(REASONS)}
        reasons = np.array([numbers[reason] for _, _, reason in spans], np.int64)
        begins = np.diff(reasons, prepend=-1) != 0
        return Stalls(starts[begins], reasons[begins], self.cycles)

    def _products(self) -> Iterator[tuple[int, int, Reason]]:
        """Steps 1 and 2: from the cycle after the issue of a product to where it is done."""
        at = 0
        for index in self.stages[Stage.COMPUTE].order:
            insn = self.instructions[index]
            if not isinstance(insn, Gemm):
                continue
            begin, done = self.issue[index] + 1, self.done[index]
            end = at + int(np.searchsorted(self.slots[at:, 0], done, "right"))
            slots, at = self.slots[at:end].tolist(), end
            if insn.reset:
                continue
            asks = min(self.issue[index] + FIRST_SLOT, done + 1)
            yield begin, asks - 1, Reason.GEMM_INTERVAL
            for first, last in slots:
                if asks < first:
                    yield asks, first - 1, Reason.ACC_CONFLICT
                yield first, last, Reason.GEMM
                asks = last + 1

    def _between(self, idle: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, Reason]]:
        """Steps 3 to 7. An answer holds until the next cycle in which something changes."""
        moments = self._moments()
        for first, last in idle:
            inside = moments[np.searchsorted(moments, first, "right") :]
            inside = inside[: np.searchsorted(inside, last, "right")].tolist()
            edges = [first, *inside, last + 1]
            for begin, end in zip(edges, edges[1:], strict=False):
                yield begin, end - 1, self._reason(begin)

    def _moments(self) -> IntArray:
        """All cycles in which one of the comparisons below may turn out differently."""
        dispatch, issue, done, retire = (
            np.array(column, np.int64)
            for column in (self.dispatch, self.issue, self.done, self.retire)
        )
        ready = dispatch + DISPATCH_TO_READY
        return np.unique(
            np.concatenate((ready, issue, issue + 1, issue + ISSUE_INTERVAL, done + 1, retire + 1))
        )

    def _reason(self, n: int) -> Reason:
        """Why nothing multiplies in cycle n."""
        compute = self.stages[Stage.COMPUTE]
        left, issued = compute.flight(n)
        if issued == len(compute.order):
            return self._kind(compute, left, issued - 1, n) if left < issued else Reason.END
        last = self._last_in_the_way(left, issued)
        if last >= left:
            return self._kind(compute, left, last, n)
        return self._missing(compute, issued, n)

    def _last_in_the_way(self, left: int, issued: int) -> int:
        """The place of the youngest in flight that must leave before the head; -1 if none (G1)."""
        order = self.stages[Stage.COMPUTE].order
        head = self.instructions[order[issued]]
        if not (self.has_overlap and isinstance(head, Gemm | Alu | Load) and head.overlap):
            return issued - 1
        for place in range(issued - 1, left - 1, -1):
            older = self.instructions[order[place]]
            if type(older) is type(head) or isinstance(older, Finish):
                return place
        return -1

    def _kind(self, stage: _Stage, left: int, last: int, n: int) -> Reason:
        """What the instructions in flight from one place to another do in cycle n."""
        for index in stage.order[left : last + 1]:
            if self.done[index] >= n:
                return self.kinds[index]
        return self.kinds[stage.order[left]]

    def _missing(self, stage: _Stage, issued: int, n: int) -> Reason:
        """What the head of a stage lacks in cycle n, but for room: steps 4 to 7."""
        head = stage.order[issued]
        if self.issue[head] == n:
            return self.kinds[head]
        if n < self.dispatch[head] + DISPATCH_TO_READY:
            return Reason.FETCH
        for giver in self.givers.get(head, ()):
            if self.retire[giver] >= n:
                return self._awaited(giver, n)
        return Reason.ISSUE

    def _awaited(self, index: int, n: int) -> Reason:
        """Why an instruction, of which another one awaits a token, has not retired before n."""
        stage = self.stages[self.stage[index]]
        left, issued = stage.flight(n)
        place = self.place[index]
        if place < issued:
            return self._kind(stage, left, place, n)
        found = self._missing(stage, issued, n)
        if found in (Reason.FETCH, Reason.ISSUE) and left < issued:
            return self._kind(stage, left, issued - 1, n)
        return found


def _gaps(spans: Iterable[tuple[int, int]], cycles: int) -> list[tuple[int, int]]:
    """What ascending spans leave out of the cycles 0 to before `cycles`."""
    gaps, at = [], 0
    for first, last in spans:
        if at < first:
            gaps.append((at, first - 1))
        at = last + 1
    if at < cycles:
        gaps.append((at, cycles - 1))
    return gaps
