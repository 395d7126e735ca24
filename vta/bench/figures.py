"""The figures of ``vta bench simulator``: what they are called, and the bounds that they keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]

VARIANTS: Mapping[str, str] = {
    "vnni": "AVX-512 with VNNI",
    "avx2": "AVX2, without VNNI",
    "generic": "no more than the architecture's baseline",
}
"""What VTA_CPU can be, and what the compiled functions may use then."""

INSTRUCTIONS, NETWORKS, PROCESSES = "Instructions", "Networks", "Start-up and memory"


@dataclass(frozen=True)
class Figure:
    """A figure by its key in the record; `scale` and `unit` are those that it is shown in.

    `bound` is the least good value, or the greatest if `is_limit`. `plain_bound` takes its place
    where VNNI is not used. Bounds are for server CPUs; none holds for the variant "generic".
    """

    key: str
    title: str
    section: str
    unit: str
    scale: float = 1.0
    bound: float | None = None
    plain_bound: float | None = None
    is_limit: bool = False

    def bound_of(self, isa: str) -> float | None:
        """The bound where the compiled functions use this much of the CPU."""
        if isa == "generic":
            return None
        if isa != "vnni" and self.plain_bound is not None:
            return self.plain_bound
        return self.bound

    def is_kept(self, value: float, isa: str) -> bool | None:
        """Whether a value is good, None without a bound."""
        bound = self.bound_of(isa)
        if bound is None:
            return None
        return value <= bound if self.is_limit else value >= bound


def _rate(
    key: str,
    title: str,
    unit: str,
    scale: float = 1.0,
    bound: float | None = None,
    plain_bound: float | None = None,
) -> Figure:
    return Figure(key, title, INSTRUCTIONS, unit, scale, bound, plain_bound)


def _limit(
    key: str, title: str, section: str, unit: str, bound: float, scale: float = 1.0
) -> Figure:
    return Figure(key, title, section, unit, scale, bound, is_limit=True)


_GIGA = 1e-9

FIGURES = (
    _rate("gemm_gmacs_per_s", "GEMM, convolution", "G MAC/s", bound=40, plain_bound=12),
    _rate("gemm_dense_gmacs_per_s", "GEMM, dense, weights loaded for one use", "G MAC/s"),
    _rate("alu_imm_glaneops_per_s", "ALU immediate, slowest below", "G lane-op/s", bound=4),
    _rate("alu_imm_add_glaneops_per_s", "- ADD", "G lane-op/s"),
    _rate("alu_imm_max_glaneops_per_s", "- MAX", "G lane-op/s"),
    _rate("alu_imm_shr_glaneops_per_s", "- SHR", "G lane-op/s"),
    _rate("alu_reg_glaneops_per_s", "ALU register, ADD, src changes", "G lane-op/s", bound=2),
    _rate("req_double_glaneops_per_s", "ALU REQ, double", "G lane-op/s"),
    _rate("req_float_glaneops_per_s", "ALU REQ, float", "G lane-op/s"),
    _rate("load_bytes_per_s", "LOAD, slowest below", "GB/s", _GIGA, bound=2e10),
    _rate("load_inp_bytes_per_s", "- INP", "GB/s", _GIGA),
    _rate("load_wgt_bytes_per_s", "- WGT", "GB/s", _GIGA),
    _rate("load_acc_bytes_per_s", "- ACC", "GB/s", _GIGA),
    _rate("store_bytes_per_s", "STORE", "GB/s", _GIGA, bound=1e10),
    _limit("resnet18_first_run_s", "ResNet-18, first run", NETWORKS, "s", 1.0),
    _limit("resnet18_s_per_image", "ResNet-18, every further image", NETWORKS, "s", 0.12),
    _limit("resnet18_timing_s", "ResNet-18, timing alone", NETWORKS, "s", 0.3),
    Figure("resnet8_images_per_s", "ResNet-8 on two cores", NETWORKS, "images/s", bound=1000),
    _limit("help_s", "vta --help", PROCESSES, "s", 0.3),
    _limit("tiny_run_s", "vta run of a tiny package", PROCESSES, "s", 1.0),
    _limit("resnet18_peak_bytes", "ResNet-18, peak of memory", PROCESSES, "MB", 400e6, 1e-6),
    Figure("kernels_cold_s", "compiled functions, empty cache", PROCESSES, "s", is_limit=True),
)

SLOWEST: Mapping[str, tuple[str, ...]] = {
    "alu_imm_glaneops_per_s": tuple(f"alu_imm_{op}_glaneops_per_s" for op in ("add", "max", "shr")),
    "load_bytes_per_s": tuple(f"load_{memory}_bytes_per_s" for memory in ("inp", "wgt", "acc")),
}
"""Figures that are the least of others."""

JOBS: Mapping[str, str] = {
    "gemm": "gemm_gmacs_per_s",
    "gemm_dense": "gemm_dense_gmacs_per_s",
    **{f"alu_imm_{op}": f"alu_imm_{op}_glaneops_per_s" for op in ("add", "max", "shr")},
    "alu_reg_add": "alu_reg_glaneops_per_s",
    **{f"req_{mode}": f"req_{mode}_glaneops_per_s" for mode in ("double", "float")},
    **{f"load_{memory}": f"load_{memory}_bytes_per_s" for memory in ("inp", "wgt", "acc")},
    "store": "store_bytes_per_s",
}
"""The figure that each program of `vta.bench.jobs` gives."""

_NO_PLAIN_C = "there is no form of it in plain C"


@dataclass
class Variant:
    """The figures of one variant of the compiled functions, by key.

    Bounds are those of the configuration `default`; others have none, nor has a quick measurement.
    `missing` has the reasons for figures that are absent, `no_ratio` for those without a ratio to
    the baseline.
    """

    isa: str
    has_bounds: bool = True
    is_quick: bool = False
    figures: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    no_ratio: dict[str, str] = field(default_factory=dict)
    details: Record = field(default_factory=dict)

    def put(self, key: str, value: float, ratio: float | None, reason: str | None) -> None:
        """A figure, with its ratio or the reason why there is none."""
        self.figures[key] = value
        if ratio is None:
            self.no_ratio[key] = reason or _NO_PLAIN_C
        else:
            self.ratios[key] = ratio

    def bound(self, figure: Figure) -> float | None:
        """The bound of a figure here."""
        return figure.bound_of(self.isa) if self.has_bounds else None

    def is_kept(self, figure: Figure) -> bool | None:
        """Whether a figure keeps its bound; None if it is missing or has none."""
        if figure.key not in self.figures or not self.has_bounds:
            return None
        return figure.is_kept(self.figures[figure.key], self.isa)

    def record(self) -> Record:
        """As in the JSON: every figure of `FIGURES`, null if it is missing."""
        return {
            "isa": self.isa,
            "vnni": self.isa == "vnni",
            **{figure.key: self.figures.get(figure.key) for figure in FIGURES},
            "ratios": {figure.key: self.ratios.get(figure.key) for figure in FIGURES},
            "bounds": {figure.key: self.bound(figure) for figure in FIGURES},
            "kept": {figure.key: self.is_kept(figure) for figure in FIGURES},
            "missing": self.missing,
            "no_ratio": self.no_ratio,
            **self.details,
        }
