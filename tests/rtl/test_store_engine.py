"""The store engine: bytes, bursts and cycles, against a list of beats made from the rules."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from tests.rtl.axi_checker import WriteChecker, watch
from tests.rtl.bench import parameters, rng, run_cocotb
from vta_hw.spec.config import MemType, VtaConfig

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from cocotb.clock import Clock  # noqa: E402
from cocotb.triggers import FallingEdge, ReadOnly  # noqa: E402
from cocotbext.axi import AxiRamWrite, AxiWriteBus  # noqa: E402

BUS_FAULT = 10
READ_DELAY = 6
RANGE = 1 << 15
FIELDS = (("address", 32), ("stride", 32), ("rows", 16), ("columns", 16), ("sram", 16))


def config_of(base, settings):
    return VtaConfig.load(base).override(settings)


class Shape:
    """Sizes of the unit under test."""

    def __init__(self):
        values = parameters()
        self.bus, self.element = values["bus_bytes"], values["element_bytes"]
        self.depth, self.most = values["depth"], values["max_reads"]
        self.window = min(4096, 256 * self.bus)
        self.read = max(1, self.bus // self.element)


class Beat:
    """A beat of a store: what is read for it, and what must be on the bus."""

    def __init__(self, shape, job, low, high, first_element, out):
        self.address = low // shape.bus * shape.bus
        self.index = first_element
        self.strobe = self.data = 0
        for place in range(low, high):
            element, byte = divmod(place - job["row_address"], shape.element)
            value = out[job["row_sram"] + element] >> 8 * byte & 255
            self.strobe |= 1 << place - self.address
            self.data |= value << 8 * (place - self.address)
        self.first = self.last = self.final = False
        self.beats = 0


def beats_of(shape, job, out):
    """Rule B1, byte by byte."""
    beats = []
    size = job["columns"] * shape.element
    for row in range(job["rows"]):
        start = job["address"] + row * job["stride"]
        place = {"row_address": start, "row_sram": job["sram"] + row * job["columns"]}
        low, row_beats = start, []
        while low < start + size:
            high = min((low // shape.bus + 1) * shape.bus, start + size)
            element = place["row_sram"] + (low - start) // shape.element
            row_beats.append(Beat(shape, place, low, high, element, out))
            low = high
        for number, beat in enumerate(row_beats):
            beat.first = number == 0 or beat.address % shape.window == 0
        for number, beat in enumerate(row_beats):
            beat.last = number + 1 == len(row_beats) or row_beats[number + 1].first
        beats += row_beats
    begin = 0
    for number, beat in enumerate(beats):
        begin = number if beat.first else begin
        beats[begin].beats = number - begin + 1
    beats[-1].final = True
    return beats


def random_job(random, shape):
    rows = random.choice((1, 1, 2, 3, 9))
    most = shape.depth // rows
    columns = random.choice((1, 2, 3, random.randint(1, most), random.randint(1, min(40, most))))
    columns = min(columns, most)
    size = shape.element * columns
    stride = shape.element * random.choice((0, 1, columns, columns + 1, random.randrange(64)))
    top = RANGE - stride * rows - size
    near = shape.window * random.randint(0, 3) - shape.element * random.randrange(40)
    address = near if 0 <= near < top else shape.element * random.randrange(top // shape.element)
    return {
        "address": address,
        "stride": stride,
        "rows": rows,
        "columns": columns,
        "sram": random.randint(0, shape.depth - rows * columns),
    }


def row_is_cut(shape, job):
    """Whether the first row takes more than one burst."""
    last = job["address"] + job["columns"] * shape.element - 1
    return job["address"] // shape.window != last // shape.window


def job_bits(job):
    value = low = 0
    for name, width in FIELDS:
        value |= job[name] << low
        low += width
    return value


class Out:
    """The memory that is read: elements one cycle after the enable, else anything."""

    def __init__(self, dut, shape, random):
        self.dut, self.shape, self.random = dut, shape, random
        bits = 8 * shape.element
        self.elements = [random.getrandbits(bits) for _ in range(shape.depth)]
        self.read = None

    def drive(self):
        """For this cycle, from what the one before asked for."""
        bits, value = 8 * self.shape.element, 0
        for number in range(self.shape.read):
            place = self.shape.depth if self.read is None else self.read + number
            known = place < self.shape.depth
            element = self.elements[place] if known else self.random.getrandbits(bits)
            value |= element << bits * number
        self.dut.out__data.value = value

    def sample(self):
        enabled = bool(int(self.dut.out__enable.value))
        self.read = int(self.dut.out__index.value) if enabled else None


class Slave:
    """AW, W and B with random stalls; checks what comes, in order, against the expected beats."""

    def __init__(self, dut, random, latency, ready, error):
        self.dut, self.random, self.latency = dut, random, latency
        self.ready, self.error = ready, error
        self.addresses: deque[Beat] = deque()
        self.data: deque[Beat] = deque()
        self.presented = self.accepted = self.finished = 0
        self.inside = False
        self.due: deque[tuple[int, bool]] = deque()
        self.done_beats: deque[tuple[int, bool]] = deque()
        self.held: dict[str, Any] = {"aw": None, "w": None}
        self.memory: dict[int, int] = {}
        self.response = None

    def expect(self, beats):
        self.addresses += [beat for beat in beats if beat.first]
        self.data += beats

    def drive(self, cycle):
        self.dut.axi__awready.value = self.random.random() < self.ready
        self.dut.axi__wready.value = self.random.random() < self.ready
        self.response = None
        late = self.ready < 1 and self.random.random() < 0.3
        if self.due and self.due[0][0] <= cycle and not late:
            self.response = self.due.popleft()
        self.dut.axi__bvalid.value = self.response is not None
        self.dut.axi__bresp.value = 2 if self.response and self.response[1] else 0
        self.dut.axi__bid.value = 0

    def _stable(self, channel, payload, valid, ready):
        if self.held[channel] is not None:
            assert valid and payload == self.held[channel], f"{channel} did not wait"
        self.held[channel] = payload if valid and not ready else None

    def sample(self, cycle):
        """Whether (address, data) were valid in this cycle."""
        dut = self.dut
        valid, ready = int(dut.axi__awvalid.value), int(dut.axi__awready.value)
        payload = (int(dut.axi__awaddr.value), int(dut.axi__awlen.value)) if valid else None
        self._stable("aw", payload, valid, ready)
        self.presented = self.accepted + valid
        if valid and ready:
            beat = self.addresses.popleft()
            assert payload == (beat.address, beat.beats - 1)
            self.accepted += 1
        wvalid, wready = int(dut.axi__wvalid.value), int(dut.axi__wready.value)
        values: Any = None
        if wvalid:
            names = ("data", "strb", "last")
            values = tuple(int(getattr(dut, f"axi__w{name}").value) for name in names)
            begun = self.finished + 1
            assert begun <= self.presented, "data before their address"
        self._stable("w", values, wvalid, wready)
        assert int(dut.write_beat.value) == (wvalid and wready)
        if wvalid and wready:
            self._beat(cycle, *values)
        while self.done_beats and self.accepted > self.done_beats[0][0]:
            number, failed = self.done_beats.popleft()
            after = self.due[-1][0] + 1 if self.due else 0
            self.due.append((max(cycle + self.latency, after), failed))
        return bool(valid), bool(wvalid)

    def _beat(self, cycle, value, strobe, last):
        beat = self.data.popleft()
        assert (strobe, last) == (beat.strobe, beat.last)
        mask = sum(255 << 8 * byte for byte in range(strobe.bit_length()) if strobe >> byte & 1)
        assert value & mask == beat.data
        for byte in range(strobe.bit_length()):
            if strobe >> byte & 1:
                self.memory[beat.address + byte] = value >> 8 * byte & 255
        if last:
            self.done_beats.append((self.finished, self.random.random() < self.error))
            self.finished += 1


class Rules:
    """T1 to T5: what the engine may do in each cycle, and must with the ideal memory."""

    def __init__(self, shape):
        self.shape = shape
        self.waiting: Any = None
        self.beats: deque[Beat] = deque()
        self.earliest = 0
        self.open = 0
        self.jobs: deque[dict] = deque()
        self.unfinished = 0

    def may_read(self, cycle):
        if not self.beats or cycle < self.earliest:
            return False
        return not self.beats[0].first or self.open < self.shape.most

    def takes(self, cycle):
        return self.waiting is not None and not self.beats

    def step(self, cycle, read, response, started):
        """Returns done and fault of two cycles later, if this response ends a job."""
        end = None
        if response is not None:
            self.open -= 1
            job = self.jobs[0]
            job["left"] -= 1
            job["failed"] |= response[1]
            if job["left"] == 0:
                self.jobs.popleft()
                self.unfinished -= 1
                end = BUS_FAULT if job["failed"] else 0
        takes = self.takes(cycle)
        if read:
            beat = self.beats.popleft()
            self.open += beat.first
        if takes:
            issued, beats = self.waiting
            self.beats.extend(beats)
            self.earliest = max(cycle + 1, issued + READ_DELAY)
            self.waiting = None
        if started is not None:
            self.waiting = (cycle, started)
            bursts = sum(beat.first for beat in started)
            self.jobs.append({"left": bursts, "failed": False})
            self.unfinished += 1
        return end


async def start(dut):
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    for name in ("work__start__valid", "axi__awready", "axi__wready", "axi__bvalid"):
        getattr(dut, name).value = 0
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.rst.value = 0


def stored(shape, jobs, out):
    memory = {}
    for job in jobs:
        for row in range(job["rows"]):
            for column in range(job["columns"]):
                value = out.elements[job["sram"] + row * job["columns"] + column]
                place = job["address"] + row * job["stride"] + column * shape.element
                for byte in range(shape.element):
                    memory[place + byte] = value >> 8 * byte & 255
    return memory


async def run(dut, jobs, random, *, latency, ready=1.0, eager=1.0, error=0.0):
    """Hold one run of jobs to the rules; returns the cycles in which beats were read."""
    await start(dut)
    shape = Shape()
    out, rules = Out(dut, shape, random), Rules(shape)
    slave = Slave(dut, random, latency, ready, error)
    pending, reads, cycle, still = deque(jobs), [], 0, 0
    aw_due: set[int] = set()
    w_due: set[int] = set()
    done_due: dict[int, int] = {}
    arrives = False
    while still < 12:
        offer = bool(pending) and rules.unfinished < 8 and random.random() < eager
        dut.work__start__valid.value = offer
        dut.work__start__payload.value = job_bits(pending[0]) if offer else 0
        slave.drive(cycle)
        out.drive()
        await ReadOnly()
        accepts = int(dut.work__start__ready.value)
        assert accepts == (rules.waiting is None)
        started = beats_of(shape, pending.popleft(), out.elements) if offer and accepts else None
        if started:
            slave.expect(started)
        read = bool(int(dut.busy.value))
        allowed = rules.may_read(cycle)
        assert read == allowed if ready == 1.0 else read <= allowed, f"read in cycle {cycle}"
        assert int(dut.out__enable.value) == read
        first = read and rules.beats[0].first
        assert int(dut.write_burst.value) == first
        if read:
            assert int(dut.out__index.value) == rules.beats[0].index % shape.depth
            reads.append(cycle)
            w_due.add(cycle + 2)
            if first:
                aw_due.add(cycle + 1)
        moving = read or rules.takes(cycle) or rules.open > 0 or arrives
        assert int(dut.moving.value) == moving, f"moving in cycle {cycle}"
        out.sample()
        valids = slave.sample(cycle)
        if ready == 1.0:
            assert valids == (cycle in aw_due, cycle in w_due)
        assert int(dut.work__done.value) == (cycle in done_due)
        if cycle in done_due:
            assert int(dut.work__fault.value) == done_due[cycle]
        arrives = slave.response is not None
        end = rules.step(cycle, read, slave.response, started)
        if end is not None:
            done_due[cycle + 2] = end
        still = 0 if moving or pending or rules.waiting else still + 1
        cycle += 1
        await FallingEdge(dut.clk)
    assert not slave.data and not slave.addresses and not rules.unfinished
    assert slave.memory == stored(shape, jobs, out)
    return reads


@cocotb.test()
async def one_beat_per_cycle(dut):
    """No gap within a job; one still cycle between jobs: taken in the cycle after, read in the
    next. Only a low limit of open bursts stops it."""
    random, shape = rng(), Shape()
    columns = min(shape.depth // 4, 3 * shape.read)
    job = {
        "address": 0x1000,
        "stride": 2 * shape.element * columns,
        "rows": 4,
        "columns": columns,
        "sram": 0,
    }
    reads = await run(dut, [job, job, job], random, latency=1)
    beats = len(reads) // 3
    if shape.most >= 64:
        # Taken in the cycle after the last read, and the next one issued in the cycle after that.
        expected = list(range(READ_DELAY, READ_DELAY + beats))
        taken = 1
        for _ in range(2):
            issued, taken = taken + 1, expected[-1] + 1
            begin = max(taken + 1, issued + READ_DELAY)
            expected += range(begin, begin + beats)
        assert reads == expected


@cocotb.test()
async def ideal_memory(dut):
    random, shape = rng(), Shape()
    cut = 0
    for latency in (1, 2, 32):
        for eager in (1.0, 0.1):
            jobs = [random_job(random, shape) for _ in range(parameters()["jobs"])]
            await run(dut, jobs, random, latency=latency, eager=eager)
            cut += sum(row_is_cut(shape, job) for job in jobs)
    assert cut > 0, "no row lay across a window"


@cocotb.test()
async def stalls_on_every_channel(dut):
    random, shape = rng(), Shape()
    for ready in (0.9, 0.5, 0.15):
        jobs = [random_job(random, shape) for _ in range(parameters()["jobs"])]
        await run(dut, jobs, random, latency=random.choice((1, 20)), ready=ready)


@cocotb.test()
async def error_responses(dut):
    random, shape = rng(), Shape()
    for ready in (1.0, 0.5):
        jobs = [random_job(random, shape) for _ in range(parameters()["jobs"])]
        await run(dut, jobs, random, latency=3, ready=ready, error=0.2)


@cocotb.test()
async def axi_ram(dut):
    """Another reading of AXI: cocotbext-axi's memory, under the protocol checker."""
    random, shape = rng(), Shape()
    await start(dut)
    ram = AxiRamWrite(AxiWriteBus.from_prefix(dut, "axi_"), dut.clk, dut.rst, size=RANGE)
    ram.w_channel.set_pause_generator(iter(lambda: random.random() < 0.3, None))
    ram.b_channel.set_pause_generator(iter(lambda: random.random() < 0.3, None))
    checker = WriteChecker(shape.bus, shape.most)
    cocotb.start_soon(watch(checker, dut, "axi__", dut.clk))
    out = Out(dut, shape, random)
    jobs = [random_job(random, shape) for _ in range(parameters()["jobs"])]
    pending, open_jobs = deque(jobs), 0
    for _ in range(100_000):
        offer = bool(pending) and open_jobs < 8
        dut.work__start__valid.value = offer
        dut.work__start__payload.value = job_bits(pending[0]) if offer else 0
        out.drive()
        await ReadOnly()
        if offer and int(dut.work__start__ready.value):
            pending.popleft()
            open_jobs += 1
        if int(dut.work__done.value):
            assert int(dut.work__fault.value) == 0
            open_jobs -= 1
        out.sample()
        await FallingEdge(dut.clk)
        if not pending and not open_jobs:
            break
    checker.finish()
    for place, value in stored(shape, jobs, out).items():
        assert ram.read(place, 1)[0] == value


COROUTINES = (
    "one_beat_per_cycle",
    "ideal_memory",
    "stalls_on_every_channel",
    "error_responses",
    "axi_ram",
)
CASES = {
    "equal": ("tiny", ["LOG_BUS_WIDTH=5", "MAX_READS=4"]),
    "two in a beat": ("tiny", ["MAX_READS=1"]),
    "sixteen in a beat": ("tiny", ["LOG_BUS_WIDTH=9"]),
    "many in a beat": (
        "tiny",
        ["LOG_BLOCK=0", "LOG_BUS_WIDTH=9", "LOG_ACC_BUFF_SIZE=10", "LOG_UOP_BUFF_SIZE=6"]
        + ["LOG_INP_BUFF_SIZE=6", "LOG_WGT_BUFF_SIZE=6", "MAX_READS=4"],
    ),
    "two beats": ("default", ["LOG_ACC_BUFF_SIZE=13"]),
    "four beats": ("default", ["LOG_BUS_WIDTH=5", "LOG_ACC_BUFF_SIZE=12", "MAX_READS=1"]),
    "batch": ("batch4", ["LOG_BUS_WIDTH=7", "LOG_ACC_BUFF_SIZE=14", "MAX_READS=4"]),
}


@pytest.mark.parametrize("case", CASES)
def test_store_engine(case, request):
    from vta_hw.rtl.store_engine import StoreEngine

    config = config_of(*CASES[case])
    run_cocotb(
        StoreEngine(config),
        __name__,
        COROUTINES,
        seed=int(request.config.getoption("--seed")),
        parameters={
            "bus_bytes": 1 << config.log_bus_width - 3,
            "element_bytes": config.elem_bytes(MemType.OUT),
            "depth": config.depth(MemType.ACC),
            "max_reads": config.max_reads,
            "jobs": 10,
        },
    )
