"""What there is to tune in a network: its distinct convolutions, each with its space of tilings.

Layers are the same if their workloads are: shapes, strides, padding, and what follows the sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from compiler import build as builder
from compiler.driver import Network
from compiler.topi.conv2d import ConvBuild
from compiler.topi.conv2d_space import KNOBS, Tiles, legal_tiles
from compiler.topi.conv2d_tiling import ConvShape, ConvTiling
from compiler.topi.select import select
from compiler.tune.features import FloatArray, conv_features
from compiler.tune.space import IntArray, Space
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.program import Program


@dataclass(frozen=True, eq=False)
class Task:
    """A workload of a network, and the names of the layers that have it."""

    build: ConvBuild
    layers: tuple[str, ...]

    @property
    def config(self) -> VtaConfig:
        """The machine that it is tuned for."""
        return self.build.config

    @property
    def workload(self) -> str:
        """Its key in a log."""
        return self.build.shape.workload

    @cached_property
    def tiles(self) -> Tiles:
        """All legal tilings, a row each."""
        return legal_tiles(self.build.shape, self.config)

    @cached_property
    def space(self) -> Space:
        """The same as a space to search."""
        return Space(KNOBS, np.stack(self.tiles.columns, axis=1))

    def features(self, rows: IntArray) -> FloatArray:
        """What the cost model sees of rows of the space."""
        return conv_features(self.tiles[rows], self.build.shape, self.config)

    def tiling(self, row: int) -> ConvTiling:
        """The tiling of a row."""
        return next(self.tiles[np.array([row])].tilings(self.build.shape))

    def row(self, tiling: ConvTiling) -> int | None:
        """The row of a tiling; None if the space does not have it."""
        columns = Tiles.of([tiling], self.build.shape).columns
        values = [int(column[0]) for column in columns]
        return self.space.row(dict(zip(KNOBS, values, strict=True)))

    def point(self, row: int) -> dict[str, Any]:
        """A row as a log has it."""
        return asdict(self.tiling(row))

    @cached_property
    def default(self) -> int:
        """The row that is compiled without a log."""
        row = self.row(self.build.default)
        assert row is not None, "the choice is made among legal tilings"
        return row

    def program(self, row: int) -> Program:
        """The layer alone, scheduled as a row says."""
        kernel = self.build(self.tiling(row))
        return builder.build(kernel.schedule, kernel.params, self.config, "layer", verify=False)


def network_tasks(network: Network, config: VtaConfig) -> tuple[Task, ...]:
    """The distinct convolutions of a network that run on VTA, in order of their first use."""
    found: dict[str, tuple[ConvBuild, list[str]]] = {}
    for item in network.placed:
        if item.where != "vta":
            continue
        build = select(item.kernel, network.graph, config)
        if isinstance(build, ConvBuild):
            first = found.setdefault(build.shape.workload, (build, []))
            first[1].append(item.kernel.anchor.name)
    return tuple(Task(build, tuple(layers)) for build, layers in found.values())


def workload_features(
    workload: str, tilings: Sequence[ConvTiling], config: VtaConfig
) -> FloatArray | None:
    """What the cost model sees of tilings of a workload known by name; None for a strange name."""
    try:
        shape = ConvShape.of_workload(workload)
    except (ValueError, TypeError):
        return None
    return conv_features(Tiles.of(tilings, shape), shape, config)
