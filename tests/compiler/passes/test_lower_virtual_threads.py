"""Virtual threads interleaved, each with buffers of its own."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.loop.nodes import Alloc, Apply, Copy, For, walk
from compiler.topi.conv2d_tiling import ConvTiling
from tests.compiler.kernels import KERNELS, after, example, random_conv
from tests.compiler.passes.checks import check_equal, check_golden, check_kernel
from tests.conftest import Golden
from vta_hw.spec.config import VtaConfig


@pytest.mark.parametrize("kind", ["conv", "add"])
def test_text(kind: str, golden: Golden) -> None:
    check_golden("lower_virtual_threads", kind, golden)


@pytest.mark.parametrize("name", KERNELS)
def test_same_result(name: str, seed: int) -> None:
    check_equal("lower_virtual_threads", name, seed)


@pytest.mark.parametrize("threads", [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)])
@pytest.mark.parametrize("config", ["tiny", "mac64"])
def test_threads_of_two_loops(threads: tuple[int, int], config: str, seed: int) -> None:
    """Channels and rows may both be spread over threads, one inside the other."""
    rng = np.random.default_rng(seed)
    machine = VtaConfig.load(config)
    same = {"kernel": (3, 1), "strides": (1, 1), "pads": (1, 0, 1, 0), "h": 4, "w": 2}
    channels = {"ci": 2 * machine.block_in, "co": 4 * machine.block_out}
    tiling = ConvTiling(co=1, ci=1, h=1, w=2, co_threads=threads[0], h_threads=threads[1])
    kernel = random_conv(rng, machine, 3, tiling, **same, **channels)
    check_kernel("lower_virtual_threads", kernel)
    func = after(kernel, "lower_virtual_threads")
    assert not any(isinstance(s, For) and s.kind == "vthread" for s in walk(func.body))
    weights = {
        s.buffer for s in walk(func.body) if isinstance(s, Alloc) and s.buffer.scope == "wgt"
    }
    assert len(weights) == threads[0] * threads[1]
    check_kernel("emit_tasks", kernel)


def test_loads_of_one_thread_stand_before_the_work_of_the_other() -> None:
    func = after(example("add"), "lower_virtual_threads")
    kinds = [type(s).__name__ for s in walk(func.body) if isinstance(s, Copy | Apply)]
    # The parameters, then what each thread does, then both stores.
    assert kinds[-2:] == ["Copy", "Copy"]
    names = [s.buffer.name for s in walk(func.body) if isinstance(s, Alloc)]
    own = [name for name in names if name.endswith((".t0", ".t1"))]
    assert len({name.removesuffix(".t0").removesuffix(".t1") for name in own}) * 2 == len(own)
    assert len(own) < len(names), "what stands outside the threads is shared"
