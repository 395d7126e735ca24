"""How a core uses the blocks of an FPGA: choices that no program and no cycle can tell.

A `Fabric` is what Amaranth passes down as the platform. Without one, every product is written as
one multiplication, and every memory is left to the synthesis tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

IN_BLOCKS: Mapping[str, str] = {"ram_style": "block"}
"""Attribute of a memory in block RAM; Yosys and Vivado read it alike."""

IN_LUTS: Mapping[str, str] = {"ram_style": "distributed"}
"""Attribute of one in LUT RAM."""

LUT_MEMORIES = ("load_queue", "compute_queue", "store_queue")
"""Memories that can become LUT RAM: the stages' command queues."""


@dataclass(frozen=True)
class Fabric:
    """What is made of what.

    Parameters
    ----------
    wide_multipliers
        Multipliers have 25 x 18 bits at least, signed, with an adder before and one behind, as
        DSP48E1 and DSP48E2 do: two products of the MAC array that share an activation come out of
        one, and MUL of the ALU takes two instead of three (with `requant`, four as without).
    nine_bit_lanes
        Block RAM has four write enables for 36 bits. Of a memory that is written in parts, as many
        bits of each part as fill such lanes of 9 bits are in block RAM, what is left over (of 64
        bits, one) in LUT RAM; else lanes would be left half empty.
    lut_memories
        Those of `LUT_MEMORIES` that become LUT RAM, whatever their size.
    """

    wide_multipliers: bool = False
    nine_bit_lanes: bool = False
    lut_memories: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        """A text that tells this fabric from others."""
        memories = ",".join(sorted(self.lut_memories))
        flags = f"{self.wide_multipliers:d} {self.nine_bit_lanes:d}"
        return f"fabric {flags} {memories}"

    def memory_attributes(self, name: str) -> Mapping[str, str]:
        """The attributes that the memory `name` of `LUT_MEMORIES` is to have."""
        return IN_LUTS if name in self.lut_memories else {}


PLAIN = Fabric()
"""What is the same for every FPGA."""


def fabric_of(platform: object) -> Fabric:
    """The fabric that a component is elaborated for."""
    return platform if isinstance(platform, Fabric) else PLAIN
