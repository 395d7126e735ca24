"""The speed of the compiled simulators, with ResNet-18 built for it: `vta bench simulator`.

ResNet-8 is measured where `--models` (or the environment variable VTA_MLPERF_TINY) names a folder
with MLPerf Tiny's networks. All other arguments are those of the command.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.compile_time import add_models_option, models, resnet18
from vta.cli import main as vta


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, then measure; the exit status is the command's."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_models_option(parser)
    options, others = parser.parse_known_args(arguments)
    command = ["bench", "simulator"]
    resnet8 = models(options.models).get("ResNet-8")
    if resnet8 is not None:
        command += ["--resnet8", str(resnet8)]
    with tempfile.TemporaryDirectory(prefix="vta-") as folder:
        for path in resnet18(Path(folder)).values():
            command += ["--resnet18", str(path)]
        return vta([*command, *others])


if __name__ == "__main__":
    sys.exit(main())
