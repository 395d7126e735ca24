"""A small convolutional network in plain numpy: forward, backward and Adam.

Tensors are float32 in NCHW. Every layer remembers what its backward pass needs from the last call
of its forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

KERNEL = 3
PAD = 1


@dataclass
class Parameter:
    """Weights with their gradient and the moments that Adam keeps of it."""

    value: np.ndarray
    grad: np.ndarray = field(init=False)
    mean: np.ndarray = field(init=False)
    square: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.grad = np.zeros_like(self.value)
        self.mean = np.zeros_like(self.value)
        self.square = np.zeros_like(self.value)


class Layer(Protocol):
    """One step of the network; `backward` turns the output's gradient into the input's."""

    @property
    def parameters(self) -> Sequence[Parameter]:
        """What training changes."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """The layer's output."""

    def backward(self, grad: np.ndarray) -> np.ndarray:
        """Gradient of the input; sets the gradients of the parameters."""


def _he_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    deviation = np.sqrt(2 / np.prod(shape[1:]))
    return (deviation * rng.standard_normal(shape)).astype(np.float32)


class Conv:
    """3x3 convolution, padded by one pixel on every side."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int, stride: int = 1):
        self.weight = Parameter(_he_normal(rng, (outputs, inputs, KERNEL, KERNEL)))
        self.bias = Parameter(np.zeros(outputs, np.float32))
        self.stride = stride

    @property
    def parameters(self) -> Sequence[Parameter]:
        """Weight and bias."""
        return self.weight, self.bias

    def forward(self, x: np.ndarray) -> np.ndarray:
        """[N, I, H, W] to [N, O, H/stride, W/stride]."""
        padded = np.pad(x, ((0, 0), (0, 0), (PAD, PAD), (PAD, PAD)))
        windows = sliding_window_view(padded, (KERNEL, KERNEL), axis=(2, 3))
        windows = windows[:, :, :: self.stride, :: self.stride]
        n, _, h, w = windows.shape[:4]
        self._shape = padded.shape
        self._columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * w, -1)
        out = self._columns @ self.weight.value.reshape(self.bias.value.size, -1).T
        return (out + self.bias.value).reshape(n, h, w, -1).transpose(0, 3, 1, 2)

    def backward(self, grad: np.ndarray) -> np.ndarray:
        """Adds each window's gradient to the pixels that the window covered."""
        n, outputs, h, w = grad.shape
        rows = grad.transpose(0, 2, 3, 1).reshape(-1, outputs)
        self.weight.grad = (rows.T @ self._columns).reshape(self.weight.value.shape)
        self.bias.grad = rows.sum(0)
        columns = (rows @ self.weight.value.reshape(outputs, -1)).reshape(
            n, h, w, -1, KERNEL, KERNEL
        )
        padded = np.zeros(self._shape, np.float32)
        s = self.stride
        for y in range(KERNEL):
            for x in range(KERNEL):
                tap = columns[..., y, x].transpose(0, 3, 1, 2)
                padded[:, :, y : y + s * h : s, x : x + s * w : s] += tap
        return padded[:, :, PAD:-PAD, PAD:-PAD]


class Relu:
    """max(x, 0)."""

    parameters: Sequence[Parameter] = ()

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Negative values become 0."""
        self._positive = x > 0
        return x * self._positive

    def backward(self, grad: np.ndarray) -> np.ndarray:
        """Passes where the input was positive."""
        return grad * self._positive


class MaxPool:
    """Greatest value of every 2x2 square."""

    parameters: Sequence[Parameter] = ()

    def forward(self, x: np.ndarray) -> np.ndarray:
        """[N, C, H, W] to [N, C, H/2, W/2]; H and W are even."""
        n, c, h, w = x.shape
        squares = x.reshape(n, c, h // 2, 2, w // 2, 2)
        out = squares.max(axis=(3, 5))
        first = squares == out[:, :, :, None, :, None]
        # Equal values share the gradient.
        self._share = first / first.sum(axis=(3, 5), keepdims=True, dtype=np.float32)
        return out

    def backward(self, grad: np.ndarray) -> np.ndarray:
        """To the greatest values."""
        spread = self._share * grad[:, :, :, None, :, None]
        n, c, h, _, w, _ = spread.shape
        return spread.reshape(n, c, 2 * h, 2 * w)


class Dense:
    """Matrix product over everything but the batch."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int):
        self.weight = Parameter(_he_normal(rng, (outputs, inputs)))
        self.bias = Parameter(np.zeros(outputs, np.float32))

    @property
    def parameters(self) -> Sequence[Parameter]:
        """Weight and bias."""
        return self.weight, self.bias

    def forward(self, x: np.ndarray) -> np.ndarray:
        """[N, ...] to [N, O]."""
        self._shape = x.shape
        self._x = x.reshape(len(x), -1)
        return self._x @ self.weight.value.T + self.bias.value

    def backward(self, grad: np.ndarray) -> np.ndarray:
        """Has the shape of the input."""
        self.weight.grad = grad.T @ self._x
        self.bias.grad = grad.sum(0)
        return (grad @ self.weight.value).reshape(self._shape)


def build(seed: int) -> list[Layer]:
    """Three convolutions and a matrix product, for 1x8x8 images and ten classes."""
    rng = np.random.default_rng(seed)
    return [
        Conv(rng, 1, 16),
        Relu(),
        Conv(rng, 16, 16),
        Relu(),
        MaxPool(),
        Conv(rng, 16, 32, stride=2),
        Relu(),
        Dense(rng, 32 * 2 * 2, 10),
    ]


def forward(layers: Sequence[Layer], images: np.ndarray) -> np.ndarray:
    """Logits [N, 10]."""
    for layer in layers:
        images = layer.forward(images)
    return images


def accuracy(layers: Sequence[Layer], images: np.ndarray, labels: np.ndarray) -> float:
    """Share of the images whose greatest logit is the label's."""
    return float(np.mean(forward(layers, images).argmax(1) == labels))


def _loss_gradient(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Gradient of the mean cross entropy by the logits."""
    exp = np.exp(logits - logits.max(1, keepdims=True))
    grad = exp / exp.sum(1, keepdims=True)
    grad[np.arange(len(labels)), labels] -= 1
    return grad / np.float32(len(labels))


def _adam(parameter: Parameter, rate: float, step: int) -> None:
    keep_mean, keep_square = 0.9, 0.999
    parameter.mean += (1 - keep_mean) * (parameter.grad - parameter.mean)
    parameter.square += (1 - keep_square) * (parameter.grad**2 - parameter.square)
    mean = parameter.mean / (1 - keep_mean**step)
    square = parameter.square / (1 - keep_square**step)
    parameter.value -= rate * mean / (np.sqrt(square) + 1e-8)


def _shifted(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The batch, moved by up to one pixel in each direction."""
    y, x = rng.integers(0, 2 * PAD + 1, 2)
    padded = np.pad(images, ((0, 0), (0, 0), (PAD, PAD), (PAD, PAD)))
    return padded[:, :, y : y + images.shape[2], x : x + images.shape[3]]


def train(
    layers: Sequence[Layer],
    images: np.ndarray,
    labels: np.ndarray,
    epochs: int,
    seed: int,
    batch: int = 32,
    rate: float = 2e-3,
) -> None:
    """Adam on the cross entropy, with a learning rate that falls to zero along a cosine."""
    rng = np.random.default_rng(seed)
    steps = epochs * (len(images) // batch)
    step = 0
    for _ in range(epochs):
        order = rng.permutation(len(images))
        for begin in range(0, len(images) - batch + 1, batch):
            step += 1
            chosen = order[begin : begin + batch]
            grad = _loss_gradient(forward(layers, _shifted(images[chosen], rng)), labels[chosen])
            for layer in reversed(layers):
                grad = layer.backward(grad)
            now = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
            for layer in layers:
                for parameter in layer.parameters:
                    _adam(parameter, now, step)
