"""Compiled networks on all devices at once: the same memory, verdicts, cycles and counters."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

import numpy as np

from runtime.devices.cycle import CycleDevice
from runtime.devices.functional import FunctionalDevice
from runtime.devices.hosted import HostedDevice
from runtime.devices.rtl import RtlDevice
from runtime.executor import Executor
from runtime.executor import Outcome as Inference
from runtime.package import Package
from tests.cosim.compare import Outcome, differences
from vta_hw.spec import isa
from vta_hw.spec.config import VtaConfig


class Machines:
    """Functional and cycle simulator, plain and compiled, and RTL of one config, fed in step.

    What runs on them later finds the on-chip memories as the runs before left them.
    """

    def __init__(self, config: VtaConfig) -> None:
        self.config = config
        self._rtl = RtlDevice(config, timeline=True)
        self._devices: Mapping[str, HostedDevice] = {
            "functional:plain": FunctionalDevice(config, engine="plain"),
            "functional": FunctionalDevice(config),
            "cycle:plain": CycleDevice(config, timeline=True, engine="plain"),
            "cycle": CycleDevice(config, timeline=True),
            "rtl": self._rtl,
        }
        self._behind_bytes = 0

    def __enter__(self) -> Machines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rtl.close()

    def load(self, package: Package) -> OnMachines:
        """The package made ready on every device, at the same addresses."""
        # Instructions lie behind what is allocated, on the RTL alone: they would be taken for
        # results once memory is allocated there.
        for device in self._devices.values():
            device.write(device.alloc(self._behind_bytes), bytes(self._behind_bytes))
        loaded = OnMachines(package, self._devices)
        self._behind_bytes = max([self._behind_bytes, *map(len, loaded.streams)])
        return loaded


class OnMachines:
    """A package on several devices; `seconds` is what each took for the last inference."""

    def __init__(self, package: Package, devices: Mapping[str, HostedDevice]) -> None:
        self.package = package
        self._devices = devices
        self.seconds: dict[str, float] = {}
        self._executors = [Executor(package, device) for device in devices.values()]
        self.streams = [isa.encode_all(p.instructions, p.config) for p in package.programs]

    def run(self, inputs: Mapping[str, np.ndarray]) -> Inference:
        """One inference on each device: that of the last one. They must agree in everything."""
        inferences = [executor.run(inputs) for executor in self._executors]
        self.seconds = {d: i.wall_s for d, i in zip(self._devices, inferences, strict=True)}
        for left, right in zip(inferences, inferences[1:], strict=False):
            assert [run.index for run in left.runs] == [run.index for run in right.runs]
            assert left.outputs.keys() == right.outputs.keys()
            for name, array in left.outputs.items():
                np.testing.assert_array_equal(array, right.outputs[name], name)
            assert left.result.instructions == right.result.instructions
            assert left.result.macs == right.result.macs
        for number, run in enumerate(inferences[-1].runs):
            outcomes = [
                Outcome(name, inference.runs[number].result, device.dram)
                for (name, device), inference in zip(self._devices.items(), inferences, strict=True)
            ]
            found = []
            for before, after in zip(outcomes, outcomes[1:], strict=False):
                stream = self.streams[run.index]
                found += differences(before, after, self.package.config, stream)
            assert not found, "\n".join(found)
            _check_complete(outcomes[-1])
        return inferences[-1]


def _check_complete(outcome: Outcome) -> None:
    """A good run's record has every moment of every instruction."""
    line = outcome.result.timeline
    assert line is not None and outcome.result.ok
    assert line.cycles == outcome.result.cycles == outcome.result.counters["cycles"]
    assert len(line.retire) == outcome.result.instructions > 0
    assert (line.dispatch >= 0).all() and (line.dispatch < line.issue).all()
    assert (line.issue < line.retire).all() and (line.retire < line.cycles).all()
