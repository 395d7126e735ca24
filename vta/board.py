"""Runs and tests networks on the board that this process is on, where there is little but numpy.

The command ``vta`` needs packages that a small board's processor may have no wheels for. This needs
numpy alone: copy the kit's folders to the board and run there, with the folder that they are in as
working directory or in PYTHONPATH::

    python3 -m vta.board selftest --device mmio:/dev/uio0,/dev/udmabuf0
    python3 -m vta.board run NET.vta --device mmio:/dev/uio0,/dev/udmabuf0 --inputs DIR

Options mean what they mean for ``vta run`` and ``vta selftest``. In Python it is
``vta.load("NET.vta", "mmio:/dev/uio0,/dev/udmabuf0").run({name: array})``. Host operators are done
in numpy where llvmlite is not installed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vta import show
from vta.devices import BOARDS, device_names, selftest
from vta_hw.spec.errors import VtaKitError

_EXAMPLE = BOARDS["mmio"].example


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is that of the command ``vta``."""
    parser = argparse.ArgumentParser(
        prog="python3 -m vta.board", description=__doc__.split("\n")[0]
    )
    commands = parser.add_subparsers(required=True, metavar="run|selftest")
    run = commands.add_parser("run", help="run a compiled network")
    run.set_defaults(act=_run)
    run.add_argument("package", type=Path, help="file that `vta compile` wrote")
    run.add_argument("--inputs", type=Path, metavar="DIR", help="NAME.npy for every input")
    run.add_argument("--output-dir", type=Path, metavar="DIR", help="write NAME.npy of outputs")
    test = commands.add_parser("selftest", help="test the board step by step")
    test.set_defaults(act=_selftest)
    test.add_argument(
        "--memory-bytes", type=_natural, metavar="N", help="how much memory is tested"
    )
    for each in (run, test):
        each.add_argument(
            "--device", required=True, help=f"{_EXAMPLE}, {', '.join(device_names())}"
        )
        each.add_argument("--config", help="named configuration or JSON file")
        each.add_argument("--seed", type=_natural, default=0, help="of random values")
        each.add_argument("--record", type=Path, metavar="FILE", help="write all traffic")
    given = parser.parse_args(arguments)
    try:
        status: int = given.act(given)
    except VtaKitError as error:
        show.note("vta: " + " ".join(str(error).split()))
        return show.EXIT_USAGE
    return status


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, not {text!r}")
    return int(text)


def _run(given: argparse.Namespace) -> int:
    from runtime.executor import ProgramFaultError
    from runtime.package import Package
    from vta import api, files

    package = Package.load(given.package)
    if given.inputs is None:
        inputs = api.random_inputs(package, given.seed)
    else:
        inputs = files.read_folder(package, given.inputs)
    network = api.load(package, given.device, config=given.config, record=given.record)
    try:
        outcome = network.run(inputs)
    except ProgramFaultError as error:
        show.note(f"vta: {error}")
        return show.exit_status(error.result.status)
    finally:
        network.device.close()
    if given.output_dir is not None:
        files.write_folder(given.output_dir, outcome.outputs)
    show.write_arrays(outcome.outputs)
    show.write_result(outcome.result, outcome.wall_s)
    return show.EXIT_OK


def _selftest(given: argparse.Namespace) -> int:
    from vta import api

    reports = selftest(
        given.device,
        None if given.config is None else api.config(given.config),
        seed=given.seed,
        memory_bytes=given.memory_bytes,
        record=given.record,
        listener=show.write_step,
    )
    return show.write_steps(reports)


if __name__ == "__main__":
    sys.exit(main())
