"""Instructions as numbers: a stream as an array, and its fields as arrays.

A stream of n instructions is a uint64 array of shape (n, 2), in C order and little-endian: the low
word of each instruction, then the high one, as they lie in memory. Where a field lies is asked of
`isa.layout` alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from vta_hw.spec import isa
from vta_hw.spec.config import INSN_BYTES, WORD_BITS, VtaConfig
from vta_hw.spec.errors import EncodingError

_WORD = np.dtype("<u8")


def from_stream(stream: bytes) -> np.ndarray:
    """The words of a stream, not a copy; its length must be a multiple of 16 bytes."""
    if len(stream) % INSN_BYTES:
        raise EncodingError(
            f"an instruction stream must be a multiple of {INSN_BYTES} bytes long, not "
            f"{len(stream)}; it is cut off or no stream"
        )
    return np.frombuffer(stream, _WORD).reshape(-1, INSN_BYTES // _WORD.itemsize)


def encode(instructions: Iterable[isa.Instruction], config: VtaConfig) -> np.ndarray:
    """The words of instructions; a value out of its field's range is refused."""
    return from_stream(isa.encode_all(instructions, config))


def decode(words: np.ndarray, config: VtaConfig) -> tuple[isa.Instruction, ...]:
    """The instructions of words."""
    return tuple(isa.decode_all(words.tobytes(), config))


def slot_of(form: type[Any], name: str, config: VtaConfig) -> isa.Slot:
    """Where a field of an instruction class lies; one that `config` lacks is a `KeyError`."""
    for slot in isa.layout(form, config):
        if slot.name == name:
            return slot
    raise KeyError(f"{form.__name__} has no field {name!r} in config {config.name!r}")


def field_of(words: np.ndarray, slot: isa.Slot) -> np.ndarray:
    """One field of all instructions, as int64; whether they have it is the caller's to know."""
    word, low = _place(slot)
    values = (words[:, word] >> np.uint64(low) & np.uint64(slot.mask)).astype(np.int64)
    # What a signed field holds from its greatest value on stands for negative numbers.
    return np.where(values > slot.greatest, values - (1 << slot.width), values)


def put_field(words: np.ndarray, rows: np.ndarray, slot: isa.Slot, values: np.ndarray) -> None:
    """Set one field of the instructions `rows` in place; values must be within its range."""
    word, low = _place(slot)
    kept = words[rows, word] & ~np.uint64(slot.mask << low)
    bits = values.astype(np.int64).astype(np.uint64) & np.uint64(slot.mask)
    words[rows, word] = kept | bits << np.uint64(low)


def opcodes(words: np.ndarray, config: VtaConfig) -> np.ndarray:
    """The opcode of every instruction, also where none of `isa.Opcode` has it, as int64."""
    return field_of(words, slot_of(isa.Instruction, "opcode", config))


def _place(slot: isa.Slot) -> tuple[int, int]:
    """The word that a field lies in, and its lowest bit there: none crosses into another word."""
    word, low = divmod(slot.low, WORD_BITS)
    assert low + slot.width <= WORD_BITS
    return word, low
