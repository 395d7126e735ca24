"""Compile a network, run it in many orders, and hold every tensor against the graph's reference."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings

from compiler.context import CompileContext
from compiler.driver import CompileResult, compile_graph
from compiler.graph.ir import Graph
from compiler.graph.reference import evaluate
from runtime.devices.functional import FunctionalDevice
from runtime.executor import Executor
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.program import Program
from vta_hw.spec.result import RunResult
from vta_hw.spec.semantics import Scratchpads
from vta_sim import functional
from vta_sim.hazards import check_program

# Memories so small that most operators need many tiles.
_SMALL_8 = ("LOG_UOP_BUFF_SIZE=10", "LOG_INP_BUFF_SIZE=10", "LOG_WGT_BUFF_SIZE=12")
_SMALL_16 = ("LOG_UOP_BUFF_SIZE=9", "LOG_INP_BUFF_SIZE=11", "LOG_WGT_BUFF_SIZE=14")
_NAMED = {name: VtaConfig.load(name) for name in ("tiny", "mac64", "default", "batch4")}
CONFIGS = {
    **_NAMED,
    "small8": _NAMED["mac64"].override([*_SMALL_8, "LOG_ACC_BUFF_SIZE=13"]),
    "small16": _NAMED["default"].override(
        [*_SMALL_16, "LOG_ACC_BUFF_SIZE=13", "EXTENSIONS=requant"]
    ),
    "small4x8": _NAMED["batch4"].override([*_SMALL_8, "LOG_ACC_BUFF_SIZE=15"]),
}
MOVES = {"pack", "unpack", "unfold"}
Arrays = Mapping[str, np.ndarray[Any, Any]]


def examples(count: int) -> settings:
    """Hypothesis settings; VTA_TEST_EXAMPLES multiplies the number of examples and frees the seed.

    A failing example prints the decorator that repeats it.
    """
    times = int(os.environ.get("VTA_TEST_EXAMPLES", "1"))
    return settings(
        max_examples=count * times,
        derandomize=times == 1,
        deadline=None,
        print_blob=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


class SuspiciousDevice(FunctionalDevice):
    """Repeats each run in random orders of events, with garbage in the SRAM at the start.

    A program without hazards leaves the same DRAM each time. Fresh DRAM holds garbage as well.
    """

    def __init__(self, config: VtaConfig, rng: np.random.Generator, repeats: int) -> None:
        super().__init__(config, report_uninitialised=True)
        self.rng = rng
        self.repeats = repeats
        self.end = 0

    def alloc(self, size_bytes: int) -> int:
        address = super().alloc(size_bytes)
        self.write(address, self.rng.integers(0, 256, size_bytes, np.uint8))
        self.end = max(self.end, address + size_bytes)
        return address

    def run(self, program: Program, addresses: Mapping[str, int]) -> RunResult:
        before = self.read(0, self.end)
        result = super().run(program, addresses)
        assert result.ok, result.fault
        assert not result.notes, result.notes[:3]
        report = check_program(program, addresses)
        assert report.clean, report.findings[:3]
        assert not report.notes
        after = self.read(0, self.end)
        instructions = program.bound(addresses)
        for _ in range(self.repeats):
            image = before.copy()
            again = functional.run(
                self.config, instructions, image, interleave=self.rng, pads=self._garbage()
            )
            assert again.ok, again.fault
            assert again.instructions == result.instructions
            np.testing.assert_array_equal(image, after, "another order of events, other memory")
        return result

    def _garbage(self) -> Scratchpads:
        pads = Scratchpads(self.config)
        for memory in (pads.uop, pads.inp, pads.wgt, pads.acc):
            words = self.rng.integers(0, 256, memory.nbytes, np.uint8)
            memory.reshape(-1).view(np.uint8)[:] = words
        return pads


def random_inputs(graph: Graph, rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    """int8 values: uniform, or the two extremes, or one constant."""
    values = {}
    for name in graph.inputs:
        shape = graph.type_of(name).shape
        match int(rng.integers(4)):
            case 0:
                values[name] = rng.choice(np.array([-128, 127], np.int8), shape)
            case 1:
                values[name] = np.full(shape, rng.integers(-128, 128), np.int8)
            case _:
                values[name] = rng.integers(-128, 128, shape, np.int8)
    return values


def check(
    graph: Graph,
    config: VtaConfig,
    rng: np.random.Generator,
    *,
    refusals: tuple[str, ...] = (),
    runs: int = 2,
    repeats: int = 2,
    tolerance: int = 0,
) -> CompileResult:
    """Every tensor that the compiled network computes equals the graph's reference, bit by bit.

    Beside layout changes only what VTA refuses with one of these reasons may run on the host.
    `tolerance` is for configs that cannot be exact.
    """
    compiled = compile_graph(graph, CompileContext(config))
    package = compiled.package
    at_home = [row for row in package.layers if row.where == "host" and row.op != "unfold"]
    reasons = [row.reason for row in at_home]
    assert all(reason.startswith(refusals) for reason in reasons), reasons
    assert reasons or set(package.host_operators) <= MOVES
    assert reasons or package.host_macs == 0
    executor = Executor(package, SuspiciousDevice(config, rng, repeats))
    for _ in range(runs):
        inputs = random_inputs(graph, rng)
        truth = evaluate(graph, inputs)
        everything = executor.run(inputs, "all").outputs
        assert set(graph.outputs) <= set(everything)
        _compare(everything, truth, tolerance)
        outputs = executor.run(inputs).outputs
        assert set(outputs) == set(graph.outputs)
        _compare(outputs, truth, tolerance)
    return compiled


def _compare(found: Arrays, truth: Arrays, tolerance: int) -> None:
    for name, value in found.items():
        if name in truth:
            assert (value.dtype, value.shape) == (truth[name].dtype, truth[name].shape)
            away = np.abs(value.astype(np.float64) - truth[name])
            assert away.max() <= tolerance, f"{name}: {(away > tolerance).sum()} of {away.size}"
