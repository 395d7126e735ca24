"""A VTA program: instructions, the DRAM symbols they refer to, relocations and the source map."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from vta_hw.spec import isa, words
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.errors import ProgramError

_NO_MEMORY = -1
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


@dataclass(frozen=True, eq=False)
class Program:
    """Instructions with symbolic DRAM addresses; `bind` gives the stream for real ones.

    `sources[source_of[i]]` says where instruction `i` comes from (layer and stage); `source_of` is
    empty for a program without a source map. A program that was made of words, as those read from
    files are, has `instructions` too; they are decoded when they are first asked for.
    """

    config: VtaConfig
    instructions: tuple[isa.Instruction, ...]
    symbols: Mapping[str, Symbol] = field(default_factory=dict)
    relocations: tuple[Relocation, ...] = ()
    sources: tuple[str, ...] = ()
    source_of: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.words if self._is_encoded else self.instructions)
        if self.source_of and len(self.source_of) != count:
            raise ProgramError(
                f"the source map names {len(self.source_of)} instructions, the program has {count}"
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
            if not 0 <= relocation.index < count:
                raise ProgramError(f"relocation of instruction {relocation.index}, which is absent")
        types = self._relocated_types
        wrong = np.flatnonzero(~np.isin(types, list(MemType)))
        if wrong.size:
            index, kind = self._relocated[wrong[0]], types[wrong[0]]
            if kind == _NO_MEMORY:
                raise ProgramError(f"instruction {index} has no DRAM address to fill in")
            raise ProgramError(
                f"instruction {index} is of memory type {kind}, which has no elements to address"
            )

    @classmethod
    def from_words(
        cls,
        encoded: np.ndarray,
        config: VtaConfig,
        *,
        symbols: Mapping[str, Symbol] | None = None,
        relocations: tuple[Relocation, ...] = (),
        sources: tuple[str, ...] = (),
        source_of: tuple[int, ...] = (),
    ) -> Program:
        """A program of encoded instructions, in the form of `words`, which it keeps."""
        if encoded.dtype != np.uint64 or encoded.ndim != 2 or encoded.shape[1] != 2:
            raise ProgramError(
                f"encoded instructions must be a uint64 array of shape (n, 2), not "
                f"{encoded.dtype} of shape {encoded.shape}; see vta_hw.spec.words"
            )
        program = cls.__new__(cls)
        # Without `instructions`: `__getattr__` makes them.
        program.__dict__.update(
            config=config,
            words=np.ascontiguousarray(encoded),
            symbols={} if symbols is None else symbols,
            relocations=relocations,
            sources=sources,
            source_of=source_of,
        )
        program.__post_init__()
        return program

    @property
    def _is_encoded(self) -> bool:
        return "words" in self.__dict__

    if not TYPE_CHECKING:
        # Hidden from type checkers, which would let every name pass as an attribute.

        def __getattr__(self, name: str) -> Any:
            if name != "instructions" or not self._is_encoded:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            self.__dict__[name] = words.decode(self.words, self.config)
            return self.__dict__[name]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Program):
            return NotImplemented
        names = ("config", "symbols", "relocations", "sources", "source_of")
        if any(getattr(self, name) != getattr(other, name) for name in names):
            return False
        if self._is_encoded and other._is_encoded and np.array_equal(self.words, other.words):
            return True
        # Words may differ in bits that mean nothing.
        return self.instructions == other.instructions

    @cached_property
    def words(self) -> np.ndarray:
        """The encoded instructions, uint64 of shape (n, 2): low word first; not to be written."""
        return words.encode(self.instructions, self.config)

    def source(self, index: int) -> str:
        """Where instruction `index` comes from, or an empty string."""
        return self.sources[self.source_of[index]] if self.source_of else ""

    def layer(self, index: int) -> str:
        """The layer that instruction `index` works for: a source is LAYER: STAGE; empty if none."""
        return self.source(index).rpartition(": ")[0]

    # -- addresses --------------------------------------------------------------------------------

    @cached_property
    def _relocated(self) -> np.ndarray:
        """The instruction of every relocation."""
        return np.array([relocation.index for relocation in self.relocations], np.int64)

    @cached_property
    def _relocated_types(self) -> np.ndarray:
        """The memory type of every relocation's instruction; `_NO_MEMORY` where it has none."""
        if not self._is_encoded:
            # Instructions that cannot be encoded are refused when they are bound, not here.
            insns = [self.instructions[index] for index in self._relocated]
            types = [
                insn.memory_type if isinstance(insn, isa.Load | isa.Store) else _NO_MEMORY
                for insn in insns
            ]
            return np.array(types, np.int64)
        chosen = self.words[self._relocated]
        is_memory = np.isin(words.opcodes(chosen, self.config), (isa.Opcode.LOAD, isa.Opcode.STORE))
        slot = words.slot_of(isa.Load, "memory_type", self.config)
        return np.where(is_memory, words.field_of(chosen, slot), _NO_MEMORY)

    @cached_property
    def _targets(self) -> tuple[list[tuple[str, int]], np.ndarray]:
        """What relocations add: pairs of a symbol and an element size, and which pair each adds."""
        pairs: dict[tuple[str, int], int] = {}
        sizes = {kind: self.config.elem_bytes(kind) for kind in MemType}
        numbers = [
            pairs.setdefault((relocation.symbol, sizes[kind]), len(pairs))
            for relocation, kind in zip(
                self.relocations, self._relocated_types.tolist(), strict=True
            )
        ]
        return list(pairs), np.array(numbers, np.int64)

    def _steps(self, addresses: Mapping[str, int]) -> list[int]:
        """The elements that each pair of `_targets` stands for with these symbol addresses."""
        for name in self.symbols:
            if name not in addresses:
                raise ProgramError(f"no address given for symbol {name!r}")
        pairs, _ = self._targets
        for name, elem in pairs:
            if addresses[name] % elem:
                raise ProgramError(
                    f"symbol {name!r} lies at {addresses[name]:#x}, which is no multiple of "
                    f"its {elem}-byte elements; align it"
                )
        return [int(addresses[name]) // elem for name, elem in pairs]

    def bound(self, addresses: Mapping[str, int]) -> tuple[isa.Instruction, ...]:
        """The instructions with byte addresses of all symbols filled in (base registers 0)."""
        steps = self._steps(addresses)
        out = list(self.instructions)
        for relocation, number in zip(self.relocations, self._targets[1].tolist(), strict=True):
            insn = out[relocation.index]
            assert isinstance(insn, isa.Load | isa.Store)
            out[relocation.index] = replace(insn, dram_base=insn.dram_base + steps[number])
        return tuple(out)

    def bound_words(self, addresses: Mapping[str, int]) -> np.ndarray:
        """The words with byte addresses of all symbols filled in (base registers 0); a fresh copy.

        An address that dram_base cannot hold is refused as `isa.encode` refuses it.
        """
        steps = self._steps(addresses)
        out = self.words.copy()
        # STORE has its fields where LOAD has them.
        slot = words.slot_of(isa.Load, "dram_base", self.config)
        bases = words.field_of(out, slot)
        # Absurd steps would not fit the sums either.
        fits = all(abs(step) <= slot.greatest for step in steps)
        if fits:
            np.add.at(bases, self._relocated, np.array(steps, np.int64)[self._targets[1]])
            fits = bool(np.all((bases >= slot.least) & (bases <= slot.greatest)))
        if not fits:
            return words.encode(self.bound(addresses), self.config).copy()
        words.put_field(out, self._relocated, slot, bases[self._relocated])
        return out

    def bind(self, addresses: Mapping[str, int]) -> bytes:
        """The instruction stream, as fetched from DRAM, for these symbol addresses."""
        return self.bound_words(addresses).tobytes()

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates that its GEMM instructions execute."""
        gemms = self.words[words.opcodes(self.words, self.config) == isa.Opcode.GEMM]
        value = {
            slot.name: words.field_of(gemms, slot) for slot in isa.layout(isa.Gemm, self.config)
        }
        uops = np.maximum(0, value["uop_end"] - value["uop_bgn"])
        steps = value["iter_out"] * value["iter_in"] * uops * (1 - value["reset"])
        # One instruction's steps fit 64 bits; those of a long stream need not.
        return sum(steps.tolist()) * self.config.macs_per_cycle

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
        numbers = {name: number for number, name in enumerate(self.symbols)}
        header = {
            "symbols": symbols,
            "relocations": [[r.index, numbers[r.symbol]] for r in self.relocations],
            "sources": list(self.sources),
            "source_of": list(self.source_of),
        }
        return {
            "program.json": json.dumps(header, separators=(",", ":")).encode(),
            "instructions.bin": self.words.tobytes(),
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
            return cls.from_words(
                words.from_stream(members["instructions.bin"]),
                config,
                symbols=symbols,
                relocations=tuple(Relocation(int(i), names[s]) for i, s in header["relocations"]),
                sources=tuple(map(str, header["sources"])),
                source_of=tuple(map(int, header["source_of"])),
            )
        except RecursionError as error:
            raise ProgramError("the program in the package is nested too deep") from error
        except (LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise ProgramError(f"the program in the package is malformed: {error!r}") from error
