"""The public face of the kit: compile networks for VTA, run them, look inside.

>>> import vta
>>> compiled = vta.compile("model.tflite", config="default")      # doctest: +SKIP
>>> network = vta.load(compiled.package)                           # doctest: +SKIP
>>> network.run({"input": array}).outputs                          # doctest: +SKIP

Names are imported when they are first used, so that ``import vta`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compiler import te
    from compiler.tune.session import TuneResult
    from runtime.device import Device, device_names
    from runtime.executor import Executor, Outcome
    from runtime.package import LayerRow, Package, TensorInfo
    from vta.api import (
        Execution,
        KernelRun,
        UsageError,
        build,
        check,
        compile,
        config,
        disassemble,
        execute,
        load,
        lower,
        profile,
        random_inputs,
        run_program,
        tune,
        tuned_choices,
    )
    from vta.devices import open_device, selftest
    from vta.profiling.measure import Profile
    from vta_hw.spec.config import VtaConfig as Config
    from vta_hw.spec.config import named_configs
    from vta_hw.spec.errors import VtaKitError
    from vta_hw.spec.program import Program
    from vta_hw.spec.result import RunResult
    from vta_sim.hazards import Report

__all__ = [
    "Config",
    "Device",
    "Execution",
    "Executor",
    "KernelRun",
    "LayerRow",
    "Outcome",
    "Package",
    "Profile",
    "Program",
    "Report",
    "RunResult",
    "TensorInfo",
    "TuneResult",
    "UsageError",
    "VtaKitError",
    "build",
    "check",
    "compile",
    "config",
    "device_names",
    "disassemble",
    "execute",
    "load",
    "lower",
    "named_configs",
    "open_device",
    "profile",
    "random_inputs",
    "run_program",
    "selftest",
    "te",
    "tune",
    "tuned_choices",
]

# Name -> its module, with ":" and the name there if it is another; nothing behind ":" means the
# module itself.
_HOMES = {
    "Config": "vta_hw.spec.config:VtaConfig",
    "Device": "runtime.device",
    "Execution": "vta.api",
    "Executor": "runtime.executor",
    "KernelRun": "vta.api",
    "LayerRow": "runtime.package",
    "Outcome": "runtime.executor",
    "Package": "runtime.package",
    "Profile": "vta.profiling.measure",
    "Program": "vta_hw.spec.program",
    "Report": "vta_sim.hazards",
    "RunResult": "vta_hw.spec.result",
    "TensorInfo": "runtime.package",
    "TuneResult": "compiler.tune.session",
    "UsageError": "vta.api",
    "VtaKitError": "vta_hw.spec.errors",
    "build": "vta.api",
    "check": "vta.api",
    "compile": "vta.api",
    "config": "vta.api",
    "device_names": "runtime.device",
    "disassemble": "vta.api",
    "execute": "vta.api",
    "load": "vta.api",
    "lower": "vta.api",
    "named_configs": "vta_hw.spec.config",
    "open_device": "vta.devices",
    "profile": "vta.api",
    "random_inputs": "vta.api",
    "run_program": "vta.api",
    "selftest": "vta.devices",
    "te": "compiler.te:",
    "tune": "vta.api",
    "tuned_choices": "vta.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, colon, original = _HOMES[name].partition(":")
    value: Any = importlib.import_module(module)
    if original or not colon:
        value = getattr(value, original or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
