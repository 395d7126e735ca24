"""ResNet-18 at full size, whole on the machine. Figures: run with -s."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vta
from examples.digits.judge import Judge
from examples.imagenet import photos
from examples.imagenet.build import build
from tests.cosim.networks import Machines
from tests.networks.imagenet import needs_exact_judge

# Another crop than those that the network was calibrated on.
SEED = 7
MACS = 1_814_073_344


@pytest.mark.long
@needs_exact_judge
def test_whole_on_every_device(tmp_path: Path) -> None:
    """Memory, verdict, every instruction's cycles and all counters agree; so does the class."""
    model = tmp_path / "resnet18_int8.onnx"
    build("resnet18", model)
    package = vta.compile(model, numerics="ort").package
    inputs = {"image": photos.crops(1, 224, SEED)}
    with Machines(package.config) as machines:
        loaded = machines.load(package)
        inference = loaded.run(inputs)
    print()
    for name, seconds in loaded.seconds.items():
        print(f"{name}: {seconds:.1f} s")
    result = inference.result
    assert result.cycles is not None
    rate = result.cycles / loaded.seconds["rtl"]
    print(
        f"{result.cycles} cycles, {result.instructions} instructions, {rate:,.0f} cycles/s on rtl"
    )
    assert result.macs == result.counters["gemm_ops"] * package.config.macs_per_cycle >= MACS
    expected = Judge(model).run(inputs)["logits"]
    assert inference.outputs["logits"].argmax() == expected.argmax()


@pytest.mark.long
def test_tuned_takes_as_long_on_rtl(tmp_path: Path) -> None:
    """A short, seeded search; the cycle simulator, which it measured on, is right about the result.

    The choice without a search is within 5 % of it.
    """
    model, log = tmp_path / "resnet18_int8.onnx", tmp_path / "log.jsonl"
    build("resnet18", model)
    found = vta.tune(model, log, trials=8, patience=4, jobs=1)
    assert found.cycles <= found.default_cycles <= 1.05 * found.cycles
    package = vta.compile(model, tuned=log).package
    inputs = {"image": photos.crops(1, 224, SEED)}
    simulated, real = (vta.load(package, device).run(inputs) for device in ("cycle", "rtl"))
    print(f"\n{found.default_cycles} cycles, tuned {real.result.cycles}")
    assert real.result.cycles == simulated.result.cycles == found.cycles
    assert real.result.counters == simulated.result.counters
    np.testing.assert_array_equal(real.outputs["logits"], simulated.outputs["logits"])
