"""The cycles that the device `rtl` grants a program are enough for it; no hardware is built."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.device import DeviceError
from runtime.devices.rtl import RtlDevice
from tests.gen_programs import legal_program
from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Instruction
from vta_hw.verilator.harness import MemoryModel
from vta_sim.cycle import simulate

WIDE_ACC = ("LOG_BATCH=6", "LOG_BLOCK=0", "LOG_BUS_WIDTH=5", "LOG_ACC_BUFF_SIZE=18")
CONFIGS = {
    "wide acc": WIDE_ACC,
    "slow": ("LOG_BUS_WIDTH=5", "DRAM_LATENCY=1000", "MAX_READS=1"),
    "wide acc, slow": (*WIDE_ACC, "DRAM_LATENCY=1000", "MAX_READS=1"),
    "wide bus": ("LOG_BUS_WIDTH=9", "DRAM_LATENCY=1"),
    "short queue": ("LOG_CMD_QUEUE=2", "DRAM_LATENCY=300", "MAX_READS=2"),
}


def config_of(name: str) -> VtaConfig:
    return VtaConfig.load("tiny").override(list(CONFIGS[name]))


def check(config: VtaConfig, instructions: list[Instruction], dram: np.ndarray) -> None:
    behind = -(-dram.size // 4096) * 4096
    result = simulate(config, instructions, dram, insn_base=behind)
    assert result.ok and result.cycles is not None
    assert result.cycles < RtlDevice(config)._bound_of(instructions)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("memory", [m for m in MemType if m is not MemType.OUT])
def test_the_bound_exceeds_the_longest_loads(name: str, memory: MemType) -> None:
    config = config_of(name)
    count = min(1024, config.depth(memory))
    load = isa.Load(memory_type=memory, y_size=1, x_size=count, x_stride=count)
    dram = np.zeros(count * config.elem_bytes(memory), np.uint8)
    check(config, [load, isa.Finish()], dram)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_bound_exceeds_the_longest_stores(name: str) -> None:
    config = config_of(name)
    count = min(1024, config.depth(MemType.ACC))
    wide = isa.Store(
        memory_type=MemType.OUT, y_size=1, x_size=count, x_stride=count, push_prev=True
    )
    high = isa.Store(
        memory_type=MemType.OUT, y_size=count, x_size=1, x_stride=1, push_prev=True
    )  # fmt: skip
    for store in (wide, high):
        dram = np.zeros(count * config.elem_bytes(MemType.OUT), np.uint8)
        check(config, [store, isa.Finish(pop_next=True)], dram)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_bound_exceeds_random_programs(name: str, rng: np.random.Generator) -> None:
    for _ in range(8):
        made = legal_program(config_of(name), int(rng.integers(1 << 31)))
        instructions = isa.decode_all(made.stream, made.config)
        check(made.config, instructions, np.frombuffer(made.dram, np.uint8).copy())


def test_the_bound_grows_with_stalls() -> None:
    config, finish = VtaConfig.load("tiny"), [isa.Finish()]
    slow = MemoryModel(config.dram_latency, config.max_reads, stalls={"r": 0.9})
    bounds = [RtlDevice(config, memory=memory)._bound_of(finish) for memory in (None, slow)]
    assert bounds[1] >= 99 * bounds[0]


def test_a_memory_that_takes_fewer_bursts_than_the_core_is_refused() -> None:
    config = VtaConfig.load("tiny")
    with pytest.raises(DeviceError, match="takes 63 bursts at once, and the core opens up to 64"):
        RtlDevice(config, memory=MemoryModel(5, 63))
