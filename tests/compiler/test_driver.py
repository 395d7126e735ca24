"""The compiler as a whole: what it reports, what it refuses, odd networks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compiler import driver
from compiler.context import CompileContext
from compiler.driver import compile_graph, compile_model
from compiler.errors import GraphError
from compiler.graph.ir import Graph
from runtime.executor import Executor
from tests.compiler.topi.builder import CoreNet
from tests.compiler.topi.checking import CONFIGS, check, random_inputs
from tests.models import DIGITS, REPO, model_path
from vta_hw.spec.config import VtaConfig

DEFAULT = CONFIGS["default"]
PASSES = (
    "import",
    "lower_qnn",
    "fold_constants",
    "canonicalise",
    "unfold_narrow",
    "fuse",
    "partition",
    "host_lowering",  # of the first layer's windows; all others' comes later
    "template",
    "lower_schedule",
    "assign_scopes",
    "tensorize",
    "inject_dma",
    "inject_alu",
    "lower_virtual_threads",
    "allocate_sram",
    "split_products",
    "zero_by_loads",
    "place_micro_ops",
    "interleave_tails",
    "hoist_loads",
    "insert_tokens",
    "mark_overlap",
    "emit",
    "host_codegen",
)


def small(rng: np.random.Generator) -> Graph:
    net = CoreNet(rng)
    x = net.conv(net.image((1, 5, 6, 6), -128), 9, pads=(1, 1, 1, 1), zero_point=-20)
    return net.graph(net.softmax(net.add(x, x, 0.1, 3)))


# -- reports --------------------------------------------------------------------------------------


def test_every_pass_is_timed(tmp_path: Path) -> None:
    """As a user sees it: a fresh process, the real network, --timing."""
    model, package = model_path("ic_resnet8_int8.tflite"), tmp_path / "net.vta"
    command = [sys.executable, "-m", "vta.cli", "compile", str(model), "-o", str(package)]
    done = subprocess.run(
        [*command, "--timing"], capture_output=True, text=True, cwd=REPO, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    words = done.stdout.split()
    places = [words.index(name) for name in PASSES]
    assert places == sorted(places), "in the order of compilation"
    assert "total" in words
    assert package.is_file()


def test_timings_are_of_every_pass() -> None:
    timings = compile_model(DIGITS, CONFIGS["mac64"]).timings
    assert {name for name, seconds in timings if seconds > 0} >= set(PASSES)


def test_compilation_is_repeatable(tmp_path: Path) -> None:
    """Equal models give equal packages, with and without dumping."""
    first = compile_model(DIGITS, DEFAULT).package.to_bytes()
    again = compile_model(DIGITS, DEFAULT, dump_dir=tmp_path / "dump").package.to_bytes()
    assert first == again
    dumped = sorted(path.name for path in (tmp_path / "dump").iterdir())
    assert dumped[0] == "0000-graph-import.txt"
    assert dumped[-1].endswith("-host-host_codegen.txt")


# -- refusals -------------------------------------------------------------------------------------


def test_operators_that_exist_nowhere_are_named_at_once(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = CoreNet(rng)
    x = net.softmax(net.image((1, 4, 3, 3)))
    x = net.through_float(x, 0.1, 0)
    kept = {name: make for name, make in driver.HOST_OPS.items() if name == "quantize"}
    monkeypatch.setattr(driver, "HOST_OPS", kept)
    with pytest.raises(GraphError, match="^2 operators can run neither on VTA nor") as error:
        compile_graph(net.graph(x), CompileContext(DEFAULT))
    for words in ("t0_softmax", "VTA has no operator 'softmax'", "t1_dequantize"):
        assert words in str(error.value)


def test_unknown_numerics(rng: np.random.Generator) -> None:
    with pytest.raises(GraphError, match="^numerics must be one of .*, not 'exactly'"):
        compile_graph(small(rng), CompileContext(DEFAULT), "exactly")


def test_config_that_the_compiler_does_not_serve(rng: np.random.Generator) -> None:
    """Nothing runs on VTA, each kernel says why, and the result is still the right one."""
    net = CoreNet(rng)
    x = net.conv(net.image((2, 5, 6, 6), 7), 9, pads=(1, 1, 1, 1), zero_point=-20)
    x = net.dense(net.reshape(net.pool(x, "avg_pool2d", (6, 6)), (2, 9)), 4)
    reason = "the compiler needs a config whose BLOCK_IN equals BLOCK_OUT"
    x = net.softmax(x)
    refusals = (reason, "VTA has no operator")
    package = check(net.graph(x), VtaConfig.load("rect"), rng, refusals=refusals).package
    assert not package.programs
    assert package.notes == (f"nothing runs on VTA: {reason}",)
    reasons = {row.op: row.reason for row in package.layers}
    assert reasons["conv2d"] == reasons["dense"] == reason
    assert reasons["softmax"] == "VTA has no operator 'softmax'"
    assert package.host_macs == 2 * (36 * 9 * 5 * 9 + 9 * 4)


# -- odd networks ---------------------------------------------------------------------------------


def test_network_for_the_host_alone(rng: np.random.Generator) -> None:
    net = CoreNet(rng)
    package = check(
        net.graph(net.softmax(net.matrix((3, 11)))), DEFAULT, rng, refusals=("VTA has no",)
    ).package
    assert package.host_operators == ("softmax",)
    assert package.notes == ("nothing runs on VTA: VTA has no operator 'softmax'",)
    assert package.arena_bytes == 0


def test_several_outputs_and_inputs(rng: np.random.Generator) -> None:
    """An input read by two layers is packed once; a result read by nobody else still comes home."""
    net = CoreNet(rng)
    a, b = net.image((1, 7, 5, 5), -128), net.image((1, 7, 5, 5), 4)
    first = net.conv(a, 7, zero_point=1)
    second = net.add(a, b, 0.2, -9)
    third = net.clip(b, -5, 50)
    package = check(net.graph(third, first, second), CONFIGS["mac64"], rng).package
    assert package.host_operators.count("pack") == 2
    assert package.host_operators.count("unpack") == 3
    assert package.outputs == (third, first, second)


def test_input_that_nothing_reads(rng: np.random.Generator) -> None:
    net = CoreNet(rng)
    a = net.image((1, 7, 5, 5))
    net.image((1, 2, 3, 4))
    check(net.graph(net.clip(a, -4, 4)), DEFAULT, rng)


def test_input_that_is_an_output(rng: np.random.Generator) -> None:
    net = CoreNet(rng)
    a = net.image((1, 7, 5, 5))
    check(net.graph(a, net.clip(a, -4, 4)), DEFAULT, rng)


def test_network_without_layers(rng: np.random.Generator) -> None:
    net = CoreNet(rng)
    package = check(net.graph(net.image((1, 7, 5, 5))), DEFAULT, rng).package
    assert package.plan == ()


def test_view_of_an_input(rng: np.random.Generator) -> None:
    """The host gives what the view reads, so there is nothing to alias yet."""
    net = CoreNet(rng)
    x = net.reshape(net.image((2, 9, 1, 1), -128), (2, 9))
    check(net.graph(net.dense(x, 4)), DEFAULT, rng, refusals=("", "VTA has no operator"))


def test_view_that_is_an_output_and_read_on_both_sides(rng: np.random.Generator) -> None:
    net = CoreNet(rng)
    x = net.conv(net.image((1, 3, 4, 4)), 6, (4, 4))
    row = net.reshape(x, (1, 6))
    back = net.reshape(row, (1, 1, 1, 6))
    soft = net.softmax(row)
    more = net.clip(back, -9, 90)
    graph = net.graph(row, soft, more)
    check(graph, CONFIGS["batch4"], rng, refusals=("VTA has no operator 'softmax'",))


def test_two_executors_share_nothing(rng: np.random.Generator) -> None:
    graph = small(rng)
    package = compile_graph(graph, CompileContext(DEFAULT)).package
    one, other = Executor(package), Executor(package)
    inputs = random_inputs(graph, rng), random_inputs(graph, rng)
    expected = [one.run(x).outputs[graph.outputs[0]] for x in inputs]
    found = [other.run(x).outputs[graph.outputs[0]] for x in reversed(inputs)]
    np.testing.assert_array_equal(expected, found[::-1])
