"""Tuning on the cycle simulator: what `compiler.tune` measures with, and its progress as a bar."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from vta_hw.spec.config import PAGE_BYTES
from vta_hw.spec.errors import VtaKitError
from vta_hw.spec.program import Program

if TYPE_CHECKING:
    from compiler.tune.session import Progress


class MeasureError(VtaKitError):
    """A program that does not run to its end."""


def program_cycles(program: Program) -> int:
    """The cycles that a program takes; nothing is computed, its symbols follow each other."""
    from vta_sim.timing.simulate import time_program

    addresses: dict[str, int] = {}
    end = 0
    for symbol in program.symbols.values():
        addresses[symbol.name] = end
        end += -(-symbol.size_bytes // PAGE_BYTES) * PAGE_BYTES
    dram = np.zeros(end, np.uint8)
    for symbol in program.symbols.values():
        if symbol.contents is not None:
            contents = np.frombuffer(symbol.contents, np.uint8)
            dram[addresses[symbol.name] :][: len(contents)] = contents
    words = program.bound_words(addresses)
    result = time_program(program.config, words, dram, insn_base=end).result
    if result.fault is not None or result.cycles is None:
        text = result.status if result.fault is None else result.fault.text
        raise MeasureError(f"a program that was to be measured ended badly: {text}; report it")
    return result.cycles


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def bar() -> Iterator[Progress]:
    """Progress as a bar on standard error, if that is a terminal."""
    from compiler.tune.session import SILENT, Progress

    if not sys.stderr.isatty():
        yield SILENT
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.progress import TimeElapsedColumn as Elapsed

    label = TextColumn("{task.description}", markup=False)
    columns = (label, BarColumn(), MofNCompleteColumn(), Elapsed())
    with Bar(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("tuning", total=None)

        def begin(text: str, count: int) -> None:
            shown.reset(task, description=text, total=count)

        yield Progress(begin, lambda count: shown.advance(task, count))
