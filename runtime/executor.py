"""Runs a compiled network: host calls on this machine, programs on a device."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from runtime.buffers import Frame, from_face
from runtime.call_plan import CallPlan, ProgramStep
from runtime.device import Device, DeviceError, open_device
from runtime.host import Host, HostChoice, open_host
from runtime.package import HostCall, Package, TensorInfo
from runtime.streaming import stream
from vta_hw.spec.errors import VtaKitError
from vta_hw.spec.result import RunResult, Status

Which = Literal["model", "all"]


class InputError(VtaKitError):
    """An input array that is missing, unknown, or of another type or shape than the model's."""


@dataclass(frozen=True)
class ProgramRun:
    """One run of program `index` of a package."""

    index: int
    result: RunResult


class ProgramFaultError(DeviceError):
    """A program of the package that did not end well; `result` has the verdict.

    `runs` are all runs of programs of the inference, the bad one last.
    """

    def __init__(self, text: str, result: RunResult, runs: Sequence[ProgramRun]) -> None:
        super().__init__(text)
        self.result = result
        self.runs = tuple(runs)


@dataclass(frozen=True)
class Outcome:
    """Outputs by the model's tensor names, and what it took to get them.

    `result` sums the `runs` of all programs; `wall_s` is the time of this inference alone.
    `host_code` says what did the host operators: "native", "numpy", or "none" without any.
    """

    outputs: Mapping[str, np.ndarray]
    result: RunResult
    host_macs: int
    host_operators: tuple[str, ...]
    wall_s: float
    host_code: str
    runs: tuple[ProgramRun, ...] = ()


class Executor:
    """A package made ready on a device: constants written, host code loaded.

    `device` is a name for `open_device` or a device whose config the package was compiled for
    (bus width, latency and queue depths may differ). `host` says who does the host operators:
    the package's object code ("native"), numpy, or the first of them that can ("auto"). What was
    chosen is in `host_code`, and in `host_reason` why it is not the object code.
    """

    def __init__(
        self,
        package: Package,
        device: str | Device = "functional",
        *,
        host: HostChoice = "auto",
    ) -> None:
        if isinstance(device, str):
            device = open_device(device, package.config)
        if device.config.program_hash != package.config.program_hash:
            raise DeviceError(
                f"the package of {package.model!r} is for config {package.config.name!r}, the "
                f"device has {device.config.name!r}; compile the model for that config"
            )
        # Before anything is written: a board is left alone where the network cannot run on it.
        device.check_room(*_needs(package))
        self.package = package
        self.device = device
        self._host: Host | None = None
        self.host_code, self.host_reason = "none", ""
        if any(isinstance(step, HostCall) for step in package.plan):
            self._host, self.host_code, self.host_reason = open_host(package, host)
        self._host_macs, self._host_operators = package.host_macs, package.host_operators
        self._inputs = [_Input(package.tensors[name]) for name in package.inputs]
        self._constants = [self._write_constants(i) for i in range(len(package.programs))]
        self._places: dict[Which, dict[str, int]] = {}
        self._plans: dict[Which, CallPlan] = {}

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Which = "model") -> Outcome:
        """One inference. With ``all``, every tensor that the compiled network computes is given.

        Arrays have the model's names, types, shapes and axis order. Raises `ProgramFaultError`
        when a program faults or deadlocks.
        """
        _check_outputs(outputs)
        values = [each.value(inputs) for each in self._inputs]
        if len(inputs) != len(values):
            self._refuse_unknown(inputs)
        plan = self._plan(outputs)
        start = time.perf_counter()
        frame, runs = self._execute(plan, values)
        wall_s = time.perf_counter() - start
        return Outcome(
            outputs=plan.collect(frame),
            result=merge_results([run.result for run in runs]),
            host_macs=self._host_macs,
            host_operators=self._host_operators,
            wall_s=wall_s,
            host_code=self.host_code,
            runs=tuple(runs),
        )

    def stream(
        self,
        inputs: Iterable[Mapping[str, np.ndarray]],
        *,
        outputs: Which = "model",
        workers: int = 1,
    ) -> Generator[Outcome, None, None]:
        """One inference per item of `inputs`, in order; items are taken as outcomes are wanted.

        With more than one of `workers`, each is a thread with a copy of the device, and up to
        `runtime.streaming.LOOK_AHEAD` items per worker are taken early. What goes wrong with an
        item is raised at its place and ends the stream; closing the stream ends its threads.
        """
        _check_outputs(outputs)
        if not isinstance(workers, int) or workers < 1:
            raise InputError(f"workers must be a whole number of at least 1, not {workers!r}")

        def fork() -> Callable[[Mapping[str, np.ndarray]], Outcome]:
            return partial(self.fork().run, outputs=outputs)

        # With threads none of them gets this executor: its owner may use it between outcomes.
        return stream(inputs, partial(self.run, outputs=outputs), fork, workers)

    def fork(self) -> Executor:
        """The same network on a copy of the device, for another thread."""
        twin = copy.copy(self)
        twin.device = self.device.fork()
        twin._places, twin._plans = dict(self._places), {}
        return twin

    def _execute(
        self, plan: CallPlan, values: Sequence[np.ndarray]
    ) -> tuple[Frame, list[ProgramRun]]:
        """Do all steps on these inputs: the arrays afterwards, and the runs of programs."""
        device, slots = self.device, plan.slots
        frame = slots.frame()
        for slot, value in zip(plan.inputs, values, strict=True):
            frame.put(slot, value)
        runs: list[ProgramRun] = []
        for step in plan.steps:
            if not isinstance(step, ProgramStep):
                step(frame)
                continue
            result = device.run(step.program, step.addresses)
            runs.append(ProgramRun(step.index, result))
            if not result.ok:
                raise _fault(runs, self.package)
            # A device may have moved its DRAM to make room for instructions.
            if device.generation != slots.generation:
                slots.renew(frame)
        return frame, runs

    def _plan(self, outputs: Which) -> CallPlan:
        if outputs not in self._plans:
            self._plans[outputs] = CallPlan(
                self.package,
                self.device,
                self._host,
                constants=self._constants,
                places=self._placed(outputs),
                with_all=outputs == "all",
            )
        return self._plans[outputs]

    def _refuse_unknown(self, inputs: Mapping[str, np.ndarray]) -> None:
        for name in inputs:
            if name not in self.package.inputs:
                raise InputError(
                    f"the model has no input {name!r}; its inputs are "
                    f"{', '.join(map(repr, self.package.inputs))}"
                )

    # -- memory -----------------------------------------------------------------------------------

    def _write_constants(self, index: int) -> dict[str, int]:
        addresses = {}
        for symbol in self.package.programs[index].symbols.values():
            if symbol.contents is not None:
                addresses[symbol.name] = self.device.alloc(symbol.size_bytes)
                self.device.write(addresses[symbol.name], symbol.contents)
        return addresses

    def _placed(self, outputs: Which) -> dict[str, int]:
        if outputs not in self._places:
            if outputs == "all":
                self._places[outputs] = self._spread()
            else:
                base = self.device.alloc(self.package.arena_bytes)
                offsets = {k: v for p in self.package.placements for k, v in p.items()}
                self._places[outputs] = {name: base + at for name, at in offsets.items()}
        return self._places[outputs]

    def _spread(self) -> dict[str, int]:
        """A place of its own for every activation, so that each outlives the run."""
        sizes = {
            symbol.name: symbol.size_bytes
            for program in self.package.programs
            for symbol in program.symbols.values()
            if symbol.contents is None
        }
        return {name: self.device.alloc(size) for name, size in sizes.items()}


def _needs(package: Package) -> tuple[list[int], int]:
    """Bytes of every allocation for the model's outputs, and of the longest instruction stream."""
    symbols = [s for program in package.programs for s in program.symbols.values()]
    constants = [symbol.size_bytes for symbol in symbols if symbol.contents is not None]
    streams = [program.words.nbytes for program in package.programs]
    return [*constants, package.arena_bytes], max(streams, default=0)


def _check_outputs(outputs: str) -> None:
    """Refuse what is no choice of outputs."""
    if outputs not in ("model", "all"):
        raise InputError(f"outputs must be 'model' or 'all', not {outputs!r}")


class _Input:
    """What an input of the model must be."""

    def __init__(self, tensor: TensorInfo) -> None:
        self._tensor = tensor
        self._dtype = np.dtype(tensor.face_dtype)

    def value(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The array among `inputs` as it is held; itself where it is held as it is given."""
        tensor, name = self._tensor, self._tensor.name
        if name not in inputs:
            raise InputError(f"input {name!r} is missing; give an array of {self._wanted()}")
        array = np.asarray(inputs[name])
        if array.dtype != self._dtype or array.shape != tensor.shape:
            raise InputError(
                f"input {name!r} must be {self._wanted()}, not {array.dtype} of shape "
                f"{_shape(array.shape)}; convert it first"
            )
        if not (array.flags.c_contiguous and array.flags.aligned):
            array = array.copy()
        return from_face(array, tensor)

    def _wanted(self) -> str:
        return f"{self._tensor.face_dtype} of shape {_shape(self._tensor.shape)}"


def merge_results(results: Sequence[RunResult]) -> RunResult:
    """The sum of several good runs; `cycles` is None when any of them has none."""
    if len(results) == 1:
        # The record of what happened when is not summed up, it stays with the run.
        (only,) = results
        return only if only.timeline is None else replace(only, timeline=None)
    cycles = [r.cycles for r in results if r.cycles is not None]
    counters: Counter[str] = Counter()
    for result in results:
        counters.update(result.counters)
    return RunResult(
        status=Status.OK,
        fault=None,
        instructions=sum(r.instructions for r in results),
        macs=sum(r.macs for r in results),
        cycles=sum(cycles) if cycles and len(cycles) == len(results) else None,
        counters=dict(counters),
        notes=tuple(note for r in results for note in r.notes),
    )


def _fault(runs: Sequence[ProgramRun], package: Package) -> ProgramFaultError:
    index, result = runs[-1].index, runs[-1].result
    fault = result.fault
    at = fault.index if fault is not None else None
    source = package.programs[index].source(at) if at is not None else ""
    where = f" at instruction {at}" if at is not None else ""
    return ProgramFaultError(
        f"program {index} of {package.model!r} ended with {result.status}{where}"
        + (f" ({source})" if source else "")
        + (f": {fault.text}" if fault is not None else ""),
        result,
        runs,
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
