"""The control registers of the core: addresses, bits, counters; read by RTL, drivers and docs.

The first 0x28 bytes are upstream's; what follows is the kit's own. Registers are 32 bits wide and
lie at multiples of 4; counters are 64 bits wide, low word first.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from itertools import chain

from vta_hw.spec.config import MemType
from vta_hw.spec.isa import FaultClass, Stage
from vta_hw.spec.result import Status


class Register(IntEnum):
    """Byte offsets."""

    CONTROL = 0x00
    CYCLES = 0x04
    INSN_COUNT = 0x08
    INSN_BASE = 0x0C
    UOP_BASE = 0x10
    INP_BASE = 0x14
    WGT_BASE = 0x18
    ACC_BASE = 0x1C
    OUT_BASE = 0x20
    ACC_WRITES = 0x24
    ID = 0x40
    CONFIG_HASH_LOW = 0x44
    CONFIG_HASH_HIGH = 0x48
    DRAM_LIMIT = 0x4C
    VERDICT = 0x50
    VERDICT_INDEX = 0x54
    IRQ_ENABLE = 0x58
    IRQ_STATUS = 0x5C


CORE_ID = 0x56544101
"""The letters VTA, then the version of this register map."""

REGISTER_DOCS = {
    Register.CONTROL: "bit 0: write 1 to launch, reads 1 while running; bit 1: ended with verdict "
    "ok; bit 2: ended with another verdict",
    Register.CYCLES: "cycles of the last run, low 32 bits",
    Register.INSN_COUNT: "instructions of the stream",
    Register.INSN_BASE: "address of the stream, a multiple of 16",
    Register.UOP_BASE: "base of UOP in DRAM; of this and the other bases, bits 11:0 read as 0",
    Register.INP_BASE: "base of INP",
    Register.WGT_BASE: "base of WGT",
    Register.ACC_BASE: "base of ACC and ACC_8BIT",
    Register.OUT_BASE: "base of OUT",
    Register.ACC_WRITES: "vectors that retired GEMM and ALU instructions wrote, low 32 bits",
    Register.ID: f"{CORE_ID:#010x}: the letters VTA, then the version of this map",
    Register.CONFIG_HASH_LOW: "low word of the config's hash",
    Register.CONFIG_HASH_HIGH: "high word of the config's hash",
    Register.DRAM_LIMIT: "end of what LOAD and STORE may reach, in bytes; 0 stands for 2^32, and "
    "is the reset value; instruction fetch is not held to it",
    Register.VERDICT: "how the last run ended, see Verdict",
    Register.VERDICT_INDEX: "the instruction that the verdict names; all ones for none",
    Register.IRQ_ENABLE: "bit 0: `irq` is high while IRQ_STATUS bit 0 is",
    Register.IRQ_STATUS: "bit 0: a run has ended; write 1 to clear, a launch does not",
}

READ_ONLY = frozenset(
    {
        Register.CYCLES,
        Register.ACC_WRITES,
        Register.ID,
        Register.CONFIG_HASH_LOW,
        Register.CONFIG_HASH_HIGH,
        Register.VERDICT,
        Register.VERDICT_INDEX,
    }
)

CONTROL_LAUNCH = 0
CONTROL_OK = 1
CONTROL_FAULT = 2

NO_INDEX = 0xFFFFFFFF


class Verdict(IntEnum):
    """Codes of the register VERDICT: fault classes keep theirs."""

    OK = 0
    BAD_OPCODE = FaultClass.BAD_OPCODE
    BAD_FLAGS = FaultClass.BAD_FLAGS
    BAD_MEMORY_TYPE = FaultClass.BAD_MEMORY_TYPE
    BAD_PAD = FaultClass.BAD_PAD
    SRAM_RANGE = FaultClass.SRAM_RANGE
    DRAM_RANGE = FaultClass.DRAM_RANGE
    BAD_ALU_OPCODE = FaultClass.BAD_ALU_OPCODE
    UOP_RANGE = FaultClass.UOP_RANGE
    INDEX_RANGE = FaultClass.INDEX_RANGE
    BUS = FaultClass.BUS
    FINISH_NOT_DRAINED = 16
    DEADLOCK = 17
    NO_FINISH = 18
    BAD_LAUNCH = 19

    @property
    def status(self) -> Status:
        """The status that a run with this verdict has."""
        if self in _STATUS:
            return _STATUS[self]
        return Status.FAULT


_STATUS = {
    Verdict.OK: Status.OK,
    Verdict.FINISH_NOT_DRAINED: Status.FINISH_NOT_DRAINED,
    Verdict.DEADLOCK: Status.DEADLOCK,
    Verdict.NO_FINISH: Status.NO_FINISH,
}


class State(StrEnum):
    """What a stage does in a cycle; the first of these that applies."""

    BUSY = "busy"
    MEMORY = "memory"
    PORT = "port"
    TOKEN_FULL = "token_full"
    DRAIN = "drain"
    LOAD_TO_COMPUTE = "wait_load_to_compute"
    COMPUTE_TO_LOAD = "wait_compute_to_load"
    COMPUTE_TO_STORE = "wait_compute_to_store"
    STORE_TO_COMPUTE = "wait_store_to_compute"
    IDLE = "idle"


STAGE_STATES = {
    Stage.LOAD: (
        State.BUSY,
        State.MEMORY,
        State.TOKEN_FULL,
        State.DRAIN,
        State.COMPUTE_TO_LOAD,
        State.IDLE,
    ),
    Stage.COMPUTE: (
        State.BUSY,
        State.MEMORY,
        State.PORT,
        State.TOKEN_FULL,
        State.DRAIN,
        State.LOAD_TO_COMPUTE,
        State.STORE_TO_COMPUTE,
        State.IDLE,
    ),
    Stage.STORE: (
        State.BUSY,
        State.MEMORY,
        State.TOKEN_FULL,
        State.DRAIN,
        State.COMPUTE_TO_STORE,
        State.IDLE,
    ),
}
"""The states that each stage can be in; in every cycle of a run it is in exactly one."""

FETCH_STATES = ("fetch_busy", "fetch_queue_full", "fetch_memory", "fetch_idle")
UNIT_COUNTERS = ("gemm_busy", "gemm_port", "alu_busy", "alu_port", "dma_busy", "dma_port")


def byte_counter(memory: MemType) -> str:
    """Name of the counter of bytes that LOAD, or for OUT STORE, moves."""
    return f"{'store' if memory is MemType.OUT else 'load'}_{memory.name.lower()}_bytes"


def state_counter(stage: Stage, state: State) -> str:
    """Name of the counter of cycles that `stage` spends in `state`."""
    return f"{stage.name.lower()}_{state.value}_cycles"


def _names() -> tuple[str, ...]:
    retired = [f"{stage.name.lower()}_instructions" for stage in Stage]
    amounts = [byte_counter(memory) for memory in MemType]
    operations = ["gemm_ops", "gemm_reset_ops", "alu_ops"]
    bus = ["read_bursts", "read_beats", "write_bursts", "write_beats"]
    fetch = [f"{name}_cycles" for name in FETCH_STATES]
    units = [f"{name}_cycles" for name in UNIT_COUNTERS]
    stages = chain.from_iterable(
        [state_counter(stage, state) for state in states] for stage, states in STAGE_STATES.items()
    )
    return ("cycles", *retired, *amounts, *operations, *bus, *fetch, *units, *stages)


COUNTERS = _names()
"""Names of the 64-bit counters, in the order of their addresses."""

COUNTER_BASE = 0x80
REGISTER_BYTES = 4
"""Bytes of a register, and distance of one from the next."""

COUNTER_BYTES = 2 * REGISTER_BYTES
COUNTER_BITS = 64


def counter_address(name: str) -> int:
    """Byte offset of the low word of a counter."""
    return COUNTER_BASE + COUNTER_BYTES * COUNTERS.index(name)


ADDRESS_BITS = 12
"""Width of the control port's addresses."""
