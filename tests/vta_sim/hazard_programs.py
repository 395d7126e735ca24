"""Seeded random programs that are legal instruction by instruction and seldom free of hazards."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Instruction, Stage, TokenQueue

DRAM_BYTES = 8192
_UOPS = 16
_ENTRIES = 24
"""Loads, stores and micro-ops use about so many entries of each memory, to meet often."""


class Draw:
    """Draws one program; `order` is the share of instructions that carry tokens."""

    def __init__(self, config: VtaConfig, seed: int) -> None:
        self.config = config
        self.rng = Random(seed)
        self.order = self.rng.choice([0.0, 0.3, 0.6, 0.9])
        self.wild = self.rng.random() < 0.15
        self.tokens = dict.fromkeys(TokenQueue, 0)
        words = [
            isa.encode_uop(
                isa.MicroOp(dst=self.upto(16), src=self.upto(16), wgt=self.upto(12)), config
            )
            for _ in range(_UOPS)
        ]
        head = b"".join(word.to_bytes(4, "little") for word in words)
        self.dram = head + bytes(DRAM_BYTES - len(head))

    def upto(self, end: int) -> int:
        return self.rng.randrange(end)

    def program(self) -> list[Instruction]:
        first = isa.Load(memory_type=MemType.UOP, y_size=1, x_size=_UOPS, x_stride=_UOPS)
        made: list[Instruction] = [first]
        for _ in range(self.rng.randint(4, 40)):
            made.append(self.with_tokens(self.instruction()))
        if self.rng.random() < 0.9:
            made.append(self.with_tokens(isa.Finish()))
        return made

    def instruction(self) -> Instruction:
        draw = self.rng.random()
        if draw < 0.35:
            return self.load(self.rng.choice([MemType.INP, MemType.WGT]))
        if draw < 0.45:
            return self.load(self.rng.choice([MemType.ACC, MemType.ACC_8BIT, MemType.UOP]))
        if draw < 0.6:
            return self.store()
        return self.gemm() if draw < 0.8 else self.alu()

    def transfer(self, memory: MemType) -> dict[str, Any]:
        size = self.config.elem_bytes(memory)
        x, y = self.rng.choice([0, 1, 1, 2, 3]), self.rng.choice([0, 1, 1, 2, 3])
        stride = self.upto(6)
        # Micro-ops keep their place, so that all that is loaded can be executed.
        room = 1 if memory is MemType.UOP else (DRAM_BYTES - 64) // size - 3 * stride - 4
        return {
            "memory_type": memory,
            "sram_base": self.upto(min(_ENTRIES, self.config.depth(memory) - 49)),
            "dram_base": self.upto(min(room, 40)) + (64 // size if self.rng.random() < 0.8 else 0),
            "y_size": y,
            "x_size": x,
            "x_stride": stride,
        }

    def load(self, memory: MemType) -> Instruction:
        values = self.transfer(memory)
        if memory is MemType.UOP:
            values |= {"dram_base": self.upto(_UOPS - 4), "x_stride": 0, "sram_base": self.upto(8)}
        if self.rng.random() < 0.3:
            values |= {f"{axis}_pad_{end}": self.upto(3) for axis in "xy" for end in (0, 1)}
        hint = memory not in (MemType.INP, MemType.WGT) and self.hint()
        return isa.Load(**values, overlap=hint)

    def store(self) -> Instruction:
        return isa.Store(**self.transfer(MemType.OUT))

    def loops(self) -> dict[str, Any]:
        begin = self.upto(_UOPS - 3)
        names = ("dst_factor_out", "dst_factor_in", "src_factor_out", "src_factor_in")
        return {
            "uop_bgn": begin,
            "uop_end": begin + self.upto(4),
            "iter_out": self.rng.choice([0, 1, 1, 2, 3]),
            "iter_in": self.rng.choice([1, 1, 2, 3]),
            "overlap": self.hint(),
            **{name: self.upto(4) for name in names},
        }

    def gemm(self) -> Instruction:
        weights: dict[str, Any] = {f"wgt_factor_{loop}": self.upto(4) for loop in ("out", "in")}
        return isa.Gemm(**self.loops(), **weights, reset=self.rng.random() < 0.3)

    def alu(self) -> Instruction:
        if self.config.has("requant") and self.rng.random() < 0.3:
            return isa.Alu(**self.loops(), alu_opcode=isa.AluOp.REQ)
        return isa.Alu(
            **self.loops(), alu_opcode=isa.AluOp.MAX, use_imm=self.rng.random() < 0.5, imm=3
        )

    def hint(self) -> bool:
        return self.config.has("overlap") and self.rng.random() < 0.5

    def with_tokens(self, insn: Instruction) -> Instruction:
        """Pops what there is, and sometimes what there is not yet; pushes at will."""
        stage = isa.stage_of(insn)
        chosen: dict[str, Any] = {}
        flags = isa.TOKEN_FLAGS[Stage(stage)]
        for flag, token in flags.items():
            if self.rng.random() >= self.order:
                continue
            if flag.startswith("push"):
                self.tokens[token] += 1
            elif self.tokens[token] or (self.wild and self.rng.random() < 0.5):
                self.tokens[token] -= 1
            else:
                continue
            chosen[flag] = True
        return replace(insn, **chosen)
