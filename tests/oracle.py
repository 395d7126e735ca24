"""The oracle: what a VTA program does, in plain Python integers, by the rules of docs/isa.md.

It shares no code with `vta_hw.spec.semantics` or any simulator. `execute` runs a stream as three
decoupled stages with bounded queues and token counters, and gives the verdict and the DRAM image.
Reading an SRAM element that nothing wrote is an error here, because its value is not defined.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from tests import oracle_words as w
from tests.oracle_arith import alu, requantise, signed
from tests.oracle_words import Geometry, Values
from vta_hw.spec.config import VtaConfig

TOKEN_MAX = 255
# stage -> flag -> the stage it exchanges tokens with
_PARTNER = {
    w.STAGE_LOAD: {"pop_next": w.STAGE_COMPUTE, "push_next": w.STAGE_COMPUTE},
    w.STAGE_COMPUTE: {
        "pop_prev": w.STAGE_LOAD,
        "pop_next": w.STAGE_STORE,
        "push_prev": w.STAGE_LOAD,
        "push_next": w.STAGE_STORE,
    },
    w.STAGE_STORE: {"pop_prev": w.STAGE_COMPUTE, "push_prev": w.STAGE_COMPUTE},
}
FLAGS = ("pop_prev", "pop_next", "push_prev", "push_next")


class UndefinedRead(Exception):
    """The program reads an SRAM element that it never wrote."""


class Bad(Exception):
    """An instruction that faults; the argument is the fault class."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `kind` is None when it is ok, else the fault class or the verdict."""

    status: str
    kind: str | None
    index: int | None
    dram: bytes
    macs: int


class Core:
    """Memories of one machine and the effect of single instructions on them, without tokens."""

    def __init__(self, geometry: Geometry, dram: bytes) -> None:
        self.geometry = geometry
        self.dram = bytearray(dram)
        self.macs = 0
        self.memory: dict[int, list[list[int] | None]] = {
            memory: [None] * geometry.depth(memory) for memory in (w.UOP, w.WGT, w.INP, w.ACC)
        }

    def execute(self, insn: Mapping[str, int]) -> None:
        """Carry out one instruction; raises `Bad`."""
        match insn["opcode"]:
            case w.LOAD:
                self._load(insn)
            case w.STORE:
                self._store(insn)
            case w.GEMM:
                self._gemm(insn)
            case w.ALU:
                self._alu(insn)
            case _:
                pass  # FINISH changes no memory

    def read(self, memory: int, index: int) -> list[int]:
        """One element's lanes (a micro-op is one lane)."""
        element = self.memory[memory][index]
        if element is None:
            raise UndefinedRead(f"memory {memory}, element {index}")
        return element

    # -- transfers ---------------------------------------------------------------

    def check_transfer(self, insn: Mapping[str, int]) -> None:
        """Raise `Bad` in the order of docs/isa.md: flags, type, pads, SRAM end, DRAM end."""
        load, memory = insn["opcode"] == w.LOAD, insn["memory_type"]
        allowed = _PARTNER[w.stage_of(insn)]
        if any(insn[flag] and flag not in allowed for flag in FLAGS):
            raise Bad("bad_flags")
        if load and memory == w.UOP and insn.get("pad_min", 0):
            raise Bad("bad_flags")
        if load and memory in (w.OUT, 6, 7):
            raise Bad("bad_memory_type")
        if insn["x_size"] == 0:
            return
        if not load and memory != w.OUT:
            raise Bad("bad_memory_type")
        rows, columns = self.shape(insn)
        if not load and (rows, columns) != (insn["y_size"], insn["x_size"]):
            raise Bad("bad_pad")
        if insn["sram_base"] + rows * columns > self.geometry.depth(memory):
            raise Bad("sram_range")
        end = insn["dram_base"] + (insn["y_size"] - 1) * insn["x_stride"] + insn["x_size"]
        if insn["y_size"] and end * self.geometry.elem_bytes[memory] > len(self.dram):
            raise Bad("dram_range")

    @staticmethod
    def shape(insn: Mapping[str, int]) -> tuple[int, int]:
        """Rows and columns in SRAM, pads included."""
        return (
            insn["y_pad_0"] + insn["y_size"] + insn["y_pad_1"],
            insn["x_pad_0"] + insn["x_size"] + insn["x_pad_1"],
        )

    def _load(self, insn: Mapping[str, int]) -> None:
        self.check_transfer(insn)
        if insn["x_size"] == 0:
            return
        memory = insn["memory_type"]
        size = self.geometry.elem_bytes[memory]
        width = 4 if memory in (w.UOP, w.ACC) else 1
        target = self.memory[w.ACC if memory == w.ACC_8BIT else memory]
        least = -(1 << (8 * width - 1))
        pad = [least if insn.get("pad_min", 0) else 0] * (size // width)
        rows, columns = self.shape(insn)
        at = insn["sram_base"]
        for row in range(rows):
            y = row - insn["y_pad_0"]
            for column in range(columns):
                x = column - insn["x_pad_0"]
                if 0 <= y < insn["y_size"] and 0 <= x < insn["x_size"]:
                    start = (insn["dram_base"] + y * insn["x_stride"] + x) * size
                    target[at] = _lanes(self.dram[start : start + size], width, memory != w.UOP)
                else:
                    target[at] = list(pad)
                at += 1

    def _store(self, insn: Mapping[str, int]) -> None:
        self.check_transfer(insn)
        size = self.geometry.elem_bytes[w.OUT]
        at = insn["sram_base"]
        for y in range(insn["y_size"] if insn["x_size"] else 0):
            for x in range(insn["x_size"]):
                start = (insn["dram_base"] + y * insn["x_stride"] + x) * size
                lanes = self.read(w.ACC, at)
                self.dram[start : start + size] = bytes(lane & 0xFF for lane in lanes)
                at += 1

    # -- compute ---------------------------------------------------------------

    def steps(self, insn: Mapping[str, int]) -> Iterator[tuple[int, int, int, int]]:
        """(micro-op address, dst, src, wgt) of every step, checked as it comes; raises `Bad`."""
        geometry = self.geometry
        gemm = insn["opcode"] == w.GEMM
        fields = geometry.uop_fields()
        requant = not gemm and insn["alu_opcode"] == w.REQ
        if insn["uop_bgn"] >= insn["uop_end"]:
            return
        for outer in range(insn["iter_out"]):
            for inner in range(insn["iter_in"]):
                for address in range(insn["uop_bgn"], insn["uop_end"]):
                    if address >= geometry.depth(w.UOP):
                        raise Bad("uop_range")
                    uop = w.unpack(self.read(w.UOP, address)[0], fields, 32)
                    dst = uop["dst"] + outer * insn["dst_factor_out"]
                    dst += inner * insn["dst_factor_in"]
                    src = uop["src"] + outer * insn["src_factor_out"]
                    src += inner * insn["src_factor_in"]
                    wgt = 0
                    if gemm:
                        wgt = uop["wgt"] + outer * insn["wgt_factor_out"]
                        wgt += inner * insn["wgt_factor_in"]
                    limits = [(dst, w.ACC)]
                    if gemm and not insn["reset"]:
                        limits += [(src, w.INP), (wgt, w.WGT)]
                    if not gemm:
                        limits += [(src + 2 if requant else src, w.ACC)]
                    if any(index >= geometry.depth(memory) for index, memory in limits):
                        raise Bad("index_range")
                    yield address, dst, src, wgt

    def _gemm(self, insn: Mapping[str, int]) -> None:
        g = self.geometry
        acc = self.memory[w.ACC]
        for _, dst, src, wgt in self.steps(insn):
            if insn["reset"]:
                acc[dst] = [0] * (g.batch * g.block_out)
                continue
            inputs, weights, old = (
                self.read(w.INP, src),
                self.read(w.WGT, wgt),
                self.read(w.ACC, dst),
            )
            n = g.block_in
            rows = [inputs[b * n : b * n + n] for b in range(g.batch)]
            columns = [weights[o * n : o * n + n] for o in range(g.block_out)]
            dots = [
                sum(a * c for a, c in zip(row, column, strict=True))
                for row in rows
                for column in columns
            ]
            acc[dst] = [signed(a + d, 32) for a, d in zip(old, dots, strict=True)]
            self.macs += g.batch * g.block_in * g.block_out

    def check_alu(self, insn: Mapping[str, int]) -> None:
        """Raise `Bad` for an operation that this machine does not have."""
        op, imm = insn["alu_opcode"], insn["imm"]
        bad = op >= w.RDHM and "requant" not in self.geometry.extensions
        if op == w.REQ and (insn["use_imm"] or imm >> 12 or imm >> 8 & 3 == 3):
            bad = True
        if bad:
            raise Bad("bad_alu_opcode")

    def _alu(self, insn: Mapping[str, int]) -> None:
        self.check_alu(insn)
        acc, op, imm = self.memory[w.ACC], insn["alu_opcode"], insn["imm"]
        held_src, held = -1, [[0]]
        for _, dst, src, _ in self.steps(insn):
            old = self.read(w.ACC, dst)
            if op == w.REQ:
                if src != held_src:  # parameters are held while src repeats
                    held_src, held = src, [self.read(w.ACC, src + i) for i in range(3)]
                acc[dst] = [
                    requantise(lane, bias, multiplier, shape, imm)
                    for lane, bias, multiplier, shape in zip(old, *held, strict=True)
                ]
            elif insn["use_imm"]:
                acc[dst] = [alu(op, lane, signed(imm, 16)) for lane in old]
            else:
                second = self.read(w.ACC, src)
                acc[dst] = [alu(op, a, b) for a, b in zip(old, second, strict=True)]


def _lanes(raw: bytes | bytearray, width: int, is_signed: bool) -> list[int]:
    return [
        int.from_bytes(raw[i : i + width], "little", signed=is_signed)
        for i in range(0, len(raw), width)
    ]


class _Stage:
    def __init__(self, stage: int) -> None:
        self.partner = _PARTNER[stage]
        self.queue: deque[int] = deque()
        self.executed: int | None = None  # done but for its pushes
        self.stopped = False

    def head(self) -> int | None:
        return self.executed if self.executed is not None else next(iter(self.queue), None)


class Machine:
    """Fetch and three stages that run whenever they can; `step` picks who."""

    def __init__(self, config: VtaConfig, stream: bytes, dram: bytes) -> None:
        self.geometry = Geometry.of(config)
        self.core = Core(self.geometry, dram)
        self.insns: list[Values] = [
            w.decode(int.from_bytes(stream[i : i + 16], "little"), self.geometry)
            for i in range(0, len(stream), 16)
        ]
        self.stages = [_Stage(stage) for stage in range(3)]
        self.tokens = dict.fromkeys(((0, 1), (1, 0), (1, 2), (2, 1)), 0)
        self.fetched = 0
        self.fetch_stopped = False
        self.faults: dict[int, str] = {}
        self.retired: set[int] = set()
        self.finished = False

    def run(self, rng: Random | None) -> None:
        """Go on until nothing can move."""
        actors = [0, 1, 2, 3]
        while True:
            if rng is not None:
                rng.shuffle(actors)
            for actor in actors:
                if self._fetch() if actor == 3 else self._advance(actor):
                    break
            else:
                return

    def _fetch(self) -> bool:
        if self.fetch_stopped or self.fetched == len(self.insns):
            return False
        insn = self.insns[self.fetched]
        if insn["opcode"] > w.ALU:
            self.faults[self.fetched] = "bad_opcode"
            self.fetch_stopped = True
            return True
        queue = self.stages[w.stage_of(insn)].queue
        if len(queue) == self.geometry.queue:
            return False
        queue.append(self.fetched)
        self.fetched += 1
        return True

    def _advance(self, number: int) -> bool:
        stage = self.stages[number]
        if stage.stopped:
            return False
        if stage.executed is not None:
            return self._retire(number)
        if not stage.queue:
            return False
        index = stage.queue[0]
        insn = self.insns[index]
        pops = [(other, number) for flag, other in self._used(number, insn, "pop")]
        if any(self.tokens[q] == 0 for q in pops):
            return False
        for q in pops:
            self.tokens[q] -= 1
        stage.queue.popleft()
        try:
            self.core.execute(insn)
        except Bad as bad:
            self.faults[index] = str(bad)
            stage.stopped = True
            return True
        stage.executed = index
        self._retire(number)
        return True

    def _used(self, number: int, insn: Values, kind: str) -> list[tuple[str, int]]:
        partner = self.stages[number].partner
        return [(f, other) for f, other in partner.items() if f.startswith(kind) and insn[f]]

    def _retire(self, number: int) -> bool:
        stage = self.stages[number]
        assert stage.executed is not None
        insn = self.insns[stage.executed]
        pushes = [(number, other) for _, other in self._used(number, insn, "push")]
        if any(self.tokens[q] == TOKEN_MAX for q in pushes):
            return False
        for q in pushes:
            self.tokens[q] += 1
        self.retired.add(stage.executed)
        stage.executed = None
        if insn["opcode"] == w.FINISH:
            self.finished = stage.stopped = True
        return True

    def verdict(self) -> tuple[str, str | None, int | None]:
        """(status, kind, index) in the order of docs/isa.md."""
        if self.faults:
            index = min(self.faults)
            return "fault", self.faults[index], index
        left = [i for i in range(len(self.insns)) if i not in self.retired]
        if self.finished:
            if not left:
                return "ok", None, None
            return "finish_not_drained", "finish_not_drained", left[0]
        heads = [stage.head() for stage in self.stages]
        waiting = [index for index in heads if index is not None]
        if waiting:
            return "deadlock", "deadlock", min(waiting)
        return "no_finish", "no_finish", None


def execute(config: VtaConfig, stream: bytes, dram: bytes, rng: Random | None = None) -> Outcome:
    """Run a stream on a DRAM image (base registers 0, DRAM_LIMIT its size).

    `rng` picks who moves next; without it the load stage goes before compute, store and fetch.
    """
    machine = Machine(config, stream, dram)
    machine.run(rng)
    status, kind, index = machine.verdict()
    return Outcome(status, kind, index, bytes(machine.core.dram), machine.core.macs)
