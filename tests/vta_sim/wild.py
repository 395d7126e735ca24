"""Random programs that know no hazards: any order of effects, any indices up to the last element.

The order in which the engines let instructions take effect is part of what they must agree in, so
nothing here is ordered by tokens for its results' sake. Memories are used up to their ends, loops
have all shapes, and in some programs bits of instructions are flipped.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from tests.gen_values import EDGES, random_image
from tests.vta_sim.engines import Launch
from vta_hw.spec import isa
from vta_hw.spec.config import INSN_BYTES, PAGE_BYTES, MemType, VtaConfig
from vta_hw.spec.isa import (
    Alu,
    AluOp,
    Finish,
    Gemm,
    Instruction,
    Load,
    MicroOp,
    Rounding,
    Store,
    TokenQueue,
)

_UOP_BYTES = 4096
_DATA_BYTES = 12 * PAGE_BYTES
_LOADS = (MemType.INP, MemType.WGT, MemType.ACC, MemType.ACC_8BIT, MemType.UOP)
_FLOATS = (0x7F800000, 0xFF800000, 0x7FC00000, 0xFF800001, 1, 0x807FFFFF, 0x7F7FFFFF, 0x80000000)
_OVERLAP = (59, 63)
"""Bits of the hint `overlap`, which must not come to be false."""
_LARGE = 1500
"""Steps that an instruction with flipped bits may have: the readable simulators count them all."""


@dataclass
class Wild:
    """A growing program: `spoils` of its instructions have flipped bits, some are `overlap`."""

    config: VtaConfig
    rng: Random
    steps: int
    spoils: float
    overlaps: bool
    image: bytes
    bases: dict[MemType, int]
    limit: int
    words: list[int] = field(default_factory=list)
    slack: dict[str, int] = field(default_factory=dict)
    tokens: dict[TokenQueue, int] = field(default_factory=dict)
    flags: bool = False
    beside: set[str] = field(default_factory=set)
    """What the instructions since the last one without `overlap` do with UOP."""

    def emit(self, form: type[Instruction], **values: Any) -> None:
        """Append an instruction; numbers are cut to what their fields hold."""
        values["overlap"] = self._overlap(form, values)
        for slot in isa.layout(form, self.config):
            if slot.name in values and slot.greatest < int(values[slot.name]):
                values[slot.name] &= slot.mask
        names = {slot.name for slot in isa.layout(form, self.config)}
        insn = form(**{name: value for name, value in values.items() if name in names})
        word = isa.encode(self._with_flags(insn), self.config)
        if self.rng.random() < self.spoils:
            word = self._spoiled(word)
        self.words.append(word)

    def _overlap(self, form: type[Instruction], values: dict[str, Any]) -> bool:
        """Whether to hint `overlap`: where it is true of UOP; that of ACC is of no effect on time.

        When micro-ops are read that are being replaced is not for the engines to agree in.
        """
        uses = "uop" if form in (Gemm, Alu) else ""
        if form is Load:
            memory = values["memory_type"]
            if memory in (MemType.INP, MemType.WGT):
                return self.overlaps and self.rng.random() < 0.5  # a reserved bit for these
            uses = "load" if memory == MemType.UOP else ""
        other = {"uop": "load", "load": "uop"}.get(uses)
        hint = self.overlaps and self.rng.random() < 0.5 and other not in self.beside
        if form is not Store:
            self.beside = {uses, *(self.beside if hint else ())}
        return hint

    def _with_flags(self, insn: Instruction) -> Instruction:
        """Push now and then, pop what was pushed."""
        if not self.flags:
            return insn
        chosen = {}
        for name, queue in isa.TOKEN_FLAGS[isa.stage_of(insn)].items():
            if name.startswith("pop"):
                if self.tokens.get(queue) and self.rng.random() < 0.4:
                    chosen[name] = True
                    self.tokens[queue] -= 1
            elif self.rng.random() < 0.25:
                chosen[name] = True
                self.tokens[queue] = self.tokens.get(queue, 0) + 1
        return replace(insn, **chosen)

    def _spoiled(self, word: int) -> int:
        for _ in range(20):
            trial = word
            for _ in range(self.rng.choice((1, 1, 2, 6))):
                trial ^= 1 << self.rng.choice(
                    [b for b in range(8 * INSN_BYTES) if b not in _OVERLAP]
                )
            if _steps(isa.decode(trial, self.config)) <= _LARGE:
                return trial
        return word

    # -- transfers --------------------------------------------------------------------------------

    def transfer(self, memory: MemType) -> None:
        """A LOAD, or of OUT a STORE; often to the ends of its memories."""
        rng, config = self.rng, self.config
        size, depth = config.elem_bytes(memory), config.depth(memory)
        base = self.bases.get(MemType.ACC if memory is MemType.ACC_8BIT else memory, 0)
        first = -(-_UOP_BYTES // size) if memory is MemType.OUT else 0
        end = _UOP_BYTES if memory is MemType.UOP and rng.random() < 0.95 else self.limit
        room = max(0, end - base) // size
        for _ in range(20):
            shape = self._shape(memory)
            rows = shape["y_pad_0"] + shape["y_size"] + shape["y_pad_1"]
            total = rows * (shape["x_pad_0"] + shape["x_size"] + shape["x_pad_1"])
            span = (max(shape["y_size"], 1) - 1) * shape["x_stride"] + shape["x_size"]
            if total <= depth and first + span <= room:
                break
        else:
            return
        at = rng.choice((depth - total, 0, rng.randint(0, depth - total)))
        source = rng.choice((room - span, first, rng.randint(first, room - span)))
        if shape["y_size"] == 0 or shape["x_size"] == 0:
            source = rng.choice((source, 0xFFFFFFFF))
        least = memory is not MemType.UOP and rng.random() < 0.5
        form = Store if memory is MemType.OUT else Load
        self.emit(
            form,
            memory_type=memory,
            sram_base=min(at, 65535),
            dram_base=source,
            pad_min=least,
            **shape,
        )

    def _shape(self, memory: MemType) -> dict[str, int]:
        rng, depth = self.rng, self.config.depth(memory)
        shape = dict.fromkeys(("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1"), 0)
        kind = rng.random()
        if kind < 0.05:  # the whole memory, each element the same
            return {**shape, "y_size": depth, "x_size": 1, "x_stride": 0}
        if kind < 0.15:
            columns = rng.choice((depth, depth - 1, max(1, depth // 2)))
            return {
                **shape,
                "y_size": rng.choice((1, 1, 2)),
                "x_size": columns,
                "x_stride": columns,
            }
        rows, columns = rng.choice((1, 1, 2, 3, 5, 0)), rng.choice((1, 2, 3, 4, 7, 16, 0))
        if memory is not MemType.OUT and rng.random() < 0.5:
            for name in rng.sample(tuple(shape), rng.randint(1, 4)):
                shape[name] = rng.choice((1, 1, 2, 3, 15))
        stride = rng.choice((columns, columns, 0, rng.randint(0, 8), columns + rng.randint(0, 9)))
        return {**shape, "y_size": rows, "x_size": columns, "x_stride": stride}

    # -- loops ------------------------------------------------------------------------------------

    def loops(self, form: type[Instruction]) -> None:
        """A GEMM or an ALU instruction."""
        rng, depth = self.rng, self.config.depth(MemType.UOP)
        count = rng.choice((1, 1, 2, 3, 8, 0, 30))
        count = min(count, depth)
        begin = min(rng.choice((0, depth - count, rng.randint(0, depth - count))), depth - 1)
        while True:
            outer, inner = (rng.choice((1, 1, 2, 3, 5, 9, 20, 0)) for _ in range(2))
            if rng.random() < 0.02:
                outer = rng.choice((self.steps // max(1, inner * count), 1))
            if outer * inner * count <= self.steps:
                break
        names = ("dst", "src", "wgt") if form is Gemm else ("dst", "src")
        factors = {}
        for name in names:
            for level, loop in (("out", outer), ("in", inner)):
                factors[f"{name}_factor_{level}"] = self._factor(name, loop)
        values: dict[str, Any] = {"reset": rng.random() < 0.2, **factors}
        if form is Alu:
            values |= self._operation()
        self.emit(
            form, uop_bgn=begin, uop_end=begin + count, iter_out=outer, iter_in=inner, **values
        )

    def _factor(self, name: str, loop: int) -> int:
        if loop <= 1:
            return self.rng.choice((0, 1, self.rng.getrandbits(16)))
        most = self.slack[name] // 2 // (loop - 1)
        return self.rng.choice((0, 0, min(1, most), most, self.rng.randint(0, most)))

    def _operation(self) -> dict[str, Any]:
        rng = self.rng
        requant = self.config.has("requant")
        op = rng.choice(tuple(AluOp)) if requant else AluOp(rng.randrange(AluOp.RDHM))
        if op is AluOp.REQ:
            imm = rng.choice(tuple(Rounding)) << 8 | rng.choice((0, 0x80, 0x7F, rng.getrandbits(8)))
            return {"alu_opcode": op, "use_imm": False, "imm": imm | rng.choice((0, 0xC00))}
        imm = rng.choice((rng.randint(-40, 40), rng.choice(EDGES), rng.getrandbits(16)))
        imm = (imm & 0xFFFF) - ((imm & 0x8000) << 1)
        return {"alu_opcode": op, "use_imm": rng.random() < 0.5, "imm": imm}


def _steps(insn: Instruction) -> int:
    if not isinstance(insn, Gemm | Alu):
        return 0
    return insn.iter_out * insn.iter_in * max(0, insn.uop_end - insn.uop_bgn)


def wild_launch(config: VtaConfig, seed: int, steps: int = 600) -> Launch:
    """A program of up to 40 instructions whose loops have at most so many steps."""
    rng = Random(seed)
    image = bytearray(_image(rng, _UOP_BYTES + _DATA_BYTES + rng.randint(0, 300)))
    limit = len(image) if rng.random() < 0.6 else len(image) - rng.randint(1, PAGE_BYTES)
    bases = {}
    if rng.random() < 0.5:
        for memory in (MemType.INP, MemType.WGT, MemType.ACC, MemType.OUT):
            bases[memory] = rng.choice((0, PAGE_BYTES, 2 * PAGE_BYTES))
    slack = _fill_uops(image, config, rng)
    spoils = rng.choice((0, 0, 0, 0.05))
    wild = Wild(
        config=config,
        rng=rng,
        steps=steps,
        spoils=spoils,
        overlaps=not spoils and rng.random() < 0.4,
        image=bytes(image),
        bases=bases,
        limit=limit,
        slack=slack,
        flags=rng.random() < 0.6,
    )
    _write(wild)
    stream = b"".join(word.to_bytes(INSN_BYTES, "little") for word in wild.words)
    return Launch(config, stream, wild.image, bases, None if limit == len(image) else limit)


def _write(wild: Wild) -> None:
    rng = wild.rng
    for memory in rng.sample(_LOADS, len(_LOADS)):
        for _ in range(rng.randint(1, 2)):
            wild.transfer(memory)
    for _ in range(rng.randint(2, 25)):
        match rng.randrange(10):
            case 0 | 1:
                wild.transfer(rng.choice(_LOADS))
            case 2 | 3 | 4:
                wild.loops(Gemm)
            case 5 | 6 | 7:
                wild.loops(Alu)
            case _:
                wild.transfer(MemType.OUT)
    if rng.random() < 0.95:
        wild.emit(Finish)


def _image(rng: Random, size: int) -> bytes:
    """What `tests.gen_values` makes, and floats that are none or hardly."""
    patches = bytearray(random_image(rng, size))
    for _ in range(size // 512):
        at = rng.randrange(size // 4) * 4
        patches[at : at + 4] = rng.choice(_FLOATS).to_bytes(4, "little")
    return bytes(patches[:size])


def _fill_uops(image: bytearray, config: VtaConfig, rng: Random) -> dict[str, int]:
    """Micro-ops with room for loops behind their indices: how much, by operand."""
    least = min(config.depth(MemType.INP), config.depth(MemType.ACC) - 2)
    depths = {
        "dst": config.depth(MemType.ACC),
        "src": max(1, least),
        "wgt": config.depth(MemType.WGT),
    }
    slack, windows = {}, {}
    for name, depth in depths.items():
        slack[name] = rng.choice((0, depth // 4, depth // 2, depth - 1))
        window = rng.choice((1, 3, 8, depth))
        window = min(window, depth - slack[name])
        low = rng.choice((0, depth - slack[name] - window))
        windows[name] = (low, low + window - 1)
    for place in range(0, _UOP_BYTES, 4):
        uop = MicroOp(**{name: rng.randint(*window) for name, window in windows.items()})
        image[place : place + 4] = isa.encode_uop(uop, config).to_bytes(4, "little")
    return slack
