"""The networks as sequences of layers: ResNet, VGG and MobileNet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from examples.imagenet.tracer import Traced, Tracer


@dataclass(frozen=True)
class Network:
    """One network of a family: `describe` adds its layers to a tracer and returns the logits.

    `size` is the side of the input image in pixels.
    """

    name: str
    size: int
    describe: Callable[[Tracer], Traced]


@dataclass(frozen=True)
class _Scale:
    """How large a network is: its channels are divided by `thinner`."""

    thinner: int
    classes: int
    hidden: int

    def channels(self, count: int) -> int:
        return max(8, count // self.thinner)


_FULL = _Scale(thinner=1, classes=1000, hidden=4096)
_SMALL = _Scale(thinner=4, classes=40, hidden=64)
_SIZE, _SMALL_SIZE = 224, 64


def _classifier(net: Tracer, x: Traced, scale: _Scale) -> Traced:
    return net.dense("logits", net.flatten(net.average("pool", x)), scale.classes)


# -- ResNet v1 -----------------------------------------------------------------------------------

_STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
# The residual branch is weaker than the way past it, as training leaves it.
_BRANCH_GAIN = 0.5


def _basic(net: Tracer, name: str, x: Traced, channels: int, stride: int) -> Traced:
    y = net.relu(net.conv(f"{name}.conv1", x, channels, 3, stride))
    return net.conv(f"{name}.conv2", y, channels, 3, gain=_BRANCH_GAIN)


def _bottleneck(net: Tracer, name: str, x: Traced, channels: int, stride: int) -> Traced:
    y = net.relu(net.conv(f"{name}.conv1", x, channels // 4, 1, stride))
    y = net.relu(net.conv(f"{name}.conv2", y, channels // 4, 3))
    return net.conv(f"{name}.conv3", y, channels, 1, gain=_BRANCH_GAIN)


def _resnet(net: Tracer, depth: int, scale: _Scale) -> Traced:
    branch, expansion = (_basic, 1) if depth < 50 else (_bottleneck, 4)
    x = net.relu(net.conv("conv1", net.image, scale.channels(64), 7, 2))
    x = net.max_pool("maxpool", x, 3, 2, 1)
    for stage, blocks in enumerate(_STAGES[depth]):
        channels = scale.channels(64 << stage) * expansion
        for block in range(-(-blocks // 3) if scale is _SMALL else blocks):
            name = f"layer{stage + 1}.{block}"
            stride = 2 if stage and not block else 1
            y = branch(net, name, x, channels, stride)
            if y.value.shape != x.value.shape:
                x = net.conv(f"{name}.downsample", x, channels, 1, stride)
            x = net.relu(net.add(f"{name}.add", y, x))
    return _classifier(net, x, scale)


# -- VGG -----------------------------------------------------------------------------------------

_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3)}
_VGG_CHANNELS = (64, 128, 256, 512, 512)


def _vgg(net: Tracer, depth: int, scale: _Scale) -> Traced:
    x = net.image
    for stage, convolutions in enumerate(_CONVOLUTIONS[depth]):
        for index in range(convolutions):
            channels = scale.channels(_VGG_CHANNELS[stage])
            x = net.relu(net.conv(f"conv{stage + 1}_{index + 1}", x, channels, 3))
        x = net.max_pool(f"pool{stage + 1}", x, 2, 2)
    x = net.flatten(x)
    for name in ("fc6", "fc7"):
        x = net.relu(net.dense(name, x, scale.hidden))
    return net.dense("logits", x, scale.classes)


# -- MobileNet -----------------------------------------------------------------------------------

# (channels, stride) of each depthwise and pointwise pair.
_PAIRS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)
# (expansion, channels, repeats, stride) of each group of inverted residuals.
_GROUPS = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)


def _depthwise(net: Tracer, name: str, x: Traced, stride: int) -> Traced:
    channels = x.value.shape[1]
    return net.relu6(net.conv(name, x, channels, 3, stride, groups=channels))


def _mobilenet_v1(net: Tracer, scale: _Scale) -> Traced:
    x = net.relu6(net.conv("conv0", net.image, scale.channels(32), 3, 2))
    for number, (channels, stride) in enumerate(_PAIRS, 1):
        x = _depthwise(net, f"conv{number}.depthwise", x, stride)
        x = net.relu6(net.conv(f"conv{number}.pointwise", x, scale.channels(channels), 1))
    return _classifier(net, x, scale)


def _inverted(
    net: Tracer, name: str, x: Traced, expansion: int, channels: int, stride: int
) -> Traced:
    y = x
    if expansion > 1:
        y = net.relu6(net.conv(f"{name}.expand", x, expansion * x.value.shape[1], 1))
    y = _depthwise(net, f"{name}.depthwise", y, stride)
    y = net.conv(f"{name}.project", y, channels, 1)
    return net.add(f"{name}.add", x, y) if y.value.shape == x.value.shape else y


def _mobilenet_v2(net: Tracer, scale: _Scale) -> Traced:
    x = net.relu6(net.conv("conv0", net.image, scale.channels(32), 3, 2))
    for group, (expansion, channels, repeats, stride) in enumerate(_GROUPS):
        for index in range(min(2, repeats) if scale is _SMALL else repeats):
            first = stride if index == 0 else 1
            name = f"group{group}.{index}"
            x = _inverted(net, name, x, expansion, scale.channels(channels), first)
    x = net.relu6(net.conv("conv1", x, scale.channels(1280), 1))
    return _classifier(net, x, scale)


_FAMILIES: dict[str, Callable[[Tracer, _Scale], Traced]] = {
    "resnet18": lambda net, scale: _resnet(net, 18, scale),
    "resnet34": lambda net, scale: _resnet(net, 34, scale),
    "resnet50": lambda net, scale: _resnet(net, 50, scale),
    "vgg11": lambda net, scale: _vgg(net, 11, scale),
    "vgg16": lambda net, scale: _vgg(net, 16, scale),
    "mobilenet_v1": _mobilenet_v1,
    "mobilenet_v2": _mobilenet_v2,
}
NAMES = tuple(_FAMILIES)


def network(name: str, small: bool = False) -> Network:
    """One of `NAMES`; `small` is for tests: a quarter of the channels, fewer blocks, 64x64."""
    describe, scale = _FAMILIES[name], _SMALL if small else _FULL
    return Network(
        f"{name}_small" if small else name,
        _SMALL_SIZE if small else _SIZE,
        lambda net: describe(net, scale),
    )
