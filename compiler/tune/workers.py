"""Measuring on all cores: processes that build programs and say what they take."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.reduction import ForkingPickler
from types import MappingProxyType, TracebackType
from typing import Any

from compiler.assemble import assemble
from compiler.context import CompileContext
from compiler.driver import Network
from compiler.topi.conv2d_tiling import ConvTiling
from compiler.tune.tasks import Task
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.program import Program


def _proxy(of: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(of)


def _reduce_proxy(proxy: MappingProxyType[Any, Any]) -> tuple[Any, ...]:
    return _proxy, (dict(proxy),)


# Nodes have their attributes behind such proxies, which Python does not send to other processes.
ForkingPickler.register(MappingProxyType, _reduce_proxy)

Measure = Callable[[Program], int]
"""The cycles of a program. Processes are sent it by name: it must be a function of a module."""


class _Bench:
    """One process's copy of all that is measured."""

    def __init__(
        self, network: Network | None, tasks: Sequence[Task], config: VtaConfig, measure: Measure
    ) -> None:
        self.network, self.tasks, self.config, self.measure = network, tasks, config, measure

    def layer(self, task: int, row: int) -> int:
        return self.measure(self.tasks[task].program(row))

    def whole(self, tilings: dict[str, ConvTiling]) -> int:
        """The cycles of all programs of the network."""
        assert self.network is not None, "there is a network to measure"
        context = CompileContext(self.config, verify=False)
        network = self.network
        package = assemble(network.graph, network.placed, network.numerics, context, None, tilings)
        return sum(map(self.measure, package.programs))


_bench: _Bench | None = None


def _start(*arguments: Any) -> None:
    global _bench
    # An interruption is the parent's to deal with.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _bench = _Bench(*arguments)


def _layer(task: int, row: int) -> int:
    assert _bench is not None
    return _bench.layer(task, row)


def _whole(tilings: dict[str, ConvTiling]) -> int:
    assert _bench is not None
    return _bench.whole(tilings)


class Workers:
    """Measures layers and networks; with more than one job in processes of their own.

    Results come in the order of what was asked, so that the number of jobs changes nothing.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        config: VtaConfig,
        measure: Measure,
        jobs: int,
        network: Network | None = None,
    ) -> None:
        self._bench = _Bench(network, tasks, config, measure)
        self._pool: ProcessPoolExecutor | None = None
        if jobs > 1:
            self._pool = ProcessPoolExecutor(
                jobs,
                multiprocessing.get_context("spawn"),
                _start,
                (network, tasks, config, measure),
            )

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def layers(self, task: int, rows: Sequence[int]) -> Iterator[int]:
        """The cycles of a task's layer with each of these rows of its space, as they come."""
        if self._pool is None:
            return (self._bench.layer(task, row) for row in rows)
        return self._pool.map(_layer, [task] * len(rows), rows)

    def networks(self, choices: Sequence[dict[str, ConvTiling]]) -> Iterator[int]:
        """The cycles of the whole network with each of these choices, as they come."""
        if self._pool is None:
            return (self._bench.whole(tilings) for tilings in choices)
        return self._pool.map(_whole, choices)
