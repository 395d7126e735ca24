"""The command ``vta``.

What a command needs is imported when it runs, so that help and complaints cost no imports.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from vta import show
from vta.commands import (
    bitstreams,
    boards,
    compiling,
    hardware,
    looking,
    measuring,
    profiling,
    running,
    tuning,
)
from vta_hw.spec.errors import VtaKitError

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Compile int8 networks for the VTA accelerator, run them, look inside.",
)
app.command("compile")(compiling.compile_command)
app.command("tune")(tuning.tune_command)
app.command("run")(running.run_command)
app.command("exec")(running.exec_command)
app.command("profile")(profiling.profile_command)
app.command("diff")(looking.diff_command)
app.command("verilog")(hardware.verilog_command)
app.command("bitstream")(bitstreams.bitstream_command)
app.command("selftest")(boards.selftest_command)
app.command("soc-sim")(boards.soc_sim_command)
app.command("disasm")(looking.disasm_command)
app.command("check")(looking.check_command)
app.command("info")(looking.info_command)

bench = typer.Typer(help="Measure; every figure comes with its bound.", rich_markup_mode=None)
bench.command("machine")(measuring.bench_machine_command)
bench.command("simulator")(measuring.bench_simulator_command)
bench.command("layers")(measuring.bench_layers_command)
bench.command("networks")(measuring.bench_networks_command)
bench.command("threads")(measuring.bench_threads_command)
bench.command("tuners")(tuning.bench_tuners_command)
app.add_typer(bench, name="bench")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0 fine, 1 different, 2 usage, 3 fault, 4 deadlock."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        status = app(args=given or ["--help"], prog_name="vta", standalone_mode=False)
    except VtaKitError as error:
        return _complain(str(error))
    except typer.TyperException as error:
        return _complain(f"{error.format_message().rstrip('.')}; see vta --help")
    except OSError as error:
        # Files that vanish or disks that fill up while they are used.
        return _complain(f"{error.filename or 'a file'}: {error.strerror or error}; try again")
    except typer.Abort:
        return _complain("interrupted")
    return int(status or show.EXIT_OK)


def _complain(text: str) -> int:
    show.note("vta: " + " ".join(text.split()))
    return show.EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
