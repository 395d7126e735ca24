"""Random programs in which the users of ACC want the same slots for long stretches.

Each scene runs instructions of the compute stage beside each other, on parts of ACC of their own;
where these lie, and how the loops step, decides when two of them want the same half. Latencies make
them begin at other places of each other's patterns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from tests.cosim.programs import Case, config_of
from tests.gen_programs import Generated
from tests.gen_values import random_image
from vta_hw.spec import isa
from vta_hw.spec.config import PAGE_BYTES, MemType, VtaConfig
from vta_hw.spec.isa import Alu, AluOp, Finish, Gemm, Load, MicroOp, Rounding, Store

SHAPES = {
    "zero-fill beside GEMM": (("gemm", "fill"), ("gemm", "fill", "gemm", "fill")),
    "REQ beside GEMM": (("gemm", "requant"), ("gemm", "requant", "requant")),
    "hazards beside GEMM": (("gemm", "alu"), ("alu", "gemm", "fill"), ("gemm", "alu", "alu")),
    "beats": (("gemm", "rows", "rows"), ("alu", "rows"), ("requant", "gemm", "rows")),
    "starts in mid-pattern": (
        ("gemm", "immediate", "fill", "immediate", "fill"),
        ("gemm", "fill", "requant", "gemm", "requant", "fill"),
    ),
    "all three": (("gemm", "requant", "fill"), ("gemm", "alu", "rows"), ("gemm", "alu", "fill")),
}
"""What the scenes of a program run beside each other: each scene one of these."""

MACHINES = ("tiny", "mac64", "default", "bus32", "bus512", "batch4")
"""Names in `tests.cosim.programs.CONFIGS`."""

LATENCIES = (1, 16, 33, 7)

_SCENES = 6
_UNITS = 3
_UOP_BYTES = PAGE_BYTES
_DATA_BYTES = 4 * PAGE_BYTES
_PAD_MAX = 15


def contended_picks(programs: int, first_seed: int = 0) -> Iterator[tuple[Case, VtaConfig]]:
    """That many programs, spread over machines, shapes and latencies."""
    for seed in range(first_seed, first_seed + programs):
        turn = seed // len(MACHINES)
        made = contended_case(MACHINES[seed % len(MACHINES)], turn)
        latency = LATENCIES[(turn + turn // len(SHAPES)) % len(LATENCIES)]
        yield made, made.config.override([f"DRAM_LATENCY={latency}"])


def contended_case(name: str, seed: int) -> Case:
    """The program of one seed for a machine; seeds that follow each other have all shapes."""
    shape = list(SHAPES)[seed % len(SHAPES)]
    made = contended_program(config_of(name), seed, shape)
    return Case(f"{name} seed {seed} ({shape})", made)


def contended_program(config: VtaConfig, seed: int, shape: str) -> Generated:
    """A legal program with six scenes of a shape; at its end all of ACC is stored."""
    rng = Random(f"{shape} {seed}")
    scenes = _Scenes(config, rng)
    for _ in range(_SCENES):
        scenes.play(rng.choice(SHAPES[shape]))
    image = random_image(rng, _UOP_BYTES + _DATA_BYTES)
    words = [isa.encode_uop(uop, config).to_bytes(4, "little") for uop in scenes.uops]
    image = b"".join(words) + image[4 * len(words) :]
    size = config.elem_bytes(MemType.OUT)
    dram = image + bytes(scenes.depth * size)
    program = [*scenes.prologue(), *scenes.body, *scenes.epilogue(len(image) // size)]
    stream = isa.encode_all(program, config)
    return Generated(config, seed, stream, dram, frozenset({shape}))


@dataclass(frozen=True)
class _Part:
    """Elements of ACC: so many from each of one or two bases on, one in each half."""

    bases: tuple[int, ...]
    length: int


@dataclass
class _Scenes:
    """A program as it grows, and the parts of ACC of the present scene."""

    config: VtaConfig
    rng: Random
    body: list[Gemm | Alu | Load] = field(default_factory=list)
    uops: list[MicroOp] = field(default_factory=list)
    parts: dict[str, _Part] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        """Elements of ACC."""
        return self.config.depth(MemType.ACC)

    def play(self, users: tuple[str, ...]) -> None:
        """Run these beside each other, once all that came before has ended."""
        parts = self._divide()
        self.parts = dict(zip(("gemm", "alu", "load"), parts, strict=True))
        for number, user in enumerate(users):
            insn: Gemm | Alu | Load = getattr(self, f"_{user}")()
            self.body.append(replace(insn, overlap=number > 0))

    def _divide(self) -> list[_Part]:
        """Parts side by side, with the middle of ACC within them; or each in both halves."""
        rng, middle = self.rng, self.depth // 2
        length = min(middle // (2 * _UNITS), rng.choice((9, 16, 40, 100)))
        if rng.random() < 0.3:
            base = rng.randint(0, middle - _UNITS * length)
            parts = [_Part((at, middle + at), length) for at in self._from(base, length)]
        else:
            base = middle - rng.randint(0, _UNITS * length)
            parts = [_Part((at,), length) for at in self._from(base, length)]
        return rng.sample(parts, _UNITS)

    def _from(self, base: int, length: int) -> list[int]:
        return [base + number * length for number in range(_UNITS)]

    # -- users ------------------------------------------------------------------------------------

    def _gemm(self) -> Gemm:
        return Gemm(reset=self.rng.random() < 0.5, **self._loops(self.parts["gemm"], 0))

    def _requant(self) -> Alu:
        if not self.config.has("requant"):
            return self._alu()
        imm = self.rng.choice(tuple(Rounding)) << 8
        loops = self._loops(self.parts["alu"], 3)
        return Alu(alu_opcode=AluOp.REQ, imm=imm, **loops)

    def _alu(self) -> Alu:
        op = self.rng.choice((AluOp.MAX, AluOp.ADD, AluOp.SHR, AluOp.MUL))
        return Alu(alu_opcode=op, **self._loops(self.parts["alu"], 1))

    def _immediate(self) -> Alu:
        op = self.rng.choice((AluOp.ADD, AluOp.MUL))
        return Alu(alu_opcode=op, use_imm=True, imm=3, **self._loops(self.parts["alu"], 1))

    def _loops(self, part: _Part, sources: int) -> dict[str, Any]:
        """Loops and micro-ops within a part; without sources src is 0."""
        rng, last = self.rng, part.length - 1
        step_in = rng.choice((0, 1, 1, 1, 2, 3))
        iter_in = rng.randint(1, min(40, last // step_in + 1 if step_in else 12))
        span = (iter_in - 1) * step_in
        step_out = rng.choice((0, 0, 1, step_in * iter_in))
        most = min(12, (last - span) // step_out + 1) if step_out else 12
        iter_out = rng.randint(1, most) if sources else rng.randint(min(most, 4), most)
        span += (iter_out - 1) * step_out
        src_out, src_in = rng.choice(((0, 0), (3, 0), (1, 0), (0, 1))) if sources else (0, 0)
        src_span = (iter_out - 1) * src_out + (iter_in - 1) * src_in
        if src_span + sources > part.length:
            src_out = src_in = src_span = 0
        first = len(self.uops)
        for number in range(rng.choice((1, 1, 2, 3, 5))):
            base = part.bases[number % len(part.bases)]
            dst = base + rng.randint(0, last - span)
            src = rng.choice(part.bases) + rng.randint(0, part.length - sources - src_span)
            self.uops.append(MicroOp(dst=dst, src=src if sources else 0, wgt=0))
        return {
            "uop_bgn": first,
            "uop_end": len(self.uops),
            "iter_out": iter_out,
            "iter_in": iter_in,
            "dst_factor_out": step_out,
            "dst_factor_in": step_in,
            "src_factor_out": src_out,
            "src_factor_in": src_in,
        }

    def _fill(self) -> Load:
        """Padding alone, or copies of one element (D2)."""
        rng, part = self.rng, self.parts["load"]
        if rng.random() < 0.4:
            return self._load(part, y_size=part.length, x_size=1, x_stride=0)
        columns = rng.randint(1, part.length)
        rows = part.length // columns
        before = rng.randint(max(0, rows - _PAD_MAX), min(rows, _PAD_MAX)) if rows < 30 else 9
        after = min(rows - before, _PAD_MAX)
        return self._load(part, y_pad_0=before, y_pad_1=after, x_size=columns, x_stride=columns)

    def _rows(self) -> Load:
        """Rows that are read, maybe with padding."""
        rng, part = self.rng, self.parts["load"]
        rows = rng.randint(1, min(5, part.length))
        columns = rng.randint(1, part.length // rows)
        pads: dict[str, Any] = {}
        if rng.random() < 0.4 and columns > 1:
            columns -= 1
            pads["x_pad_0" if rng.random() < 0.5 else "x_pad_1"] = 1
        stride = columns + rng.choice((0, 0, 1, 5))
        return self._load(part, y_size=rows, x_size=columns, x_stride=stride, **pads)

    def _load(self, part: _Part, **shape: Any) -> Load:
        rng = self.rng
        memory = rng.choice((MemType.ACC, MemType.ACC_8BIT))
        size = self.config.elem_bytes(memory)
        first = -(-_UOP_BYTES // size)
        span = max(0, shape.get("y_size", 0) - 1) * shape["x_stride"] + shape["x_size"]
        at = rng.randint(first, (_UOP_BYTES + _DATA_BYTES) // size - span)
        base = rng.choice(part.bases)
        return Load(memory_type=memory, sram_base=base, dram_base=at, **shape)

    # -- around them ------------------------------------------------------------------------------

    def prologue(self) -> list[isa.Instruction]:
        """Give all that is read a value."""
        one: dict[str, Any] = {"y_size": 1, "x_size": 1, "x_stride": 1}
        copies: dict[str, Any] = {"y_size": self.depth, "x_size": 1, "x_stride": 0}
        count = len(self.uops)
        return [
            Load(memory_type=MemType.INP, dram_base=self._data(MemType.INP), **one),
            Load(memory_type=MemType.WGT, dram_base=self._data(MemType.WGT), push_next=True, **one),
            Load(memory_type=MemType.ACC, dram_base=self._data(MemType.ACC), **copies),
            Load(memory_type=MemType.UOP, y_size=1, x_size=count, x_stride=count, pop_prev=True),
        ]

    def epilogue(self, out: int) -> list[isa.Instruction]:
        """Store all of ACC from element `out` of DRAM on, and finish."""
        whole: dict[str, Any] = {"y_size": 1, "x_size": self.depth, "x_stride": self.depth}
        return [
            Gemm(push_next=True),
            Store(memory_type=MemType.OUT, dram_base=out, pop_prev=True, push_prev=True, **whole),
            Finish(pop_next=True),
        ]

    def _data(self, memory: MemType) -> int:
        """The first element in the data area."""
        return -(-_UOP_BYTES // self.config.elem_bytes(memory))
