"""The micro-ops of GEMM and ALU instructions as sequences of ACC slots (G3, G4, A1 to A3)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np

from vta_hw.spec import machine
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Alu, AluOp, Gemm, unpack_uops
from vta_hw.spec.semantics import IntArray
from vta_sim.cycle.plans import LONG_AGO, Slots
from vta_sim.cycle.spans import Spans

_BLOCK = 1 << 15  # micro-ops whose indices are held at once
_REACH = machine.ACC_HAZARD - 1  # slots that a later one may have to wait for (A3)


class Indices:
    """The indices that a GEMM or ALU instruction computes, by number of the micro-op executed."""

    def __init__(self, insn: Gemm | Alu, words: IntArray, config: VtaConfig) -> None:
        """`words` are the micro-ops uop_bgn .. uop_end - 1, as far as there are any."""
        self._insn = insn
        self._config = config
        self._uops = unpack_uops(words, config)
        self._per_round = insn.uop_end - insn.uop_bgn
        runs = insn.iter_out and insn.iter_in and self._per_round > 0
        self.count = insn.iter_out * insn.iter_in * self._per_round if runs else 0

    def of(self, name: str, begin: int, end: int) -> IntArray:
        """Index `name` (dst, src, wgt) of the micro-ops begin .. end - 1; all must exist."""
        rounds, place = np.divmod(np.arange(begin, end), self._per_round)
        outer, inner = np.divmod(rounds, self._insn.iter_in)
        steps = outer * getattr(self._insn, f"{name}_factor_out")
        steps += inner * getattr(self._insn, f"{name}_factor_in")
        found: IntArray = self._uops[name][place] + steps
        return found

    def bounds(self, name: str) -> tuple[int, int]:
        """The least and the greatest index `name` of all micro-ops; there must be some."""
        steps = (self._insn.iter_out - 1) * getattr(self._insn, f"{name}_factor_out")
        steps += (self._insn.iter_in - 1) * getattr(self._insn, f"{name}_factor_in")
        return int(self._uops[name].min()), int(self._uops[name].max()) + steps

    def first_bad(self) -> int:
        """The number of the first micro-op with an index out of range, `count` if none has one."""
        known = len(self._uops["dst"])
        # Beyond the end of their memory there are no micro-ops; the first round ends there.
        limit = known if known < self._per_round else self.count
        for begin in range(0, min(limit, self.count), _BLOCK):
            end = min(limit, begin + _BLOCK)
            bad = np.zeros(end - begin, bool)
            for name, depth in self._depths().items():
                bad |= self.of(name, begin, end) >= depth
            if bad.any():
                return begin + int(bad.argmax())
        return min(limit, self.count)

    def _depths(self) -> dict[str, int]:
        config, insn = self._config, self._insn
        acc = config.depth(MemType.ACC)
        if isinstance(insn, Alu):
            return {"dst": acc, "src": acc - slots_of_source(insn) + 1}
        if insn.reset:
            return {"dst": acc}
        return {"dst": acc, "src": config.depth(MemType.INP), "wgt": config.depth(MemType.WGT)}


def slots_of_source(insn: Alu) -> int:
    """ACC elements that the second operand takes (A1)."""
    return machine.REQ_PARAMETERS if insn.alu_opcode == AluOp.REQ else 1


class Work(ABC):
    """The slots that one instruction asks for, one after the other, and those granted so far."""

    def __init__(self, start: int, granted: Spans, finish: Callable[[int], None]) -> None:
        """It asks from cycle `start` on; `granted` takes down the cycles of its grants."""
        self.start = start
        self.granted = granted
        self._finish = finish

    def finish(self, last: int) -> None:
        """It has ended with the grant in cycle `last`."""
        self._finish(last)

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether all slots have been granted."""

    @property
    @abstractmethod
    def known(self) -> int:
        """How many of the slots that come next are laid out."""

    @abstractmethod
    def plan(self, n: int, taken: list[int]) -> Sequence[int]:
        """As `User.plan` says."""

    @abstractmethod
    def grant(self, cycles: Sequence[int]) -> None:
        """The next slots are granted in these cycles."""

    @abstractmethod
    def run(self, begin: int, end: int) -> None:
        """All that it asks for is granted from cycle `begin` to before `end`, or to its end."""


class PlainWork(Work):
    """One slot per micro-op, acc[dst], without hazards: GEMM, and ALU with an immediate."""

    def __init__(
        self,
        start: int,
        granted: Spans,
        finish: Callable[[int], None],
        indices: Indices,
        count: int,
        config: VtaConfig,
    ) -> None:
        super().__init__(start, granted, finish)
        self._indices = indices
        self._count = count
        self._at = 0
        self._top = config.depth_bits(MemType.ACC) - 1
        self._slots = Slots([])
        self._begin = 0  # the micro-op of the first of them

    @property
    def ended(self) -> bool:
        """Whether all slots have been granted."""
        return self._at == self._count

    @property
    def known(self) -> int:
        """How many of the slots that come next are laid out."""
        self._lay_out()
        return self._begin + len(self._slots.halves) - self._at

    def _lay_out(self) -> None:
        """Lay the next block of slots out, if the last has been granted."""
        if self._at < self._begin + len(self._slots.halves) or self.ended:
            return
        begin, end = self._at, min(self._count, self._at + _BLOCK)
        least, most = self._indices.bounds("dst")
        if least >> self._top == most >> self._top:
            halves = [1 << (least >> self._top)] * (end - begin)
        else:
            halves = (1 << (self._indices.of("dst", begin, end) >> self._top)).tolist()
        self._begin, self._slots = begin, Slots(halves)

    def plan(self, n: int, taken: list[int]) -> Sequence[int]:
        """As `User.plan` says."""
        self._lay_out()
        place = self._at - self._begin
        if any(taken):
            return self._slots.fit(place, n, taken)
        taken[:] = self._slots.halves[place : place + len(taken)]  # nobody goes before
        return range(n, n + len(taken))

    def grant(self, cycles: Sequence[int]) -> None:
        """The next micro-ops have their slots."""
        self.granted.add_each(cycles)
        self._at += len(cycles)

    def run(self, begin: int, end: int) -> None:
        """One micro-op per cycle."""
        self.grant(range(begin, min(end, begin + self._count - self._at)))


class HazardWork(Work):
    """ALU with reads of sources and with elements that must not be asked for too soon."""

    def __init__(
        self,
        start: int,
        granted: Spans,
        finish: Callable[[int], None],
        insn: Alu,
        indices: Indices,
        count: int,
        config: VtaConfig,
    ) -> None:
        super().__init__(start, granted, finish)
        self._insn = insn
        self._indices = indices
        self._count = count
        self._top = config.depth_bits(MemType.ACC) - 1
        self._next_block = 0
        self._before = (-1, -1)  # dst and src of the micro-op before the block
        self._tail = np.full((2, _REACH), -1)  # element, is dst: slots before it
        self._times = [LONG_AGO] * _REACH  # of the last grants
        self._refill()

    def _refill(self) -> None:
        """Lay out the slots of the next block of micro-ops."""
        begin, end = self._next_block, min(self._count, self._next_block + _BLOCK)
        self._next_block = end
        elements, is_dst = self._elements(begin, end)
        gaps = self._gaps(elements, is_dst)
        held = np.flatnonzero(gaps)
        self._slots = Slots(
            (1 << (elements >> self._top)).tolist(),
            dict(zip(held.tolist(), gaps[held].tolist(), strict=True)),
        )
        self._stops: list[int] = [*held.tolist(), len(elements)]
        self._at = 0
        self._size = len(elements)

    def _elements(self, begin: int, end: int) -> tuple[IntArray, IntArray]:
        """The elements that the micro-ops ask for, in order, and which of them are acc[dst]."""
        insn = self._insn
        dst = self._indices.of("dst", begin, end)
        if insn.use_imm:
            return dst, np.ones(len(dst), np.int64)
        src = self._indices.of("src", begin, end)
        # A2: the first, a changed source, one that the micro-op before has overwritten.
        reads = np.diff(src, prepend=self._before[1]) != 0
        if insn.alu_opcode != AluOp.REQ:
            reads |= np.concatenate(([self._before[0]], dst[:-1])) == src
        self._before = int(dst[-1]), int(src[-1])
        sources = slots_of_source(insn)
        places = np.cumsum(reads * sources + 1) - 1
        elements = np.empty(int(places[-1]) + 1, np.int64)
        is_dst = np.zeros(len(elements), np.int64)
        elements[places], is_dst[places] = dst, 1
        for part in range(sources):  # A1
            elements[places[reads] - sources + part] = src[reads] + part
        return elements, is_dst

    def _gaps(self, elements: IntArray, is_dst: IntArray) -> IntArray:
        """Per slot that A3 holds for: how many slots ago the same element was an acc[dst].

        0 where that is none of the last ACC_HAZARD - 1.
        """
        size, reach = len(elements), _REACH
        joined = np.concatenate((self._tail, np.stack((elements, is_dst))), axis=1)
        self._tail = joined[:, -reach:]
        held = np.ones(size, bool)
        if self._insn.alu_opcode in machine.FORWARDED_OPS:
            held = is_dst == 0
        gaps = np.zeros(size, np.int64)
        for gap in range(reach, 0, -1):
            earlier = joined[:, reach - gap : reach - gap + size]
            gaps[held & (earlier[0] == elements) & (earlier[1] == 1)] = gap
        return gaps

    @property
    def ended(self) -> bool:
        """Whether all slots have been granted."""
        return self._at == self._size and self._next_block == self._count

    @property
    def known(self) -> int:
        """How many of the slots that come next are laid out."""
        return self._size - self._at

    def plan(self, n: int, taken: list[int]) -> Sequence[int]:
        """As `User.plan` says."""
        return self._slots.fit(self._at, n, taken, self._times)

    def grant(self, cycles: Sequence[int]) -> None:
        """The next slots are granted."""
        self.granted.add_each(cycles)
        self._times += cycles[-_REACH:]
        del self._times[:-_REACH]
        self._at += len(cycles)
        if self._at == self._size and self._next_block < self._count:
            self._refill()

    def run(self, begin: int, end: int) -> None:
        """One slot per cycle, but for those that A3 puts off."""
        n = begin
        while not self.ended:
            n = max(n, self._slots.earliest(self._at, self._times))
            if n >= end:
                break
            # A3 holds for none of those up to the next stop.
            stop = self._stops[bisect_right(self._stops, self._at)]
            count = min(end - n, stop - self._at)
            self.grant(range(n, n + count))
            n += count
