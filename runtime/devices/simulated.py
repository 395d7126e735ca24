"""What the two simulators share as devices: a compiled and a plain engine, programs made ready."""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, get_args

import numpy as np

from runtime.device import DeviceError, Engine
from runtime.devices.hosted import HostedDevice
from vta_hw.spec import words
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.program import Program
from vta_hw.spec.result import RunResult

if TYPE_CHECKING:
    # Compiled engines need llvmlite, and are loaded by the first run that uses them.
    from vta_sim.native.functional import FunctionalProgram, Scratch

_READY_MAX = 64
_PLAIN_NOTE = (
    "the program may load micro-ops that it has stored itself, so the plain engine has run it"
)


class SimulatedDevice(HostedDevice):
    """A simulator as a device.

    The compiled engine analyses a program once, for a placement in DRAM and the micro-ops there;
    another run costs the arithmetic alone. The plain engine is the readable definition. It also
    runs the programs that nothing can be said about beforehand, because they may change their own
    micro-ops; the result's notes say so.
    """

    has_engines = True

    def __init__(
        self,
        config: VtaConfig,
        *,
        report_uninitialised: bool = False,
        timeline: bool = False,
        engine: Engine = "compiled",
    ) -> None:
        """A device without any allocated DRAM.

        Reads of SRAM that nothing wrote are reported by the plain engine, whatever `engine` says.
        """
        super().__init__(config, report_uninitialised=report_uninitialised, timeline=timeline)
        if engine not in get_args(Engine):
            raise DeviceError(
                f"engine must be one of {', '.join(get_args(Engine))}, not {engine!r}"
            )
        self.engine: Engine = "plain" if report_uninitialised else engine
        self._scratch: Scratch | None = None
        # A program is kept beside what was made of it so that its id stays its own.
        self._ready: OrderedDict[Any, tuple[Program, FunctionalProgram]] = OrderedDict()

    def run(self, program: Program, addresses: Mapping[str, int]) -> RunResult:
        """Run a program; it is made ready once per set of addresses."""
        if self.engine == "plain":
            return self._run_plain(self.bound(program, addresses), self.dram)
        self._check_config(program)
        dram = self.dram
        key = (id(program), frozenset(addresses.items()))
        _, ready = self._ready.get(key, (program, None))
        if ready is None or ready.limit != dram.size or not ready.is_current(dram):
            ready = self._made_ready(program.bound_words(addresses), dram)
            if ready is None:
                return _noted(self._run_plain(self.bound(program, addresses), dram))
            self._ready[key] = (program, ready)
            if len(self._ready) > _READY_MAX:
                self._ready.popitem(last=False)
        return self._execute(ready, dram)

    def run_stream(self, stream: bytes, image: np.ndarray) -> RunResult:
        """Run raw instructions on `image` alone."""
        if self.engine == "plain":
            return self._run_plain(stream, image)
        ready = self._made_ready(words.from_stream(stream), image)
        if ready is None:
            return _noted(self._run_plain(stream, image))
        return self._execute(ready, image)

    def fork(self) -> Self:
        """Another device made in the same way, with a copy of DRAM."""
        twin = super().fork()
        # What was made ready is only read by runs.
        twin._ready = self._ready.copy()
        return twin

    def _made_ready(self, encoded: np.ndarray, dram: np.ndarray) -> FunctionalProgram | None:
        """A program analysed for what DRAM holds now; None for one that must run plainly."""
        if importlib.util.find_spec("llvmlite") is None:
            raise DeviceError(
                f"the compiled engine of device {self.name!r} needs llvmlite, which is not "
                f"installed; install it or use the plain engine"
            )
        from vta_sim.native.volatile import VolatileProgramError

        try:
            return self._prepare(encoded, dram)
        except VolatileProgramError:
            return None

    def _prepare(self, encoded: np.ndarray, dram: np.ndarray) -> FunctionalProgram:
        raise NotImplementedError

    def _run_plain(self, stream: Any, dram: np.ndarray) -> RunResult:
        raise NotImplementedError

    def _execute(self, ready: FunctionalProgram, dram: np.ndarray) -> RunResult:
        from vta_sim.native.functional import Scratch

        if self._scratch is None:
            self._scratch = Scratch(self.config)
        self._scratch.run(ready, dram)
        return ready.result


def _noted(result: RunResult) -> RunResult:
    return replace(result, notes=(*result.notes, _PLAIN_NOTE))
