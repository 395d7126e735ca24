"""The random programs on which functional simulator, cycle simulator and RTL are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import numpy as np

from tests.cosim.stress import stress_program, token_program
from tests.gen_builder import QUEUES
from tests.gen_programs import ILLEGAL, Generated, illegal_program, legal_program
from vta_hw.spec import isa
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Alu, Gemm, Instruction
from vta_sim import functional

CONFIGS = {
    "tiny": ("tiny", ()),
    "tiny-short-queue": ("tiny", ("LOG_CMD_QUEUE=2",)),
    "mac64": ("mac64", ()),
    "default": ("default", ()),
    "batch4": ("batch4", ()),
    "rect": ("rect", ()),
    "bus128": ("default", ("LOG_BUS_WIDTH=7",)),
    "bus32": ("tiny", ("LOG_BUS_WIDTH=5",)),
    "bus512": ("tiny", ("LOG_BUS_WIDTH=9",)),
    "plain": ("tiny", ("EXTENSIONS=",)),
    # Memories of 16 micro-ops, 4 inputs, 2 weights and 32 accumulators.
    "minimal": (
        "tiny",
        (
            "LOG_BATCH=1",
            "LOG_BLOCK=1",
            "LOG_UOP_BUFF_SIZE=6",
            "LOG_INP_BUFF_SIZE=4",
            "LOG_WGT_BUFF_SIZE=3",
            "LOG_ACC_BUFF_SIZE=9",
        ),
    ),
}
"""Name -> named config and what is changed in it."""

EDGES = ("bus32", "bus512", "plain", "minimal")
"""Those that only change what the others have: they get half as many programs."""


def config_of(name: str) -> VtaConfig:
    """The config that a name of `CONFIGS` stands for."""
    base, settings = CONFIGS[name]
    return VtaConfig.load(base).override(list(settings))


@dataclass(frozen=True)
class Case:
    """One program, and how to make it again."""

    name: str
    generated: Generated

    @property
    def config(self) -> VtaConfig:
        """What it runs on."""
        return self.generated.config


def cases(name: str, first_seed: int, count: int) -> Iterator[Case]:
    """`count` programs for the config `name`: six in ten legal, two faulting, two stressing."""
    for seed in range(first_seed, first_seed + count):
        yield case(name, seed)


def case(name: str, seed: int) -> Case:
    """The program of one seed; it runs on exactly the config that `name` stands for."""
    config = config_of(name)
    kind = seed % 10
    if kind < 6:
        made, text = legal_program(config, seed, long_loops=kind == 5), "legal"
    elif kind < 8:
        turn = 2 * (seed // 10) + kind + 5 * list(CONFIGS).index(name)
        what = ILLEGAL[turn % len(ILLEGAL)]
        made, text = illegal_program(config, seed, what), what
    elif kind == 9 and seed // 10 % 3 == 0:
        made, text = token_program(config, seed), "tokens"
    else:
        turn = 2 * (seed // 10) + kind + 3 * list(CONFIGS).index(name)
        full = turn % (2 * len(QUEUES))
        made, text = stress_program(config, seed, full if full < len(QUEUES) else None), "stress"
    # The generator shortens the queue at times, which is another machine.
    made = Generated(config, seed, made.stream, made.dram, made.tags)
    return Case(f"{name} seed {seed} ({text})", made)


@contextmanager
def recorded_uops(instructions: Sequence[Instruction]) -> Iterator[list[np.ndarray | None]]:
    """While the functional simulator runs `instructions`: the micro-ops that each one executes."""
    words: list[np.ndarray | None] = [None] * len(instructions)
    place = {id(insn): index for index, insn in enumerate(instructions)}
    execute = functional.execute

    def recording(insn, pads, *rest):
        if isinstance(insn, Gemm | Alu) and insn.iter_out and insn.iter_in:
            words[place[id(insn)]] = pads.uop[insn.uop_bgn : insn.uop_end].copy()
        return execute(insn, pads, *rest)

    with mock.patch.object(functional, "execute", recording):
        yield words


def decoded(made: Generated) -> list[Instruction]:
    """The instructions of a program."""
    return isa.decode_all(made.stream, made.config)
