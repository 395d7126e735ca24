"""The machines that host code can be made for: little-endian CPUs under Linux."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.errors import LoweringError


@dataclass(frozen=True)
class HostTarget:
    """An architecture: its usual triple, and what LLVM must be told beyond the triple.

    `environments` are the C libraries, and with them the calling conventions, of its triples.
    """

    triple: str
    environments: tuple[str, ...]
    features: str = ""
    abi: str = ""


_LIBRARIES = ("gnu", "musl")
_ARM = HostTarget("armv7-unknown-linux-gnueabihf", ("gnueabihf", "musleabihf"))

HOST_TARGETS = {
    "x86_64": HostTarget("x86_64-unknown-linux-gnu", _LIBRARIES),
    "aarch64": HostTarget("aarch64-unknown-linux-gnu", _LIBRARIES),
    "armv7": _ARM,
    "armv7a": _ARM,
    "armv7l": _ARM,
    # LLVM's own default has no multiplication and cannot be linked with anything else.
    "riscv64": HostTarget("riscv64-unknown-linux-gnu", _LIBRARIES, "+m,+a,+f,+d,+c", "lp64d"),
}
"""By the triple's first part."""


def supported_triples() -> tuple[str, ...]:
    """One triple of each architecture."""
    return tuple(dict.fromkeys(target.triple for target in HOST_TARGETS.values()))


def find_host_target(triple: str) -> tuple[str, HostTarget]:
    """The triple with all four parts, and what is known of it; others are refused."""
    parts = triple.split("-")
    if len(parts) == 3:
        # Read by position: without a vendor LLVM would overlook the environment.
        parts.insert(1, "unknown")
    target = HOST_TARGETS.get(parts[0])
    if (
        target is None
        or parts[2:3] != ["linux"]
        or parts[3:] not in ([environment] for environment in target.environments)
    ):
        raise LoweringError(
            f"host code cannot be made for the triple {triple!r}; use one of "
            f"{', '.join(supported_triples())}"
        )
    return "-".join(parts), target
