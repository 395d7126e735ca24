"""What the programs that ``vta bench simulator`` times are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vta.api import UsageError
from vta_hw.spec import words
from vta_hw.spec.config import PAGE_BYTES, MemType, VtaConfig
from vta_hw.spec.errors import VtaKitError
from vta_hw.spec.isa import (
    Alu,
    AluOp,
    Finish,
    Instruction,
    Load,
    MicroOp,
    Store,
    encode_uop,
)

Array = np.ndarray[Any, Any]
Fill = Callable[[np.random.Generator, Array], None]
Expected = Callable[[Array], Array]

_ACC_BYTES = 4
_LOW_BITS = 8


class WrongOutputError(VtaKitError):
    """What was timed has not given what it must."""


@dataclass(frozen=True)
class Job:
    """A program and its work: MACs, lane-operations or bytes of DRAM per run, called `unit`.

    `fill` draws its inputs into a DRAM image; `expected` gives, from such an image before the run,
    what `output` must hold after it.
    """

    key: str
    title: str
    unit: str
    work: int
    words: Array
    image_bytes: int
    fill: Fill
    expected: Expected
    output: slice


@dataclass(frozen=True)
class Region:
    """A place in the image, in bytes."""

    begin: int
    size: int

    @property
    def span(self) -> slice:
        """All of it."""
        return slice(self.begin, self.begin + self.size)

    def of(self, image: Array, dtype: Any = np.int8) -> Array:
        """What an image holds there."""
        return image[self.span].view(dtype)


class Draft:
    """A program while it is written, and the layout of its DRAM."""

    def __init__(self, config: VtaConfig) -> None:
        self.config = config
        self.instructions: list[Instruction] = []
        self.image_bytes = 0
        self._uops: list[MicroOp] = []
        self._uop_region = self.region(config.depth(MemType.UOP) * config.elem_bytes(MemType.UOP))

    def region(self, size_bytes: int) -> Region:
        """A new place of its own pages."""
        begin = self.image_bytes
        self.image_bytes += -(-size_bytes // PAGE_BYTES) * PAGE_BYTES
        return Region(begin, size_bytes)

    def elements(self, memory: MemType, count: int) -> Region:
        """Room for elements of a memory type."""
        return self.region(count * self.config.elem_bytes(memory))

    def uops(self, made: Sequence[MicroOp]) -> dict[str, Any]:
        """Where an instruction finds these micro-ops; they are loaded when the program begins."""
        first = len(self._uops)
        self._uops += made
        if len(self._uops) > self.config.depth(MemType.UOP):
            raise UsageError(
                f"config {self.config.name!r} has {self.config.depth(MemType.UOP)} UOP elements, "
                f"too few for these programs; make LOG_UOP_BUFF_SIZE larger"
            )
        return {"uop_bgn": first, "uop_end": len(self._uops)}

    def add(self, *instructions: Instruction) -> None:
        """More instructions."""
        self.instructions += instructions

    def load(
        self, memory: MemType, source: Region, count: int, *, first: int = 0, **more: Any
    ) -> None:
        """One long row from the beginning of `source`, or from its element `first`."""
        self.add(Load(memory_type=memory, **self._row(memory, source, first, count), **more))

    def store(
        self,
        target: Region,
        count: int,
        *,
        first: int = 0,
        sram_base: int = 0,
        pop_prev: bool = True,
        push_prev: bool = True,
    ) -> None:
        """One long row to element `first` of `target`; by default compute waits for it in turn."""
        row = self._row(MemType.OUT, target, first, count)
        self.add(
            Store(
                memory_type=MemType.OUT,
                sram_base=sram_base,
                **row,
                pop_prev=pop_prev,
                push_prev=push_prev,
            )
        )

    def _row(self, memory: MemType, place: Region, first: int, count: int) -> dict[str, Any]:
        base = place.begin // self.config.elem_bytes(memory) + first
        return {"dram_base": base, "y_size": 1, "x_size": count, "x_stride": count}

    def store_bytes_of_acc(self, count: int) -> Region:
        """Store all four bytes of ACC's first elements, the low ones first; ACC is spent then.

        The instruction before must push a token to the store stage.
        """
        target = self.elements(MemType.OUT, _ACC_BYTES * count)
        shift: dict[str, Any] = {"alu_opcode": AluOp.SHR, "use_imm": True, "imm": _LOW_BITS}
        uop = self.uops([MicroOp()])
        for byte in range(_ACC_BYTES):
            if byte:
                self.add(Alu(**shift, **uop, **loop(count), pop_next=True, push_next=True))
            self.store(target, count, first=byte * count)
        return target

    def job(
        self, names: tuple[str, str, str], work: int, fill: Fill, expected: Expected, output: Region
    ) -> Job:
        """The finished program; `names` are key, title and unit. The last to move is a STORE."""
        return Job(*names, work, self._encoded(), self.image_bytes, fill, expected, output.span)

    def _encoded(self) -> Array:
        load = Load(
            memory_type=MemType.UOP,
            **self._row(MemType.UOP, self._uop_region, 0, len(self._uops)),
        )
        return words.encode([load, *self.instructions, Finish(pop_next=True)], self.config)

    def put_uops(self, image: Array) -> None:
        """Write the micro-ops into an image."""
        encoded = [encode_uop(uop, self.config) for uop in self._uops]
        self._uop_region.of(image, "<u4")[: len(encoded)] = encoded


def random_bytes(rng: np.random.Generator, place: Array) -> None:
    """Fill with random bytes."""
    place[:] = np.frombuffer(rng.bytes(place.nbytes), np.uint8).view(place.dtype)


def bytes_of_acc(acc: Array) -> Array:
    """What `Draft.store_bytes_of_acc` stores of numbers given as int64 of any size."""
    flat = acc.astype(np.int64).reshape(-1)
    return np.concatenate([flat >> _LOW_BITS * byte for byte in range(_ACC_BYTES)]).astype(np.uint8)


def loop(count: int, **steps: int) -> dict[str, Any]:
    """The loops of a micro-op over consecutive elements; by default dst and src both advance."""
    factors = steps or {"dst_factor_in": 1, "src_factor_in": 1}
    return {"iter_out": 1, "iter_in": count, **factors}
