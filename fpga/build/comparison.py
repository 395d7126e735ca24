"""What several configs take of an FPGA and how fast they are, side by side.

``python -m fpga.build.comparison DIR... [--write PAGE.md]`` reads the reports that
``vta bitstream`` left in folders, and prints a table or puts it into a page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fpga.build.bitstream import REPORT
from fpga.build.stages import BuildError
from fpga.pages import show
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.errors import VtaKitError

_RESOURCES = ("LUT", "FF", "BRAM", "DSP")
_MARK = "placed and routed"


def table(reports: Sequence[Mapping[str, Any]]) -> str:
    """A row per report, in their order."""
    lines = [
        f"| config | array | {' | '.join(_RESOURCES)} | asked MHz | reached MHz |",
        f"|---|---|{'---:|' * (len(_RESOURCES) + 2)}",
    ]
    for report in reports:
        config = VtaConfig.load(report["config"]["name"])
        used = [
            f"{report['resources'][name]['used']:,} ({report['resources'][name]['percent']:.0f} %)"
            for name in _RESOURCES
        ]
        slowest = min(report["clocks"].values(), key=lambda clock: float(clock["slack_ns"]))
        lines.append(
            f"| `{config.name}` | {config.batch} x {config.block_in} x {config.block_out} | "
            f"{' | '.join(used)} | {report['clock_mhz']:g} | {slowest['reached_mhz']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def read(folder: Path) -> Mapping[str, Any]:
    """The report of the build in `folder`."""
    try:
        found: Mapping[str, Any] = json.loads((folder / REPORT).read_text())
    except FileNotFoundError:
        raise BuildError(
            f"{str(folder)!r} has no {REPORT}; build there with 'vta bitstream' first"
        ) from None
    return found


def main(arguments: Sequence[str]) -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(prog="python -m fpga.build.comparison")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="of a build")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page it goes into")
    given = parser.parse_args(arguments)
    show(table([read(folder) for folder in given.folders]), given.write, _MARK)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except VtaKitError as error:
        sys.exit(f"error: {error}")
