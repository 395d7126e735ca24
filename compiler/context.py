"""What a compilation carries along: the configuration, where to dump, how long each step took."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vta_hw.spec.config import VtaConfig
from vta_hw.spec.file_names import file_stem

_DUMPED = re.compile(r"([0-9]{4,})-[A-Za-z0-9._-]+\.txt")


@dataclass(eq=False)
class CompileContext:
    """Passed explicitly to every step. `verify` checks the IR after each pass."""

    config: VtaConfig
    dump_dir: Path | None = None
    verify: bool = True
    seconds: dict[str, float] = field(default_factory=dict)
    dumped: int = 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step; steps of one name add up."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def dump(self, of: str, step: str, text: Callable[[], str]) -> None:
        """Write what came out of a step as ``NNNN-<of>-<step>.txt``, numbered in order.

        `of` names the kernel, region or function, or is "graph". `text` is asked for only if there
        is a folder. The first form takes the place of an earlier dump in the folder.
        """
        if self.dump_dir is None:
            return
        if self.dumped == 0:
            self.dump_dir.mkdir(parents=True, exist_ok=True)
            _remove_dump(self.dump_dir)
        path = self.dump_dir / f"{self.dumped:04}-{file_stem(of)}-{step}.txt"
        path.write_text(text(), errors="backslashreplace")
        self.dumped += 1


def _remove_dump(folder: Path) -> None:
    """Delete the files numbered 0000, 0001, ... up to the first number that is not there.

    A number alone does not make a file part of a dump: it may be a year that a user wrote.
    """
    numbered: dict[int, list[Path]] = {}
    for path in folder.iterdir():
        match = _DUMPED.fullmatch(path.name)
        if match and path.is_file():
            numbered.setdefault(int(match[1]), []).append(path)
    number = 0
    while number in numbered:
        for path in numbered[number]:
            path.unlink()
        number += 1
