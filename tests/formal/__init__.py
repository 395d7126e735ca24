"""Bounded formal checks of hardware units: properties that hold for every input up to some cycle.

Each file wraps one unit into a `proof.Proof`: a model of what it must do, assumptions on the unit's
surroundings, and named properties. `proof.check` hands that to SymbiYosys, which looks for any
inputs that break a property in the first `depth` cycles after reset (mode ``bmc``), or for inputs
that reach a named situation (mode ``cover``: the assumptions leave room for what matters). Where
the outputs show enough of the state, properties are proved by induction too, for ever (``prove``).

Bounds are chosen so that queues fill, run empty and wrap around, and limits are met: units are
built with the least sizes that the config allows. What is beyond the bound is up to the random
tests in tests/rtl, which run the same units for many thousands of cycles.

That a property can fail is shown as well. Each file has faults (a unit built with a wrong size,
or one that sees its inputs changed, or whose outputs are changed on the way) and the property that
must be refuted under each.

The extra 'formal' has the tools; without them these tests are skipped. On a failure the message
names the property and a folder with a waveform that breaks it.
"""
