"""The instruction fetch: rules F1 to F4."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vta_hw.spec import machine
from vta_hw.spec.config import INSN_BYTES, VtaConfig
from vta_hw.spec.isa import Instruction, Unknown
from vta_sim.cycle.bursts import Burst, chunk
from vta_sim.cycle.spans import NEVER, Spans
from vta_sim.cycle.stages import Stage


class Fetch:
    """Requests chunks and dispatches what they bring."""

    def __init__(
        self,
        config: VtaConfig,
        instructions: Sequence[Instruction],
        stages: Sequence[Stage],
        insn_base: int,
        wake_channel: Callable[[int], None],
    ) -> None:
        """`stages` has the stage of each instruction."""
        self._bus = machine.bus_bytes(config)
        self._depth = config.cmd_queue_depth
        self._instructions = instructions
        self._stages = stages
        self._insn_base = insn_base
        self._wake_channel = wake_channel
        self._available: list[int] = []
        self._blocked_since = NEVER
        self.dispatched = 0
        self.stopped_in: int | None = None
        self.queue_full = Spans()
        self.next = NEVER
        self.request = NEVER
        self.burst = Burst(0, 0)
        self._plan(1)  # F1: the first chunk in cycle 1

    def _plan(self, cycle: int) -> None:
        """Decide whether the next chunk is requested from `cycle` on (F1)."""
        first, count = len(self._available), len(self._instructions)
        self.request = NEVER
        if first == count or self.stopped_in is not None:
            return
        size = chunk(self._insn_base, first, count)
        if first - self.dispatched <= machine.FETCH_BUFFER - size:
            self.request = cycle
            beats = self._last_beat(first, first + size - 1) + 1
            self.burst = Burst(self._insn_base + INSN_BYTES * first, beats)
            self._wake_channel(cycle)

    def _last_beat(self, first: int, index: int) -> int:
        """Which beat of the chunk that begins with `first` has the last byte of `index`."""
        start = self._insn_base + INSN_BYTES * first
        return (self._insn_base + INSN_BYTES * (index + 1) - 1) // self._bus - start // self._bus

    def granted(self, cycle: int, first: int, last: int) -> None:
        """A chunk is on its way; each of its instructions can be dispatched 2 later (F2)."""
        begin = len(self._available)
        size = chunk(self._insn_base, begin, len(self._instructions))
        for index in range(begin, begin + size):
            self._available.append(first + self._last_beat(begin, index) + 2)
        if self.dispatched == begin:
            self.next = min(self.next, self._available[begin])
        self._plan(cycle + 1)

    def wake(self, cycle: int) -> None:
        """A queue has room from `cycle` on."""
        if self._blocked_since != NEVER and cycle < self.next:
            self.next = cycle

    def step(self, n: int) -> None:
        """Dispatch at most one instruction in cycle n (F3)."""
        self.next = NEVER
        index = self.dispatched
        if self.stopped_in is not None or index >= len(self._available):
            return
        if n < self._available[index]:
            self.next = self._available[index]
            return
        if isinstance(self._instructions[index], Unknown):  # F4
            self.stopped_in = n
            self.request = NEVER
            return
        stage = self._stages[index]
        if len(stage.queue) >= self._depth:
            self._blocked_since = min(self._blocked_since, n)
            return
        self.queue_full.add(self._blocked_since, n - 1)
        self._blocked_since = NEVER
        stage.enter(index, n)
        self.dispatched += 1
        if self.request == NEVER:
            self._plan(n + 1)
        if self.dispatched < len(self._available):
            self.next = max(n + 1, self._available[self.dispatched])

    def close(self, cycles: int) -> None:
        """The run took so many cycles: what still waits has waited to the end."""
        self.queue_full.add(self._blocked_since, cycles - 1)
