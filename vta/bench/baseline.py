"""The plain C loops that ``vta bench simulator`` compares with, compiled on this machine.

`baseline.c` executes the same instructions one micro-op after the other. As a device it runs whole
networks, too: with host code, executor and threads that are those of every other device.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Self

import numpy as np

from runtime.devices.hosted import HostedDevice
from vta_hw.spec import cache as disk
from vta_hw.spec import isa, words
from vta_hw.spec.config import PAGE_BYTES, MemType, VtaConfig
from vta_hw.spec.errors import DeviceError
from vta_hw.spec.isa import FORMATS, MicroOp, Opcode, TokenQueue, pops, pushes
from vta_hw.spec.program import Program
from vta_hw.spec.result import RunResult, Status
from vta_sim.lang.cpu import model_name

COMPILER_VARIABLE = "CC"
_KIND = "baseline"
_FLAGS = ("-std=c11", "-O3", "-fPIC", "-shared")
_NATIVE = "-march=native"
FIELDS = (
    *("opcode", "memory_type", "pad_min", "sram_base", "dram_base", "y_size", "x_size"),
    *("x_stride", "y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1"),
    *("reset", "uop_bgn", "uop_end", "iter_out", "iter_in"),
    *("dst_factor_out", "dst_factor_in", "src_factor_out", "src_factor_in"),
    *("wgt_factor_out", "wgt_factor_in", "alu_opcode", "use_imm", "imm"),
)
"""What `struct insn` of baseline.c holds."""


class BaselineError(DeviceError):
    """The baseline cannot be compiled here, or cannot run a program."""


class _Machine(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("uop", "inp", "wgt", "acc", "dram")),
        *(
            (f"{index}_{part}", ctypes.c_int64)
            for index in ("dst", "src", "wgt")
            for part in ("low", "mask")
        ),
    ]


class Baseline:
    """The compiled loops and the `memories` of one machine, for one run at a time.

    Raises `BaselineError` where no C compiler is installed or none of its attempts succeeds.
    """

    def __init__(self, config: VtaConfig) -> None:
        self.config = config
        library, self.flags = _library(config.batch, config.block_in, config.block_out)
        self._run = library.vta_baseline_run
        self._run.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        self._run.restype = None
        self.memories: dict[str, np.ndarray] = {
            name.lower(): _aligned(config.depth(memory) * config.elem_bytes(memory))
            for name, memory in MemType.__members__.items()
            if name in ("UOP", "INP", "WGT", "ACC")
        }
        self._machine = _Machine(**{name: m.ctypes.data for name, m in self.memories.items()})
        for slot in isa.layout(MicroOp, config):
            setattr(self._machine, f"{slot.name}_low", slot.low)
            setattr(self._machine, f"{slot.name}_mask", slot.mask)

    def run(self, table: np.ndarray, dram: np.ndarray) -> None:
        """Carry out the instructions of a table (see `decoded`); all memories are zero before."""
        for memory in self.memories.values():
            memory.fill(0)
        self._machine.dram = dram.ctypes.data
        self._run(ctypes.addressof(self._machine), table.ctypes.data, len(table))


def _aligned(size_bytes: int) -> np.ndarray:
    """Zeros that begin in the middle of a page.

    Some CPUs copy at a fraction of their speed to where the place in a page is a little higher than
    that of the source, and large arrays, as DRAM is one, begin where a page does.
    """
    raw = np.zeros(size_bytes + PAGE_BYTES, np.uint8)
    skip = (PAGE_BYTES // 2 - raw.ctypes.data) % PAGE_BYTES
    return raw[skip : skip + size_bytes]


def decoded(encoded: np.ndarray, config: VtaConfig) -> np.ndarray:
    """Words of legal instructions as rows of `FIELDS`, which the baseline reads.

    Raises `BaselineError` for a program that cannot be executed in the order in which it stands.
    """
    _check_order(words.decode(encoded, config))
    table = np.zeros((len(encoded), len(FIELDS)), np.int64)
    opcodes = words.opcodes(encoded, config)
    table[:, FIELDS.index("opcode")] = opcodes
    for opcode in map(Opcode, set(opcodes.tolist())):
        rows = np.flatnonzero(opcodes == opcode)
        for slot in isa.layout(FORMATS[opcode], config):
            if slot.name in FIELDS:
                column = FIELDS.index(slot.name)
                table[rows, column] = words.field_of(encoded[rows], slot)
    return table


def _check_order(instructions: tuple[isa.Instruction, ...]) -> None:
    """Every token that an instruction waits for must come from one before it."""
    tokens: Counter[TokenQueue] = Counter()
    for number, insn in enumerate(instructions):
        tokens.subtract(pops(insn))
        if any(tokens[queue] < 0 for queue in pops(insn)):
            raise BaselineError(
                f"instruction {number} waits for a token that only a later one gives, and the "
                f"baseline executes instructions in order; measure another program"
            )
        tokens.update(pushes(insn))


# -- the library ----------------------------------------------------------------------------------


@cache
def _library(batch: int, block_in: int, block_out: int) -> tuple[ctypes.CDLL, str]:
    """The loops for blocks of one shape, compiled if need be, and the flags that were used."""
    wanted = os.environ.get(COMPILER_VARIABLE, "cc")
    compiler = shutil.which(wanted)
    if compiler is None:
        raise BaselineError(
            f"the C baseline needs a C compiler, and {wanted!r} is not installed; install one or "
            f"set {COMPILER_VARIABLE}"
        )
    source = resources.files("vta.bench").joinpath("baseline.c").read_text()
    shape = [f"-DBATCH={batch}", f"-DBLOCK_IN={block_in}", f"-DBLOCK_OUT={block_out}"]
    attempts = [(*_FLAGS, _NATIVE, *shape), (*_FLAGS, *shape)]
    complaint = ""
    for flags in attempts:
        try:
            path = _compiled(compiler, source, flags)
        except BaselineError as error:
            complaint = complaint or str(error)
        else:
            named = " ".join(flag for flag in flags if flag.startswith(("-O", "-m")))
            return ctypes.CDLL(str(path)), f"{Path(wanted).name} {named}"
    raise BaselineError(complaint)


def _compiled(compiler: str, source: str, flags: tuple[str, ...]) -> Path:
    """The library in the cache folder; "native" code is this CPU's, so that its name counts."""
    version = _output([compiler, "--version"]).partition("\n")[0]
    key = disk.content_key(source, *flags, version, platform.machine(), model_name())
    if disk.load(_KIND, key) is None:
        with disk.locked(_KIND, key):
            if disk.load(_KIND, key) is None:
                disk.store(_KIND, key, _built(compiler, source, flags))
    return disk.entry(_KIND, key)


def _built(compiler: str, source: str, flags: tuple[str, ...]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="vta-") as folder:
        text, library = Path(folder) / "baseline.c", Path(folder) / "baseline.so"
        text.write_text(source)
        _output([compiler, *flags, "-o", str(library), str(text), "-lm"])
        return library.read_bytes()


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BaselineError(
            f"the C compiler {command[0]!r} cannot be run: {error.strerror or error}; set "
            f"{COMPILER_VARIABLE} to one that can"
        ) from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "rror" in line] or ["no message"]
        raise BaselineError(
            f"the C compiler refuses the baseline: {said[0][:200]}; set {COMPILER_VARIABLE} to "
            f"another one"
        )
    return done.stdout


# -- whole networks -------------------------------------------------------------------------------


class BaselineDevice(HostedDevice):
    """The baseline as a device without a clock; programs are decoded once."""

    name = "baseline"

    def __init__(
        self, config: VtaConfig, *, report_uninitialised: bool = False, timeline: bool = False
    ) -> None:
        super().__init__(config, report_uninitialised=report_uninitialised, timeline=timeline)
        self._loops = Baseline(config)
        # A program is kept beside its table so that its id stays its own.
        self._tables: dict[Any, tuple[Program, np.ndarray]] = {}

    def run(self, program: Program, addresses: Mapping[str, int]) -> RunResult:
        """Run a program of a network."""
        key = (id(program), frozenset(addresses.items()))
        if key not in self._tables:
            table = decoded(program.bound_words(addresses), self.config)
            self._tables[key] = (program, table)
        _, table = self._tables[key]
        self._loops.run(table, self.dram)
        return RunResult(Status.OK, None, len(table), program.macs)

    def fork(self) -> Self:
        """Another device with a copy of DRAM."""
        twin = super().fork()
        twin._tables = self._tables.copy()
        return twin

    def run_stream(self, stream: bytes, image: np.ndarray) -> RunResult:
        """Run raw instructions, which must be legal, on `image` alone."""
        table = decoded(words.from_stream(stream), self.config)
        self._loops.run(table, image)
        return RunResult(Status.OK, None, len(table), 0)
