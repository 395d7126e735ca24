"""`vta profile`: every cycle is in one row and has one reason; bounds are bounds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vta
from compiler.context import CompileContext
from compiler.driver import compile_graph
from runtime.package import Package
from tests.compiler.topi.builder import CoreNet
from tests.models import DIGITS
from tests.runtime import networks
from tests.vta.bounds import check_bounds
from vta.bench.costs import compile_layer
from vta.bench.workloads import Layer
from vta.cli import main
from vta.profiling.measure import FINISH, LAUNCH, OTHER, ProfileError, ProgramEndError, profile
from vta.profiling.traffic import Traffic
from vta_hw.spec.config import VtaConfig
from vta_sim.stalls import Reason

MAC64 = VtaConfig.load("mac64")


@pytest.fixture(scope="module")
def digits() -> Package:
    return vta.compile(DIGITS, config="mac64").package


@pytest.fixture(scope="module")
def mixed() -> Package:
    """Convolutions and an addition, two programs with work of the host between them."""
    net = CoreNet(np.random.default_rng(1))
    x = net.image((1, 8, 12, 12))
    y = net.conv(x, 16, pads=(1, 1, 1, 1))
    z = net.conv(y, 16, pads=(1, 1, 1, 1))
    y = net.through_float(net.add(y, z), 0.05, 0)
    y = net.pool(net.conv(y, 24, (1, 1)), "max_pool2d")
    package = compile_graph(net.graph(y), CompileContext(MAC64)).package
    assert len(package.programs) == 2
    return package


@pytest.fixture(params=["digits", "mixed"])
def package(request: pytest.FixtureRequest) -> Package:
    made: Package = request.getfixturevalue(request.param)
    return made


def _run(package: Package, *settings: str) -> Any:
    """What the device with a clock says of an inference."""
    executor = vta.load(package, "cycle", settings=settings)
    return executor.run(vta.random_inputs(package)).result


@pytest.mark.parametrize("latency", [1, 32, 300])
def test_rows_sum_up_to_the_run(package: Package, latency: int):
    setting = f"DRAM_LATENCY={latency}"
    found = profile(package, package.config.override([setting]))
    result = _run(package, setting)
    assert sum(row.cycles for row in found.rows) == found.total.cycles == result.cycles
    for row in found.rows:
        assert sum(row.reasons.values()) == row.cycles
    counters = result.counters
    assert sum(row.reasons[Reason.GEMM] for row in found.rows) == counters["gemm_ops"]
    assert sum(row.read_beats for row in found.rows) == counters["read_beats"]
    assert sum(row.write_beats for row in found.rows) == counters["write_beats"]


def test_rows_are_the_layers_in_order(package: Package):
    found = profile(package)
    programs = range(len(package.programs))
    assert [row.name for row in found.rows if not row.is_layer] == [LAUNCH, FINISH] * len(programs)
    on_vta = [row for row in package.layers if row.where == "vta"]
    assert [(row.name, row.op) for row in found.layers] == [(row.name, row.op) for row in on_vta]
    assert [row.macs for row in found.layers] == [row.macs for row in on_vta]
    elsewhere = {row.name for row in package.layers} - {row.name for row in on_vta}
    assert {row.name for row in found.elsewhere} == elsewhere
    for number in programs:
        first, *_, last = [row for row in found.rows if row.program == number]
        # Nothing has begun, and everything is stored.
        assert set(_used(first.reasons)) == {Reason.FETCH}
        assert set(_used(last.reasons)) <= {Reason.ISSUE, Reason.END}


def _used(reasons: Any) -> list[Reason]:
    return [reason for reason, cycles in reasons.items() if cycles]


def test_shares_are_of_the_cycles(package: Package):
    found = profile(package)
    array = package.config.macs_per_cycle
    for row in (*found.rows, found.total):
        assert row.ideal_cycles == row.macs / array
        assert row.array_use == pytest.approx(row.macs / (row.cycles * array))
        assert 0 <= row.read_use <= 1 and 0 <= row.write_use <= 1
        assert row.bound_cycles >= row.ideal_cycles
        # The roofline says the same as the bound.
        roof = min(array, row.macs_per_byte * found.machine.bus_bytes)
        if row.macs:
            assert roof == pytest.approx(row.macs / row.bound_cycles)


def test_bounds(package: Package):
    check_bounds(profile(package))


@pytest.mark.parametrize(("name", "block"), [("default", 16), ("mac64", 8)])
def test_bytes_that_must_move(name: str, block: int):
    """A padded 3x3 convolution of 16 x 10 x 10 to 48 x 10 x 10."""
    package = compile_layer(Layer("conv", 10, 16, 48, 3), VtaConfig.load(name))
    (row,) = profile(package).layers
    image, weights = 10 * 10, 9 * 16 * 48
    # Bias, multiplier and shifts of each block of outputs, in vectors of int32.
    parameters = 48 // block * 3 * 4 * block
    assert row.traffic == Traffic(16 * image + weights + parameters, 48 * image)
    assert row.macs == image * weights
    assert row.bounds == {
        "array": row.macs / block**2,
        "reads": row.traffic.read_bytes / 8,
        "writes": row.traffic.write_bytes / 8,
    }
    assert row.bound_by == "array"
    assert row.macs_per_byte == row.macs / row.traffic.read_bytes


def test_a_machine_of_other_geometry_is_refused(digits: Package):
    with pytest.raises(ProfileError, match=r"for config 'mac64', not 'default'"):
        vta.profile(digits, config="default")


def test_code_of_no_layer():
    """The source map names a stage alone."""
    found = profile(networks.package(MAC64))
    assert [row.name for row in found.rows] == 2 * [LAUNCH, OTHER, FINISH]
    assert found.layers == () and found.total.cycles == sum(row.cycles for row in found.rows)


# -- the command ----------------------------------------------------------------------------------


def test_command(digits: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path, data, page = (tmp_path / name for name in ("net.vta", "p.json", "p.html"))
    digits.save(path)
    arguments = ["profile", str(path), "--latency", "50", "--json", str(data), "--html", str(page)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    record = json.loads(data.read_text())
    assert record["latency"] == 50 and record["model"] == digits.model
    rows = [*record["layers"], *record["outside"]]
    assert sum(row["cycles"] for row in rows) == record["total"]["cycles"]
    for row in (*rows, record["total"]):
        assert sum(row["reasons"].values()) == row["cycles"]
        assert row["reasons"].keys() == record["reason_docs"].keys()
    found = profile(digits, digits.config.override(["DRAM_LATENCY=50"]))
    assert record["total"]["cycles"] == found.total.cycles
    for layer in found.layers:
        assert layer.name in said and f"{layer.cycles:,}" in said
    assert f"{found.total.cycles:,}" in said
    assert page.read_bytes().startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("spoil", "ending", "status"),
    [(networks.broken, "fault", 3), (networks.deadlocked, "deadlock", 4)],
)
def test_a_program_that_does_not_end_well(
    spoil: Callable[[Package], Package],
    ending: str,
    status: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    made = spoil(networks.package(MAC64))
    with pytest.raises(ProgramEndError, match=f"program 0 of 'increment' ends with {ending}: "):
        profile(made)
    made.save(tmp_path / "net.vta")
    page = tmp_path / "p.html"
    assert main(["profile", str(tmp_path / "net.vta"), "--html", str(page)]) == status
    said = capsys.readouterr().err
    assert said.startswith("vta: ") and said.count("\n") == 1
    assert not page.exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--latency", "0"], "DRAM_LATENCY"),
        (["--set", "LOG_BLOCK=4"], "compile the model for that config"),
        (["--json", "no/such/folder.json"], "cannot write"),
    ],
)
def test_complaints(
    options: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    networks.package(MAC64).save(tmp_path / "net.vta")
    assert main(["profile", str(tmp_path / "net.vta"), *options]) == 2
    said = capsys.readouterr().err
    assert complaint in said and said.count("\n") == 1
