"""Small random kernels with what they must compute, for the tests of the compiler's core.

Expected results are plain numpy on logical arrays, from the definition of each operator.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from compiler.graph import numerics
from compiler.loop.interp import run
from compiler.loop.nodes import Func
from compiler.passes.allocate_sram import allocate_sram
from compiler.passes.assign_scopes import assign_scopes
from compiler.passes.emit_tasks import emit_tasks
from compiler.passes.inject_alu import inject_alu
from compiler.passes.inject_dma import inject_dma
from compiler.passes.lower_schedule import lower_schedule
from compiler.passes.lower_virtual_threads import lower_virtual_threads
from compiler.passes.reuse_in_place import reuse_in_place
from compiler.passes.tensorize import tensorize
from compiler.topi.conv2d import Conv2d, conv2d
from compiler.topi.conv2d_tiling import ConvTiling
from compiler.topi.elementwise import elementwise
from compiler.topi.kernel import KernelTemplate, Packed
from compiler.topi.pool import Pool, pool2d
from compiler.topi.requant import Requant
from compiler.topi.steps import Add, Clip, Scale, Step
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Rounding

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Kernel:
    """A scheduled kernel, its packed inputs and constants, and the logical output it must give."""

    label: str
    config: VtaConfig
    template: KernelTemplate
    inputs: Mapping[str, Array]
    expected: Array

    def arrays(self) -> dict[str, Array]:
        """Fresh arguments for the interpreter; the output is full of a value that stands out."""
        out = self.template.params[-1]
        given = {**self.inputs, **self.template.constants}
        return {
            **{k: v.copy() for k, v in given.items()},
            out.name: np.full(out.shape, 99, np.int8),
        }

    def logical(self, packed: Array) -> Array:
        """Output elements that the operator defines: [n, c, h, w] without padding to blocks."""
        n, c, h, w = self.expected.shape
        batch, block = self.config.batch, self.config.block_out
        x = packed.reshape(-1, -(-c // block), h, w, batch, block)
        x = x.transpose(0, 4, 1, 5, 2, 3)
        return x.reshape(x.shape[0] * batch, -1, h, w)[:n, :c]


STEPS: tuple[str, ...] = (
    "lower_schedule",
    "assign_scopes",
    "tensorize",
    "reuse_in_place",
    "inject_dma",
    "inject_alu",
    "lower_virtual_threads",
    "emit_tasks",
)
"""The passes of the pipeline that give a function, in order."""


def apply_step(step: str, func: Func, config: VtaConfig) -> Func:
    """One pass after `lower_schedule`."""
    passes: Mapping[str, Callable[[], Func]] = {
        "assign_scopes": lambda: assign_scopes(func, config),
        "tensorize": lambda: tensorize(func),
        "reuse_in_place": lambda: reuse_in_place(func),
        "inject_dma": lambda: inject_dma(func),
        "inject_alu": lambda: inject_alu(func, config),
        "lower_virtual_threads": lambda: lower_virtual_threads(func),
        "emit_tasks": lambda: emit_tasks(func, allocate_sram(func, config), config),
    }
    return passes[step]()


def after(kernel: Kernel, step: str) -> Func:
    """The kernel's function as `step` leaves it."""
    template = kernel.template
    func = lower_schedule(template.schedule, template.params, "kernel")
    for name in STEPS[1 : STEPS.index(step) + 1]:
        func = apply_step(name, func, kernel.config)
    return func


def before(kernel: Kernel, step: str) -> Func:
    """The kernel's function as `step` gets it."""
    return after(kernel, STEPS[STEPS.index(step) - 1])


def result(func: Func, kernel: Kernel) -> Array:
    """The whole packed output that the interpreter computes."""
    arrays = kernel.arrays()
    run(func, arrays, kernel.config)
    return arrays[kernel.template.params[-1].name]


def pack(x: Array, config: VtaConfig, rng: np.random.Generator) -> Array:
    """[n, c, h, w] -> packed; elements beyond n and c are random, they must not matter."""
    n, c, h, w = x.shape
    batch, block = config.batch, config.block_out
    nb, cb = -(-n // batch), -(-c // block)
    full = rng.integers(-128, 128, (nb * batch, cb * block, h, w)).astype(np.int8)
    full[:n, :c] = x
    blocks = full.reshape(nb, batch, cb, block, h, w).transpose(0, 2, 4, 5, 1, 3)
    return np.ascontiguousarray(blocks)


def windows(x: Array, kernel: tuple[int, int], strides: tuple[int, int]) -> Array:
    """[n, c, oh, ow, kh, kw] of an already padded image."""
    views = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))
    return views[:, :, :: strides[0], :: strides[1]]


def padded(x: Array, pads: tuple[int, int, int, int], value: int) -> Array:
    """An image with `value` around it; pads = (top, left, bottom, right)."""
    top, left, bottom, right = pads
    wide = ((0, 0), (0, 0), (top, bottom), (left, right))
    return np.pad(x.astype(np.int64), wide, constant_values=value)


def requantised(acc: Array, requant: Requant) -> Array:
    """int8 of accumulators [n, c, h, w], by channel."""
    acc = numerics.wrap_int32(acc)

    def by_channel(values: Array) -> Array:
        return np.broadcast_to(values, (acc.shape[1],))[:, None, None]

    multiplier, left = by_channel(requant.multiplier), by_channel(requant.left)
    if requant.mode is Rounding.FLOAT:
        scaled = numerics.scale_float(acc, multiplier)
    elif requant.mode is Rounding.SINGLE:
        scaled = numerics.scale_single(acc, multiplier, left, by_channel(requant.right))
    else:
        scaled = numerics.scale_double(acc, multiplier, left, by_channel(requant.right))
    moved = scaled + requant.zero_point
    return np.clip(moved, requant.clamp_min, requant.clamp_max).astype(np.int8)


def random_requant(rng: np.random.Generator, channels: int, spread: float) -> Requant:
    """Factors that bring accumulators of about `spread` into the int8 range."""
    mode = Rounding(int(rng.integers(3)))
    factor = rng.uniform(20, 90, channels) / spread
    parts = [numerics.quantize_multiplier(float(f)) for f in factor]
    multiplier = np.array([p.multiplier for p in parts])
    left, right = np.array([p.left for p in parts]), np.array([p.right for p in parts])
    if mode is Rounding.FLOAT:
        multiplier = factor.astype(np.float32)
        left = right = np.zeros(channels, np.int64)
    low, high = sorted(int(v) for v in rng.choice(np.arange(-128, 128), 2, replace=False))
    if rng.random() < 0.5:
        low, high = -128, 127
    return Requant(mode, multiplier, left, right, int(rng.integers(-20, 20)), low, high)


ZERO_POINTS = {"zero": 0, "min": -128, "other": 3}
"""The three ways of padding a convolution: by zeros, by the least value, by border classes."""


def random_conv(
    rng: np.random.Generator,
    config: VtaConfig,
    zero_point: int,
    tiling: ConvTiling | None = None,
    **fixed: Any,
) -> Kernel:
    """A convolution of a few blocks; `fixed` pins n, ci, co, h, w, kernel, strides, pads."""
    block = config.block_out
    kernel = fixed.get("kernel") or tuple(int(v) for v in rng.integers(1, 4, 2))
    strides = fixed.get("strides") or tuple(int(v) for v in rng.integers(1, 3, 2))
    pads = fixed.get("pads") or tuple(int(rng.integers(0, kernel[axis % 2])) for axis in range(4))
    h = fixed.get("h") or int(rng.integers(kernel[0], kernel[0] + 3))
    w = fixed.get("w") or int(rng.integers(kernel[1], kernel[1] + 3))
    n = fixed.get("n") or int(rng.integers(1, config.batch + 1))
    ci = fixed.get("ci") or int(rng.integers(1, 2 * block + 1))
    co = fixed.get("co") or int(rng.integers(1, 2 * block + 1))
    x = rng.integers(-128, 128, (n, ci, h, w)).astype(np.int8)
    weights = rng.integers(-127, 128, (co, ci, *kernel)).astype(np.int8)
    bias = rng.integers(-3000, 3000, co)
    image = padded(x, pads, zero_point) - zero_point
    views = windows(image, kernel, strides)
    acc = np.einsum("nchwyx,ocyx->nohw", views, weights.astype(np.int64)) + bias[:, None, None]
    requant = random_requant(rng, co, 128 * 74 * float(ci * kernel[0] * kernel[1]) ** 0.5)
    oh, ow = acc.shape[2:]
    data, out = Packed("x", n, ci, h, w), Packed("y", n, co, oh, ow)
    spec = Conv2d(data, out, weights, bias, strides, pads, zero_point, requant)
    template = conv2d("conv", spec, config, tiling)
    label = f"conv {x.shape} * {weights.shape}, strides {strides}, pads {pads}, zero {zero_point}"
    expected = requantised(acc, requant)
    return Kernel(label, config, template, {"x": pack(x, config, rng)}, expected)


def random_pool(rng: np.random.Generator, config: VtaConfig, is_max: bool, **fixed: Any) -> Kernel:
    """Max or average pooling; padding does not count in averages unless drawn so."""
    block = config.block_out
    kernel = fixed.get("kernel") or tuple(int(v) for v in rng.integers(1, 4, 2))
    strides = fixed.get("strides") or tuple(int(v) for v in rng.integers(1, 3, 2))
    pads = fixed.get("pads") or tuple(int(rng.integers(0, kernel[axis % 2])) for axis in range(4))
    h = fixed.get("h") or int(rng.integers(kernel[0], kernel[0] + 4))
    w = fixed.get("w") or int(rng.integers(kernel[1], kernel[1] + 4))
    c = fixed.get("c") or int(rng.integers(1, 2 * block + 1))
    counted = bool(rng.integers(2)) and not is_max
    low, high = (-128, 127) if rng.random() < 0.5 else (-60, 70)
    x = rng.integers(-128, 128, (1, c, h, w)).astype(np.int8)
    if is_max:
        views = windows(padded(x, pads, -128), kernel, strides)
        value = views.max(axis=(4, 5))
    else:
        ones = padded(np.ones((1, 1, h, w)), pads, int(counted))
        count = windows(ones, kernel, strides).sum(axis=(4, 5))
        total = windows(padded(x, pads, 0), kernel, strides).sum(axis=(4, 5))
        value = np.sign(total) * ((2 * np.abs(total) + count) // (2 * count))
    oh, ow = value.shape[2:]
    data, out = Packed("x", 1, c, h, w), Packed("y", 1, c, oh, ow)
    spec = Pool(data, out, kernel, strides, pads, is_max, counted, low, high)
    kind = "max" if is_max else "average"
    label = f"{kind} pool {x.shape}, window {kernel}, strides {strides}, pads {pads}"
    expected = np.clip(value, low, high).astype(np.int8)
    template = pool2d("pool", spec, config)
    return Kernel(label, config, template, {"x": pack(x, config, rng)}, expected)


def random_add(rng: np.random.Generator, config: VtaConfig, **fixed: Any) -> Kernel:
    """relu(a + b), both operands with zero points of their own."""
    shape = fixed.get("shape") or (
        int(rng.integers(1, config.batch + 1)),
        int(rng.integers(1, 2 * config.block_out + 1)),
        int(rng.integers(1, 4)),
        int(rng.integers(1, 4)),
    )
    a, b = (rng.integers(-128, 128, shape).astype(np.int8) for _ in range(2))
    zeros = (int(rng.integers(-9, 9)), int(rng.integers(-9, 9)))
    parts = [numerics.quantize_multiplier(float(rng.uniform(0.2, 1))) for _ in range(2)]
    scales = (Scale(*parts[0]), Scale(*parts[1]))
    last = numerics.quantize_multiplier(float(rng.uniform(0.3, 1.2)) / (1 << 20))
    one = [np.array([value]) for value in last]
    requant = Requant(Rounding.DOUBLE, one[0], one[1], one[2], int(rng.integers(-9, 9)))
    total = np.zeros(shape, np.int64)
    for x, zero, part in zip((a, b), zeros, parts, strict=True):
        total += numerics.scale_double((x.astype(np.int64) - zero) << 20, *part)
    expected = np.clip(requantised(total, requant), -40, 90)
    out = Packed("y", *shape)
    steps: list[Step] = [Add("a", "b", zeros, 20, scales, requant), Clip(0, -40, 90)]
    template = elementwise("add", out, steps, ["a", "b"], config)
    flat = template.params[0].shape
    inputs = {k: pack(x, config, rng).reshape(flat) for k, x in (("a", a), ("b", b))}
    return Kernel(f"add {shape}", config, template, inputs, expected)


CONFIGS = ("tiny", "mac64", "batch4")
_KINDS: Mapping[str, Callable[[np.random.Generator, VtaConfig], Kernel]] = {
    "conv_zero": lambda rng, config: random_conv(rng, config, ZERO_POINTS["zero"]),
    "conv_min": lambda rng, config: random_conv(rng, config, ZERO_POINTS["min"]),
    "conv_other": lambda rng, config: random_conv(rng, config, ZERO_POINTS["other"]),
    "dense": lambda rng, config: random_conv(
        rng, config, -7, kernel=(1, 1), strides=(1, 1), pads=(0, 0, 0, 0), h=1, w=1
    ),
    "max_pool": lambda rng, config: random_pool(rng, config, True),
    "average_pool": lambda rng, config: random_pool(rng, config, False),
    "add": random_add,
}
KERNELS = tuple(f"{config}-{kind}" for config in CONFIGS for kind in _KINDS)
"""Names for `random_kernel`."""


@cache
def random_kernel(name: str, seed: int) -> Kernel:
    """One of `KERNELS`; the same for the same seed."""
    config, _, kind = name.partition("-")
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return _KINDS[kind](rng, VtaConfig.load(config))


def _example(kind: str) -> Kernel:
    rng, config = np.random.default_rng(0), VtaConfig.load("tiny")
    match kind:
        case "conv":
            tiling = ConvTiling(co=1, ci=1, h=2, w=4, co_threads=2)
            same = {"kernel": (3, 3), "strides": (1, 1), "pads": (1, 1, 1, 1), "h": 4, "w": 4}
            return random_conv(rng, config, -128, tiling, ci=8, co=8, **same)
        case "borders":
            tiling = ConvTiling(co=1, ci=1, h=3, w=3)
            same = {"kernel": (3, 1), "strides": (1, 1), "pads": (1, 0, 1, 0), "h": 3, "w": 3}
            return random_conv(rng, config, 3, tiling, ci=4, co=4, **same)
        case "max_pool" | "average_pool":
            window = {"kernel": (2, 2), "strides": (2, 2), "pads": (1, 0, 0, 1), "h": 3, "w": 3}
            return random_pool(rng, config, kind == "max_pool", c=4, **window)
        case "add":
            return random_add(rng, config, shape=(1, 4, 2, 2))
    raise AssertionError(kind)


EXAMPLES = ("conv", "borders", "max_pool", "average_pool", "add")


@cache
def example(kind: str) -> Kernel:
    """One of `EXAMPLES`: always the same, small enough for golden text."""
    return _example(kind)
