"""Errors of the compiler, one class per level."""

from vta_hw.spec.errors import VtaKitError


class FrontendError(VtaKitError):
    """A model file that cannot be read, or holds what no part of the kit supports."""


class GraphError(VtaKitError):
    """A graph that breaks the rules of its operators (shapes, types, quantisation)."""


class ScheduleError(VtaKitError):
    """A schedule primitive applied where it cannot be."""


class LoweringError(VtaKitError):
    """A loop nest that a pass cannot turn into what it was asked to."""


class CapacityError(LoweringError):
    """A buffer that does not fit its scratchpad."""


class TuningError(VtaKitError):
    """A search, or its log, that cannot be used so."""
