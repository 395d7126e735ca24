"""The instruction set: the one place where a bit position is defined.

An instruction class *is* its field table: each dataclass field carries its width, either in bits or
as the name of a config-dependent width. `layout` packs the fields as upstream's C bit-fields do:
from bit 0 up, in order, never across a 64-bit word (a micro-op: a 32-bit word). Extension bits sit
at fixed positions and exist only in configs that name the extension.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum
from functools import lru_cache
from typing import Any, ClassVar, TypeVar, cast

import numpy as np

from vta_hw.spec.config import INSN_BITS, UOP_BITS, WORD_BITS, MemType, VtaConfig
from vta_hw.spec.errors import ConfigError, EncodingError


class Opcode(IntEnum):
    """Task opcodes."""

    LOAD = 0
    STORE = 1
    GEMM = 2
    FINISH = 3
    ALU = 4


class AluOp(IntEnum):
    """ALU opcodes; 5 to 7 need the extension `requant`."""

    MIN = 0
    MAX = 1
    ADD = 2
    SHR = 3
    MUL = 4
    RDHM = 5
    RSR = 6
    REQ = 7


REQUANT_OPS = frozenset({AluOp.RDHM, AluOp.RSR, AluOp.REQ})


class Rounding(IntEnum):
    """Rounding modes of REQ."""

    DOUBLE = 0
    SINGLE = 1
    FLOAT = 2


class Stage(IntEnum):
    """The decoupled stages, in pipeline order."""

    LOAD = 0
    COMPUTE = 1
    STORE = 2


class TokenQueue(IntEnum):
    """The four dependency-token counters, named producer to consumer."""

    LOAD_TO_COMPUTE = 0
    COMPUTE_TO_LOAD = 1
    COMPUTE_TO_STORE = 2
    STORE_TO_COMPUTE = 3


class FaultClass(IntEnum):
    """What an instruction can be refused for."""

    BAD_OPCODE = 1
    BAD_FLAGS = 2
    BAD_MEMORY_TYPE = 3
    BAD_PAD = 4
    SRAM_RANGE = 5
    DRAM_RANGE = 6
    BAD_ALU_OPCODE = 7
    UOP_RANGE = 8
    INDEX_RANGE = 9
    BUS = 10

    @property
    def text(self) -> str:
        """The name used in reports, e.g. ``sram_range``."""
        return self.name.lower()


TOKEN_MAX = 255
"""Greatest value of a token counter; a push onto a full counter waits."""

ITER_BITS = 14
IMM_BITS = 16
PAD_BITS = 4
SIZE_BITS = 16
STRIDE_BITS = 16
SRAM_BITS = 16
DRAM_BITS = 32
PAD_MAX = (1 << PAD_BITS) - 1
SIZE_MAX = (1 << SIZE_BITS) - 1
ITER_MAX = (1 << ITER_BITS) - 1

_WIDTHS: Mapping[str, Callable[[VtaConfig], int]] = {
    "uop": lambda c: c.depth_bits(MemType.UOP),
    "uop_end": lambda c: c.depth_bits(MemType.UOP) + 1,
    "acc": lambda c: c.depth_bits(MemType.ACC),
    "inp": lambda c: c.depth_bits(MemType.INP),
    "wgt": lambda c: c.depth_bits(MemType.WGT),
    "src": lambda c: max(c.depth_bits(MemType.ACC), c.depth_bits(MemType.INP)),
}


def bits(
    width: int | str,
    default: Any = 0,
    *,
    signed: bool = False,
    at: int | None = None,
    extension: str | None = None,
    doc: str = "",
) -> Any:
    """Declare a field: `width` in bits or a name of `_WIDTHS`; `at` fixes an extension's bit."""
    table = {"width": width, "signed": signed, "at": at, "extension": extension, "doc": doc}
    return field(default=default, metadata=table)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """Fields that every instruction begins with; prev and next are as seen by its stage."""

    OPCODE: ClassVar[int] = -1

    opcode: int = bits(3, doc="task")
    pop_prev: bool = bits(1, False, doc="wait for a token from the previous stage")
    pop_next: bool = bits(1, False, doc="wait for a token from the next stage")
    push_prev: bool = bits(1, False, doc="give a token to the previous stage on completion")
    push_next: bool = bits(1, False, doc="give a token to the next stage on completion")

    def __post_init__(self) -> None:
        if self.OPCODE >= 0:
            object.__setattr__(self, "opcode", self.OPCODE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory(Instruction):
    memory_type: int = bits(3, doc="memory type id")
    sram_base: int = bits(SRAM_BITS, doc="first SRAM element")
    dram_base: int = bits(DRAM_BITS, doc="DRAM element offset from the base register")
    y_size: int = bits(SIZE_BITS, doc="rows")
    x_size: int = bits(SIZE_BITS, doc="elements per row")
    x_stride: int = bits(STRIDE_BITS, doc="DRAM row pitch in elements")
    y_pad_0: int = bits(PAD_BITS, doc="padding rows above")
    y_pad_1: int = bits(PAD_BITS, doc="padding rows below")
    x_pad_0: int = bits(PAD_BITS, doc="padding elements left")
    x_pad_1: int = bits(PAD_BITS, doc="padding elements right")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load(_Memory):
    """DRAM to SRAM, 2-D, with padding."""

    OPCODE: ClassVar[int] = Opcode.LOAD

    pad_min: bool = bits(
        1, False, at=58, extension="pad_min", doc="pad with the least value of the type"
    )
    overlap: bool = bits(
        1, False, at=59, extension="overlap", doc="may run beside older compute instructions"
    )

    @property
    def sram_shape(self) -> tuple[int, int]:
        """Rows and elements per row that it writes, pads included."""
        return (
            self.y_pad_0 + self.y_size + self.y_pad_1,
            self.x_pad_0 + self.x_size + self.x_pad_1,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Store(_Memory):
    """Low OUT_WIDTH bits of ACC to DRAM, 2-D."""

    OPCODE: ClassVar[int] = Opcode.STORE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loops(Instruction):
    reset: bool = bits(1, False, doc="GEMM: set acc[dst] to zero; ALU: not used")
    uop_bgn: int = bits("uop", doc="first micro-op")
    uop_end: int = bits("uop_end", doc="one past the last micro-op")
    iter_out: int = bits(ITER_BITS, doc="outer loop count")
    iter_in: int = bits(ITER_BITS, doc="inner loop count")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm(_Loops):
    """acc[dst] += inp[src] * wgt[wgt] transposed, over micro-ops and two loops."""

    OPCODE: ClassVar[int] = Opcode.GEMM

    dst_factor_out: int = bits("acc", doc="ACC step of the outer loop")
    dst_factor_in: int = bits("acc", doc="ACC step of the inner loop")
    src_factor_out: int = bits("inp", doc="INP step of the outer loop")
    src_factor_in: int = bits("inp", doc="INP step of the inner loop")
    wgt_factor_out: int = bits("wgt", doc="WGT step of the outer loop")
    wgt_factor_in: int = bits("wgt", doc="WGT step of the inner loop")
    overlap: bool = bits(
        1, False, at=63, extension="overlap", doc="may run beside older compute instructions"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Alu(_Loops):
    """acc[dst] := op(acc[dst], acc[src] or imm), over micro-ops and two loops."""

    OPCODE: ClassVar[int] = Opcode.ALU

    dst_factor_out: int = bits("acc", doc="dst step of the outer loop")
    dst_factor_in: int = bits("acc", doc="dst step of the inner loop")
    src_factor_out: int = bits("acc", doc="src step of the outer loop")
    src_factor_in: int = bits("acc", doc="src step of the inner loop")
    alu_opcode: int = bits(3, doc="operation")
    use_imm: bool = bits(1, False, doc="second operand is imm")
    imm: int = bits(IMM_BITS, signed=True, doc="immediate, sign-extended to 32 bits")
    overlap: bool = bits(
        1, False, at=63, extension="overlap", doc="may run beside older compute instructions"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish(Instruction):
    """Stops the compute stage and ends the run."""

    OPCODE: ClassVar[int] = Opcode.FINISH


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(Instruction):
    """A word whose opcode does not exist; `word` is all its 128 bits."""

    word: int = field(default=0, metadata={"width": 0})


@dataclass(frozen=True, slots=True)
class MicroOp:
    """One step of GEMM or ALU: base indices to which the loop factors are added."""

    dst: int = bits("acc", doc="ACC index")
    src: int = bits("src", doc="INP index (GEMM) or ACC index (ALU)")
    wgt: int = bits("wgt", doc="WGT index (GEMM)")


FORMATS: Mapping[Opcode, type[Instruction]] = {
    Opcode.LOAD: Load,
    Opcode.STORE: Store,
    Opcode.GEMM: Gemm,
    Opcode.FINISH: Finish,
    Opcode.ALU: Alu,
}


_Changed = TypeVar("_Changed", bound=Instruction)


def altered(insn: _Changed, **changes: Any) -> _Changed:
    """The instruction with fields other than its opcode changed.

    It gives what `dataclasses.replace` gives in a third of the time: compilation changes every
    instruction several times.
    """
    new = object.__new__(type(insn))
    assign = object.__setattr__
    for name in _field_names(cast(Hashable, type(insn))):
        assign(new, name, getattr(insn, name))
    for name, value in changes.items():
        assign(new, name, value)
    return new


@lru_cache(maxsize=16)
def _field_names(form: Any) -> tuple[str, ...]:
    return tuple(item.name for item in fields(form))


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a field lies: `low` is its least significant bit in the whole word."""

    name: str
    low: int
    width: int
    signed: bool
    extension: str | None = None
    doc: str = ""

    @property
    def high(self) -> int:
        """Its most significant bit."""
        return self.low + self.width - 1

    @property
    def mask(self) -> int:
        """As many ones as it is wide."""
        return (1 << self.width) - 1

    @property
    def least(self) -> int:
        """The least value that it holds."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def greatest(self) -> int:
        """The greatest value that it holds."""
        return self.least + self.mask


REQ_IMMEDIATE = {
    slot.name: slot
    for slot in (
        Slot("zero_point", 0, 8, signed=True),
        Slot("mode", 8, 2, signed=False),
        Slot("sub_operation", 12, 4, signed=False),
    )
}
"""What the immediate of REQ holds; its other bits are ignored."""

REQ_SHIFTS = {
    slot.name: slot
    for slot in (
        Slot("right", 0, 6, signed=False),
        Slot("left", 8, 5, signed=False),
        Slot("clamp_min", 16, 8, signed=True),
        Slot("clamp_max", 24, 8, signed=True),
    )
}
"""What a lane of REQ's third parameter vector holds; its other bits are ignored."""


def layout(form: type[Any], config: VtaConfig) -> tuple[Slot, ...]:
    """Bit positions of all fields of an instruction class, or of `MicroOp`, in `config`.

    Fields of extensions that the config lacks are left out. No range is checked here:
    `check_layouts` did so when the config was built.
    """
    return _layout(cast(Hashable, form), config)


@lru_cache(maxsize=256)
def _layout(form: Any, config: VtaConfig) -> tuple[Slot, ...]:
    unit = UOP_BITS if form is MicroOp else WORD_BITS
    slots, position = [], 0
    for item in fields(form):
        table = item.metadata
        width = table["width"]
        width = _WIDTHS[width](config) if isinstance(width, str) else width
        if table["at"] is not None:
            if config.has(table["extension"]):
                slots.append(_slot(item.name, table["at"], width, table))
            continue
        if position % unit + width > unit:
            position += unit - position % unit
        slots.append(_slot(item.name, position, width, table))
        position += width
    return tuple(slots)


def _slot(name: str, low: int, width: int, table: Mapping[str, Any]) -> Slot:
    return Slot(name, low, width, table["signed"], table["extension"], table["doc"])


def check_layouts(config: VtaConfig) -> None:
    """Refuse a config whose micro-op or instruction does not fit, or whose depth exceeds a field.

    Raises `ConfigError` with the offending sum.
    """
    uop = layout(MicroOp, config)
    total = sum(slot.width for slot in uop)
    if total > UOP_BITS:
        raise ConfigError(
            f"config {config.name!r}: a micro-op needs {_sum(uop)} = {total} bits, more than "
            f"{UOP_BITS}; make the ACC, INP or WGT buffer smaller"
        )
    for memory in (MemType.UOP, MemType.WGT, MemType.INP, MemType.ACC):
        if config.depth_bits(memory) > SRAM_BITS:
            raise ConfigError(
                f"config {config.name!r}: the {memory.name} buffer has {config.depth(memory)} "
                f"elements, more than the 16-bit sram_base reaches (65536); "
                f"make LOG_{memory.name}_BUFF_SIZE smaller"
            )
    for form in FORMATS.values():
        _check_format(form, config)


def _check_format(form: type[Instruction], config: VtaConfig) -> None:
    plain = [slot for slot in layout(form, config) if slot.extension is None]
    end = max(slot.high for slot in plain) + 1
    name = form.__name__.upper()
    wide = [slot for slot in plain if slot.width > WORD_BITS]
    if end > INSN_BITS or wide:
        low = sum(slot.width for slot in plain if slot.low < WORD_BITS)
        high = [slot for slot in plain if slot.low >= WORD_BITS]
        raise ConfigError(
            f"config {config.name!r}: {name} needs {low} bits in its first word and "
            f"{_sum(high)} = {sum(s.width for s in high)} after it, {end} in all, more than "
            f"{INSN_BITS}; make the UOP, ACC, INP or WGT buffer smaller"
        )
    for slot in layout(form, config):
        if slot.extension is None:
            continue
        for other in plain:
            if other.low <= slot.high and slot.low <= other.high:
                raise ConfigError(
                    f"config {config.name!r}: extension {slot.extension!r} needs bit {slot.low} of "
                    f"{name}, which {other.name} takes ({other.low}..{other.high}); make the UOP "
                    f"or ACC buffer smaller or leave the extension out"
                )


def _sum(slots: Iterable[Slot]) -> str:
    return " + ".join(f"{slot.width} ({slot.name})" for slot in slots)


# -- encoding -------------------------------------------------------------------------------------


def _pack(value: Any, form: type[Any], config: VtaConfig) -> int:
    word = 0
    for slot in layout(form, config):
        number = int(getattr(value, slot.name))
        if not slot.least <= number <= slot.greatest:
            raise EncodingError(_out_of_range(form, slot, number))
        word |= (number & slot.mask) << slot.low
    return word


def _out_of_range(form: type[Any], slot: Slot, number: int) -> str:
    return f"{form.__name__}.{slot.name} must be within {slot.least}..{slot.greatest}, not {number}"


def _unpack(word: int, form: type[Any], config: VtaConfig) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for slot in layout(form, config):
        number = word >> slot.low & slot.mask
        if slot.signed and number >> (slot.width - 1):
            number -= 1 << slot.width
        values[slot.name] = bool(number) if _is_flag(cast(Hashable, form), slot.name) else number
    return values


@lru_cache(maxsize=512)
def _is_flag(form: Any, name: str) -> bool:
    return any(item.name == name and item.default is False for item in fields(form))


def encode(insn: Instruction, config: VtaConfig) -> int:
    """The 128-bit word of an instruction; a value out of its field's range is refused."""
    if isinstance(insn, Unknown):
        return insn.word
    for item in fields(insn):
        extension = item.metadata.get("extension")
        if extension and getattr(insn, item.name) and not config.has(extension):
            raise EncodingError(
                f"{type(insn).__name__}.{item.name} needs the extension {extension!r}, which "
                f"config {config.name!r} lacks"
            )
    return _pack(insn, type(insn), config)


def decode(word: int, config: VtaConfig) -> Instruction:
    """The instruction of a 128-bit word. Reserved bits are ignored; see `Unknown`."""
    opcode = word & 7
    if opcode not in FORMATS:
        common = _unpack(word, Finish, config)
        return Unknown(**common, word=word)
    form = FORMATS[Opcode(opcode)]
    return form(**_unpack(word, form, config))


def encode_uop(uop: MicroOp, config: VtaConfig) -> int:
    """The 32-bit word of a micro-op."""
    return _pack(uop, MicroOp, config)


def decode_uop(word: int, config: VtaConfig) -> MicroOp:
    """The micro-op of a 32-bit word."""
    return MicroOp(**_unpack(int(word), MicroOp, config))


def pack_uops(values: Mapping[str, np.ndarray], config: VtaConfig) -> np.ndarray:
    """The words of many micro-ops at once, from arrays keyed `dst`, `src`, `wgt`; as uint32."""
    words = np.zeros((), np.int64)
    for slot in layout(MicroOp, config):
        numbers = np.asarray(values[slot.name], np.int64)
        wrong = (numbers < slot.least) | (numbers > slot.greatest)
        if wrong.any():
            raise EncodingError(_out_of_range(MicroOp, slot, int(numbers[wrong][0])))
        words = words | numbers << slot.low
    return words.astype(np.uint32)


def unpack_uops(words: np.ndarray, config: VtaConfig) -> dict[str, np.ndarray]:
    """Fields of many micro-ops at once, as int64 arrays keyed `dst`, `src`, `wgt`."""
    words = words.astype(np.int64)
    return {
        slot.name: words >> slot.low & ((1 << slot.width) - 1) for slot in layout(MicroOp, config)
    }


def encode_all(instructions: Iterable[Instruction], config: VtaConfig) -> bytes:
    """An instruction stream as it lies in memory: 16 bytes each, low word first, little-endian."""
    return b"".join(encode(insn, config).to_bytes(16, "little") for insn in instructions)


def decode_all(stream: bytes, config: VtaConfig) -> list[Instruction]:
    """The instructions of a stream; its length must be a multiple of 16 bytes."""
    if len(stream) % 16:
        raise EncodingError(
            f"an instruction stream must be a multiple of 16 bytes long, not {len(stream)}; "
            f"it is cut off or no stream"
        )
    return [
        decode(int.from_bytes(stream[i : i + 16], "little"), config)
        for i in range(0, len(stream), 16)
    ]


# -- routing and tokens ---------------------------------------------------------------------------

_COMPUTE_LOADS = frozenset({MemType.UOP, MemType.ACC, MemType.ACC_8BIT})


def stage_of(insn: Instruction) -> Stage:
    """The stage that fetch dispatches an instruction to.

    A LOAD of a type that does not exist (4, 6, 7) goes to the load stage, which finds it bad.
    """
    if isinstance(insn, Store):
        return Stage.STORE
    if isinstance(insn, Load) and insn.memory_type not in _COMPUTE_LOADS:
        return Stage.LOAD
    return Stage.COMPUTE


# stage -> (pop_prev, pop_next, push_prev, push_next)
TOKEN_FLAGS: Mapping[Stage, Mapping[str, TokenQueue]] = {
    Stage.LOAD: {
        "pop_next": TokenQueue.COMPUTE_TO_LOAD,
        "push_next": TokenQueue.LOAD_TO_COMPUTE,
    },
    Stage.COMPUTE: {
        "pop_prev": TokenQueue.LOAD_TO_COMPUTE,
        "pop_next": TokenQueue.STORE_TO_COMPUTE,
        "push_prev": TokenQueue.COMPUTE_TO_LOAD,
        "push_next": TokenQueue.COMPUTE_TO_STORE,
    },
    Stage.STORE: {
        "pop_prev": TokenQueue.COMPUTE_TO_STORE,
        "push_prev": TokenQueue.STORE_TO_COMPUTE,
    },
}
"""Which counter each dependency flag of a stage touches; one that is absent is illegal there."""


def _flags_of(kind: str) -> Mapping[Stage, tuple[tuple[str, TokenQueue], ...]]:
    return {
        stage: tuple((flag, token) for flag, token in flags.items() if flag.startswith(kind))
        for stage, flags in TOKEN_FLAGS.items()
    }


_POPS = _flags_of("pop")
_PUSHES = _flags_of("push")


def pops(insn: Instruction) -> tuple[TokenQueue, ...]:
    """Counters that must be non-zero for the instruction to start."""
    return tuple([token for flag, token in _POPS[stage_of(insn)] if getattr(insn, flag)])


def pushes(insn: Instruction) -> tuple[TokenQueue, ...]:
    """Counters that the instruction increments when it completes."""
    return tuple([token for flag, token in _PUSHES[stage_of(insn)] if getattr(insn, flag)])
