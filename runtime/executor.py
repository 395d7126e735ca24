"""Runs a compiled network: host calls on this machine, programs on a device."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from runtime.buffers import from_face, to_face, unpack
from runtime.device import Device, DeviceError, open_device
from runtime.host import Host, HostChoice, open_host
from runtime.package import HostCall, Package, TensorInfo, VtaCall
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
        self.package = package
        self.device = device
        self._host: Host | None = None
        self.host_code, self.host_reason = "none", ""
        if any(isinstance(step, HostCall) for step in package.plan):
            self._host, self.host_code, self.host_reason = open_host(package, host)
        self._constants = [self._write_constants(i) for i in range(len(package.programs))]
        self._places: dict[Which, dict[str, int]] = {}

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Which = "model") -> Outcome:
        """One inference. With ``all``, every tensor that the compiled network computes is given.

        Arrays have the model's names, types, shapes and axis order. Raises `ProgramFaultError`
        when a program faults or deadlocks.
        """
        if outputs not in ("model", "all"):
            raise InputError(f"outputs must be 'model' or 'all', not {outputs!r}")
        values = {name: self._input(name, inputs) for name in self.package.inputs}
        for name in inputs:
            if name not in values:
                raise InputError(
                    f"the model has no input {name!r}; its inputs are "
                    f"{', '.join(map(repr, self.package.inputs))}"
                )
        start = time.perf_counter()
        places = self._placed(outputs)
        runs = self._execute(values, places)
        wall_s = time.perf_counter() - start
        return Outcome(
            outputs=self._collect(values, places, outputs),
            result=merge_results([run.result for run in runs]),
            host_macs=self.package.host_macs,
            host_operators=self.package.host_operators,
            wall_s=wall_s,
            host_code=self.host_code,
            runs=tuple(runs),
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

    def _address(self, tensor: TensorInfo, places: Mapping[str, int]) -> int:
        base = tensor.alias_of or tensor.name
        if base not in places:
            raise DeviceError(
                f"device tensor {base!r} belongs to no program of the package; "
                f"compile the model again"
            )
        return places[base]

    # -- execution --------------------------------------------------------------------------------

    def _input(self, name: str, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        tensor = self.package.tensors[name]
        wanted = f"{tensor.face_dtype} of shape {_shape(tensor.shape)}"
        if name not in inputs:
            raise InputError(f"input {name!r} is missing; give an array of {wanted}")
        array = np.asarray(inputs[name])
        if array.dtype != np.dtype(tensor.face_dtype) or array.shape != tensor.shape:
            raise InputError(
                f"input {name!r} must be {wanted}, not {array.dtype} of shape "
                f"{_shape(array.shape)}; convert it first"
            )
        return from_face(np.ascontiguousarray(array), tensor)

    def _execute(
        self, values: dict[str, np.ndarray], places: Mapping[str, int]
    ) -> Sequence[ProgramRun]:
        runs = []
        for step in self.package.plan:
            match step:
                case HostCall():
                    self._call_host(step, values, places)
                case VtaCall(index):
                    program = self.package.programs[index]
                    addresses = {**self._constants[index]}
                    for symbol in program.symbols.values():
                        if symbol.contents is None:
                            addresses[symbol.name] = places[symbol.name]
                    runs.append(ProgramRun(index, self.device.run(program, addresses)))
                    if not runs[-1].result.ok:
                        raise _fault(runs, self.package)
        return runs

    def _call_host(
        self, call: HostCall, values: dict[str, np.ndarray], places: Mapping[str, int]
    ) -> None:
        assert self._host is not None
        made = [self._fresh(name) for name in call.outputs]
        given = [self._value(name, values, places) for name in call.inputs]
        self._host.call(call, [*given, *made])
        for name, array in zip(call.outputs, made, strict=True):
            tensor = self.package.tensors[name]
            if tensor.storage == "device":
                self.device.write(self._address(tensor, places), array)
            else:
                values[name] = array

    def _fresh(self, name: str) -> np.ndarray:
        tensor = self.package.tensors[name]
        shape = tensor.packed_shape if tensor.storage == "device" else tensor.shape
        try:
            return np.zeros(shape, tensor.dtype)
        except MemoryError as error:
            raise DeviceError(
                f"this machine has no memory for tensor {name!r} of {tensor.size_bytes} bytes; "
                f"run a smaller network"
            ) from error

    def _value(
        self, name: str, values: Mapping[str, np.ndarray], places: Mapping[str, int]
    ) -> np.ndarray:
        """A tensor as it is held: the host's array, or a copy of device memory."""
        if name in self.package.host_constants:
            return self.package.host_constants[name]
        tensor = self.package.tensors[name]
        if tensor.storage == "device":
            return self.device.read(self._address(tensor, places), tensor.size_bytes)
        if name not in values:
            raise DeviceError(
                f"the package's call plan reads tensor {name!r} before anything writes it; "
                f"compile the model again"
            )
        return values[name]

    def _collect(
        self, values: Mapping[str, np.ndarray], places: Mapping[str, int], outputs: Which
    ) -> dict[str, np.ndarray]:
        tensors = self.package.tensors
        if outputs == "all":
            # Arrays of the host come first: a packed copy does not displace them.
            names = sorted(tensors, key=lambda name: tensors[name].storage == "device")
            names = [n for n in names if tensors[n].storage == "device" or n in values]
        else:
            names = list(self.package.outputs)
        found: dict[str, np.ndarray] = {}
        for name in names:
            tensor = tensors[name]
            if (tensor.view_of or name) in found:
                continue
            array = self._value(name, values, places)
            if tensor.storage == "device":
                array = unpack(array, tensor)
            found[tensor.view_of or name] = to_face(array, tensor)
        return found


def merge_results(results: Sequence[RunResult]) -> RunResult:
    """The sum of several good runs; `cycles` is None when any of them has none."""
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
