"""What a compilation carries along: the configuration, where to dump, how long each step took."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vta_hw.spec.config import VtaConfig


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

    def dump(self, name: str, text: str) -> None:
        """Write one intermediate form, numbered in the order of compilation."""
        if self.dump_dir is None:
            return
        self.dump_dir.mkdir(parents=True, exist_ok=True)
        safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
        (self.dump_dir / f"{self.dumped:04}-{safe}.txt").write_text(text)
        self.dumped += 1
