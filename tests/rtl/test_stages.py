"""The control of the three stages, cycle by cycle, with units that take as long as they like."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.rtl.bench import parameters, rng, run_cocotb
from tests.rtl.stage_model import Inputs, Item, StageModel

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth.hdl", reason="needs the extra 'rtl'")

from cocotb.clock import Clock  # noqa: E402
from cocotb.triggers import FallingEdge, RisingEdge  # noqa: E402

from vta_hw.rtl.compute_stage import ComputeStage  # noqa: E402
from vta_hw.rtl.load_stage import LoadStage  # noqa: E402
from vta_hw.rtl.store_stage import StoreStage  # noqa: E402
from vta_hw.rtl.transfer import STAGE_MEMORIES, base_name  # noqa: E402
from vta_hw.spec import isa, machine  # noqa: E402
from vta_hw.spec.config import INSN_BITS, MemType, VtaConfig  # noqa: E402
from vta_hw.spec.isa import TOKEN_MAX, Alu, FaultClass, Finish, Gemm, Load, Stage, Store  # noqa: E402
from vta_hw.spec.registers import STAGE_STATES  # noqa: E402

STAGES = {Stage.LOAD: LoadStage, Stage.COMPUTE: ComputeStage, Stage.STORE: StoreStage}
UNITS = {
    Stage.LOAD: ("inp", "wgt"),
    Stage.COMPUTE: ("gemm", "alu", "uop", "acc"),
    Stage.STORE: ("store",),
}
LIMIT = 1 << 20


# -- random instructions --------------------------------------------------------------------------


def _flags(random, stage):
    """Legal ones, none in most instructions."""
    flags = isa.TOKEN_FLAGS[stage]
    return {flag: random.random() < 0.35 for flag in flags} if random.random() < 0.6 else {}


def _item(random, stage, config, index, now, trouble):
    """A random instruction of `stage`; some have no work; with `trouble` few are bad or FINISH."""
    common = _flags(random, stage)
    if config.has("overlap") and stage is Stage.COMPUTE:
        common["overlap"] = random.random() < 0.7
    bad, unit = 0, None
    form = random.choice((Gemm, Alu, Load)) if stage is Stage.COMPUTE else Load
    form = Store if stage is Stage.STORE else form
    if stage is Stage.COMPUTE and random.random() < 0.03 * trouble:
        common.pop("overlap", None)
        return Item(Finish(**common), index, None, 0, now)
    if form in (Gemm, Alu):
        insn = form(**common, **({"reset": random.random() < 0.5} if form is Gemm else {}))
        unit = form.__name__.lower()
        if form is Alu and random.random() < 0.05 * trouble:
            insn = Alu(**common, alu_opcode=isa.AluOp.REQ, use_imm=True)
            bad = FaultClass.BAD_ALU_OPCODE
    else:
        memory = random.choice(STAGE_MEMORIES[stage])
        sizes = {"y_size": random.randrange(4), "x_size": random.randrange(4), "x_stride": 1}
        if random.random() < 0.04 * trouble:
            sizes, bad = {"y_size": 1, "x_size": 1, "dram_base": LIMIT}, FaultClass.DRAM_RANGE
        insn = form(**common, memory_type=int(memory), **sizes)
        if insn.x_size and insn.y_size:
            unit = "acc" if memory is MemType.ACC_8BIT else memory.name.lower()
            unit = "store" if stage is Stage.STORE else unit
    return Item(insn, index, None if bad else unit, int(bad), now)


# -- the units ------------------------------------------------------------------------------------


class Unit:
    """Ends its jobs in order, each after a random time; has a waiting place, or takes any job."""

    def __init__(self, random, port, loader, fault_rate):
        self.random, self.port, self.loader = random, port, loader
        self.fault_rate = fault_rate
        self.jobs = []
        self.waiting = False
        self.ending = None

    @property
    def ready(self):
        return not self.waiting

    def drive(self):
        """At the beginning of a cycle."""
        self._set("start__ready", self.ready)
        self._set("done", self.ending is not None)
        noise = self.random.getrandbits(4)
        self._set("fault", noise if self.ending is None else self.ending.fault)
        if not self.loader:
            noise = self.random.getrandbits(40)
            self._set("amount", noise if self.ending is None else self.ending.amount)

    def step(self, now, issued, still):
        """At the end of cycle `now`: maybe end the oldest job, take one, accept what was issued."""
        self.ending = None
        if self.jobs and not still and self.random.random() < 0.2:
            self.ending = item = self.jobs.pop(0)
            item.done = now
            item.amount = self.random.getrandbits(40)
            if self.random.random() < self.fault_rate:
                item.fault = int(FaultClass.BUS if self.loader else FaultClass.INDEX_RANGE)
        if self.waiting and not still and self.random.random() < 0.3:
            self.waiting = False
        if issued is not None:
            self.jobs.append(issued)
            self.waiting = self.loader

    def _set(self, name, value):
        getattr(self.port, f"__{name}").value = int(value)


class _Port:
    """Members of the port `name` of a simulated component."""

    def __init__(self, dut, name):
        self._dut, self._name = dut, name

    def __getattr__(self, member):
        return getattr(self._dut, self._name + member)


# -- one run --------------------------------------------------------------------------------------


class Run:
    """Drives a stage from reset until it has come to rest, and compares every cycle."""

    def __init__(self, dut, random, stage, config, level):
        self.dut, self.random, self.stage, self.config = dut, random, stage, config
        self.model = StageModel(stage)
        self.trouble = random.random() < 0.5
        rate = 0.03 * self.trouble
        self.units = {
            name: Unit(random, _Port(dut, name), name not in ("gemm", "alu"), rate)
            for name in UNITS[stage]
        }
        self.tokens = dict.fromkeys(isa.TokenQueue, level)
        self.seen: Counter[Any] = Counter()

    async def go(self, count, cycles):
        """Dispatch `count` instructions in `cycles` cycles, then hold units and tokens still."""
        index, rest = 1000, count
        now = moved = 0
        while now < cycles or now <= moved + machine.QUIET:
            still = now >= cycles
            if self.model.closed and now > moved + 60:
                break
            dispatched = None
            room = len(self.model.queue) < self.config.cmd_queue_depth
            if rest and room and not still and self.random.random() < 0.4:
                dispatched = _item(self.random, self.stage, self.config, index, now, self.trouble)
                index, rest = index + self.random.randrange(1, 9), rest - 1
            given = self._drive(dispatched)
            await FallingEdge(self.dut.clk)
            assert self.dut.dispatch__room.value == room
            self.seen["queue_full"] += not room
            self.seen["slots_full"] += len(self.model.flying) == machine.STAGE_SLOTS
            self._check_rest()
            outcome = self.model.step(now, given)
            self._compare(outcome)
            self._follow(now, outcome, dispatched, still)
            if outcome.issue or outcome.retire or outcome.stop:
                moved = now
            await RisingEdge(self.dut.clk)
            now += 1

    def _drive(self, dispatched):
        dut, random = self.dut, self.random
        dut.dispatch__valid.value = int(dispatched is not None)
        noise = random.getrandbits(INSN_BITS + 32)
        if dispatched is not None:
            noise = isa.encode(dispatched.insn, self.config) | dispatched.index << INSN_BITS
        dut.dispatch__payload.value = noise
        dut.available.value = sum((self.tokens[q] > 0) << q for q in isa.TokenQueue)
        dut.full.value = sum((self.tokens[q] == TOKEN_MAX) << q for q in isa.TokenQueue)
        for unit in self.units.values():
            unit.drive()
        ready = [name for name, unit in self.units.items() if unit.ready]
        given = Inputs(dict(self.tokens), ready, random.random() < 0.1, random.random() < 0.1)
        dut.busy.value = int(given.busy)
        if self.stage is Stage.COMPUTE:
            dut.port.value = int(given.port)
        else:
            given.port = False
        return given

    def _check_rest(self):
        """Outputs that show what happened before this cycle."""
        dut, stopped = self.dut, self.model.stopped
        assert dut.fault.value == (0 if stopped is None else stopped.bad or stopped.fault)
        if stopped is not None:
            assert dut.fault_index.value == stopped.index
        if self.stage is Stage.COMPUTE:
            assert dut.finished.value == self.model.finished

    def _compare(self, outcome):
        dut, retire = self.dut, outcome.retire
        for name in ("issue", "retire", "stop"):
            item = getattr(outcome, name)
            assert getattr(dut, name).value == (item is not None), name
            if item is not None and name != "stop":
                assert getattr(dut, f"{name}_index").value == item.index
            self.seen[name] += item is not None
        anything = outcome.issue or outcome.retire or outcome.stop
        assert dut.moving.value == (anything is not None)
        state = STAGE_STATES[self.stage].index(outcome.state)
        assert dut.state.value == 1 << state, outcome.state
        self.seen[outcome.state] += 1
        pops = () if outcome.issue is None else isa.pops(outcome.issue.insn)
        pushes = () if retire is None else isa.pushes(retire.insn)
        assert dut.pop.value == sum(1 << queue for queue in pops)
        assert dut.push.value == sum(1 << queue for queue in pushes)
        for name in self.units:
            started = outcome.issue is not None and outcome.issue.unit == name
            start = getattr(dut, f"{name}__start__valid").value
            assert (start and self.units[name].ready) == started, name
        self._compare_counts(retire)

    def _compare_counts(self, retire):
        dut = self.dut
        insn = None if retire is None else retire.insn
        moved = 0
        if isinstance(insn, Load | Store):
            memory = MemType(insn.memory_type)
            moved = insn.x_size * insn.y_size * self.config.elem_bytes(memory)
            assert not moved or dut.memory.value == memory
        assert dut.bytes.value == moved
        if self.stage is Stage.COMPUTE:
            amount = 0 if retire is None else retire.amount
            reset = getattr(insn, "reset", False)
            assert dut.gemm_ops.value == (amount if isinstance(insn, Gemm) and not reset else 0)
            assert dut.gemm_reset_ops.value == (amount if isinstance(insn, Gemm) and reset else 0)
            assert dut.alu_ops.value == (amount if isinstance(insn, Alu) else 0)

    def _follow(self, now, outcome, dispatched, still):
        for name, unit in self.units.items():
            mine = outcome.issue is not None and outcome.issue.unit == name
            unit.step(now, outcome.issue if mine else None, still)
        if outcome.issue is not None:
            others = {item.group for item in self.model.flying} - {outcome.issue.group}
            self.seen.update((outcome.issue.group, other) for other in others)
        if dispatched is not None:
            self.model.queue.append(dispatched)
        for queue in isa.TokenQueue:
            change = 0
            if outcome.issue is not None:
                change -= queue in isa.pops(outcome.issue.insn)
            if outcome.retire is not None:
                change += queue in isa.pushes(outcome.retire.insn)
            # The other stages.
            up, down = self.random.random() < 0.05, self.random.random() < 0.02
            self.tokens[queue] += change
            if still:
                continue
            if up and self.tokens[queue] < TOKEN_MAX:
                self.tokens[queue] += 1
            elif down and self.tokens[queue] > 0:
                self.tokens[queue] -= 1

    async def check_held(self):
        """At rest the oldest instruction that has not retired is named."""
        await FallingEdge(self.dut.clk)
        left = [*self.model.flying, *self.model.queue]
        assert self.dut.held.value == bool(left)
        if left:
            assert self.dut.oldest.value == left[0].index


async def _reset(dut, stage):
    for memory in STAGE_MEMORIES[stage]:
        getattr(dut, base_name(memory)).value = 0
    dut.dram_limit.value = LIMIT
    dut.dispatch__valid.value = 0
    for name in UNITS[stage]:
        getattr(dut, f"{name}__done").value = 0
    dut.rst.value = 1
    await RisingEdge(dut.clk)
    await RisingEdge(dut.clk)
    dut.rst.value = 0


@cocotb.test()
async def follows_the_rules(dut):
    random = rng()
    given = parameters()
    stage = Stage[given["stage"]]
    config = VtaConfig.load(given["config"]).override(given["set"])
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    seen: Counter[Any] = Counter()
    for number in range(given["runs"]):
        await _reset(dut, stage)
        run = Run(dut, random, stage, config, level=(0, 2, TOKEN_MAX)[number % 3])
        await run.go(random.choice((3, 40, 40)), given["cycles"])
        await run.check_held()
        seen.update(run.seen)
    wanted: list[str] = ["issue", "retire", "stop", *STAGE_STATES[stage]]
    if stage is not Stage.COMPUTE:
        wanted.append("slots_full")
    if config.log_cmd_queue == 2:
        wanted.append("queue_full")
    missing = [name for name in wanted if not seen[name]]
    assert not missing, f"never seen: {missing}"
    if stage is Stage.COMPUTE and config.has("overlap"):
        groups = ("Gemm", "Alu", "dma")
        pairs = [(new, old) for new in groups for old in groups if new != old]
        assert all(seen[pair] for pair in pairs), f"of pairs only {seen}"


@pytest.mark.parametrize("stage", list(Stage), ids=lambda stage: stage.name.lower())
@pytest.mark.parametrize(
    ("name", "changes"),
    [("tiny", ["LOG_CMD_QUEUE=2"]), ("rect", []), ("pynq", ["LOG_CMD_QUEUE=3"])],
    ids=["tiny", "rect", "pynq"],
)
def test_stage(request, name, changes, stage):
    config = VtaConfig.load(name).override(changes)
    given = {"config": name, "set": changes, "stage": stage.name, "runs": 16, "cycles": 400}
    seed = request.config.getoption("--seed")
    run_cocotb(STAGES[stage](config), __name__, ["follows_the_rules"], seed=seed, parameters=given)
