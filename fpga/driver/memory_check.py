"""Tests of a board's memory through its transport; they overwrite what they test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fpga.driver.selftest_steps import StepFailure
from fpga.driver.transport import Transport

MARCH_CELL_BYTES = 4096
ADDRESS_CELL_BYTES = 256
_TRANSFER_BYTES = 1 << 14
_WORD_BYTES = 8
_BACKGROUND = 0x55
# Odd, so that multiplying by it can be undone: a word tells the address that it was written to.
_MIX = 0x9E3779B97F4A7C15
_UNMIX = pow(_MIX, -1, 1 << 64)

# (upwards, value that is read first, value that is written then); values are the background or not.
_MARCH_C_MINUS = (
    (True, None, False),
    (True, False, True),
    (True, True, False),
    (False, False, True),
    (False, True, False),
    (True, False, None),
)


def march(transport: Transport, size_bytes: int) -> int:
    """March C- over about `size_bytes` spread over all of memory: how many bytes were tested.

    Its cells are blocks of `MARCH_CELL_BYTES`, so it finds stuck and coupled bits of different
    blocks, and stuck ones within a block.
    """
    cells = spread(transport.identity.memory_bytes, MARCH_CELL_BYTES, size_bytes)
    patterns = {
        value: np.full(MARCH_CELL_BYTES, _BACKGROUND ^ (0xFF * value), np.uint8)
        for value in (False, True)
    }
    for number, (is_upwards, wanted, written) in enumerate(_MARCH_C_MINUS, 1):
        for cell in cells if is_upwards else reversed(cells):
            if wanted is not None:
                got = transport.read_memory(cell, MARCH_CELL_BYTES)
                _compare(cell, got, patterns[wanted], f"in element {number} of March C-")
            if written is not None:
                transport.write_memory(cell, patterns[written])
    return len(cells) * MARCH_CELL_BYTES


def _compare(address: int, got: np.ndarray, expected: np.ndarray, when: str) -> None:
    wrong = np.flatnonzero(got != expected)
    if not wrong.size:
        return
    at = int(wrong[0])
    bits = int(np.bitwise_or.reduce(got[wrong] ^ expected[wrong]))
    raise StepFailure(
        f"memory byte {address + at:#x} is {int(got[at]):#04x}, not {int(expected[at]):#04x}, "
        f"{when}; {wrong.size} of {got.size} bytes from {address:#x} on differ, in bits "
        f"{bits:#04x}: look at the data lines, the timing of the memory controller and its refresh"
    )


def unique_addresses(transport: Transport, size_bytes: int, seed: int) -> int:
    """Write to about `size_bytes` all over memory what no other place has, then read all of it.

    Every power of two is among the addresses. The number of bytes that were tested.
    """
    memory_bytes = transport.identity.memory_bytes
    cells = set(spread(memory_bytes, ADDRESS_CELL_BYTES, size_bytes))
    power = ADDRESS_CELL_BYTES
    while power + ADDRESS_CELL_BYTES <= memory_bytes:
        cells.add(power)
        power *= 2
    runs = _joined(sorted(cells))
    salt = int(np.random.default_rng(seed).integers(1 << 62))
    for address, size in runs:
        transport.write_memory(address, _own(address, size, salt))
    for address, size in runs:
        got, expected = transport.read_memory(address, size), _own(address, size, salt)
        if not np.array_equal(got, expected):
            raise _alias(address, got, expected, salt, memory_bytes)
    return len(cells) * ADDRESS_CELL_BYTES


def spread(memory_bytes: int, cell_bytes: int, size_bytes: int) -> list[int]:
    """Addresses of distinct cells from the first to the last, about `size_bytes` of them."""
    total = memory_bytes // cell_bytes
    count = max(1, min(total, size_bytes // cell_bytes))
    if count == 1:
        return [0] if total else []
    return [(total - 1) * i // (count - 1) * cell_bytes for i in range(count)]


def _joined(cells: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbours as one piece each, up to what one transfer takes: addresses and sizes."""
    runs: list[tuple[int, int]] = []
    for cell in cells:
        if runs:
            address, size = runs[-1]
            if address + size == cell and size < _TRANSFER_BYTES:
                runs[-1] = (address, size + ADDRESS_CELL_BYTES)
                continue
        runs.append((cell, ADDRESS_CELL_BYTES))
    return runs


def _own(address: int, size_bytes: int, salt: int) -> np.ndarray:
    """What belongs to these addresses and to no others."""
    places = np.arange(address, address + size_bytes, _WORD_BYTES, dtype=np.uint64)
    words = (places ^ np.uint64(salt)) * np.uint64(_MIX)
    return words.astype("<u8").view(np.uint8)


def _alias(
    address: int, got: np.ndarray, expected: np.ndarray, salt: int, memory_bytes: int
) -> StepFailure:
    wrong = int(np.flatnonzero(got != expected)[0]) // _WORD_BYTES
    place = address + _WORD_BYTES * wrong
    there, wanted = (int(data.view("<u8")[wrong]) for data in (got, expected))
    owner = (there * _UNMIX & (1 << 64) - 1) ^ salt
    if owner < memory_bytes and owner % _WORD_BYTES == 0:
        lines = [str(bit) for bit in range(64) if (owner ^ place) >> bit & 1]
        return StepFailure(
            f"memory address {place:#x} holds what was written to {owner:#x}: look at address "
            f"bits {', '.join(lines)}, and whether the memory is as large as it should be"
        )
    return StepFailure(
        f"memory word {place:#x} is {there:#018x}, not {wanted:#018x}: look at the data lines, the "
        f"timing of the memory controller and the link"
    )
