"""The counters of cycles, from the spans in which things happened."""

from __future__ import annotations

from vta_hw.spec.isa import Stage
from vta_hw.spec.registers import STAGE_STATES, State
from vta_sim.lang.kinds import Array, i64, inline_array, kernel, struct
from vta_sim.lang.ops import at, reinterpret
from vta_sim.timing.parts import ACC, INP, STAGES, TOKENS, UNITS, UOP, WGT, Core, StagePart
from vta_sim.timing.spans import MISSING, Layer, Spans, count_first, count_without
from vta_sim.timing.stages import consumer

_LAYERS = 16
_RANKS = 16

# Ranks of the states that every stage has, in their order; the waits come behind them by counter.
BUSY, MEMORY, PORT, TOKEN_FULL, DRAIN, WAIT = 0, 1, 2, 3, 4, 5
IDLE = WAIT + TOKENS

# Ranks of fetch.
FETCH_BUSY, FETCH_QUEUE_FULL, FETCH_MEMORY, FETCH_IDLE = FETCH_RANKS = 0, 1, 2, 3

_ORDER = (State.BUSY, State.MEMORY, State.PORT, State.TOKEN_FULL, State.DRAIN)
for _states in STAGE_STATES.values():
    if [s for s in _ORDER if s in _states] != [s for s in _states if s in _ORDER]:
        raise ImportError(f"the states {_states} have another order than their ranks here")


@struct
class Sums:
    """Cycles by rank: of the stages, of fetch; and of the units."""

    stages: Array[i64] = inline_array(STAGES * _RANKS)
    fetch: Array[i64] = inline_array(_RANKS)
    unit_busy: Array[i64] = inline_array(UNITS)
    unit_port: Array[i64] = inline_array(UNITS)
    dma_busy: i64
    dma_port: i64


@struct
class Sweep:
    """Layers that are gone through together, and spans made for it."""

    layers: Array[Layer] = inline_array(_LAYERS)
    count: i64
    memory: Spans
    drain: Spans
    moments: Spans

    def put(self, spans: Array[Spans], rank: i64) -> None:
        """Add a layer."""
        layer = self.layers[self.count]
        layer.spans = spans
        layer.rank = rank
        layer.at = 0
        self.count += 1

    def clear(self) -> None:
        """Begin anew."""
        self.count = 0
        self.memory.count = 0
        self.drain.count = 0
        self.moments.count = 0


@kernel
def count_states(core: Core, sweep: Sweep, sums: Sums, cycles: i64) -> None:
    """All counters of cycles."""
    for number in range(STAGES):
        count_stage(core, sweep, core.stages[number], cycles, at(sums.stages, number * _RANKS))
    count_fetch(core, sweep, sums, cycles)
    count_units(core, sweep, sums, cycles)
    sweep.memory.free()
    sweep.drain.free()
    sweep.moments.free()


@kernel
def count_stage(core: Core, sweep: Sweep, stage: StagePart, cycles: i64, found: Array[i64]) -> None:
    """The states of a stage."""
    sweep.clear()
    number = stage.number
    if number == Stage.LOAD:
        put_loader(sweep, core, INP, BUSY)
        put_loader(sweep, core, WGT, BUSY)
    elif number == Stage.COMPUTE:
        put_loader(sweep, core, UOP, BUSY)
        put_loader(sweep, core, ACC, BUSY)
        for unit in range(UNITS):
            sweep.put(reinterpret(Spans, core.acc.works[unit].granted), BUSY)
    else:
        sweep.put(reinterpret(Spans, core.write.reads), BUSY)
    hold(core, sweep, stage, cycles)
    sweep.put(reinterpret(Spans, sweep.memory), MEMORY)
    if number == Stage.COMPUTE:
        for unit in range(UNITS):
            # Where a unit asks for a slot and is granted none, it is not busy.
            sweep.put(reinterpret(Spans, core.acc.works[unit].asked), PORT)
    sweep.put(reinterpret(Spans, stage.token_full), TOKEN_FULL)
    sweep.put(reinterpret(Spans, sweep.drain), DRAIN)
    for token in range(TOKENS):
        if consumer(token) == number:
            sweep.put(reinterpret(Spans, core.waits[token]), WAIT + token)
    count_first(sweep.layers, sweep.count, cycles, found, IDLE)


@kernel
def hold(core: Core, sweep: Sweep, stage: StagePart, cycles: i64) -> None:
    """The cycles in which instructions of a stage are in flight, and those before their work ends.

    An instruction is from the cycle after its issue on; in the cycle in which it retires it still
    is.
    """
    for place in range(stage.issued):
        index = stage.order[place]
        issue = core.issue[index]
        retired = core.retire[index]
        sweep.drain.add(issue + 1, cycles - 1 if retired == MISSING else retired)
        if core.has_work[index]:
            sweep.memory.add(issue + 1, min(core.done[index], cycles - 1))


@kernel
def count_fetch(core: Core, sweep: Sweep, sums: Sums, cycles: i64) -> None:
    """The states of fetch."""
    sweep.clear()
    fetch = core.fetch
    count = core.machine.count
    for index in range(fetch.dispatched):
        sweep.moments.add(core.dispatch[index], core.dispatch[index])
    end = cycles - 1
    if fetch.dispatched == count:
        end = core.dispatch[count - 1] if count else -1
    elif fetch.stopped_in != MISSING:
        end = fetch.stopped_in
    sweep.memory.add(0, end)
    sweep.put(reinterpret(Spans, sweep.moments), FETCH_BUSY)
    sweep.put(reinterpret(Spans, fetch.queue_full), FETCH_QUEUE_FULL)
    sweep.put(reinterpret(Spans, sweep.memory), FETCH_MEMORY)
    count_first(sweep.layers, sweep.count, cycles, sums.fetch, FETCH_IDLE)


@kernel
def count_units(core: Core, sweep: Sweep, sums: Sums, cycles: i64) -> None:
    """What the units of the compute stage did and waited for."""
    for unit in range(UNITS):
        work = core.acc.works[unit]
        sums.unit_busy[unit] = work.granted.total()
        # It is granted slots only while it asks for them.
        sums.unit_port[unit] = work.asked.total() - sums.unit_busy[unit]
    sweep.clear()
    put_loader(sweep, core, UOP, 0)
    put_loader(sweep, core, ACC, 0)
    found = at(sums.fetch, _RANKS - 2)
    count_first(sweep.layers, sweep.count, cycles, found, 1)
    sums.dma_busy = found[0]
    sweep.clear()
    sweep.put(reinterpret(Spans, core.loaders[UOP].could_fill), 0)
    sweep.put(reinterpret(Spans, core.loaders[UOP].filled), 0)
    sweep.put(reinterpret(Spans, core.loaders[ACC].could_fill), 0)
    sweep.put(reinterpret(Spans, core.loaders[ACC].filled), 0)
    sums.dma_port = count_without(sweep.layers, 2, cycles)


@kernel
def put_loader(sweep: Sweep, core: Core, client: i64, rank: i64) -> None:
    """The cycles in which beats arrive at a loader or vectors are filled."""
    sweep.put(reinterpret(Spans, core.loaders[client].arrivals), rank)
    sweep.put(reinterpret(Spans, core.loaders[client].filled), rank)
