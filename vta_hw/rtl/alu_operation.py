"""What the ALU's lanes do, decoded: one register's worth of bits, each as some stage asks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_

from amaranth.hdl import Value, signed
from amaranth.lib import data

from vta_hw.spec.isa import AluOp, Rounding


@dataclass(frozen=True)
class _When:
    """A bit is high for these opcodes, and for REQ in these rounding modes."""

    opcodes: tuple[AluOp, ...] = ()
    modes: tuple[Rounding, ...] = ()


_BITS: Mapping[str, _When] = {
    "extreme": _When((AluOp.MIN, AluOp.MAX)),
    "max": _When((AluOp.MAX,)),
    "add": _When((AluOp.ADD,)),
    "shifts": _When((AluOp.SHR, AluOp.REQ)),
    "rsr": _When((AluOp.RSR,)),
    "req": _When((AluOp.REQ,)),
    "multiplies": _When((AluOp.MUL, AluOp.RDHM, AluOp.REQ)),
    "scales": _When((AluOp.RDHM,), (Rounding.DOUBLE, Rounding.SINGLE)),
    "doubles": _When((AluOp.RDHM,), (Rounding.DOUBLE,)),
    "float": _When((), (Rounding.FLOAT,)),
}

OPERATION = data.StructLayout({**dict.fromkeys(_BITS, 1), "zero_point": signed(8)})
"""What a lane does.

extreme: MIN or MAX. shifts: in stage 0, whatever the amount's sign. scales: the product counts in
units of 2^30, doubles: and is rounded as RDHM does. zero_point: REQ's. The other bits are named
after opcodes and rounding modes, or what these do.
"""


def decode_operation(
    is_opcode: Callable[[AluOp], Value], is_mode: Callable[[Rounding], Value]
) -> dict[str, Value]:
    """The bits of `OPERATION` by name, from those that tell opcode and, for REQ alone, mode."""
    return {
        name: reduce(or_, [*map(is_opcode, when.opcodes), *map(is_mode, when.modes)])
        for name, when in _BITS.items()
    }
