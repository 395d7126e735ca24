"""The parts of the machine and their state."""

from __future__ import annotations

from vta_hw.spec import machine
from vta_hw.spec.isa import Stage as StageName
from vta_hw.spec.isa import TokenQueue
from vta_sim.lang.kinds import Array, i32, i64, inline_array, struct, u8
from vta_sim.native.machine import Machine
from vta_sim.timing.spans import NEVER, Spans

STAGES = len(StageName)
TOKENS = len(TokenQueue)

# Clients of the read channel by priority; the loaders have the numbers of their clients.
FETCH, UOP, ACC, INP, WGT = 0, 1, 2, 3, 4
CLIENTS = 5

REACH = machine.ACC_HAZARD - 1
"""Slots of an instruction that a later one of it may have to wait for (rule A3)."""

BLOCK = 1 << 12
"""Slots that are laid out at once, and cycles that are planned at once."""

LOWER, UPPER = 1, 2
"""The halves of ACC, as bits."""

# Units of the compute stage that ask for slots of ACC.
GEMM, ALU = 0, 1
UNITS = 2

NOBODY = -1
_WAKES = 8


@struct
class Wakes:
    """Cycles in which a part may have something to do; `next` is the first of them."""

    next: i64
    count: i64
    cycles: Array[i64] = inline_array(_WAKES)

    def wake(self, cycle: i64) -> None:
        """Something may happen in `cycle`."""
        for place in range(self.count):
            if self.cycles[place] == cycle:
                return
        if self.count == _WAKES:
            # Never met: a part waits for few things at once. To wake too soon is harmless.
            latest = 0
            for place in range(1, self.count):
                if self.cycles[place] > self.cycles[latest]:
                    latest = place
            self.cycles[latest] = min(self.cycles[latest], cycle)
        else:
            self.cycles[self.count] = cycle
            self.count += 1
        self.next = min(self.next, cycle)

    def begin(self, n: i64) -> None:
        """Cycle n is looked at; later ones stay."""
        kept = 0
        self.next = NEVER
        for place in range(self.count):
            cycle = self.cycles[place]
            if cycle > n:
                self.cycles[kept] = cycle
                kept += 1
                self.next = min(self.next, cycle)
        self.count = kept


@struct
class StagePart:
    """A stage: of its instructions in `order`, so many are dispatched, issued and retired."""

    number: i64
    order: Array[i32]
    dispatched: i64
    issued: i64
    left: i64
    stopped: bool
    finished: bool
    closed: bool
    last_issue: i64
    last_retire: i64
    full_since: i64
    to_issue: Wakes
    to_retire: Wakes
    token_full: Spans

    def head(self) -> i64:
        """The instruction at the head of the queue; there must be one."""
        return self.order[self.issued]

    def oldest(self) -> i64:
        """The oldest instruction in flight; there must be one."""
        return self.order[self.left]

    def in_flight(self) -> i64:
        """How many are issued and not retired."""
        return self.issued - self.left


@struct
class Tokens:
    """The four counters as of the beginning of a cycle, and what changes in it."""

    counts: Array[i64] = inline_array(TOKENS)
    changes: Array[i64] = inline_array(TOKENS)
    present_since: Array[i64] = inline_array(TOKENS)
    changed: bool


@struct
class Arrivals:
    """Spans in which beats arrive at a loader, as many as can lie ahead: a ring."""

    items: Array[i64]
    room: i64
    begin: i64
    count: i64

    def first(self, number: i64) -> i64:
        """First cycle of one of them."""
        return self.items[2 * ((self.begin + number) % self.room)]

    def last(self, number: i64) -> i64:
        """Last cycle of one of them."""
        return self.items[2 * ((self.begin + number) % self.room) + 1]

    def push(self, first: i64, last: i64) -> None:
        """One more, later than all others."""
        place = (self.begin + self.count) % self.room
        self.items[2 * place] = first
        self.items[2 * place + 1] = last
        self.count += 1

    def drop_before(self, n: i64) -> None:
        """Forget those that end before cycle n."""
        while self.count and self.last(0) < n:
            self.begin = (self.begin + 1) % self.room
            self.count -= 1


@struct
class Filling:
    """Vectors of padding that are left to fill; nothing is decided about `cycle` and later.

    The last `upper` of them lie in the upper half of ACC.
    """

    active: bool
    start: i64
    cycle: i64
    left: i64
    upper: i64


@struct
class Cursor:
    """How far the bursts of a transfer are asked for: the rest of row `row` from `at` to `end`."""

    at: i64
    end: i64
    row: i64
    rows: i64
    start: i64
    pitch: i64
    length: i64


@struct
class LoaderPart:
    """A loader: the instruction that waits, and the one it works on."""

    client: i64
    waiting: i64
    job: i64
    taken: i64
    next: i64
    cursor: Cursor
    replicates: bool
    last_grant: i64
    last_arrival: i64
    last_fill: i64
    filling: Filling
    ahead: Arrivals
    arrivals: Spans
    filled: Spans
    could_fill: Spans


@struct
class ReadPart:
    """The read channel: what each client requests, and the last beats of open bursts, a ring."""

    next: i64
    latency: i64
    max_reads: i64
    request: Array[i64] = inline_array(CLIENTS)
    beats: Array[i64] = inline_array(CLIENTS)
    open: Array[i64]
    open_begin: i64
    open_count: i64
    bus: Spans
    burst_count: i64
    beat_count: i64


@struct
class WritePart:
    """The write channel and the store engine: responses of open bursts, a ring."""

    next: i64
    waiting: i64
    taken: i64
    last_read: i64
    last_arrival: i64
    latency: i64
    max_writes: i64
    open: Array[i64]
    open_begin: i64
    open_count: i64
    reads: Spans
    bus: Spans
    burst_count: i64
    beat_count: i64


@struct
class FetchPart:
    """The fetch: `available` has the cycle of each instruction requested."""

    next: i64
    insn_base: i64
    available: Array[i64]
    requested: i64
    dispatched: i64
    blocked_since: i64
    stopped_in: i64
    queue_depth: i64
    queue_full: Spans


@struct
class Slots:
    """Slots in the order in which one user asks for them: so many as are laid out.

    `at` of `count` are granted. `halves` are their halves, as bits, and `gaps` says for those that
    A3 holds for how many slots before them the same element was an acc[dst]; it is 0 for others.
    `cycles` are those of the last `REACH` grants, then of the next ones, as planned; only the first
    of these if there is one in each cycle (`is_run`).
    """

    halves: Array[u8] = inline_array(BLOCK)
    gaps: Array[u8] = inline_array(BLOCK)
    cycles: Array[i64] = inline_array(REACH + BLOCK)
    at: i64
    count: i64
    planned: i64
    is_run: bool


@struct
class Work:
    """The micro-ops of GEMM or ALU in a unit: of `count`, the slots of `laid` are laid out.

    `dst` and `src` are those of the micro-op laid out last, `elements` what its last slots write,
    the latest first.
    """

    active: bool
    is_plain: bool
    index: i64
    start: i64
    fault: i64
    count: i64
    laid: i64
    dst: i64
    src: i64
    sources: i64
    rereads: bool
    all_held: bool
    elements: Array[i64] = inline_array(REACH)
    slots: Slots
    granted: Spans
    asked: Spans


@struct
class BeatsOfBurst:
    """Beats that arrive at the acc loader: which row of LOAD `index` from address `at` on."""

    first: i64
    last: i64
    index: i64
    row: i64
    at: i64


@struct
class AccPart:
    """The slots of the two halves of ACC; nothing is decided about `cycle` and later.

    `padding` are those of the vectors that the acc loader fills. `taken` are the halves that are
    taken in the `size` cycles that are being planned, as bits.
    """

    cycle: i64
    top: i64
    works: Array[Work] = inline_array(UNITS)
    padding: Slots
    taken: Array[u8] = inline_array(BLOCK)
    size: i64
    beats: Array[BeatsOfBurst]
    beats_room: i64
    beats_begin: i64
    beats_count: i64


@struct
class Core:
    """All parts, and what happened to each instruction and when."""

    machine: Machine
    bus_bytes: i64
    window: i64
    stages: Array[StagePart] = inline_array(STAGES)
    tokens: Tokens
    waits: Array[Spans] = inline_array(TOKENS)
    loaders: Array[LoaderPart] = inline_array(CLIENTS)
    read: ReadPart
    write: WritePart
    fetch: FetchPart
    acc: AccPart
    dispatch: Array[i64]
    issue: Array[i64]
    done: Array[i64]
    retire: Array[i64]
    bad: Array[i32]
    has_work: Array[i32]
    faults: Array[i32]
    was_executed: Array[i32]
    executed: Array[i32]
    executed_count: i64
    last_stop: i64
