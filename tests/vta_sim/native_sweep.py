"""Compiled engines against the readable simulators, on many random programs.

``python -m tests.vta_sim.native_sweep --programs 1000 --seed 0`` prints every difference and what
was run; the exit status is 1 if there was a difference.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random

from tests.cosim import contended
from tests.cosim.programs import CONFIGS, case
from tests.cosim.sweep import LATENCIES, READS
from tests.vta_sim.engines import Launch, functional_differences, timing_differences
from tests.vta_sim.wild import wild_launch
from vta_hw.spec.config import INSN_BYTES, VtaConfig, named_configs
from vta_sim.native.volatile import VolatileProgramError

SHAPES = {
    "block1": ("tiny", ("LOG_BLOCK=0",)),
    "in1-out2": ("tiny", ("LOG_BLOCK_IN=0", "LOG_BLOCK_OUT=1")),
    "in2-out1": ("tiny", ("LOG_BLOCK_IN=1", "LOG_BLOCK_OUT=0")),
    "in4-out1": ("tiny", ("LOG_BLOCK_IN=2", "LOG_BLOCK_OUT=0")),
    "in1-out16": ("tiny", ("LOG_BLOCK_IN=0", "LOG_BLOCK_OUT=4")),
    "batch2": ("mac64", ("LOG_BATCH=1",)),
    "block32": ("default", ("LOG_BLOCK=5",)),
    "block64": ("default", ("LOG_BLOCK=6", "LOG_ACC_BUFF_SIZE=15")),
    # Two elements of each memory: REQ reads three.
    "depth2": (
        "tiny",
        (
            "LOG_UOP_BUFF_SIZE=3",
            "LOG_INP_BUFF_SIZE=3",
            "LOG_WGT_BUFF_SIZE=5",
            "LOG_ACC_BUFF_SIZE=5",
        ),
    ),
    "depth4": (
        "tiny",
        (
            "LOG_UOP_BUFF_SIZE=4",
            "LOG_INP_BUFF_SIZE=4",
            "LOG_WGT_BUFF_SIZE=6",
            "LOG_ACC_BUFF_SIZE=6",
        ),
    ),
}
"""Machines with blocks and memories of extreme sizes, in the form of `tests.cosim.programs`."""

MACHINES = {**{name: (name, ()) for name in named_configs()}, **CONFIGS, **SHAPES}
_BASES = (0, 16, 240, 4096)


@dataclass(frozen=True)
class Pick:
    """A program on a machine, where its instructions lie, and how to make it again."""

    name: str
    launch: Launch
    insn_base: int


@cache
def machine(name: str) -> VtaConfig:
    """The config that a name of `MACHINES` stands for."""
    base, settings = MACHINES[name]
    return VtaConfig.load(base).override(list(settings))


def pick(name: str, seed: int) -> Pick:
    """The program of a seed; of three two are wild, one is as the tests of the hardware have it.

    A few of the latter contend for ACC.
    """
    rng = Random(f"{name} {seed}")
    config = machine(name)
    if name in contended.MACHINES and seed % 12 == 2:
        made = contended.contended_case(name, seed // 12).generated
        launch = Launch(config, made.stream, made.dram)
    elif name in CONFIGS and seed % 3 == 2:
        made = case(name, seed // 3).generated
        launch = Launch(config, made.stream, made.dram)
        if rng.random() < 0.8:  # else most reload what they store, which no engine takes
            launch = launch.with_stores_apart()
    else:
        launch = wild_launch(config, seed)
    latency, reads = rng.choice((1, 2, *LATENCIES)), rng.choice((*READS, 2))
    chosen = config.override([f"DRAM_LATENCY={latency}", f"MAX_READS={reads}"])
    text = f"{name} seed {seed}, latency {latency}, reads {reads}"
    return Pick(text, replace(launch, config=chosen), rng.choice(_BASES))


def picks(names: Sequence[str], seeds: range) -> Iterator[Pick]:
    """Programs on these machines in turn."""
    for seed in seeds:
        yield pick(names[seed % len(names)], seed)


def differences(chosen: Pick, counts: Counter[str]) -> list[str]:
    """What the engines differ in on one program, and in `counts` what was run."""
    counts["programs"] += 1
    counts["instructions"] += len(chosen.launch.stream) // INSN_BYTES
    try:
        found = functional_differences(chosen.launch, counts)
        found += timing_differences(chosen.launch, insn_base=chosen.insn_base)
    except VolatileProgramError:
        counts["volatile"] += 1
        return []
    return [f"{chosen.name}: {line}" for line in found]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, prog="python -m tests.vta_sim.native_sweep"
    )
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--machines", nargs="*", default=sorted(MACHINES))
    options = parser.parse_args(arguments)
    counts: Counter[str] = Counter()
    failed = 0
    for chosen in picks(options.machines, range(options.seed, options.seed + options.programs)):
        found = differences(chosen, counts)
        failed += bool(found)
        for line in found[:6]:
            print(line, flush=True)
    print(", ".join(f"{name} {count}" for name, count in counts.most_common()))
    print(f"{failed} programs with differences")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
