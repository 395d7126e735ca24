"""The data of the example: scikit-learn's handwritten digits, split once and for all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits

HELD_OUT = 0.3
_SPLIT_SEED = 2


@dataclass(frozen=True)
class Digits:
    """Images as float32 [N, 1, 8, 8] with pixel values 0..16, labels as integers 0..9."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load() -> Digits:
    """The 1797 digits; the same 30 % are held out every time."""
    data = load_digits()
    images = data.images.astype(np.float32)[:, None]
    # The legacy generator, because numpy promises that its numbers never change.
    order = np.random.RandomState(_SPLIT_SEED).permutation(len(images))
    held_out = round(HELD_OUT * len(images))
    test, train = order[:held_out], order[held_out:]
    return Digits(images[train], data.target[train], images[test], data.target[test])
