"""How fast the compiled simulators are on this machine: ``vta bench simulator``.

All that is timed runs in processes of its own (`vta.bench.child`), each of them told by VTA_CPU how
much of the CPU its compiled functions may use. Every output is checked.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.package import Package, is_package
from vta import api
from vta.bench.figures import FIGURES, JOBS, SLOWEST, Record, Variant
from vta.bench.programs import WrongOutputError
from vta_hw.spec.cache import FOLDER_VARIABLE
from vta_hw.spec.config import VtaConfig
from vta_sim.lang import cpu

Progress = Callable[[str], AbstractContextManager[None]]

_ISAS = ("vnni", "avx2", "generic")
_PROCESSES = 5
_FIRST_RUNS = 3
_IMAGES = 9
_TIMINGS = 7
_STREAMED = 600
_STREAMS = 5
_WORKERS = 2
# Threads that wait for work of numpy's would keep a core busy while something else is timed.
_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL")}
_NOT_GIVEN = "no network was given; name it with --{}"
_NOT_QUICK = "left out by --quick"


class BenchError(api.UsageError):
    """Something could not be measured that should have been."""


@dataclass(frozen=True)
class Options:
    """What to measure: networks are a model or a package; `spoil` expects wrong outputs of one."""

    config: VtaConfig
    resnet18: Path | None = None
    resnet8: Path | None = None
    quick: bool = False
    spoil: str = ""


def command_of(options: Options) -> str:
    """The command that measures so, with the names of files alone."""
    parts = ["vta bench simulator --config", options.config.name]
    for name, source in (("resnet18", options.resnet18), ("resnet8", options.resnet8)):
        if source is not None:
            parts += [f"--{name}", source.name]
    return " ".join([*parts, *(["--quick"] if options.quick else [])])


def measure(options: Options, progress: Progress) -> list[Variant]:
    """All variants that this CPU can do, the best first; `quick` measures that one alone.

    Raises `WrongOutputError` if any output is not what it must be.
    """
    best = cpu.chosen().isa
    isas = [best] if options.quick else _ISAS[_ISAS.index(best) :]
    with tempfile.TemporaryDirectory(prefix="vta-") as folder:
        packages = _packages(options, Path(folder), progress)
        return [_Run(options, isa, packages, Path(folder), progress).variant() for isa in isas]


def _packages(options: Options, folder: Path, progress: Progress) -> dict[str, Path | None]:
    """Packages of all networks, compiled if need be."""
    config = options.config
    found: dict[str, Path | None] = {}
    wanted = {"tiny": None, "resnet18": options.resnet18, "resnet8": options.resnet8}
    for name, source in wanted.items():
        found[name] = source
        if source is None and name != "tiny":
            continue
        if source is not None and is_package(api.read_bytes(source)):
            package = Package.load(source)
            if package.config.program_hash != config.program_hash:
                raise api.UsageError(
                    f"package {source.name!r} is for config {package.config.name!r}, not "
                    f"{config.name!r}; name the other config, or give the model itself"
                )
            continue
        found[name] = folder / f"{name}.vta"
        with progress(f"compiling {name}"):
            model = "" if source is None else str(source.resolve())
            _child("build", {}, config=config.to_dict(), model=model, package=str(found[name]))
    return found


class _Run:
    """The measurement of one variant."""

    def __init__(
        self,
        options: Options,
        isa: str,
        packages: Mapping[str, Path | None],
        folder: Path,
        progress: Progress,
    ) -> None:
        self.options, self.isa, self.packages, self.folder = options, isa, packages, folder
        self._progress = progress
        self._env = {cpu.CPU_VARIABLE: isa}
        default = VtaConfig.load("default").program_hash
        has_bounds = options.config.program_hash == default and not options.quick
        self._found = Variant(isa, has_bounds, options.quick)

    def variant(self) -> Variant:
        """All figures."""
        with self._step("compiled functions, empty cache"):
            self._cold()
        with self._step("instructions"):
            self._instructions()
        for name, measure in (("resnet18", self._resnet18), ("resnet8", self._resnet8)):
            package = self.packages[name]
            if package is None:
                for figure in FIGURES:
                    if figure.key.startswith(f"{name}_"):
                        self._found.missing[figure.key] = _NOT_GIVEN.format(name)
                continue
            with self._step(name):
                measure(str(package.resolve()))
        with self._step("start-up"):
            self._startup()
        return self._found

    @contextmanager
    def _step(self, what: str) -> Iterator[None]:
        with self._progress(f"{self.isa}: measuring {what}"):
            yield

    def _child(self, task: str, **parameters: Any) -> Record:
        return _child(task, self._env, **parameters)

    def _cold(self) -> None:
        if self.options.quick:
            self._found.missing["kernels_cold_s"] = _NOT_QUICK
            return
        with tempfile.TemporaryDirectory(dir=self.folder) as empty:
            env = {**self._env, FOLDER_VARIABLE: empty}
            config = self.options.config.to_dict()
            self._found.put(
                "kernels_cold_s", _child("cold", env, config=config)["seconds"], None, None
            )

    def _instructions(self) -> None:
        options, found = self.options, self._found
        made = self._child(
            "kernels", config=options.config.to_dict(), quick=options.quick, spoil=options.spoil
        )
        for each in made["speeds"]:
            key = JOBS[each["key"]]
            scale = 1.0 if key.endswith("bytes_per_s") else 1e-9
            found.put(key, each["rate"] * scale, each["ratio"], made["reason"])
        for key, parts in SLOWEST.items():
            slowest = min(parts, key=found.figures.__getitem__)
            found.put(key, found.figures[slowest], found.ratios.get(slowest), made["reason"])
        for key in JOBS.values():
            if key not in found.figures:
                found.missing[key] = "the configuration lacks the extension requant"
        found.details["programs"] = {JOBS[each["key"]]: each["title"] for each in made["speeds"]}
        found.details["compiler"] = made["compiler"]

    def _resnet18(self, package: str) -> None:
        found, quick = self._found, self.options.quick
        made = self._child("images", package=package, count=1 if quick else _IMAGES)
        found.put("resnet18_s_per_image", made["seconds"], made["ratio"], made["reason"])
        timed = self._child("timing", package=package, runs=1 if quick else _TIMINGS)
        found.put("resnet18_timing_s", timed["seconds"], None, None)
        # The functions are compiled by now. Engine and baseline take turns.
        pairs = []
        for _ in range(1 if quick else _FIRST_RUNS):
            own = self._first(package, "cycle", made["digest"])
            if own["cycles"] != timed["cycles"]:
                raise WrongOutputError(
                    f"ResNet-18 takes {own['cycles']} cycles on its first run and "
                    f"{timed['cycles']} when it is timed alone; report it"
                )
            other = None
            if made["reason"] is None:
                other = self._first(package, "baseline", made["digest"])["seconds"]
            pairs.append((own["seconds"], other))
        ratios = [other / own for own, other in pairs if other is not None]
        ratio = statistics.median(ratios) if ratios else None
        first = statistics.median(own for own, _ in pairs)
        found.put("resnet18_first_run_s", first, ratio, made["reason"])
        command = [*_vta(), "run", package, "--device", "cycle"]
        peaks = [self._process(command)[1] for _ in range(1 if quick else _FIRST_RUNS)]
        found.put("resnet18_peak_bytes", statistics.median(peaks), None, None)
        found.details["resnet18"] = {
            "macs": made["macs"],
            "images": made["images"],
            "cycles": timed["cycles"],
            "instructions": timed["instructions"],
            "timing_plain_s": timed["plain_s"],
        }

    def _first(self, package: str, device: str, digest: str) -> Record:
        made = self._child("first", package=package, device=device)
        if made["digest"] != digest:
            raise WrongOutputError(
                f"the first run of ResNet-18 on device {device!r} gives other outputs; report it"
            )
        return made

    def _resnet8(self, package: str) -> None:
        quick = self.options.quick
        made = self._child(
            "stream",
            package=package,
            count=8 if quick else _STREAMED,
            runs=1 if quick else _STREAMS,
            workers=_WORKERS,
        )
        self._found.put("resnet8_images_per_s", made["rate"], made["ratio"], made["reason"])
        self._found.details["resnet8"] = {key: made[key] for key in ("images", "distinct")}

    def _startup(self) -> None:
        commands = {
            "help_s": ["--help"],
            "tiny_run_s": ["run", str(self.packages["tiny"]), "--device", "cycle"],
        }
        for key, arguments in commands.items():
            command = [*_vta(), *arguments]
            # The first one makes caches warm.
            count = 1 if self.options.quick else 1 + _PROCESSES
            taken = [self._process(command)[0] for _ in range(count)]
            self._found.put(key, statistics.median(taken[-_PROCESSES:]), None, None)

    def _process(self, command: Sequence[str]) -> tuple[float, int]:
        """Wall seconds of a process, and the most memory that it had at once, in bytes."""
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**os.environ, **self._env},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise BenchError(f"{' '.join(command[-3:])} ends with status {process.returncode}")
        return seconds, usage.ru_maxrss * 1024


def _vta() -> list[str]:
    """The command `vta` of this installation."""
    script = Path(sys.executable).with_name("vta")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "vta.cli"]


def _child(task: str, env: Mapping[str, str], **parameters: Any) -> Record:
    """What a task of `vta.bench.child` gives in a process with this environment."""
    done = subprocess.run(
        [sys.executable, "-m", "vta.bench.child", task, json.dumps(parameters)],
        env={**os.environ, **_ONE_THREAD, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        record: Record = json.loads(done.stdout.splitlines()[-1])
        return record
    said = (done.stderr.splitlines() or ["no message"])[-1]
    if done.returncode == 1 and "Traceback" not in done.stderr:
        raise WrongOutputError(said)
    raise BenchError(f"measuring {task!r} failed: {said}")
