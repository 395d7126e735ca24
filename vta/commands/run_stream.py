"""``vta run`` on a folder of many inputs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vta import show

if TYPE_CHECKING:
    from runtime.executor import Executor
    from vta.files import Item
    from vta_hw.spec.result import RunResult


def run_stream(
    executor: Executor,
    items: Sequence[Item],
    outputs: Literal["model", "all"],
    output_dir: Path | None,
    jobs: int,
    facts: Mapping[str, Any] | None,
) -> int:
    """Run all items in order, print and write what came of them; the exit status.

    Each item's results get a folder of its name. With `facts` the last line is JSON.
    """
    from runtime.executor import ProgramFaultError
    from vta import files

    total: RunResult | None = None
    done = 0
    start = time.perf_counter()
    inputs = (files.read_item(executor.package, item) for item in items)
    try:
        outcomes = executor.stream(inputs, outputs=outputs, workers=min(jobs, len(items)))
        # Closed at once after an error too, so that no thread works on while it is reported.
        with _bar(f"running {executor.package.model}", len(items)) as advance, closing(outcomes):
            for item, outcome in zip(items, outcomes, strict=True):
                if output_dir is not None:
                    files.write_folder(output_dir / item.name, outcome.outputs)
                total = _sum(total, outcome.result)
                done += 1
                advance()
    except ProgramFaultError as error:
        show.note(f"vta: item {items[done].name!r}: {error}")
        if facts is not None:
            _write_json(error.result, time.perf_counter() - start, done, items[done].name, facts)
        return show.exit_status(error.result.status)
    assert total is not None, "there is at least one item"
    wall_s = time.perf_counter() - start
    show.write_result(total, wall_s)
    show.write(f"{done:,} images, {done / wall_s:,.1f} images/s")
    if facts is not None:
        _write_json(total, wall_s, done, None, facts)
    return show.EXIT_OK


def _sum(total: RunResult | None, result: RunResult) -> RunResult:
    """The results so far and another one; equal notes are kept once."""
    from runtime.executor import merge_results

    if total is None:
        return result
    merged = merge_results((total, result))
    return replace(merged, notes=tuple(dict.fromkeys(merged.notes)))


def _write_json(
    result: RunResult, wall_s: float, done: int, item: str | None, facts: Mapping[str, Any]
) -> None:
    """The record of a run, with how many images were run and the item that ended it badly."""
    rate = round(done / wall_s, 3)
    record = show.run_record(result, wall_s, images=done, images_per_s=rate, item=item, **facts)
    show.write_json(record)


@contextmanager
def _bar(text: str, count: int) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error if that is a terminal; what it gives counts one more."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    label = TextColumn("{task.description}", markup=False)
    columns = (label, BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=count)
        yield lambda: bar.advance(task)
