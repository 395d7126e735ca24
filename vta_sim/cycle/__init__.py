"""The cycle simulator: ``docs/timing.md``, rule by rule."""

from vta_sim.cycle.simulate import simulate

__all__ = ["simulate"]
