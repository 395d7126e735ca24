"""Small layers and networks to tune."""

from __future__ import annotations

import numpy as np

from compiler.context import CompileContext
from compiler.driver import Network, place_graph
from compiler.tune.tasks import Task, network_tasks
from tests.compiler.topi.builder import CoreNet
from vta_hw.spec.config import VtaConfig

TINY = VtaConfig.load("tiny")


def small_network(config: VtaConfig = TINY, seed: int = 0) -> Network:
    """Three convolutions, two of them with equal workloads, and an addition."""
    net = CoreNet(np.random.default_rng(seed))
    x = net.clip(net.image((1, 8, 6, 6)), -100, 100)
    first = net.conv(x, 8, pads=(1, 1, 1, 1))
    second = net.conv(first, 8, pads=(1, 1, 1, 1))
    third = net.conv(second, 12, (1, 1), (2, 2))
    return place_graph(net.graph(third), CompileContext(config))


def small_tasks(config: VtaConfig = TINY) -> tuple[Task, ...]:
    """The workloads of `small_network`."""
    return network_tasks(small_network(config), config)
