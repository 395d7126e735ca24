"""Fetch, against the rules of docs/timing.md kept by a list of instructions."""

from __future__ import annotations

import random
from collections import deque

import pytest

from tests.rtl.bench import parameters, rng, run_cocotb
from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Stage

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from cocotb.clock import Clock  # noqa: E402
from cocotb.triggers import FallingEdge, ReadOnly  # noqa: E402

STAGES = ("load", "compute", "store")
BAD_OPCODE, BUS = 1, 10
CHUNK, BUFFER = 16, 64


def config_of(base, bus):
    return VtaConfig.load(base).override([f"LOG_BUS_WIDTH={bus}"])


def random_instruction(random):
    """A word and the number of its stage; fields that fetch does not look at are random."""
    word = random.getrandbits(128) & ~0x3FF
    opcode, memory = random.randrange(5), random.randrange(8)
    word |= opcode | random.getrandbits(4) << 3 | memory << 7
    if opcode == 0 and memory not in (0, 3, 5):
        return word, 0
    return word, 2 if opcode == 1 else 1


class Memory:
    """Answers granted bursts in order, by the cycle; latency and gaps are the scenario's."""

    def __init__(self, words, base, bus_bytes, random, latency, stalls):
        self.bus_bytes = bus_bytes
        self.random, self.latency, self.stalls = random, latency, stalls
        self.bytes = {}
        for number, word in enumerate(words):
            for place, byte in enumerate(word.to_bytes(16, "little")):
                self.bytes[base + 16 * number + place] = byte
        self.beats: deque[tuple[int, int, bool]] = deque()
        self.free = 0

    def grant(self, cycle, address, beats):
        assert address % self.bus_bytes == 0
        assert address // 4096 == (address + beats * self.bus_bytes - 1) // 4096
        due = max(cycle + 1 + self.latency, self.free)
        for beat in range(beats):
            if self.stalls:
                due += self.random.choice((0, 0, 0, 1, 5))
            start = address + beat * self.bus_bytes
            data = [self.bytes.get(place, 0xFF) for place in range(start, start + self.bus_bytes)]
            self.beats.append((due + 1, int.from_bytes(bytes(data), "little"), beat == beats - 1))
            due += 1
        self.free = due

    def arrival(self, cycle):
        if self.beats and self.beats[0][0] == cycle:
            return self.beats.popleft()
        return None


class Rules:
    """What fetch must do, cycle by cycle, from rules B2 and F1 to F4."""

    def __init__(self, stages, base, bus_bytes):
        self.stages, self.base, self.bus_bytes = stages, base, bus_bytes
        self.granted = self.dispatched = 0
        self.arrived = []
        self.fault = None
        self.stopped_in = None

    def chunk(self):
        first = self.base // 16 + self.granted
        end = min((first // CHUNK + 1) * CHUNK, self.base // 16 + len(self.stages))
        return first, end

    def request(self, cycle):
        """(address, beats) of the burst requested in this cycle, or None."""
        first, end = self.chunk()
        if cycle < 1 or self.fault or self.granted == len(self.stages):
            return None
        if self.granted - self.dispatched > BUFFER - (end - first):
            return None
        low, high = 16 * first // self.bus_bytes, -(-16 * end // self.bus_bytes)
        return low * self.bus_bytes, high - low

    def available(self, cycle):
        number = self.dispatched
        return not self.fault and number < len(self.arrived) and self.arrived[number] + 2 <= cycle


async def start(dut):
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    for name in ("start", "port__request__ready", "port__beat", "port__error", "port__last"):
        getattr(dut, name).value = 0
    for stage in STAGES:
        getattr(dut, f"{stage}__room").value = 0
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.rst.value = 0


def drive(dut, scenario, cycle, memory):
    """Inputs of a cycle: whether a burst would be granted, rooms, whether the beat has an error."""
    random = scenario["random"]
    dut.start.value = cycle == 0
    dut.base.value = scenario["base"] if cycle == 0 else random.getrandbits(32)
    dut.count.value = scenario["count"] if cycle == 0 else random.getrandbits(32)
    ready = random.random() < scenario["ready"]
    rooms = [random.random() < scenario["room"] for _ in STAGES]
    dut.port__request__ready.value = ready
    for stage, room in zip(STAGES, rooms, strict=True):
        getattr(dut, f"{stage}__room").value = room
    beat = memory.arrival(cycle)
    error = beat is not None and random.random() < scenario["error"]
    dut.port__beat.value = beat is not None
    dut.port__data.value = beat[1] if beat else random.getrandbits(8 * memory.bus_bytes)
    dut.port__last.value = bool(beat and beat[2])
    dut.port__error.value = error if beat else random.getrandbits(1)
    return ready, rooms, beat is not None, error


def expect(rules, cycle, rooms, error):
    """(stage of the dispatched instruction or None, class of the stop or 0, state)."""
    if error and not rules.fault:
        return None, BUS, "memory"
    left = rules.dispatched < len(rules.stages)
    if not rules.available(cycle):
        return None, 0, "memory" if left and not rules.fault else "idle"
    stage = rules.stages[rules.dispatched]
    if stage is None:
        return None, BAD_OPCODE, "memory"
    if not rooms[stage]:
        return None, 0, "queue_full"
    return stage, 0, "busy"


def compare_dispatch(dut, rules, words, stage):
    for number, name in enumerate(STAGES):
        valid = int(getattr(dut, f"{name}__valid").value)
        assert valid == (stage == number), f"{name} {valid}, expected stage {stage}"
    if stage is None:
        return
    payload = int(getattr(dut, f"{STAGES[stage]}__payload").value)
    assert payload & (1 << 128) - 1 == words[rules.dispatched]
    assert payload >> 128 == rules.dispatched


async def run(dut, words, stages, scenario):
    """Hold one run to the rules; returns the cycles of dispatch."""
    memory = Memory(
        words,
        scenario["base"],
        scenario["bus_bytes"],
        scenario["random"],
        scenario["latency"],
        scenario["stalls"],
    )
    rules = Rules(stages, scenario["base"], scenario["bus_bytes"])
    scenario["count"] = len(words)
    insn_beats: deque[tuple[int, int, int]] = deque()
    cycle, still, cycles = 0, 0, []
    while still < 12:
        ready, rooms, beat, error = drive(dut, scenario, cycle, memory)
        await ReadOnly()
        stage, stop, state = expect(rules, cycle, rooms, error)
        compare_dispatch(dut, rules, words, stage)
        assert int(dut.moving.value) == (stage is not None or stop != 0)
        states = [int(getattr(dut, n).value) for n in ("busy", "queue_full", "memory", "idle")]
        assert states == [state == n for n in ("busy", "queue_full", "memory", "idle")], cycle
        assert int(dut.next_index.value) == rules.dispatched
        assert int(dut.exhausted.value) == (rules.dispatched == len(words))
        fault = rules.fault or (0, 0)
        assert (int(dut.fault.value), int(dut.fault_index.value)) == fault
        request = rules.request(cycle)
        assert int(dut.port__request__valid.value) == (request is not None), f"cycle {cycle}"
        granted = 0
        if request:
            payload = int(dut.port__request__payload.value)
            assert (payload & 0xFFFFFFFF, (payload >> 32) + 1) == request
            if ready:
                first, end = rules.chunk()
                granted = end - first
                memory.grant(cycle, *request)
                for beat_number in range(request[1]):
                    place = request[0] // scenario["bus_bytes"] + beat_number
                    insn_beats.append((place, first, end))
        if beat:
            place, first, end = insn_beats.popleft()
            for number in range(first, end):
                if (16 * number + 15) // scenario["bus_bytes"] == place:
                    rules.arrived.append(cycle)
        still = 0 if beat or insn_beats or request or rules.available(cycle) else still + 1
        rules.granted += granted
        if stop:
            rules.fault = (stop, rules.dispatched)
        if stage is not None:
            rules.dispatched += 1
            cycles.append(cycle)
        cycle += 1
        await FallingEdge(dut.clk)
    return cycles


def scenario_of(random, **changes):
    plain = {
        "random": random,
        "bus_bytes": parameters()["bus_bytes"],
        "base": 0x1000,
        "latency": 1,
        "stalls": False,
        "ready": 1.0,
        "room": 1.0,
        "error": 0.0,
    }
    return plain | changes


def stream_of(random, length, bad=0.0):
    pairs = []
    for _ in range(length):
        word, stage = random_instruction(random)
        if random.random() < bad:
            word, stage = word & ~7 | random.choice((5, 6, 7)), None
        pairs.append((word, stage))
    return [word for word, _ in pairs], [stage for _, stage in pairs]


@cocotb.test()
async def ideal_memory_exact_cycles(dut):
    random, latency = rng(), 32
    beats = max(1, 16 // parameters()["bus_bytes"])
    per_beat = max(1, parameters()["bus_bytes"] // 16)
    for length in (1, 15, 16, 17, 40):
        await start(dut)
        words, stages = stream_of(random, length)
        cycles = await run(dut, words, stages, scenario_of(random, latency=latency))
        # Requested in 1, accepted in 2, on the bus from 2 + latency on, there one later.
        first = 1 + 1 + latency + 1
        arrivals = [first + (number // per_beat + 1) * beats - 1 for number in range(length)]
        expected: list[int] = []
        for arrival in arrivals:
            expected.append(max(arrival + 2, expected[-1] + 1 if expected else 0))
        assert cycles == expected


@cocotb.test()
async def random_streams(dut):
    random = rng()
    for _ in range(parameters()["runs"]):
        await start(dut)
        words, stages = stream_of(random, random.choice((0, 1, 5, 16, 33, 130, 200)))
        scenario = scenario_of(
            random,
            base=16 * random.choice((0, 1, 2, 3, 15, random.randrange(1 << 20), 256)),
            latency=random.choice((1, 4, 40)),
            stalls=random.random() < 0.5,
            ready=random.choice((1.0, 0.5, 0.1)),
            room=random.choice((1.0, 0.9, 0.3)),
        )
        cycles = await run(dut, words, stages, scenario)
        assert len(cycles) == len(words)


@cocotb.test()
async def unknown_opcodes(dut):
    random = rng()
    for _ in range(parameters()["runs"]):
        await start(dut)
        words, stages = stream_of(random, random.choice((1, 20, 100)), bad=0.05)
        scenario = scenario_of(
            random,
            base=16 * random.randrange(64),
            latency=random.choice((1, 20)),
            room=random.choice((1.0, 0.3)),
        )
        cycles = await run(dut, words, stages, scenario)
        assert len(cycles) == (stages.index(None) if None in stages else len(stages))


@cocotb.test()
async def errors_on_the_bus(dut):
    random = rng()
    for _ in range(parameters()["runs"]):
        await start(dut)
        words, stages = stream_of(random, 90, bad=0.005)
        scenario = scenario_of(
            random,
            base=16 * random.randrange(64),
            latency=random.choice((1, 20)),
            room=random.choice((1.0, 0.3)),
            error=0.02,
        )
        await run(dut, words, stages, scenario)


COROUTINES = (
    "ideal_memory_exact_cycles",
    "random_streams",
    "unknown_opcodes",
    "errors_on_the_bus",
)


@pytest.mark.parametrize(
    "base, bus", [("tiny", 6), ("default", 5), ("rect", 7), ("tiny", 8), ("mac64", 9)]
)
def test_fetch(base, bus, request):
    from vta_hw.rtl.fetch import Fetch

    run_cocotb(
        Fetch(config_of(base, bus)),
        __name__,
        COROUTINES,
        seed=int(request.config.getoption("--seed")),
        parameters={"bus_bytes": 1 << bus - 3, "runs": 12},
    )


def test_the_test_knows_the_stages():
    generator, config = random.Random(0), VtaConfig.load("tiny")
    for _ in range(500):
        word, stage = random_instruction(generator)
        assert isa.stage_of(isa.decode(word, config)) == list(Stage)[stage]
    assert {t for t in range(8) if isa.stage_of(isa.Load(memory_type=t)) is Stage.COMPUTE} == {
        MemType.UOP,
        MemType.ACC,
        MemType.ACC_8BIT,
    }
