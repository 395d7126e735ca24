"""Which tolerance a layer of a trained network is held to."""

from __future__ import annotations

import pytest

from tests.networks.imagenet import Tally, check_tallies, judged_by


@pytest.mark.parametrize(
    ("op", "hidden", "expected"),
    [
        ("conv2d", [], "conv2d"),
        ("conv2d", ["avg_pool2d"], "conv2d"),
        ("dense", ["add", "avg_pool2d"], "dense"),
        ("rescale", ["conv2d"], "conv2d"),
        ("add", ["avg_pool2d", "dense"], "dense"),
        ("reshape", ["avg_pool2d"], "avg_pool2d"),
        ("reshape", ["conv2d"], "conv2d"),
        ("reshape", [], "reshape"),
        ("avg_pool2d", ["add"], "avg_pool2d"),
    ],
)
def test_the_strictest_operator_counts(op: str, hidden: list[str], expected: str) -> None:
    assert judged_by(op, hidden) == expected


def test_a_convolution_on_a_hidden_tensor_has_no_tolerance() -> None:
    check_tallies({"y": Tally("avg_pool2d", 9, 1, 1)})
    with pytest.raises(AssertionError):
        check_tallies({"y": Tally(judged_by("conv2d", ["avg_pool2d"]), 9, 1, 1)})
