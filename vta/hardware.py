"""What the commands do with the hardware: write its Verilog, record its signals."""

from __future__ import annotations

import re
from pathlib import Path

from runtime.device import Waves
from vta.api import ConfigLike, UsageError, config_of


def verilog(config: ConfigLike, folder: str | Path) -> tuple[str, ...]:
    """Write the Verilog of core and shell, and what goes with it; the names of the files."""
    from vta_hw.rtl.verilog import emit

    return emit(config_of(config), folder)


def waves(path: Path | None, window: str | None) -> Waves | None:
    """What `--waves` and `--wave-window` ask for."""
    if path is None:
        if window is not None:
            raise UsageError("--wave-window says which cycles to record; give --waves FILE too")
        return None
    if window is None:
        return Waves(path)
    found = re.fullmatch(r"(\d+):(\d+)", window)
    if found is None or int(found[1]) > int(found[2]):
        raise UsageError(f"--wave-window must be FIRST:LAST, two cycles in order, not {window!r}")
    return Waves(path, (int(found[1]), int(found[2])))
