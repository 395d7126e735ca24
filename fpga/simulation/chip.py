"""The SDRAM chip of the native simulations: what `sdram.h` is told about a part."""

from __future__ import annotations

import ctypes

from vta_hw.spec.sdram import INITIAL_REFRESHES, REFRESHES_OWED_MAX, SdramPart


class ChipOptions(ctypes.Structure):
    """`ChipOptions` of sdram.h, field by field."""

    _fields_ = (
        ("period_ps", ctypes.c_uint64),
        ("power_up_ps", ctypes.c_uint64),
        ("ras_max_ps", ctypes.c_uint64),
        ("refresh_ps", ctypes.c_uint64),
        ("rcd_ps", ctypes.c_uint32),
        ("rp_ps", ctypes.c_uint32),
        ("ras_ps", ctypes.c_uint32),
        ("rc_ps", ctypes.c_uint32),
        ("rrd_clocks", ctypes.c_uint32),
        ("wr_clocks", ctypes.c_uint32),
        ("mode_clocks", ctypes.c_uint32),
        ("cas_clocks", ctypes.c_uint32),
        ("bank_bits", ctypes.c_uint32),
        ("row_bits", ctypes.c_uint32),
        ("column_bits", ctypes.c_uint32),
        ("initial_refreshes", ctypes.c_uint32),
        ("postponed_max", ctypes.c_uint32),
        ("seed", ctypes.c_uint32),
    )


def chip_options(part: SdramPart, clock_hz: int, seed: int) -> ChipOptions:
    """What the chip checks, in picoseconds; none of it comes from the controller's cycles."""
    return ChipOptions(
        period_ps=10**12 // clock_hz,
        power_up_ps=part.power_up_us * 10**6,
        ras_max_ps=part.ras_max_ns * 1000,
        refresh_ps=part.refresh_ms * 10**9 // part.refreshes,
        rcd_ps=part.rcd_ns * 1000,
        rp_ps=part.rp_ns * 1000,
        ras_ps=part.ras_ns * 1000,
        rc_ps=part.rc_ns * 1000,
        rrd_clocks=part.rrd_clocks,
        wr_clocks=part.wr_clocks,
        mode_clocks=part.mode_clocks,
        cas_clocks=part.cas_clocks,
        bank_bits=part.bank_bits,
        row_bits=part.row_bits,
        column_bits=part.column_bits,
        initial_refreshes=INITIAL_REFRESHES,
        postponed_max=REFRESHES_OWED_MAX + 1,
        seed=seed,
    )
