"""The machine without its control port: all units, wired."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from vta_hw.rtl.acc_loader import AccLoader
from vta_hw.rtl.acc_memory import AccMemory
from vta_hw.rtl.alu import Alu
from vta_hw.rtl.compute_stage import ComputeStage
from vta_hw.rtl.control_port import ACC_WRITES, SETTINGS, VERDICT_BITS
from vta_hw.rtl.counters import Counters
from vta_hw.rtl.fetch import Fetch
from vta_hw.rtl.gemm import Gemm
from vta_hw.rtl.head import STAGE_UNITS
from vta_hw.rtl.load_stage import LoadStage
from vta_hw.rtl.loader import Loader
from vta_hw.rtl.read_channel import AxiRead, ReadChannel
from vta_hw.rtl.scratchpad import Scratchpad
from vta_hw.rtl.signatures import INDEX_BITS, READ_CLIENTS, ElementRead
from vta_hw.rtl.store_engine import StoreEngine
from vta_hw.rtl.store_stage import StoreStage
from vta_hw.rtl.tokens import TokenCounters
from vta_hw.rtl.transfer import STAGE_MEMORIES, base_ports
from vta_hw.rtl.verdict import EndOfRun
from vta_hw.rtl.write_channel import AxiWrite
from vta_hw.spec import registers
from vta_hw.spec.config import INSN_BYTES, MemType, VtaConfig
from vta_hw.spec.isa import Stage
from vta_hw.spec.registers import FETCH_STATES, STAGE_STATES, UNIT_COUNTERS

STAGES = {stage.name.lower(): stage for stage in Stage}


def tap_ports() -> dict[str, int]:
    """The event taps with their widths: what happens in this cycle, and to which instruction."""
    ports = {"tap_running": 1, "tap_dispatch": 1, "tap_dispatch_index": INDEX_BITS}
    for stage in STAGES:
        for event in ("issue", "retire"):
            ports[f"tap_{stage}_{event}"] = 1
            ports[f"tap_{stage}_{event}_index"] = INDEX_BITS
    return ports


class Engine(wiring.Component):
    """Fetch, the three stages and their units, memories, counters and verdict.

    It starts from its reset values; the contents of its memories do not matter.

    Members
    -------
    read, write
        The AXI4 channels.
    settings, start, running, ended, verdict, verdict_index, counter, counter_value, settled
        The other side of `ControlPort`.
    tap_running ...
        `tap_ports`, not registered: in the clock cycle n of a run, what happens in its cycle n.
    """

    def __init__(self, config: VtaConfig) -> None:
        self._config = config
        super().__init__(
            {
                "read": Out(AxiRead(config)),
                "write": Out(AxiWrite(config)),
                "settings": In(SETTINGS),
                "start": In(1),
                "running": In(1),
                "ended": Out(1),
                "verdict": Out(VERDICT_BITS),
                "verdict_index": Out(INDEX_BITS),
                "counter": In(range(ACC_WRITES + 1)),
                "counter_value": Out(registers.COUNTER_BITS),
                "settled": Out(1),
                **{name: Out(width) for name, width in tap_ports().items()},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Make the units, then connect them group by group."""
        m = Module()
        config = self._config
        units: dict[str, Any] = {
            "fetch": Fetch(config),
            "load_stage": LoadStage(config),
            "compute_stage": ComputeStage(config),
            "store_stage": StoreStage(config),
            "inp": Loader(config, MemType.INP),
            "wgt": Loader(config, MemType.WGT),
            "uop": Loader(config, MemType.UOP),
            "acc": AccLoader(config),
            "gemm": Gemm(config),
            "alu": Alu(config),
            "store": StoreEngine(config),
            "read_channel": ReadChannel(config),
        }
        for name, unit in units.items():
            m.submodules[name] = unit
        self._connect_bus(m, units)
        self._connect_memories(m, units)
        self._connect_stages(m, units)
        self._connect_states(m, units)
        self._connect_verdict(m, units)
        self._connect_counters(m, units)
        self._connect_taps(m, units)
        return m

    def _connect_bus(self, m: Module, units: Mapping[str, Any]) -> None:
        channel = units["read_channel"]
        for client in READ_CLIENTS:
            connect(m, units[client].port, getattr(channel, client))
        connect(m, channel.axi, flipped(self.read))
        connect(m, units["store"].axi, flipped(self.write))

    def _connect_memories(self, m: Module, units: Mapping[str, Any]) -> None:
        config, gemm, alu = self._config, units["gemm"], units["alu"]
        readers = {
            MemType.UOP: [gemm.uop, alu.uop],
            MemType.INP: [gemm.inp],
            MemType.WGT: [gemm.wgt],
        }
        if not config.has("overlap"):
            readers[MemType.UOP] = [self._one_reader(m, gemm.uop, alu.uop)]
        for memory, ports in readers.items():
            name = memory.name.lower()
            pad = Scratchpad(config, memory, len(ports))
            m.submodules[f"{name}_memory"] = pad
            connect(m, units[name].write, pad.write)
            for port, reader in zip(ports, pad.read, strict=True):
                connect(m, port, reader)
        m.submodules.acc_memory = acc = AccMemory(config)
        connect(m, units["acc"].acc, acc.load)
        connect(m, gemm.acc, acc.gemm)
        connect(m, alu.acc, acc.alu)
        connect(m, units["store"].out, acc.out)

    def _one_reader(self, m: Module, first: Any, second: Any) -> Any:
        """Both read through one port: an instruction waits until all older ones have retired.

        Without this the memory would be there twice.
        """
        shared = ElementRead(len(first.index), len(first.data)).create()
        m.d.comb += [
            shared.enable.eq(first.enable | second.enable),
            shared.index.eq(Mux(first.enable, first.index, second.index)),
            first.data.eq(shared.data),
            second.data.eq(shared.data),
        ]
        return shared

    def _connect_stages(self, m: Module, units: Mapping[str, Any]) -> None:
        m.submodules.tokens = tokens = TokenCounters()
        stages = [units[f"{name}_stage"] for name in STAGES]
        m.d.comb += [
            tokens.push.eq(_any(stage.push for stage in stages)),
            tokens.pop.eq(_any(stage.pop for stage in stages)),
        ]
        for name, stage in zip(STAGES, stages, strict=True):
            connect(m, getattr(units["fetch"], name), stage.dispatch)
            m.d.comb += [
                stage.available.eq(tokens.available),
                stage.full.eq(tokens.full),
                stage.dram_limit.eq(self.settings.dram_limit),
            ]
            for base in base_ports(STAGES[name]):
                m.d.comb += getattr(stage, base).eq(self.settings[base])
            for unit in STAGE_UNITS[STAGES[name]]:
                connect(m, getattr(stage, unit), units[unit].work)

    def _connect_states(self, m: Module, units: Mapping[str, Any]) -> None:
        """What the stages' states depend on."""
        gemm, alu = units["gemm"], units["alu"]
        loading = units["uop"].busy | units["acc"].busy
        m.d.comb += [
            units["load_stage"].busy.eq(units["inp"].busy | units["wgt"].busy),
            units["compute_stage"].busy.eq(gemm.moving | alu.moving | loading),
            units["compute_stage"].port.eq(gemm.port | alu.port),
            units["store_stage"].busy.eq(units["store"].busy),
        ]

    def _connect_verdict(self, m: Module, units: Mapping[str, Any]) -> None:
        m.submodules.end = end = EndOfRun(len(units))
        fetch = units["fetch"]
        bad_launch = self.settings.insn_base % INSN_BYTES != 0
        m.d.comb += [
            fetch.start.eq(self.start & ~bad_launch),
            fetch.base.eq(self.settings.insn_base),
            fetch.count.eq(self.settings.insn_count),
            end.bad_launch.eq(bad_launch),
            end.start.eq(self.start),
            end.running.eq(self.running),
            end.moving.eq(Cat(unit.moving for unit in units.values())),
            end.next_index.eq(fetch.next_index),
            end.count.eq(self.settings.insn_count),
            end.finished.eq(units["compute_stage"].finished),
            self.ended.eq(end.ended),
            self.verdict.eq(end.verdict),
            self.verdict_index.eq(end.index),
        ]
        stages = {name: units[f"{name}_stage"] for name in STAGES}
        for name, unit in {"fetch": fetch, **stages}.items():
            fault = getattr(end, f"{name}_fault")
            m.d.comb += [fault.kind.eq(unit.fault), fault.index.eq(unit.fault_index)]
        for name, stage in stages.items():
            held = getattr(end, f"{name}_held")
            m.d.comb += [held.valid.eq(stage.held), held.index.eq(stage.oldest)]

    def _connect_counters(self, m: Module, units: Mapping[str, Any]) -> None:
        m.submodules.counters = counters = Counters(self._config)
        m.d.comb += [
            counters.running.eq(self.running),
            counters.select.eq(self.counter),
            self.counter_value.eq(counters.value),
            self.settled.eq(counters.settled),
        ]
        for name, amount in self._amounts(units).items():
            m.d.comb += counters.amounts[name].eq(amount)

    def _amounts(self, units: Mapping[str, Any]) -> dict[str, Value]:
        """What each counter rises by in this cycle."""
        compute, store = units["compute_stage"], units["store"]
        channel, fetch = units["read_channel"], units["fetch"]
        amounts: dict[str, Value] = {
            "gemm_ops": compute.gemm_ops,
            "gemm_reset_ops": compute.gemm_reset_ops,
            "alu_ops": compute.alu_ops,
            "read_bursts": channel.read_burst,
            "read_beats": channel.read_beat,
            "write_bursts": store.write_burst,
            "write_beats": store.write_beat,
        }
        for state in FETCH_STATES:
            amounts[f"{state}_cycles"] = getattr(fetch, state.removeprefix("fetch_"))
        busy = {
            "gemm_busy": units["gemm"].moving,
            "gemm_port": units["gemm"].port,
            "alu_busy": units["alu"].moving,
            "alu_port": units["alu"].port,
            "dma_busy": units["uop"].busy | units["acc"].busy,
            "dma_port": units["uop"].port_wait | units["acc"].port_wait,
        }
        amounts |= {f"{name}_cycles": busy[name] for name in UNIT_COUNTERS}
        for name, stage in STAGES.items():
            unit = units[f"{name}_stage"]
            amounts[f"{name}_instructions"] = unit.retire
            for bit, state in enumerate(STAGE_STATES[stage]):
                amounts[registers.state_counter(stage, state)] = unit.state[bit]
            for memory in STAGE_MEMORIES[stage]:
                moved = Mux(unit.memory == memory, unit.bytes, 0)
                amounts[registers.byte_counter(memory)] = moved
        return amounts

    def _connect_taps(self, m: Module, units: Mapping[str, Any]) -> None:
        streams = [getattr(units["fetch"], name) for name in STAGES]
        m.d.comb += [
            self.tap_running.eq(self.running),
            self.tap_dispatch.eq(_any(stream.valid for stream in streams)),
            self.tap_dispatch_index.eq(units["fetch"].next_index),
        ]
        for name in STAGES:
            for event in ("issue", "issue_index", "retire", "retire_index"):
                tap = getattr(self, f"tap_{name}_{event}")
                m.d.comb += tap.eq(getattr(units[f"{name}_stage"], event))


def _any(values: Any) -> Value:
    return reduce(or_, values)
