"""Random networks of several layers: branches, memory reuse, regions with host work between."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.graph.fuse import fuse
from compiler.graph.ir import Graph
from tests.compiler.topi.builder import CoreNet
from tests.compiler.topi.checking import CONFIGS, check, examples

SEEDS = st.integers(0, 2**32 - 1)
NAMES = st.sampled_from(sorted(CONFIGS))
HOST_WORK = ("tensor ", "VTA has no operator", "padded max pooling", "no tile of a")
ON_VTA = ("conv", "conv", "add", "pool", "clip")


def any_zero_point(rng: np.random.Generator) -> int:
    return int(rng.choice([-128, 0, int(rng.integers(-128, 128))]))


def grow(net: CoreNet, layers: int, kinds: tuple[str, ...], pad_pools: bool) -> None:
    """Append random layers, each reading any earlier tensors."""
    rng = net.rng
    images = list(net.inputs)
    for _ in range(layers):
        x = images[int(rng.integers(len(images)))] if rng.random() < 0.5 else images[-1]
        match str(rng.choice(kinds)):
            case "conv":
                images.append(conv(net, x))
            case "add":
                alike = [t for t in images if net.extents(t) == net.extents(x)]
                other = alike[int(rng.integers(len(alike)))]
                images.append(net.add(x, other, 0.06, any_zero_point(rng)))
            case "pool":
                images.append(pool(net, x, pad_pools))
            case "clip":
                images.append(net.clip(x, int(rng.integers(-128, 0)), int(rng.integers(0, 128))))
            case "float":
                images.append(net.through_float(x, 0.04, any_zero_point(rng)))
            case "softmax":
                images.append(net.softmax(x))


def conv(net: CoreNet, x: str) -> str:
    rng = net.rng
    size = int(rng.choice([1, 3]))
    channels = net.extents(x)[1] if rng.random() < 0.5 else int(rng.integers(1, 20))
    mode = str(rng.choice(["double", "single", "float"]))
    pads = (size // 2,) * 4
    zero_point = any_zero_point(rng)
    return net.conv(x, channels, (size, size), pads=pads, zero_point=zero_point, mode=mode)


def pool(net: CoreNet, x: str, padded: bool) -> str:
    rng = net.rng
    op = str(rng.choice(["max_pool2d", "avg_pool2d"]))
    _, _, h, w = net.extents(x)
    kernel = (3, 3) if padded else (min(2, h), min(2, w))
    stride = int(rng.integers(1, 3))
    return net.pool(x, op, kernel, (stride, stride), (1, 1, 1, 1) if padded else (0, 0, 0, 0))


def ends(net: CoreNet) -> Graph:
    """The network up to its last layer, or with everything that nothing reads as outputs."""
    last = net.nodes[-1].outputs[0]
    if net.rng.random() < 0.5:
        return net.graph(last)
    read = {name for node in net.nodes for name in node.inputs}
    return net.graph(*(n.outputs[0] for n in net.nodes if n.outputs[0] not in read))


@examples(25)
@given(seed=SEEDS, layers=st.integers(2, 9), config=NAMES, layout=st.sampled_from(["NHWC", "NCHW"]))
@pytest.mark.slow
def test_network_with_branches(seed: int, layers: int, config: str, layout: str) -> None:
    rng = np.random.default_rng(seed)
    net = CoreNet(rng, layout)
    for _ in range(int(rng.integers(1, 3))):
        net.image((int(rng.integers(1, 4)), int(rng.integers(1, 20)), 5, 6), any_zero_point(rng))
    grow(net, layers, ON_VTA, CONFIGS[config].has("pad_min"))
    compiled = check(ends(net), CONFIGS[config], rng)
    assert len(compiled.package.programs) == 1, "one instruction stream"


@examples(25)
@given(seed=SEEDS, layers=st.integers(3, 9), config=NAMES)
@pytest.mark.slow
def test_network_with_host_work_in_the_middle(seed: int, layers: int, config: str) -> None:
    rng = np.random.default_rng(seed)
    net = CoreNet(rng)
    net.image((1, int(rng.integers(1, 12)), 4, 5), any_zero_point(rng))
    grow(net, layers, (*ON_VTA, "float", "softmax"), pad_pools=True)
    check(ends(net), CONFIGS[config], rng, refusals=HOST_WORK)


@pytest.mark.parametrize("config", ["tiny", "default", "batch4"])
def test_each_layer_of_a_network_alone(config: str, rng: np.random.Generator) -> None:
    """Parts of a graph compile by themselves, also those that begin after its first node."""
    net = CoreNet(rng)
    x = net.conv(net.image((1, 5, 6, 6), -128), 9, pads=(1, 1, 1, 1), zero_point=-20)
    y = net.conv(x, 9, (1, 1), zero_point=4)
    out = net.pool(net.add(x, y, 0.1, 33), "avg_pool2d", (6, 6))
    graph = net.graph(out)
    kernels = fuse(graph)
    assert len(kernels) == 4
    for kernel in kernels:
        part = graph.subgraph(kernel.nodes, kernel.name)
        assert (part.inputs, part.outputs) == (kernel.inputs, kernel.outputs)
        check(part, CONFIGS[config], rng)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("config", ["tiny", "default", "batch4"])
def test_views_between_layers_cost_nothing(
    config: str, layout: str, rng: np.random.Generator
) -> None:
    """A pooled image seen as a matrix and back: aliases, in outputs too."""
    net = CoreNet(rng, layout)
    x = net.conv(net.image((3, 7, 4, 4), -128), 18, pads=(1, 1, 1, 1))
    pooled = net.pool(x, "avg_pool2d", (4, 4), (4, 4))
    flat = net.reshape(pooled, (3, 18))
    dense = net.dense(flat, 11, 7, mode="single")
    pixel = (3, 1, 1, 11) if layout == "NHWC" else (3, 11, 1, 1)
    image = net.reshape(dense, pixel)
    out = net.conv(image, 5, (1, 1))
    compiled = check(net.graph(out, flat, image), CONFIGS[config], rng)
    package = compiled.package
    views = {row.name: row.where for row in package.layers if row.op == "reshape"}
    assert set(views.values()) == {"view"}
    assert len(views) == 2
    assert len(package.programs) == 1


def test_regions_and_what_lies_between_them(rng: np.random.Generator) -> None:
    """Softmax in the middle: two programs, and the host does what only it can."""
    net = CoreNet(rng)
    x = net.conv(net.image((1, 3, 4, 4), -128), 9, zero_point=4)
    y = net.softmax(x)
    net.conv(y, 4, (1, 1))
    package = check(ends(net), CONFIGS["mac64"], rng, refusals=HOST_WORK).package
    assert len(package.programs) == 2
    assert package.host_operators == ("unfold", "pack", "unpack", "softmax", "pack", "unpack")
    assert package.host_macs == 0
    assert [(row.op, row.where) for row in package.layers] == [
        ("unfold", "host"),
        ("conv2d+requantize", "vta"),
        ("softmax", "host"),
        ("conv2d+requantize", "vta"),
    ]


def test_reshape_that_moves_data_runs_on_the_host(rng: np.random.Generator) -> None:
    net = CoreNet(rng)
    x = net.conv(net.image((1, 3, 4, 4), -128), 6, zero_point=4)
    turned = net.reshape(x, (1, 2, 3, 4))
    out = net.conv(turned, 5, (1, 1))
    package = check(net.graph(out), CONFIGS["default"], rng, refusals=HOST_WORK).package
    assert package.host_operators == ("unfold", "pack", "unpack", "reshape", "pack", "unpack")
    assert [row.op for row in package.layers if row.where == "host" and row.reason] == [
        "unfold",
        "reshape",
    ]


def test_output_that_is_an_input_of_the_next_region(rng: np.random.Generator) -> None:
    """A tensor that the user, the host and a later layer of VTA read."""
    net = CoreNet(rng)
    x = net.conv(net.image((2, 5, 4, 4), 9), 6, zero_point=-11)
    y = net.through_float(x, 0.03, 2)
    out = net.add(x, y, 0.1, -1)
    check(net.graph(x, out, y), CONFIGS["batch4"], rng, refusals=HOST_WORK)


def test_windows_of_every_input_are_made_before_the_one_program(rng: np.random.Generator) -> None:
    net = CoreNet(rng)
    first = net.clip(net.image((1, 9, 6, 6), -128), -100, 100)
    second = net.conv(net.image((1, 3, 6, 6), -128), 9, (3, 3), pads=(1, 1, 1, 1))
    package = check(net.graph(net.add(first, second, 0.1, 3)), CONFIGS["tiny"], rng).package
    assert "unfold" in package.host_operators
    assert len(package.programs) == 1
