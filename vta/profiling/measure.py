"""What a compiled network costs, layer by layer, and where the cycles go that it need not cost.

In the run of a program a layer owns the cycles after the last STORE of the layer before is complete
up to the completion of its own last STORE. What is before the first issue is the program's launch,
what is after the last STORE its finish; so all rows sum up to the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from runtime.package import LayerRow, Package, VtaCall
from vta.profiling.traffic import Traffic, traffic_of
from vta_hw.spec.config import PAGE_BYTES, VtaConfig
from vta_hw.spec.errors import VtaKitError
from vta_hw.spec.events import Timeline
from vta_hw.spec.isa import Store
from vta_hw.spec.machine import bus_bytes
from vta_hw.spec.program import Program
from vta_hw.spec.result import RunResult
from vta_hw.spec.semantics import IntArray
from vta_sim.stalls import Reason, attribute
from vta_sim.timing.simulate import time_program

LAUNCH, FINISH, OTHER = "(launch)", "(finish)", "(no layer)"
"""Names of the rows that are no layers."""

ARRAY, READS, WRITES = "array", "reads", "writes"
"""What may set the bound of a layer."""


class ProfileError(VtaKitError):
    """A package that cannot be profiled so."""


class ProgramEndError(ProfileError):
    """A program that faults or deadlocks has no profile; `result` has the verdict."""

    def __init__(self, text: str, result: RunResult) -> None:
        super().__init__(text)
        self.result = result


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What bounds are made of: multiply-accumulates, and bytes of a bus channel, per cycle."""

    macs_per_cycle: int
    bus_bytes: int

    @classmethod
    def of(cls, config: VtaConfig) -> Machine:
        """The machine of a configuration."""
        return cls(macs_per_cycle=config.macs_per_cycle, bus_bytes=bus_bytes(config))


@dataclass(frozen=True, kw_only=True)
class Row:
    """A layer, or what is before or after all layers of a program (`is_layer` False).

    `macs` are those that the model defines. `traffic` is what the layer must move. `read_beats`
    and `write_beats` are those on the bus in its cycles, whatever they are for. `reasons` sum up
    to `cycles`.
    """

    name: str
    op: str = ""
    program: int
    is_layer: bool
    machine: Machine
    cycles: int
    macs: int = 0
    traffic: Traffic = Traffic()
    read_beats: int
    write_beats: int
    reasons: Mapping[Reason, int]

    @cached_property
    def bounds(self) -> dict[str, float]:
        """Least cycles: of the array, and of each channel of the bus, which work side by side."""
        return {
            ARRAY: self.macs / self.machine.macs_per_cycle,
            READS: self.traffic.read_bytes / self.machine.bus_bytes,
            WRITES: self.traffic.write_bytes / self.machine.bus_bytes,
        }

    @property
    def ideal_cycles(self) -> float:
        """Cycles of the array alone, every part of it busy."""
        return self.bounds[ARRAY]

    @property
    def bound_cycles(self) -> float:
        """No schedule takes less."""
        return max(self.bounds.values())

    @property
    def bound_by(self) -> str:
        """What sets the bound."""
        return max(self.bounds, key=self.bounds.__getitem__)

    @property
    def array_use(self) -> float:
        """Share of the array's work that the model wants."""
        return _share(self.ideal_cycles, self.cycles)

    @property
    def read_use(self) -> float:
        """Share of the cycles with a beat on the read channel."""
        return _share(self.read_beats, self.cycles)

    @property
    def write_use(self) -> float:
        """Share of the cycles with a beat on the write channel."""
        return _share(self.write_beats, self.cycles)

    @property
    def macs_per_byte(self) -> float:
        """Intensity: per byte that must pass the busier channel."""
        return _share(self.macs, max(self.traffic.read_bytes, self.traffic.write_bytes))

    @property
    def macs_per_cycle(self) -> float:
        """What is attained."""
        return _share(self.macs, self.cycles)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A network on a machine: rows in the order of the run, and what does not run on VTA."""

    model: str
    numerics: str
    config: VtaConfig
    rows: tuple[Row, ...]
    elsewhere: tuple[LayerRow, ...]

    @property
    def machine(self) -> Machine:
        """What the rows' bounds are made of."""
        return Machine.of(self.config)

    @property
    def layers(self) -> tuple[Row, ...]:
        """The rows that are layers."""
        return tuple(row for row in self.rows if row.is_layer)

    @cached_property
    def total(self) -> Row:
        """All rows as one: from the launch of each program to its end."""
        return add_rows("total", self.rows, self.machine)


def add_rows(name: str, rows: Sequence[Row], machine: Machine) -> Row:
    """Rows as one. Its bound is that of the sums, below the sum of the rows' bounds."""
    traffics = [row.traffic for row in rows]
    return Row(
        name=name,
        program=0,
        is_layer=False,
        machine=machine,
        cycles=sum(row.cycles for row in rows),
        macs=sum(row.macs for row in rows),
        traffic=Traffic(
            sum(traffic.read_bytes for traffic in traffics),
            sum(traffic.write_bytes for traffic in traffics),
        ),
        read_beats=sum(row.read_beats for row in rows),
        write_beats=sum(row.write_beats for row in rows),
        reasons={reason: sum(row.reasons[reason] for row in rows) for reason in Reason},
    )


def profile(package: Package, config: VtaConfig | None = None) -> Profile:
    """Count the cycles of one inference by the rules of `docs/timing.md`; no input is needed.

    `config` is of the machine, where it differs from the package's in timing. Host operators take
    no cycles. Raises `ProgramEndError` for a program that does not end well.
    """
    machine = package.config if config is None else config
    if machine.program_hash != package.config.program_hash:
        raise ProfileError(
            f"package of {package.model!r} is for config {package.config.name!r}, not "
            f"{machine.name!r}; compile the model for that config"
        )
    rows: list[Row] = []
    for step in package.plan:
        if isinstance(step, VtaCall):
            rows += _program_rows(package, step.program, machine)
    elsewhere = tuple(row for row in package.layers if row.where != "vta")
    return Profile(
        model=package.model,
        numerics=package.numerics,
        config=machine,
        rows=tuple(rows),
        elsewhere=elsewhere,
    )


# -- one program ----------------------------------------------------------------------------------


def _program_rows(package: Package, number: int, config: VtaConfig) -> Iterator[Row]:
    program = package.programs[number]
    addresses, dram = _memory(package, number)
    words = program.bound_words(addresses)
    timing = time_program(config, words, dram, insn_base=dram.size, timeline=True)
    result = timing.result
    if result.fault is not None:
        raise ProgramEndError(
            f"program {number} of {package.model!r} ends with {result.status}: {result.fault.text}",
            result,
        )
    assert result.timeline is not None
    stalls = attribute(config, program.instructions, timing)
    traffic = traffic_of(program, addresses)
    known = {row.name: row for row in package.layers}
    for name, first, end in _windows(program, result.timeline):
        layer = known.get(name)
        yield Row(
            name=name or OTHER,
            op="" if layer is None else layer.op,
            program=number,
            is_layer=layer is not None,
            machine=Machine.of(config),
            cycles=end - first,
            macs=0 if layer is None else layer.macs,
            traffic=traffic.get(name, Traffic()),
            read_beats=_within(result.timeline.read_bus, first, end),
            write_beats=_within(result.timeline.write_bus, first, end),
            reasons=stalls.count(first, end),
        )


def _memory(package: Package, number: int) -> tuple[dict[str, int], IntArray]:
    """Addresses of a program's symbols, and DRAM with its constants.

    Symbols begin pages, as on a device: where in a page something lies is what bursts depend on.
    """
    program, offsets = package.programs[number], package.placements[number]
    addresses: dict[str, int] = {}
    end = _pages(package.arena_bytes)
    for symbol in program.symbols.values():
        if symbol.contents is None:
            addresses[symbol.name] = offsets[symbol.name]
        else:
            addresses[symbol.name] = end
            end += _pages(symbol.size_bytes)
    dram = np.zeros(end, np.uint8)
    for symbol in program.symbols.values():
        if symbol.contents is not None:
            begin = addresses[symbol.name]
            data = np.frombuffer(symbol.contents, np.uint8)
            dram[begin : begin + symbol.size_bytes] = data
    return addresses, dram


def _pages(size_bytes: int) -> int:
    return -(-size_bytes // PAGE_BYTES) * PAGE_BYTES


def _windows(program: Program, line: Timeline) -> Iterator[tuple[str, int, int]]:
    """Name, first cycle and end of each row."""
    # A layer without a STORE of its own has no cycles: they are in that of its reader.
    last = dict.fromkeys(map(program.layer, range(len(program.words))), -1)
    last.pop("", None)
    for index, insn in enumerate(program.instructions):
        if isinstance(insn, Store):
            name = program.layer(index)
            last[name] = max(last.get(name, -1), int(line.retire[index]))
    at = int(line.issue.min())
    yield LAUNCH, 0, at
    for name in sorted(last, key=last.__getitem__):
        end = max(at, last[name] + 1)
        yield name, at, end
        at = end
    yield FINISH, at, line.cycles


def _within(spans: IntArray, first: int, end: int) -> int:
    """Cycles of spans, given as rows of (first, last), from `first` to before `end`."""
    lengths = np.minimum(spans[:, 1] + 1, end) - np.maximum(spans[:, 0], first)
    return int(np.maximum(lengths, 0).sum())


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
