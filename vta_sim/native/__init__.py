"""The simulators' compiled engines: what `vta_sim.functional` and `vta_sim.cycle` say, but fast.

In order of reading: `table` (instructions as rows of numbers), `machine` and `legality` (what is
refused), `flow` (who goes when, without a clock), `plan` and `gemm_plan` (what is worked out once
per program), `transfers`, `alu`, `requant`, `gemm` (the arithmetic), `functional` (a run).
"""
