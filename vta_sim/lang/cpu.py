"""What the CPU can do, as far as the compiled functions care."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache

import llvmlite.binding as llvm

from vta_sim.lang.kinds import KernelError

CPU_VARIABLE = "VTA_CPU"
_LEVELS = ("generic", "avx2", "vnni")
_AVX2 = ("avx2", "fma", "bmi2")
_VNNI = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni")


@dataclass(frozen=True)
class Cpu:
    """What code is made for: `isa` (generic, avx2 or vnni) and LLVM's names of CPU and features."""

    isa: str
    name: str
    features: str


def chosen() -> Cpu:
    """This CPU, or as much of it as the environment variable VTA_CPU allows."""
    return _cpu(os.environ.get(CPU_VARIABLE, ""))


@cache
def _cpu(limit: str) -> Cpu:
    if limit not in ("", *_LEVELS):
        raise KernelError(f"{CPU_VARIABLE} must be one of {', '.join(_LEVELS)}, not {limit!r}")
    able = detected()
    isa = limit or able
    if _LEVELS.index(isa) > _LEVELS.index(able):
        raise KernelError(
            f"{CPU_VARIABLE} is {limit!r}, which this CPU cannot do; set it to {able!r} or below"
        )
    return for_isa(isa)


def for_isa(isa: str) -> Cpu:
    """Code for any CPU that can do as much."""
    if isa == "vnni":
        return Cpu(isa, "x86-64-v4", _enabled(_VNNI))
    if isa == "avx2":
        return Cpu(isa, "x86-64-v3", _enabled(_AVX2))
    # Without features LLVM makes code for the oldest CPUs; on aarch64 these have NEON.
    return Cpu("generic", "", "")


@cache
def detected() -> str:
    """The most that this CPU can do."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return "generic"
    features = llvm.get_host_cpu_features()
    if all(features.get(name) for name in (*_AVX2, *_VNNI)):
        return "vnni"
    return "avx2" if all(features.get(name) for name in _AVX2) else "generic"


def _enabled(names: tuple[str, ...]) -> str:
    return ",".join(f"+{name}" for name in names)


@cache
def model_name() -> str:
    """What the CPU calls itself."""
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
