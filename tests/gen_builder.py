"""Assembles random programs whose result does not depend on how the three stages interleave.

The builder knows, for every SRAM element and every 4 bytes of DRAM, who wrote and who read it last,
and what each stage is certain has completed (a vector per stage, carried by tokens). Before an
instruction that conflicts with another stage's it adds the pushes and pops that order the two.
Every push stands before its pop in program order, so no such program deadlocks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

from tests import oracle_words as w
from tests.oracle import FLAGS, Bad, Core
from tests.oracle_words import Geometry, Values

Key = tuple[int, int]
DRAM = 9
"""Memory number of DRAM in a `Key`; the index counts granules of 4 bytes."""
GRANULE = 4
Queue = tuple[int, int]
QUEUES: tuple[Queue, ...] = ((0, 1), (1, 0), (1, 2), (2, 1))
STAGE_NAMES = ("load", "compute", "store")
_ON_CHIP = (w.ACC, w.UOP)


@dataclass
class _Access:
    writer: tuple[int, int] | None = None
    readers: dict[int, int] = field(default_factory=dict)


def push_flag(queue: Queue) -> str:
    """The producer's flag for a token queue (producer, consumer)."""
    return "push_next" if queue[1] > queue[0] else "push_prev"


def pop_flag(queue: Queue) -> str:
    """The consumer's flag for a token queue (producer, consumer)."""
    return "pop_prev" if queue[0] < queue[1] else "pop_next"


class Builder:
    """A growing program, the machine state after it in program order, and what orders what."""

    def __init__(self, geometry: Geometry, rng: Random, image: bytes) -> None:
        self.geometry, self.rng = geometry, rng
        self.image = bytearray(image)
        self.core = Core(geometry, image)
        self.insns: list[Values] = []
        self.tags: set[str] = set()
        self.dead: set[Queue] = set()
        self._spoiled = False
        self.wanted: frozenset[str] | None = None
        """Flags that the next instruction gets in place of stray ones."""
        self.stray = 0.15
        """How often an instruction gets a flag that nothing needs."""
        self._last: list[Values | None] = [None] * 3
        self._known = [[0] * 3 for _ in range(3)]
        self._after = [[0] * 3 for _ in range(3)]
        self._tokens: dict[Queue, deque[list[int]]] = {q: deque() for q in QUEUES}
        self._pending: list[set[Queue]] = [set() for _ in range(3)]
        self._shadow: dict[Key, _Access] = {}
        self._recent: list[tuple[int, set[Key], set[Key]]] = []

    def poke(self, address: int, data: bytes) -> None:
        """Set initial DRAM contents; only for bytes that no instruction has touched yet."""
        self.image[address : address + len(data)] = data
        self.core.dram[address : address + len(data)] = data

    def emit(self, insn: Values) -> None:
        """Append an instruction, ordered after everything it conflicts with; execute it."""
        for flag in FLAGS:
            insn.setdefault(flag, 0)
        if self.rng.random() < 0.3:
            insn["junk"] = self.rng.getrandbits(128)
        if insn["opcode"] > w.ALU:
            self.insns.append(insn)
            return
        stage = w.stage_of(insn)
        reads, writes = self._touched(insn)
        self._order(stage, reads, writes)
        self._stray_tokens(stage, insn)
        self._append(stage, insn, reads, writes)
        number = self._known[stage][stage]
        for key in reads:
            self._shadow.setdefault(key, _Access()).readers[stage] = number
        for key in writes:
            self._shadow[key] = _Access((stage, number))
        try:
            self.core.execute(insn)
        except Bad:
            self.tags.add("bad")

    def noop(self, stage: int, **flags: int) -> None:
        """Append an instruction that only carries tokens."""
        values = self._idle(stage)
        self._append(stage, {**values, **flags}, set(), set())

    def idle(self, stage: int) -> None:
        """Append an instruction that does nothing, with tokens that nothing needs."""
        values = self._idle(stage)
        self._stray_tokens(stage, values)
        self._append(stage, values, set(), set())

    def tokens(self, queue: Queue) -> int:
        """How many tokens of a queue nothing has popped yet."""
        return len(self._tokens[queue])

    def pop_alone(self, queue: Queue) -> None:
        """Append an instruction that pops the oldest token of a queue and does nothing else."""
        self._pop(queue)
        self.noop(queue[1])

    def order_after(self, stage: int, other: int) -> None:
        """Make the next instruction of `stage` start after everything emitted so far to `other`."""
        self._require(stage, other, self._known[other][other])

    def starve(self, queue: Queue) -> None:
        """Make the consumer of `queue` wait for ever: one pop too many, no push from now on."""
        while self._tokens[queue]:
            self._pop(queue)
        consumer = queue[1]
        if self._pending[consumer]:
            self.noop(consumer)
        self.dead.add(queue)
        self.noop(consumer, **{pop_flag(queue): 1})

    # -- what an instruction touches ---------------------------------------------------------------

    def _touched(self, insn: Values) -> tuple[set[Key], set[Key]]:
        try:
            if insn["opcode"] == w.LOAD:
                self.core.check_transfer(insn)
                writes, reads = self._transfer(insn, self._sram(insn["memory_type"]))
                return reads, writes
            if insn["opcode"] == w.STORE:
                self.core.check_transfer(insn)
                return self._transfer(insn, w.ACC)
        except Bad:
            self._spoiled = True
            return set(), set()
        return self._steps(insn) if insn["opcode"] in (w.GEMM, w.ALU) else (set(), set())

    @staticmethod
    def _sram(memory: int) -> int:
        return w.ACC if memory == w.ACC_8BIT else memory

    def _transfer(self, insn: Values, memory: int) -> tuple[set[Key], set[Key]]:
        if insn["x_size"] == 0:
            return set(), set()
        rows, columns = self.core.shape(insn)
        base, size = insn["sram_base"], self.geometry.elem_bytes[insn["memory_type"]]
        on_chip = {(memory, base + i) for i in range(rows * columns)}
        dram = set()
        for y in range(insn["y_size"]):
            start = (insn["dram_base"] + y * insn["x_stride"]) * size
            end = start + insn["x_size"] * size
            dram |= {(DRAM, i) for i in range(start // GRANULE, -(-end // GRANULE))}
        return on_chip, dram

    def _steps(self, insn: Values) -> tuple[set[Key], set[Key]]:
        reads: set[Key] = set()
        writes: set[Key] = set()
        alu = insn["opcode"] == w.ALU
        try:
            if alu:
                self.core.check_alu(insn)
            for address, dst, src, wgt in self.core.steps(insn):
                reads |= {(w.UOP, address), (w.ACC, dst)}
                writes.add((w.ACC, dst))
                if alu:
                    reads |= {(w.ACC, src + i) for i in range(3 if insn["alu_opcode"] == 7 else 1)}
                elif not insn["reset"]:
                    reads |= {(w.INP, src), (w.WGT, wgt)}
        except Bad:
            self._spoiled = True
        return reads, writes

    # -- tokens ------------------------------------------------------------------------------------

    def _order(self, stage: int, reads: set[Key], writes: set[Key]) -> None:
        needs = [0, 0, 0]
        for key in reads | writes:
            access = self._shadow.get(key)
            if access is None:
                continue
            if access.writer is not None:
                needs[access.writer[0]] = max(needs[access.writer[0]], access.writer[1])
            if key in writes:
                for reader, number in access.readers.items():
                    needs[reader] = max(needs[reader], number)
        for other, number in enumerate(needs):
            if other != stage:
                self._require(stage, other, number)

    def _require(self, stage: int, other: int, number: int) -> None:
        if self._known[stage][other] >= number:
            return
        if w.STAGE_COMPUTE in (stage, other):
            self._sync((other, stage), number)
            return
        self._sync((other, w.STAGE_COMPUTE), number)
        self.noop(w.STAGE_COMPUTE)
        last = self._known[w.STAGE_COMPUTE][w.STAGE_COMPUTE]
        self._sync((w.STAGE_COMPUTE, stage), last)

    def _sync(self, queue: Queue, number: int) -> None:
        producer, consumer = queue
        while self._known[consumer][producer] < number and queue not in self.dead:
            if not self._tokens[queue]:
                self._push(queue)
            self._pop(queue)

    def _push(self, queue: Queue) -> None:
        producer, flag = queue[0], push_flag(queue)
        last = self._last[producer]
        if last is not None and not last[flag] and self.rng.random() < 0.7:
            last[flag] = 1
            self._tag_flag(producer, flag)
            self._tokens[queue].append(self._after[producer])
        else:
            self.noop(producer, **{flag: 1})

    def _pop(self, queue: Queue) -> None:
        """Have the consumer's next instruction pop the oldest token, which must exist."""
        consumer = queue[1]
        if queue in self._pending[consumer]:
            self.noop(consumer)
        self._pending[consumer].add(queue)
        snapshot = self._tokens[queue].popleft()
        known = self._known[consumer]
        self._known[consumer] = [max(a, b) for a, b in zip(known, snapshot, strict=True)]

    def _stray_tokens(self, stage: int, insn: Values) -> None:
        if self.wanted is not None:
            self._wanted_tokens(stage, insn, self.wanted)
            self.wanted = None
            return
        for queue in QUEUES:
            if queue in self.dead or self.rng.random() < 1 - self.stray:
                continue
            if queue[1] == stage and self._tokens[queue] and queue not in self._pending[stage]:
                self._pop(queue)
            if queue[0] == stage and len(self._tokens[queue]) < 6:
                insn[push_flag(queue)] = 1

    def _wanted_tokens(self, stage: int, insn: Values, flags: frozenset[str]) -> None:
        for queue in QUEUES:
            if queue[1] == stage and pop_flag(queue) in flags and queue not in self._pending[stage]:
                if not self._tokens[queue]:
                    self._push(queue)
                self._pop(queue)
            if queue[0] == stage and push_flag(queue) in flags:
                insn[push_flag(queue)] = 1

    def _append(self, stage: int, insn: Values, reads: set[Key], writes: set[Key]) -> None:
        for flag in FLAGS:
            insn.setdefault(flag, 0)
        for queue in self._pending[stage]:
            insn[pop_flag(queue)] = 1
        self._pending[stage].clear()
        self._known[stage][stage] += 1
        self._after[stage] = list(self._known[stage])
        for queue in QUEUES:
            if queue[0] == stage and insn[push_flag(queue)]:
                self._tokens[queue].append(self._after[stage])
        for flag in FLAGS:
            if insn[flag]:
                self._tag_flag(stage, flag)
        if stage == w.STAGE_COMPUTE:
            self._hint(insn, reads, writes)
        self._last[stage] = insn
        self.insns.append(insn)

    def _tag_flag(self, stage: int, flag: str) -> None:
        self.tags.add(f"{STAGE_NAMES[stage]} {flag}")

    # -- the rest ----------------------------------------------------------------------------------

    def _hint(self, insn: Values, reads: set[Key], writes: set[Key]) -> None:
        """Set `overlap` at times, only where its claim is true."""
        reads = {key for key in reads if key[0] in _ON_CHIP}
        writes = {key for key in writes if key[0] in _ON_CHIP}
        unit = insn["opcode"]
        # What a bad instruction touches is not known: no hint on it, nor on what follows.
        clash = (
            unit == w.FINISH
            or self._spoiled
            or any(
                other != unit and (writes & (r | wr) or reads & wr) for other, r, wr in self._recent
            )
        )
        hinted = "overlap" in self.geometry.extensions and not clash and self.rng.random() < 0.5
        if hinted:
            insn["overlap"] = 1
            self.tags.add("overlap")
        else:
            self._recent.clear()
        self._recent.append((unit, reads, writes))

    def _idle(self, stage: int) -> Values:
        """A random instruction that moves nothing, most of its fields meaningless."""
        rng = self.rng
        if stage == w.STAGE_COMPUTE and rng.random() < 0.4:
            values = {
                name: rng.getrandbits(width)
                for name, width in self.geometry.fields(w.GEMM)
                if name not in FLAGS
            }
            empty = rng.choice(("iter_out", "iter_in", "uop_end"))
            self.tags.add(f"idle {empty}")
            return {**values, "opcode": rng.choice((w.GEMM, w.ALU)), "alu_opcode": 0, empty: 0}
        values = {
            name: rng.getrandbits(width)
            for name, width in self.geometry.fields(w.LOAD)
            if name not in FLAGS
        }
        opcode = w.STORE if stage == w.STAGE_STORE else w.LOAD
        types = {0: (w.INP, w.WGT), 1: (w.UOP, w.ACC, w.ACC_8BIT), 2: tuple(range(8))}[stage]
        self.tags.add(f"idle {STAGE_NAMES[stage]}")
        return {**values, "opcode": opcode, "x_size": 0, "memory_type": rng.choice(types)}
