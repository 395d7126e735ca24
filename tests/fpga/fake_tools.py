"""Programs that stand for Yosys, nextpnr and ecppack: they write what they are told to."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_YOSYS = """
cells = json.loads({cells!r})
script = sys.argv[sys.argv.index("-p") + 1]
text = open("top.v").read()
json.dump({{"design": {{"num_cells_by_type": cells}}}}, open("cells.json", "w"))
module = {{"cells": {{}}, "ports": {{}}, "attributes": {{"text": text}}}}
netlist = {{"modules": {{sys.argv[-1].split("-top ")[1].split(";")[0].split()[0]: module}}}}
json.dump(netlist, open("synthesised.json", "w"))
"""
_NEXTPNR = """
def value(name):
    return sys.argv[sys.argv.index(name) + 1]
seed = int(value("--seed"))
assert open(value("--json")).read() and open(value("--lpf")).read()
report = json.loads({report!r})
for clock in report["fmax"].values():
    clock["achieved"] += {faster!r}.get(str(seed), 0)
print("placing")
json.dump(report, open(value("--report"), "w"))
open(value("--textcfg"), "w").write(f"placed with {{seed}}")
"""
_ECPPACK = """
def value(name):
    return sys.argv[sys.argv.index(name) + 1]
open(value("--bit"), "w").write("bits of " + open(value("--input")).read())
"""
_PROGRAM = """#!{python}
import json, sys
if sys.argv[1:] in (["-V"], ["--version"]):
    print({version!r})
    sys.exit()
with open({calls!r}, "a") as calls:
    calls.write({name!r} + "\\n")
if {failing!r}:
    print("ERROR: out of luck")
    sys.exit(1)
{body}
"""


class FakeTools:
    """The three in a folder that belongs on PATH."""

    def __init__(self, folder: Path, report: Mapping[str, Any]) -> None:
        self.folder = folder
        self.report = report
        self.cells = {"LUT4": 100, "TRELLIS_FF": 50, "DP16KD": 3, "MULT18X18D": 4, "EHXPLLL": 1}
        self.version = "0.70"
        self.failing = ""
        self.faster: dict[str, float] = {}
        """By seed, in MHz."""
        folder.mkdir()
        self._calls = folder / "calls"
        self.write()

    def write(self) -> None:
        """Write the programs as the attributes say."""
        bodies = {
            "yosys": _YOSYS.format(cells=json.dumps(self.cells)),
            "nextpnr-ecp5": _NEXTPNR.format(report=json.dumps(self.report), faster=self.faster),
            "ecppack": _ECPPACK,
        }
        for name, body in bodies.items():
            path = self.folder / name
            path.write_text(
                _PROGRAM.format(
                    python=sys.executable,
                    version=f"{name} version {self.version}",
                    name=name,
                    calls=str(self._calls),
                    failing=name == self.failing,
                    body=body,
                )
            )
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def calls(self) -> list[str]:
        """The tools that were run since the last call of this."""
        text = self._calls.read_text() if self._calls.exists() else ""
        self._calls.unlink(missing_ok=True)
        return text.split()
