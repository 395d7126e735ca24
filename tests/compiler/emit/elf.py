"""A reader of ELF object files, from the format's definition alone: header and symbols."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_SHT_SYMTAB = 2
_SHN_UNDEF = 0
_STB_GLOBAL = 1
_STT_FUNC = 2


@dataclass(frozen=True)
class Elf:
    """What a linker sees of an object file.

    `functions` are the global functions that it defines, with their sizes in bytes; `undefined`
    the names that it wants from elsewhere.
    """

    bits: int
    little_endian: bool
    kind: int
    machine: int
    flags: int
    functions: dict[str, int]
    undefined: frozenset[str]


def read_elf(data: bytes) -> Elf:
    """The contents of an object file."""
    assert data[:4] == b"\x7fELF"
    bits, order = {1: 32, 2: 64}[data[4]], {1: "<", 2: ">"}[data[5]]
    word = "I" if bits == 32 else "Q"
    header = struct.unpack_from(f"{order}HHI3{word}I6H", data, 16)
    kind, machine, _, _, _, sections_at, flags, _, _, _, size, count, _ = header
    sections = [
        struct.unpack_from(f"{order}II4{word}II2{word}", data, sections_at + i * size)
        for i in range(count)
    ]
    functions, undefined = {}, set()
    for section in sections:
        if section[1] != _SHT_SYMTAB:
            continue
        strings_at = sections[section[6]][4]
        for name_at, info, index, length in _symbols(data, order, bits, section[4], section[5]):
            start = strings_at + name_at
            name = data[start : data.index(b"\0", start)].decode()
            if info >> 4 == _STB_GLOBAL and index == _SHN_UNDEF:
                undefined.add(name)
            elif info >> 4 == _STB_GLOBAL and info & 0xF == _STT_FUNC:
                functions[name] = length
    return Elf(bits, order == "<", kind, machine, flags, functions, frozenset(undefined))


def _symbols(
    data: bytes, order: str, bits: int, at: int, size: int
) -> Iterator[tuple[int, int, int, int]]:
    """Name offset, info, section index and size of every symbol."""
    if bits == 32:
        for name, _, length, info, _, index in struct.iter_unpack(
            f"{order}IIIBBH", data[at : at + size]
        ):
            yield name, info, index, length
    else:
        for name, info, _, index, _, length in struct.iter_unpack(
            f"{order}IBBHQQ", data[at : at + size]
        ):
            yield name, info, index, length
