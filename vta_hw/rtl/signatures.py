"""The interfaces between the units of the core, and the layouts of what passes through them.

Directions are those of the side that asks for something; the side that answers flips them. Widths
come from `vta_hw.spec`, and so do the bit positions of what programs hold.
"""

from __future__ import annotations

from collections.abc import Iterable

from amaranth.hdl import Shape, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, Signature

from vta_hw.rtl.copies import COPIES
from vta_hw.spec import isa, machine
from vta_hw.spec.config import ACC_LANE_BITS, INSN_BITS, MemType, VtaConfig
from vta_hw.spec.isa import IMM_BITS, ITER_BITS, PAD_BITS, SIZE_BITS, SRAM_BITS, FaultClass, Slot

ADDRESS_BITS = 32
INDEX_BITS = 32
FAULT_BITS = max(FaultClass).bit_length()
LENGTH_BITS = (machine.BURST_BEATS_MAX - 1).bit_length()

GEMM_FIELDS = (
    "reset",
    "uop_bgn",
    "uop_end",
    "iter_out",
    "iter_in",
    "dst_factor_out",
    "dst_factor_in",
    "src_factor_out",
    "src_factor_in",
    "wgt_factor_out",
    "wgt_factor_in",
)
ALU_FIELDS = (
    "uop_bgn",
    "uop_end",
    "iter_out",
    "iter_in",
    "dst_factor_out",
    "dst_factor_in",
    "src_factor_out",
    "src_factor_in",
    "alu_opcode",
    "use_imm",
    "imm",
)


def _shape(slot: Slot) -> Shape:
    return signed(slot.width) if slot.signed else unsigned(slot.width)


def _fields(width: int, slots: Iterable[Slot]) -> data.FlexibleLayout:
    """`slots` where they lie in a word of `width` bits."""
    return data.FlexibleLayout(
        width, {slot.name: data.Field(_shape(slot), slot.low) for slot in slots}
    )


def instruction_fields(form: type[isa.Instruction], config: VtaConfig) -> data.FlexibleLayout:
    """The fields of an instruction where they lie in its 128-bit word."""
    return _fields(INSN_BITS, isa.layout(form, config))


def _job(
    form: type[isa.Instruction], names: tuple[str, ...], config: VtaConfig
) -> data.StructLayout:
    slots = {slot.name: slot for slot in isa.layout(form, config)}
    return data.StructLayout({name: _shape(slots[name]) for name in names})


def gemm_job(config: VtaConfig) -> data.StructLayout:
    """What the GEMM unit needs of an instruction."""
    return _job(isa.Gemm, GEMM_FIELDS, config)


def alu_job(config: VtaConfig) -> data.StructLayout:
    """What the ALU needs of an instruction."""
    return _job(isa.Alu, ALU_FIELDS, config)


RUN_BITS = PAD_BITS + 1 + SIZE_BITS + 1
"""Holds y_pad_0 + y_pad_1 rows of x_pad_0 + x_size + x_pad_1 elements, and `SIZE_MAX` replicas."""

LOAD_JOB = data.StructLayout(
    {
        "address": ADDRESS_BITS,  # of the first byte to read
        "stride": ADDRESS_BITS,  # bytes from row to row
        "rows": SIZE_BITS,  # to read; 0: fill only
        "columns": SIZE_BITS,  # elements per row
        "sram": SRAM_BITS,  # first element to write
        "fill_first": RUN_BITS,  # padding before the first element read
        "fill_between": PAD_BITS + 1,  # padding between the rows read
        "fill_last": RUN_BITS,  # padding (D2: replicas) after the last element read
        "least": 1,  # pad with the least value
        "eight_bit": 1,  # ACC_8BIT (acc loader only)
        "replicate": 1,  # rule D2; then rows is 1 and fill_last counts the replicas
    }
)

STORE_JOB = data.StructLayout(
    {
        "address": ADDRESS_BITS,
        "stride": ADDRESS_BITS,
        "rows": SIZE_BITS,
        "columns": SIZE_BITS,
        "sram": SRAM_BITS,
    }
)

READ_REQUEST = data.StructLayout({"address": ADDRESS_BITS, "length": LENGTH_BITS})
"""A burst: address of its first beat (a multiple of the bus), and its beats less 1."""

READ_CLIENTS = ("fetch", "uop", "acc", "inp", "wgt")
"""In the order of their priority."""


def bus_bits(config: VtaConfig) -> int:
    """Bits of one beat."""
    return 8 * machine.bus_bytes(config)


INSTRUCTION = data.StructLayout({"word": INSN_BITS, "index": INDEX_BITS})
"""An instruction and its place in the stream."""


class Dispatch(Signature):
    """Fetch's side of a stage's queue (rule F3): an instruction enters it in a cycle with `valid`.

    `room` is high while the queue is not full; `valid` may be high only then.
    """

    def __init__(self) -> None:
        super().__init__({"valid": Out(1), "payload": Out(INSTRUCTION), "room": In(1)})


REQ_IMMEDIATE = _fields(IMM_BITS, isa.REQ_IMMEDIATE.values())
"""What the immediate field of REQ holds."""

REQ_SHIFTS = _fields(ACC_LANE_BITS, isa.REQ_SHIFTS.values())
"""What a lane of REQ's third parameter vector holds."""


class ReadPort(Signature):
    """A client's side of the read channel.

    `request` is granted in the cycle in which valid and ready are both high (rule C1). The beats of
    granted bursts arrive in order: `beat` is high in a cycle of arrival (rule C3).
    """

    def __init__(self, config: VtaConfig) -> None:
        super().__init__(
            {
                "request": Out(stream.Signature(READ_REQUEST)),
                "beat": In(1),
                "data": In(bus_bits(config)),
                "last": In(1),
                "error": In(1),
            }
        )


class ElementRead(Signature):
    """A reader's side of a memory: the element of `index`, as of a cycle with `enable`, one later.

    `data` keeps its value while `enable` is low.
    """

    def __init__(self, index_bits: int, element_bits: int) -> None:
        super().__init__({"enable": Out(1), "index": Out(index_bits), "data": In(element_bits)})


class ElementWrite(Signature):
    """A writer's side of a memory: `count` elements from `index` on, the first in the low bits.

    `parts` has one bit per beat of an element that is longer than a beat (else one bit): those
    parts of the element are written. A memory has many elements per write, or many parts, or one of
    each.
    """

    def __init__(self, config: VtaConfig, memory: MemType) -> None:
        elements = machine.elements_per_beat(config, memory)
        super().__init__(
            {
                "enable": Out(1),
                "index": Out(config.depth_bits(memory)),
                "count": Out(range(elements + 1)),
                "parts": Out(machine.beats_per_element(config, memory)),
                "data": Out(elements * element_bits(config, memory)),
            }
        )


def element_bits(config: VtaConfig, memory: MemType) -> int:
    """Bits of one element in memory (on chip, ACC_8BIT is as wide as OUT here)."""
    return 8 * config.elem_bytes(memory)


def acc_index_bits(config: VtaConfig) -> int:
    """Bits of an ACC index."""
    return config.depth_bits(MemType.ACC)


def acc_elements(config: VtaConfig) -> int:
    """Most elements of ACC that one beat brings or takes (8 bits per lane)."""
    return machine.elements_per_beat(config, MemType.OUT)


class AccSlot(Signature):
    """A unit's access to ACC (rule G2), seen from the unit.

    In a cycle with `valid`, a slot for `index` is asked for; `grant` answers in the same cycle.
    After a grant in n, acc[index] with all that was granted for writing up to n - ACC_HAZARD is for
    the ALU in n + ACC_READ_DELAY: its own `write_data` of that cycle if `fresh` (all bits of which
    are equal, but after a reset), else `read_data`.
    GEMM has it one cycle later as `read_data`. If `write` was high in n, it is written in
    n + ACC_WRITE_DELAY; `write_data` is the ALU's of that cycle, GEMM's of the one before.
    """

    def __init__(self, config: VtaConfig) -> None:
        width = element_bits(config, MemType.ACC)
        super().__init__(
            {
                "valid": Out(1),
                "index": Out(acc_index_bits(config)),
                "write": Out(1),
                "grant": In(1),
                "read_data": In(width),
                "fresh": In(COPIES),
                "write_data": Out(width),
            }
        )


class AccLoad(Signature):
    """The acc loader's access to ACC (rule G2), seen from the loader.

    `beat`: `count` elements from `index` on, the first in the low bits of `data`, have arrived and
    take their slots in this cycle. `fill`: one element at `fill_index` asks for a slot;
    `fill_grant` answers in the same cycle; its value is `fill_data`. All are written
    ACC_WRITE_DELAY later.
    """

    def __init__(self, config: VtaConfig) -> None:
        width = element_bits(config, MemType.ACC)
        elements = acc_elements(config)
        super().__init__(
            {
                "beat": Out(1),
                "index": Out(acc_index_bits(config)),
                "count": Out(range(elements + 1)),
                "data": Out(elements * width),
                "fill": Out(1),
                "fill_index": Out(acc_index_bits(config)),
                "fill_data": Out(width),
                "fill_grant": In(1),
            }
        )


class OutRead(Signature):
    """The store engine's access to OUT: elements from `index` on, one cycle after `enable`.

    As many elements as lie in a beat, at least one, the first in the low bits; each is the low 8
    bits of the lanes of ACC. What lies beyond the last element of ACC is arbitrary.
    """

    def __init__(self, config: VtaConfig) -> None:
        width = acc_elements(config) * element_bits(config, MemType.OUT)
        super().__init__(
            {"enable": Out(1), "index": Out(acc_index_bits(config)), "data": In(width)}
        )


class Work(Signature):
    """A unit that works on one instruction after the other, seen from the stage that feeds it.

    `start` hands over a job at its issue (ready: there is room for it). `done` is high one cycle
    after the cycle in which the work is done, in order of start; `fault` is then the class of its
    fault, or 0; `amount` the micro-ops done (GEMM, ALU).
    """

    def __init__(self, job: data.Layout, amount_bits: int = 0) -> None:
        super().__init__(
            {
                "start": Out(stream.Signature(job)),
                "done": In(1),
                "fault": In(FAULT_BITS),
                "amount": In(amount_bits),
            }
        )


OPS_BITS = 2 * ITER_BITS + SRAM_BITS
"""Holds iter_out * iter_in * micro-ops: no memory is deeper than 2^SRAM_BITS."""
