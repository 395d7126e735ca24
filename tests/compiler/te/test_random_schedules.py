"""No sequence of primitives changes what is computed."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.loop.expr import reads
from compiler.te.schedule import Stage
from tests.compiler.te.programs import PROGRAMS, TensorProgram


def mix_loops(stage: Stage, rng: np.random.Generator) -> None:
    """A few splits, fusions and reorderings, with and without remainders."""
    for _ in range(int(rng.integers(0, 4))):
        leaves = stage.leaves
        choice = rng.integers(4)
        axis = leaves[int(rng.integers(len(leaves)))]
        if choice == 0:
            stage.split(axis, factor=int(rng.integers(1, 6)))
        elif choice == 1:
            stage.split(axis, nparts=int(rng.integers(1, 6)))
        elif choice == 2:
            order = rng.permutation(len(leaves))
            stage.reorder(*(leaves[int(n)] for n in order))
        else:
            at = int(rng.integers(len(leaves)))
            if at + 1 < len(leaves) and leaves[at].is_reduce == leaves[at + 1].is_reduce:
                stage.fuse(leaves[at], leaves[at + 1])


def mix_stages(program: TensorProgram, rng: np.random.Generator) -> None:
    """Inline a stage, or compute it at a random loop of its one reader."""
    s = program.schedule
    if rng.random() < 0.5:
        reader = next(t for t in program.tensors if program.inputs[0] in _sources(s[t]))
        s.cache_read(program.inputs[0], "host", [reader])
    for stage in list(s.stages):
        if stage.tensor is program.out:
            continue
        readers = [r for r in s.stages if stage.tensor in _sources(r)]
        if rng.random() < 0.25:
            stage.compute_inline()
        elif rng.random() < 0.7 and len(readers) == 1 and not readers[0].is_inline:
            mix_loops(stage, rng)


def _sources(stage: Stage) -> list[object]:
    return [read.source for read in reads(stage.body)]


def attach(program: TensorProgram, rng: np.random.Generator) -> None:
    s = program.schedule
    for stage in s.stages:
        if stage.tensor is program.out or stage.is_inline:
            continue
        readers = [r for r in s.stages if stage.tensor in _sources(r)]
        if len(readers) == 1 and not readers[0].is_inline and rng.random() < 0.8:
            leaves = readers[0].leaves
            stage.compute_at(readers[0], leaves[int(rng.integers(len(leaves)))])


@pytest.mark.parametrize("make", PROGRAMS, ids=lambda make: make.__name__)
def test_random_primitives_keep_the_result(make, rng: np.random.Generator) -> None:
    for _ in range(60):
        program = make()
        mix_stages(program, rng)
        mix_loops(program.schedule[program.out], rng)
        attach(program, rng)
        program.check()
