"""A small language of compiled functions: typed Python, translated to LLVM IR.

The simulators' inner loops are written in it. A function of the language is an ordinary Python
function with types that `vta_sim.lang.kinds` has; it is read from its source, never run by Python.

What there is: integers, floats and booleans of fixed width, vectors of them, pointers to arrays,
structures; assignments, ``if``, ``while``, ``for .. in range(..)``, ``return``, calls. Integers as
scalars are computed in 64 bits (`u64` stays unsigned) and cut to what they are stored in, as in C.
``//`` and ``%`` are those of C. Names of the surrounding module that hold integers are constants,
and an ``if`` on a constant keeps only the branch taken.
"""
