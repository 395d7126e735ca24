"""No access of the compiled engines reaches beyond a memory: an inaccessible page lies there.

See `tests.vta_sim.guarded` for what is guarded and how. A crash is that of another process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from vta_sim.lang import cpu

LEVELS = ("generic", "avx2", "vnni")
SMALL = ("tiny", "minimal", "depth2", "in1-out2", "block1", "in4-out1", "rect", "batch4")
GROUPED = ("tiny", "in4-out1", "rect", "batch4")
"""Machines with four or more input channels, which VNNI multiplies at once."""
PROGRAMS = 24


def _guarded(where: str, *arguments: str, level: str = "", seed: int = 0) -> str:
    """What a guarded run prints; it must end well."""
    found = _started(where, *arguments, f"--seed={seed}", level=level)
    assert found.returncode == 0, found.stderr[-3000:]
    return found.stdout


def _started(where: str, *arguments: str, level: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.vta_sim.guarded", where, *arguments]
    environment = {**os.environ, cpu.CPU_VARIABLE: level}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


@pytest.mark.parametrize("where", ["behind", "before"])
@pytest.mark.parametrize("layout", [None, "vnni"])
def test_nothing_reaches_beyond_a_memory(where, layout, rng):
    more = ["--layout", layout] if layout else []
    machines = GROUPED if layout else SMALL
    seed = int(rng.integers(1 << 30))
    printed = _guarded(where, str(PROGRAMS), "--machines", *machines, *more, seed=seed)
    assert f"last elements: ok {2 * len(machines)}" in printed
    assert "one beyond: ok" not in printed
    assert "guarded memories" in printed


@pytest.mark.slow
@pytest.mark.parametrize("where", ["behind", "before"])
@pytest.mark.parametrize("level", LEVELS)
def test_nothing_reaches_beyond_a_memory_at_any_level(where, level, rng):
    if LEVELS.index(level) > LEVELS.index(cpu.detected()):
        pytest.skip(f"this CPU has no more than {cpu.detected()}")
    seed = int(rng.integers(1 << 30))
    # Weights of large blocks are rearranged in memory, not in registers.
    _guarded(where, "36", "--machines", *SMALL, "block32", level=level, seed=seed)


@pytest.mark.parametrize("where", ["behind", "before"])
def test_an_access_beyond_a_memory_would_be_noticed(where):
    """One element further than the plan that was proved: the process dies of it."""
    found = _started(where, "0", "--machines", "tiny", "--provoke")
    assert "provoking" in found.stdout
    assert found.returncode == -signal.SIGSEGV
