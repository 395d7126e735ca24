"""Small programs that do one thing after the other, with the memory they start from.

They are for finding out what is wrong with a machine, so nothing runs beside anything else: each
instruction waits by tokens for the one before it if that is another stage's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Alu, AluOp, Finish, Gemm, Instruction, Load, Stage, Store, stage_of
from vta_hw.spec.semantics import Scratchpads, execute

_UNTOUCHED = 0xA5


@dataclass(frozen=True)
class Region:
    """A piece of the image: where it starts and its size in bytes, and what its elements are."""

    name: str
    memory: MemType
    start: int
    size: int


class Sketch:
    """A program in the making, for one config.

    Its first instruction loads the micro-ops that the others use, from entry 0 on.
    """

    def __init__(self, config: VtaConfig) -> None:
        self.config = config
        self.regions: list[Region] = []
        self.instructions: list[Instruction] = [Load(memory_type=MemType.UOP)]
        self._image = bytearray()
        self._uops: list[tuple[int, int, int]] = []
        self._align = max(config.elem_bytes(memory) for memory in MemType)

    # -- memory ---------------------------------------------------------------------------------

    def place(self, name: str, memory: MemType, data: np.ndarray) -> int:
        """Put an array into the image: where it is, as a `dram_base`."""
        return self._add_region(name, memory, np.ascontiguousarray(data).tobytes())

    def room(self, name: str, count: int) -> int:
        """Room for `count` elements of OUT, filled with a pattern: where it is, as `dram_base`."""
        size = count * self.config.elem_bytes(MemType.OUT)
        return self._add_region(name, MemType.OUT, bytes([_UNTOUCHED]) * size)

    def uops(self, dst: Sequence[int], src: Sequence[int], wgt: Sequence[int]) -> range:
        """Micro-ops that follow each other: their entries."""
        first = len(self._uops)
        self._uops += zip(dst, src, wgt, strict=True)
        return range(first, len(self._uops))

    def packed_uops(self, dst: Sequence[int], src: Sequence[int], wgt: Sequence[int]) -> np.ndarray:
        """Micro-ops as they lie in memory."""
        values = {"dst": np.array(dst), "src": np.array(src), "wgt": np.array(wgt)}
        return isa.pack_uops(values, self.config).astype("<u4")

    def image(self) -> np.ndarray:
        """Memory as the program finds it."""
        return np.frombuffer(bytes(self._image), np.uint8).copy()

    def _add_region(self, name: str, memory: MemType, data: bytes) -> int:
        start = len(self._image)
        self.regions.append(Region(name, memory, start, len(data)))
        self._image += data
        self._image += bytes(-len(self._image) % self._align)
        return start // self.config.elem_bytes(memory)

    # -- instructions ---------------------------------------------------------------------------

    def load(self, memory: MemType, sram: int, dram: int, count: int, **more: Any) -> None:
        """LOAD `count` elements in one row; `more` are other fields."""
        fields = {"y_size": 1, "x_size": count, "x_stride": count, **more}
        self.add(Load(memory_type=memory, sram_base=sram, dram_base=dram, **fields))

    def store(self, sram: int, dram: int, count: int, **more: Any) -> None:
        """STORE `count` elements in one row; `more` are other fields."""
        fields = {"y_size": 1, "x_size": count, "x_stride": count, **more}
        self.add(Store(memory_type=MemType.OUT, sram_base=sram, dram_base=dram, **fields))

    def store_whole(self, name: str, sram: int, count: int) -> None:
        """STORE all 32 bits of accumulators, a byte of each at a time; SHR uses them up."""
        for shift in range(0, 32, 8):
            if shift:
                self.alu_imm(AluOp.SHR, 8, sram, count)
            self.store(sram, self.room(f"{name}, bits {shift + 7}:{shift}", count), count)

    def alu_imm(self, op: AluOp, imm: int, first: int, count: int) -> None:
        """An ALU operation with an immediate on accumulators from `first` on."""
        self._alu(op, (first, first), count, {"use_imm": True, "imm": imm}, src_step=1)

    def alu(
        self, op: AluOp, dst: int, src: int, count: int, src_step: int = 1, imm: int = 0
    ) -> None:
        """An ALU operation on pairs of accumulators; that of `src` moves by `src_step`."""
        self._alu(op, (dst, src), count, {"imm": imm}, src_step)

    def _alu(
        self, op: AluOp, at: tuple[int, int], count: int, more: dict[str, Any], src_step: int
    ) -> None:
        [entry] = self.uops([at[0]], [at[1]], [0])
        self.add(
            Alu(
                uop_bgn=entry,
                uop_end=entry + 1,
                iter_out=1,
                iter_in=count,
                alu_opcode=op,
                dst_factor_in=1,
                src_factor_in=src_step,
                **more,
            )
        )

    def gemm(self, uops: range, **more: Any) -> None:
        """A GEMM over micro-ops, once unless `more` says otherwise."""
        fields = {"iter_out": 1, "iter_in": 1, **more}
        self.add(Gemm(uop_bgn=uops.start, uop_end=uops.stop, **fields))

    def zero(self, first: int, count: int) -> None:
        """Zero accumulators by a GEMM that resets."""
        self.gemm(self.uops([first], [0], [0]), iter_in=count, dst_factor_in=1, reset=True)

    def add(self, insn: Instruction) -> None:
        """Append an instruction that waits for the one before it."""
        before, here = stage_of(self.instructions[-1]), stage_of(insn)
        if {before, here} == {Stage.LOAD, Stage.STORE}:
            # These two have no tokens for each other.
            self.add(Load(memory_type=MemType.UOP))
            before = Stage.COMPUTE
        if before is not here:
            forward = here > before
            push, pop = ("push_next", "pop_prev") if forward else ("push_prev", "pop_next")
            self.instructions[-1] = isa.altered(self.instructions[-1], **{push: True})
            insn = isa.altered(insn, **{pop: True})
        self.instructions.append(insn)

    def finish(self) -> bytes:
        """Append FINISH, put the micro-ops into the image; the stream."""
        self.add(Finish())
        if self._uops:
            count = len(self._uops)
            packed = self.packed_uops(*zip(*self._uops, strict=True))
            base = self.place("micro-ops", MemType.UOP, packed)
            self.instructions[0] = isa.altered(
                self.instructions[0], dram_base=base, y_size=1, x_size=count, x_stride=count
            )
        return isa.encode_all(self.instructions, self.config)


def carry_out(config: VtaConfig, instructions: Iterable[Instruction], image: np.ndarray) -> None:
    """Do instructions in their order on `image`, by the definition of what each does.

    Raises `ValueError` for one that faults: a sketch has none.
    """
    pads = Scratchpads(config)
    for index, insn in enumerate(instructions):
        fault = execute(insn, pads, image, config)
        if fault is not None:
            raise ValueError(f"instruction {index} of a sketch faults: {fault.text}")
