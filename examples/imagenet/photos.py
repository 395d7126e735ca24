"""Real images without a download: crops of the two photographs that scikit-learn carries."""

from __future__ import annotations

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

# Mean and deviation of ImageNet's red, green and blue, for pixel values from 0 to 1.
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
_LEAST_SIDE = 0.35


def crops(count: int, size: int, seed: int) -> np.ndarray:
    """float32 [count, 3, size, size]: random square crops, half of them mirrored, normalised.

    The photographs take turns. The same seed gives the same places at every size.
    """
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    rng = np.random.default_rng(seed)
    out = np.empty((count, 3, size, size), np.float32)
    for index in range(count):
        photograph = photographs[index % len(photographs)]
        side = rng.uniform(_LEAST_SIDE, 1) * min(photograph.size)
        left = rng.uniform(0, photograph.width - side)
        top = rng.uniform(0, photograph.height - side)
        box = (left, top, left + side, top + side)
        cut = photograph.resize((size, size), Image.Resampling.BILINEAR, box)
        pixels = np.asarray(cut, np.float32) / 255
        if rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        out[index] = ((pixels - _MEAN) / _DEVIATION).transpose(2, 0, 1)
    return out
