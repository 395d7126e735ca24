"""Builds an ImageNet-sized network as int8 QDQ ONNX, from nothing but a seed and two photographs.

`python -m examples.imagenet.build resnet18 -o resnet18_int8.onnx` takes well under a minute. The
weights are random, but scaled so that activations stay in range and the classes differ between
images: the arithmetic that a compiler has to reproduce is that of a trained network.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.console import Console

from examples.imagenet import photos
from examples.imagenet.networks import NAMES, network
from examples.imagenet.power_of_two import to_powers_of_two
from examples.imagenet.tracer import Tracer

IMAGES = 16
_IMAGE_SEED = 1
# How many of the images the weights are scaled on.
_NORMALISING = 8

Report = Callable[[str], None]


class _Calibration(CalibrationDataReader):
    """Gives the images one by one, as quantize_static asks for them."""

    def __init__(self, images: np.ndarray) -> None:
        self._left: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input, or None at the end."""
        image = next(self._left, None)
        return None if image is None else {"image": image[None]}


def quantise(
    model: onnx.ModelProto, images: np.ndarray, path: Path, *, symmetric: bool = False
) -> None:
    """Write the network with uint8 activations and int8 weights, per channel and symmetric.

    If it is `symmetric`, activations are int8 and all zero points 0.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float.onnx"
        # Only shapes are inferred, as the quantiser wants it; there is nothing to optimise.
        quant_pre_process(model, source, skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            source,
            path,
            _Calibration(images),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True},
        )


def build(
    name: str,
    path: Path,
    *,
    small: bool = False,
    power_of_two: bool = False,
    symmetric: bool = False,
    seed: int = 0,
    report: Report = lambda text: None,
) -> onnx.ModelProto:
    """Write the quantised network `name` (see `networks.NAMES`) to `path`; its float original.

    `report` is told what is being done.
    """
    chosen = network(name, small)
    images = photos.crops(IMAGES, chosen.size, _IMAGE_SEED)
    net = Tracer(images[:_NORMALISING], seed, lambda layer: report(f"weights of {layer}"))
    model = net.model(chosen.name, chosen.describe(net))
    report("calibrating and quantising")
    quantise(model, images, path, symmetric=symmetric)
    if power_of_two:
        report("rounding scales to powers of two")
        onnx.save(to_powers_of_two(onnx.load(path)), path)
    return model


def main() -> None:
    """Build one network, with progress on a terminal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=NAMES)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--small", action="store_true", help="64x64 pixels, few channels")
    parser.add_argument(
        "--power-of-two", action="store_true", help="scales for hardware that can only shift"
    )
    parser.add_argument(
        "--symmetric", action="store_true", help="int8 activations with zero point 0"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    console = Console()
    start = time.perf_counter()
    with console.status("images") as status:
        build(
            arguments.network,
            arguments.output,
            small=arguments.small,
            power_of_two=arguments.power_of_two,
            symmetric=arguments.symmetric,
            seed=arguments.seed,
            report=status.update,
        )
    size = arguments.output.stat().st_size / 1e6
    seconds = time.perf_counter() - start
    console.print(f"wrote {arguments.output} ({size:.1f} MB) in {seconds:.1f} s", highlight=False)


if __name__ == "__main__":
    main()
