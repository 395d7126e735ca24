"""What the three stages have in common: issue, retirement in order, faults, states."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from vta_hw.rtl.fabric import fabric_of
from vta_hw.rtl.head import STAGE_UNITS, Head, head_layout, job_layouts
from vta_hw.rtl.signatures import FAULT_BITS, INDEX_BITS, OPS_BITS, Dispatch, Work
from vta_hw.rtl.stage_queue import StageQueue
from vta_hw.rtl.tokens import QUEUES
from vta_hw.rtl.transfer import ELEMENTS_BITS, LIMIT_BITS, STAGE_MEMORIES, base_ports
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import TOKEN_FLAGS, Stage, TokenQueue
from vta_hw.spec.registers import STAGE_STATES, State

_LOADERS = frozenset({"inp", "wgt", "uop", "acc"})
_COUNTING = frozenset({"gemm", "alu"})


def flight_layout(stage: Stage) -> data.StructLayout:
    """What is kept of an instruction from issue to retirement, see `head_layout`."""
    names = {"index", "pushes", "unit", "work", "bad", "memory", "elements"}
    if stage is Stage.COMPUTE:
        names |= {"finish", "reset"}
    return data.StructLayout(
        {name: field.shape for name, field in head_layout(stage) if name in names}
    )


class UnitTracker(wiring.Component):
    """Follows the jobs of one unit, which ends them in the order in which it gets them.

    Members
    -------
    start, done, fault
        The unit's `Work`: a job is handed over; `done` and `fault` as they come.
    retire
        The oldest instruction with a job here retires.
    finished
        The oldest one has ended well in a former cycle.
    bad
        The class of the fault with which it has ended in a former cycle, else 0.
    unfinished
        A job handed over in a former cycle was not done before this cycle.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        super().__init__(
            {
                "start": In(1),
                "done": In(1),
                "fault": In(FAULT_BITS),
                "retire": In(1),
                "finished": Out(1),
                "bad": Out(FAULT_BITS),
                "unfinished": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """After the first fault nothing retires, so that the ends behind it need no counting."""
        m = Module()
        running = Signal(range(self._slots + 1))
        ended = Signal(range(self._slots + 1))
        fault = Signal(FAULT_BITS)
        well = self.done & (self.fault == 0) & (fault == 0)
        with m.If(self.start ^ self.done):
            m.d.sync += running.eq(Mux(self.start, running + 1, running - 1))
        with m.If(well ^ self.retire):
            m.d.sync += ended.eq(Mux(well, ended + 1, ended - 1))
        with m.If(self.done & (fault == 0)):
            m.d.sync += fault.eq(self.fault)
        m.d.comb += [
            self.finished.eq(ended != 0),
            self.bad.eq(Mux(ended == 0, fault, 0)),
            self.unfinished.eq(running > self.done),
        ]
        return m


class StageControl(wiring.Component):
    """One stage: takes instructions from fetch, hands them to its units and retires them.

    Members
    -------
    dispatch
        From fetch.
    base_{memory}, dram_limit
        See `Transfer`.
    available, full, pop, push
        The token counters, a bit per ``TokenQueue``, see `TokenCounters`.
    {unit}
        The `Work` port of each unit of STAGE_UNITS.
    busy
        The stage's units make its state `busy` in this cycle.
    moving
        It issues, retires or stops.
    issue, issue_index, retire, retire_index, stop
        An instruction issues, retires, or stops the stage in this cycle.
    fault, fault_index
        The instruction that stopped the stage and its class; 0 before.
    held, oldest
        The stage holds instructions, and the index of the oldest; exact once nothing moves.
    state
        One bit per state of STAGE_STATES, of which one is high.
    bytes, memory
        Bytes that the instruction retiring in this cycle moved (else 0), and the memory type.
    """

    def __init__(self, config: VtaConfig, stage: Stage, slots: int, extra: dict[str, Out]) -> None:
        self._config = config
        self._stage = stage
        self._slots = slots
        layouts = job_layouts(config, stage)
        units = {
            unit: Out(Work(layouts[unit], OPS_BITS if unit in _COUNTING else 0))
            for unit in STAGE_UNITS[stage]
        }
        log_longest = max(config.log_elem_bytes(memory) for memory in STAGE_MEMORIES[stage])
        super().__init__(
            {
                "dispatch": In(Dispatch()),
                "dram_limit": In(LIMIT_BITS),
                **{name: In(width) for name, width in base_ports(stage).items()},
                "available": In(QUEUES),
                "full": In(QUEUES),
                "pop": Out(QUEUES),
                "push": Out(QUEUES),
                **units,
                "busy": In(1),
                "moving": Out(1),
                "issue": Out(1),
                "issue_index": Out(INDEX_BITS),
                "retire": Out(1),
                "retire_index": Out(INDEX_BITS),
                "stop": Out(1),
                "fault": Out(FAULT_BITS),
                "fault_index": Out(INDEX_BITS),
                "held": Out(1),
                "oldest": Out(INDEX_BITS),
                "state": Out(len(STAGE_STATES[stage])),
                "bytes": Out(ELEMENTS_BITS + log_longest),
                "memory": Out(head_layout(stage)["memory"].shape),
                **extra,
            }
        )
        self._info = Signal(head_layout(stage))
        self._front = Signal(flight_layout(stage))
        self._in_flight = Signal(range(slots + 1))
        self._closed = Signal()

    def _room(self, m: Module) -> Value:
        """Room besides that in the unit itself, for the instruction `_info` (L1, G1, T1)."""
        return self._in_flight != self._slots

    def _port_wait(self) -> Value:
        """The stage's state is `port` unless a former one applies."""
        return Value.cast(0)

    def elaborate(self, platform: object) -> Module:
        """Queue and head, issue, the list of what is in flight, retirement."""
        m = Module()
        m.submodules.queue = queue = StageQueue(
            self._config, fabric_of(platform).memory_attributes(f"{self._stage.name.lower()}_queue")
        )
        m.submodules.head = head = Head(self._config, self._stage)
        wiring.connect(m, wiring.flipped(self.dispatch), queue.dispatch)
        m.d.comb += [
            head.valid.eq(queue.valid),
            head.instruction.eq(queue.head),
            head.dram_limit.eq(self.dram_limit),
            head.issue.eq(self.issue),
            queue.issue.eq(self.issue),
            self._info.eq(head.info),
        ]
        for name in base_ports(self._stage):
            m.d.comb += getattr(head, name).eq(getattr(self, name))
        starts = self._connect_issue(m, head)
        settled = self._connect_flight(m)
        unfinished, waits_to_push = self._connect_retirement(m, starts, settled)
        m.d.comb += [
            self.moving.eq(self.issue | self.retire | self.stop),
            self.held.eq((self._in_flight != 0) | queue.valid),
            self.oldest.eq(Mux(self._in_flight != 0, self._front.index, queue.head.index)),
        ]
        self._connect_state(m, head.ready, unfinished, waits_to_push)
        self._connect_bytes(m)
        return m

    def _connect_issue(self, m: Module, head: Head) -> list[Value]:
        """Rule S2. Returns for each unit whether it is handed a job in this cycle."""
        info = self._info
        able = Signal()
        m.d.comb += able.eq(
            head.ready & ~self._closed & ((info.pops & ~self.available) == 0) & self._room(m)
        )
        units = [getattr(self, unit) for unit in STAGE_UNITS[self._stage]]
        for bit, unit in enumerate(units):
            m.d.comb += unit.start.valid.eq(able & info.work & info.unit[bit])
            m.d.comb += unit.start.payload.eq(getattr(head, f"job_{STAGE_UNITS[self._stage][bit]}"))
        starts = Cat(unit.start.valid & unit.start.ready for unit in units)
        m.d.comb += [
            self.issue.eq(able & (~info.work | starts.any())),
            self.issue_index.eq(info.index),
            self.pop.eq(info.pops & self.issue.replicate(QUEUES)),
        ]
        return list(starts)

    def _connect_flight(self, m: Module) -> Signal:
        """The list of instructions in flight; returns that the oldest was issued 2 cycles ago."""
        layout = flight_layout(self._stage)
        m.submodules.flight = flight = SyncFIFOBuffered(width=layout.size, depth=self._slots)
        entry = Signal(layout)
        m.d.comb += [entry[name].eq(self._info[name]) for name, _ in layout]
        m.d.comb += [
            flight.w_en.eq(self.issue),
            flight.w_data.eq(entry),
            flight.r_en.eq(self.retire),
            self._front.eq(flight.r_data),
        ]
        with m.If(self.issue ^ self.retire):
            m.d.sync += self._in_flight.eq(
                Mux(self.issue, self._in_flight + 1, self._in_flight - 1)
            )
        return flight.r_rdy

    def _connect_retirement(
        self, m: Module, starts: list[Value], settled: Signal
    ) -> tuple[Value, Value]:
        """Rules S5 and S6. Returns: a transfer is unfinished; the oldest waits for a counter."""
        front = self._front
        finished, bad, unfinished = [~front.work], front.bad, []
        for bit, name in enumerate(STAGE_UNITS[self._stage]):
            unit = getattr(self, name)
            tracker = UnitTracker(self._slots)
            m.submodules[f"track_{name}"] = tracker
            mine = front.work & front.unit[bit]
            m.d.comb += [
                tracker.start.eq(starts[bit]),
                tracker.done.eq(unit.done),
                tracker.fault.eq(unit.fault),
                tracker.retire.eq(self.retire & mine),
            ]
            finished.append(mine & tracker.finished)
            bad = bad | (tracker.bad & mine.replicate(FAULT_BITS))
            if name in _LOADERS or self._stage is Stage.STORE:
                unfinished.append(tracker.unfinished)
        bad_class, complete, blocked = Signal(FAULT_BITS), Signal(), Signal()
        running = settled & (self.fault == 0)
        m.d.comb += [
            bad_class.eq(bad),
            complete.eq(running & (bad_class == 0) & Cat(finished).any()),
            blocked.eq((front.pushes & self.full) != 0),
            self.retire.eq(complete & ~blocked),
            self.retire_index.eq(front.index),
            self.push.eq(front.pushes & self.retire.replicate(QUEUES)),
            self.stop.eq(running & (bad_class != 0)),
        ]
        with m.If(self.stop):
            m.d.sync += [self.fault.eq(bad_class), self.fault_index.eq(front.index)]
        with m.If((self.issue & ((self._info.bad != 0) | self._info.finish)) | self.stop):
            m.d.sync += self._closed.eq(1)
        return Cat(unfinished).any(), complete & blocked

    def _connect_state(
        self, m: Module, ready: Value, unfinished: Value, waits_to_push: Value
    ) -> None:
        applies: dict[State, Value] = {
            State.BUSY: self.busy,
            State.MEMORY: unfinished,
            State.PORT: self._port_wait(),
            State.TOKEN_FULL: waits_to_push,
            State.DRAIN: self._in_flight != 0,
        }
        for flag, queue in TOKEN_FLAGS[self._stage].items():
            if flag.startswith("pop"):
                lacks = self._info.pops[queue] & ~self.available[queue]
                applies[_wait_state(queue)] = ready & ~self._closed & lacks
        applies[State.IDLE] = Value.cast(1)
        former = Value.cast(0)
        for bit, state in enumerate(STAGE_STATES[self._stage]):
            m.d.comb += self.state[bit].eq(applies[state] & ~former)
            former = former | applies[state]

    def _connect_bytes(self, m: Module) -> None:
        front = self._front
        *others, last = STAGE_MEMORIES[self._stage]
        amount = front.elements << self._config.log_elem_bytes(last)
        for memory in others:
            shifted = front.elements << self._config.log_elem_bytes(memory)
            amount = Mux(front.memory == memory, shifted, amount)
        m.d.comb += [
            self.bytes.eq(Mux(self.retire, amount, 0)),
            self.memory.eq(front.memory),
        ]


def _wait_state(queue: TokenQueue) -> State:
    return State[queue.name]
