"""The compiled timing engine: ``docs/timing.md`` once more, in the language of `vta_sim.lang`.

It says when things happen and computes nothing. `vta_sim.cycle` is the readable form; file by file
the two are alike. Equal cycles on every program is what the tests hold.
"""
