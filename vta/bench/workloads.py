"""What ``vta bench layers`` and ``vta bench networks`` measure, and what others have published.

Published cycles are of the original VTA, of its forks, or of boards with it, and hold for one
geometry: they are compared with configurations of that geometry alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vta_hw.spec.config import VtaConfig
from vta_hw.spec.machine import bus_bytes


@dataclass(frozen=True)
class Geometry:
    """What a machine multiplies and moves per cycle."""

    batch: int
    block_in: int
    block_out: int
    bus_bytes: int

    @classmethod
    def of(cls, config: VtaConfig) -> Geometry:
        """The geometry of a configuration."""
        return cls(config.batch, config.block_in, config.block_out, bus_bytes(config))


PYNQ = Geometry(batch=1, block_in=16, block_out=16, bus_bytes=8)
"""The original's default, of which a PYNQ board has the bitstream."""
MAC64 = Geometry(batch=1, block_in=8, block_out=8, bus_bytes=8)

_PYNQ_HZ = 100_000_000


@dataclass(frozen=True)
class Reference:
    """Cycles that others took for the same work, and where that was said."""

    cycles: int
    geometry: Geometry
    source: str

    def cycles_on(self, config: VtaConfig) -> int | None:
        """The cycles, if the configuration has the geometry; extensions make no difference."""
        return self.cycles if Geometry.of(config) == self.geometry else None


def _tophub(milliseconds: float) -> Reference:
    return Reference(
        round(milliseconds * _PYNQ_HZ / 1000),
        PYNQ,
        f"TVM tophub, vta_v0.10.log: {milliseconds} ms on a PYNQ at 100 MHz, tuned",
    )


# -- layers ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A convolution of one square image, with requantisation; `pad` is on all four sides."""

    name: str
    size: int
    channels_in: int
    channels_out: int
    kernel: int
    stride: int = 1
    groups: int = 1
    reference: Reference | None = None

    @property
    def pad(self) -> int:
        """What keeps the size at stride 1."""
        return self.kernel // 2


def _resnet18() -> Sequence[Layer]:
    """The distinct convolutions but the first, which the original left to the CPU (its C1)."""
    rows = (
        ("C2", 56, 64, 64, 3, 1, 5.70),
        ("C3", 56, 64, 128, 3, 2, 2.97),
        ("C4", 56, 64, 128, 1, 2, 1.35),
        ("C5", 28, 128, 128, 3, 1, 5.18),
        ("C6", 28, 128, 256, 3, 2, 2.67),
        ("C7", 28, 128, 256, 1, 2, 1.03),
        ("C8", 14, 256, 256, 3, 1, 4.93),
        ("C9", 14, 256, 512, 3, 2, 3.99),
        ("C10", 14, 256, 512, 1, 2, 1.08),
        ("C11", 7, 512, 512, 3, 1, 7.35),
    )
    return [
        Layer(f"resnet18.{name}", size, c_in, c_out, kernel, stride, reference=_tophub(ms))
        for name, size, c_in, c_out, kernel, stride, ms in rows
    ]


def _resnet50() -> Sequence[Layer]:
    """Version 1, with the stride in a block's first convolution; without the first layer."""
    layers = []
    for stage in range(4):
        size, narrow = 56 >> stage, 64 << stage
        wide, before = 4 * narrow, 2 * narrow if stage else 64
        # The first block reads what the stage before made, at twice the size.
        read, stride = (2 * size, 2) if stage else (size, 1)
        name = f"resnet50.stage{stage + 1}"
        layers += [
            Layer(f"{name}.first", read, before, narrow, 1, stride),
            Layer(f"{name}.middle", size, narrow, narrow, 3),
            Layer(f"{name}.last", size, narrow, wide, 1),
            Layer(f"{name}.next", size, wide, narrow, 1),
        ]
        if stage:
            layers.append(Layer(f"{name}.downsample", read, before, wide, 1, stride))
    return layers


def _mobilenet_v1() -> Sequence[Layer]:
    """Width 1, 224 pixels: the distinct pairs of depthwise and pointwise convolutions."""
    pairs = (
        *((112, 32, 64, 1), (112, 64, 128, 2), (56, 128, 128, 1), (56, 128, 256, 2)),
        *((28, 256, 256, 1), (28, 256, 512, 2), (14, 512, 512, 1), (14, 512, 1024, 2)),
        (7, 1024, 1024, 1),
    )
    layers = []
    for number, (size, c_in, c_out, stride) in enumerate(pairs, 1):
        name = f"mobilenet_v1.pair{number}"
        layers += [
            Layer(f"{name}.depthwise", size, c_in, c_in, 3, stride, groups=c_in),
            Layer(f"{name}.pointwise", size // stride, c_in, c_out, 1),
        ]
    return layers


RESNET18 = tuple(_resnet18())
LAYERS = (*RESNET18, *_resnet50(), *_mobilenet_v1())


# -- networks -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """A whole network, and the layers of it that the published figure counts.

    `file` is its name among MLPerf Tiny's models (`vta.bench.models`); without one it is built by
    `examples.imagenet`, under its own name. Counted are, of the layers that begin with the
    operator `op`, those that `counted` takes, `layers` of them, and all additions.
    """

    name: str
    op: str
    counted: slice
    layers: int
    file: str = ""
    reference: Reference | None = None


NETWORKS = (
    Network(
        "resnet18",
        *("conv2d", slice(1, None), 19),
        reference=Reference(
            7_729_601,
            PYNQ,
            "Apache TVM VTA, pull request 30 of tvm-vta (2021): tsim, memory latency 16, all "
            "convolutions but the first",
        ),
    ),
    Network(
        "resnet8",
        *("conv2d", slice(1, None), 8),
        "ic_resnet8_int8.tflite",
        Reference(
            275_137,
            MAC64,
            "a fork of VTA with an 8x8 array, tuned for hours: all convolutions but the first",
        ),
    ),
    Network(
        "dscnn",
        *("conv2d", slice(2, None, 2), 4),
        "kws_dscnn_int8.tflite",
        Reference(99_884, MAC64, "a fork of VTA with an 8x8 array: the pointwise convolutions"),
    ),
    Network(
        "autoencoder",
        *("dense", slice(1, None), 9),
        "ad_autoencoder_int8.tflite",
        Reference(28_988, MAC64, "a fork of VTA with an 8x8 array: all dense layers but the first"),
    ),
    # No figure was published. Counted is what the original could run.
    Network(
        "mobilenet",
        *("conv2d", slice(2, None, 2), 13),
        "vww_mobilenet_int8.tflite",
    ),
)
