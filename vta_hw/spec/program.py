"""A VTA program: instructions, the DRAM symbols they refer to, relocations and the source map."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.errors import ProgramError

_MEMORY_TYPES = frozenset(MemType)
_ITEM_BYTES = {np.dtype(code).name: np.dtype(code).itemsize for code in "?bBhHiIqQefd"}


@dataclass(frozen=True)
class Symbol:
    """A named piece of DRAM. `contents` is given for constants (weights, biases, micro-ops).

    `dtype` is numpy's name for the type of its elements, a number's; it is empty where that is not
    known, and `shape` with it.
    """

    name: str
    size_bytes: int
    contents: bytes | None = None
    dtype: str = ""
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.size_bytes < 0:
            raise ProgramError(
                f"symbol {self.name!r} must have a size of at least 0 bytes, not {self.size_bytes}"
            )
        if self.contents is not None and len(self.contents) != self.size_bytes:
            raise ProgramError(
                f"symbol {self.name!r} has {len(self.contents)} bytes of contents, "
                f"not its size of {self.size_bytes}"
            )
        if (self.dtype or self.shape) and self._array_bytes() != self.size_bytes:
            raise ProgramError(
                f"symbol {self.name!r} of {self.size_bytes} bytes cannot be an array of "
                f"{self.dtype!r} and shape {self.shape}; give a type and extents of that size"
            )

    def _array_bytes(self) -> int:
        """What `dtype` and `shape` take; -1 if they say nothing meaningful."""
        if self.dtype not in _ITEM_BYTES or min(self.shape, default=0) < 0:
            return -1
        return _ITEM_BYTES[self.dtype] * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Relocation:
    """Instruction `index` addresses `symbol` plus the element offset already in its dram_base."""

    index: int
    symbol: str


@dataclass(frozen=True)
class Program:
    """Instructions with symbolic DRAM addresses; `bind` gives the stream for real ones.

    `sources[source_of[i]]` says where instruction `i` comes from (layer and stage); `source_of` is
    empty for a program without a source map.
    """

    config: VtaConfig
    instructions: tuple[isa.Instruction, ...]
    symbols: Mapping[str, Symbol] = field(default_factory=dict)
    relocations: tuple[Relocation, ...] = ()
    sources: tuple[str, ...] = ()
    source_of: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.source_of and len(self.source_of) != len(self.instructions):
            raise ProgramError(
                f"the source map names {len(self.source_of)} instructions, "
                f"the program has {len(self.instructions)}"
            )
        if self.source_of and not (
            min(self.source_of) >= 0 and max(self.source_of) < len(self.sources)
        ):
            raise ProgramError(
                f"the source map refers to source {max(self.source_of)} or a negative one, "
                f"the program has {len(self.sources)}"
            )
        for relocation in self.relocations:
            if relocation.symbol not in self.symbols:
                raise ProgramError(f"relocation against unknown symbol {relocation.symbol!r}")
            if not 0 <= relocation.index < len(self.instructions):
                raise ProgramError(f"relocation of instruction {relocation.index}, which is absent")
            insn = self.instructions[relocation.index]
            if not isinstance(insn, isa.Load | isa.Store):
                raise ProgramError(f"instruction {relocation.index} has no DRAM address to fill in")
            if insn.memory_type not in _MEMORY_TYPES:
                raise ProgramError(
                    f"instruction {relocation.index} is of memory type {insn.memory_type}, which "
                    f"has no elements to address"
                )

    def source(self, index: int) -> str:
        """Where instruction `index` comes from, or an empty string."""
        return self.sources[self.source_of[index]] if self.source_of else ""

    def bound(self, addresses: Mapping[str, int]) -> tuple[isa.Instruction, ...]:
        """The instructions with byte addresses of all symbols filled in (base registers 0)."""
        for name in self.symbols:
            if name not in addresses:
                raise ProgramError(f"no address given for symbol {name!r}")
        out = list(self.instructions)
        for relocation in self.relocations:
            insn = out[relocation.index]
            assert isinstance(insn, isa.Load | isa.Store)
            elem = self.config.elem_bytes(MemType(insn.memory_type))
            address = addresses[relocation.symbol]
            if address % elem:
                raise ProgramError(
                    f"symbol {relocation.symbol!r} lies at {address:#x}, which is no multiple of "
                    f"its {elem}-byte elements; align it"
                )
            out[relocation.index] = replace(insn, dram_base=insn.dram_base + address // elem)
        return tuple(out)

    def bind(self, addresses: Mapping[str, int]) -> bytes:
        """The instruction stream, as fetched from DRAM, for these symbol addresses."""
        return isa.encode_all(self.bound(addresses), self.config)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates that its GEMM instructions execute."""
        steps = sum(
            i.iter_out * i.iter_in * max(0, i.uop_end - i.uop_bgn)
            for i in self.instructions
            if isinstance(i, isa.Gemm) and not i.reset
        )
        return steps * self.config.macs_per_cycle

    # -- serialisation ----------------------------------------------------------------------------

    def to_members(self) -> dict[str, bytes]:
        """The program as named byte strings for a package; `from_members` reads them back."""
        constants, symbols = bytearray(), []
        for symbol in self.symbols.values():
            entry: dict[str, Any] = {"name": symbol.name, "size": symbol.size_bytes}
            if symbol.contents is not None:
                entry["at"] = len(constants)
                constants += symbol.contents
            if symbol.dtype:
                entry |= {"dtype": symbol.dtype, "shape": list(symbol.shape)}
            symbols.append(entry)
        names = list(self.symbols)
        header = {
            "symbols": symbols,
            "relocations": [[r.index, names.index(r.symbol)] for r in self.relocations],
            "sources": list(self.sources),
            "source_of": list(self.source_of),
        }
        return {
            "program.json": json.dumps(header, separators=(",", ":")).encode(),
            "instructions.bin": isa.encode_all(self.instructions, self.config),
            "constants.bin": bytes(constants),
        }

    @classmethod
    def from_members(cls, members: Mapping[str, bytes], config: VtaConfig) -> Program:
        """Read what `to_members` wrote; anything inconsistent is refused."""
        try:
            header = json.loads(members["program.json"])
            constants = members["constants.bin"]
            symbols = {}
            for entry in header["symbols"]:
                name, size = str(entry["name"]), int(entry["size"])
                contents = None
                if "at" in entry:
                    contents = constants[entry["at"] : entry["at"] + size]
                dtype, shape = str(entry.get("dtype", "")), entry.get("shape", ())
                symbols[name] = Symbol(name, size, contents, dtype, tuple(map(int, shape)))
            names = list(symbols)
            return cls(
                config=config,
                instructions=tuple(isa.decode_all(members["instructions.bin"], config)),
                symbols=symbols,
                relocations=tuple(Relocation(int(i), names[s]) for i, s in header["relocations"]),
                sources=tuple(map(str, header["sources"])),
                source_of=tuple(map(int, header["source_of"])),
            )
        except RecursionError as error:
            raise ProgramError("the program in the package is nested too deep") from error
        except (LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise ProgramError(f"the program in the package is malformed: {error!r}") from error
