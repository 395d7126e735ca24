"""Writes the traces of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtime.executor import ProgramRun
from runtime.package import Package, write_atomically
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import decode_all
from vta_hw.spec.result import RunResult
from vta_sim import trace


def write_package(
    path: Path, package: Package, config: VtaConfig, runs: Sequence[ProgramRun]
) -> None:
    """Trace the runs of a package's programs, which have timelines, on a device with `config`."""
    recordings = []
    for run in runs:
        program = package.programs[run.index]
        assert run.result.timeline is not None
        sources = [program.sources[i] for i in program.source_of]
        recordings.append(
            trace.Recording(
                f"program {run.index} of {package.model}",
                config,
                program.instructions,
                run.result.timeline,
                sources,
            )
        )
    write_atomically(path, trace.to_json(recordings).encode())


def write_stream(
    path: Path, title: str, config: VtaConfig, stream: bytes, result: RunResult
) -> None:
    """Trace the run of a raw stream, whose result has a timeline."""
    assert result.timeline is not None
    recording = trace.Recording(title, config, decode_all(stream, config), result.timeline)
    write_atomically(path, trace.to_json([recording]).encode())
