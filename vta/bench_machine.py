"""What the machine needs for its basic jobs, in cycles: ``vta bench machine``.

Every figure comes from a small program whose cycles are counted on a device with a clock. The
counts are exact and repeatable: they depend on the configuration and on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from runtime.device import open_device
from vta.api import UsageError
from vta_hw.spec.asm import assemble
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.events import IntArray, Timeline
from vta_hw.spec.isa import Gemm, Instruction, MicroOp, encode_all, encode_uop

STEPS = 64
_REPEATS = 8
_TRANSFERS = 24
_IMAGE_BYTES = 1 << 20
_UOPS = 3
_SETTLE = 2
"""Instructions at either end of a series that are left out: there the pipelines fill and drain."""


@dataclass(frozen=True)
class Figure:
    """One measured property; `bound` is the greatest, or for a share the least, that is good."""

    name: str
    value: float
    bound: float
    unit: str

    @property
    def good(self) -> bool:
        """Whether the value keeps the bound."""
        return self.value >= self.bound if self.unit == "share" else self.value <= self.bound


def measure(config: VtaConfig, device: str = "cycle") -> list[Figure]:
    """All figures of a configuration, measured on a device that has a clock.

    Raises `UsageError` for a configuration whose UOP or ACC is too small for the programs.
    """
    for memory, least in ((MemType.UOP, _UOPS), (MemType.ACC, 2 * STEPS)):
        if config.depth(memory) < least:
            raise UsageError(
                f"config {config.name!r} has {config.depth(memory)} {memory.name} elements, fewer "
                f"than the {least} that these programs use; make LOG_{memory.name}_BUFF_SIZE larger"
            )
    return list(_figures(config, device))


def _figures(config: VtaConfig, device: str) -> Iterator[Figure]:
    overhead = _Series(config, device).overhead
    yield Figure("GEMM, cycles beyond micro-ops", overhead(_gemm), 4, "cycles")
    yield Figure("GEMM into one element", overhead(_gemm_same), 4, "cycles")
    yield Figure("ALU immediate", overhead(_alu_immediate), 4, "cycles")
    yield Figure("ALU register, source held", overhead(_alu_held), 5, "cycles")
    if config.has("requant"):
        yield Figure("ALU REQ, parameters held", overhead(_alu_req), 7, "cycles")
    changed = overhead(_alu_changed) + STEPS
    yield Figure("ALU register, source changes", changed / STEPS, 2 + 5 / STEPS, "per micro-op")
    yield Figure("LOAD ACC of padding, beyond vectors", overhead(_padding), 4, "cycles")
    for memory in (MemType.INP, MemType.WGT):
        share = _read_share(config, device, memory)
        yield Figure(f"LOAD {memory.name}, read channel", share, 0.95, "share")
    yield Figure("STORE, write channel", _write_share(config, device), 0.90, "share")
    if config.has("overlap"):
        delay = _overlap_delay(config, device)
        yield Figure("GEMM beside ALU, other half of ACC", delay, 0, "cycles")


# -- series of one instruction --------------------------------------------------------------------


def _gemm(half: int) -> str:
    return f"gemm uop=0..1 iter=1/{STEPS} dst=0/{half // STEPS or 1}"


def _gemm_same(half: int) -> str:
    return f"gemm uop=0..1 iter=1/{STEPS}"


def _alu_immediate(half: int) -> str:
    return f"alu add uop=0..1 iter=1/{STEPS} dst=0/1 src=0/1 imm=1"


def _alu_held(half: int) -> str:
    return f"alu max uop=1..2 iter=1/{STEPS} dst=0/1"


def _alu_req(half: int) -> str:
    return f"alu req uop=1..2 iter=1/{STEPS} dst=0/1 round=double"


def _alu_changed(half: int) -> str:
    return f"alu add uop=1..2 iter=1/{STEPS} dst=0/1 src=0/1"


def _padding(half: int) -> str:
    return f"load acc x={STEPS // 16} ypad=15/1"


class _Series:
    """Programs that repeat one instruction."""

    def __init__(self, config: VtaConfig, device: str) -> None:
        self._config = config
        self._device = device

    def overhead(self, line: Callable[[int], str]) -> float:
        """Cycles from one issue to the next beyond one per micro-op."""
        half = self._config.depth(MemType.ACC) // 2
        body = "\n".join([line(half)] * _REPEATS)
        _, timeline = _run(self._config, self._device, body)
        gaps = np.diff(timeline.issue[1:-1])[_SETTLE:-_SETTLE]
        return float(gaps.max()) - STEPS


def _uop_words(config: VtaConfig) -> bytes:
    """Micro-ops: all zero; src in the last quarter of ACC; dst in its upper half."""
    depth = config.depth(MemType.ACC)
    uops = (MicroOp(), MicroOp(src=3 * depth // 4), MicroOp(dst=depth // 2))
    return b"".join(encode_uop(uop, config).to_bytes(4, "little") for uop in uops)


def _run(config: VtaConfig, device: str, body: str) -> tuple[list[Instruction], Timeline]:
    """The program's instructions and what happened when; its micro-ops are loaded first."""
    text = f"load uop y=1 x={_UOPS} stride={_UOPS}\n{body}\nfinish"
    image = np.zeros(_IMAGE_BYTES, np.uint8)
    words = _uop_words(config)
    image[: len(words)] = np.frombuffer(words, np.uint8)
    instructions = assemble(text, config)
    machine = open_device(device, config, timeline=True)
    result = machine.run_stream(encode_all(instructions, config), image)
    if result.fault is not None or result.timeline is None:
        raise UsageError(
            f"device {device!r} ended a program for config {config.name!r} with {result.status} or "
            f"gave no timeline; choose one that counts cycles"
        )
    return instructions, result.timeline


# -- transfers ------------------------------------------------------------------------------------


def _read_share(config: VtaConfig, device: str, memory: MemType) -> float:
    """Share of cycles with a beat, in the middle of a series of LOADs."""
    elements = _elements(config, memory)
    name = memory.name.lower()
    lines = [
        f"load {name} dram={_spread(config, memory, i)} y=1 x={elements} stride={elements}"
        for i in range(_TRANSFERS)
    ]
    _, timeline = _run(config, device, "\n".join(lines))
    return _share(timeline.read_bus, timeline)


def _write_share(config: VtaConfig, device: str) -> float:
    elements = _elements(config, MemType.OUT)
    lines = [
        f"store out dram={_spread(config, MemType.OUT, i)} y=1 x={elements} stride={elements}"
        for i in range(_TRANSFERS)
    ]
    _, timeline = _run(config, device, "\n".join(lines))
    return _share(timeline.write_bus, timeline)


def _elements(config: VtaConfig, memory: MemType) -> int:
    """Elements of one transfer: 1 KiB, within the memory."""
    return max(1, min(1024 // config.elem_bytes(memory), config.depth(memory)))


def _spread(config: VtaConfig, memory: MemType, number: int) -> int:
    return (1 + number) * 4096 // config.elem_bytes(memory)


def _share(spans: IntArray, timeline: Timeline) -> float:
    """Busy cycles over all, between the retirements of two transfers of the series."""
    begin, end = timeline.retire[1 + _SETTLE], timeline.retire[_TRANSFERS - _SETTLE]
    busy = np.minimum(spans[:, 1], end) - np.maximum(spans[:, 0], begin + 1) + 1
    return float(np.maximum(busy, 0).sum() / (end - begin))


# -- overlap --------------------------------------------------------------------------------------


def _overlap_delay(config: VtaConfig, device: str) -> float:
    """By how much GEMM takes longer when the ALU works on the other half of ACC meanwhile."""
    steps = min(STEPS, config.depth(MemType.ACC) // 2)
    gemm = f"gemm uop=0..1 iter=1/{steps} dst=0/1 overlap"
    alu = f"alu add uop=2..3 iter=1/{steps} dst=0/1 imm=1 overlap"
    alone, beside = (_gemm_cycles(config, device, lines) for lines in ([gemm], [gemm, alu]))
    return float(beside - alone)


def _gemm_cycles(config: VtaConfig, device: str, lines: list[str]) -> int:
    instructions, timeline = _run(config, device, "\n".join(lines))
    number = next(i for i, insn in enumerate(instructions) if isinstance(insn, Gemm))
    return int(timeline.retire[number] - timeline.issue[number])
