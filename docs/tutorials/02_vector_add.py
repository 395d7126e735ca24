"""Tutorial 2: add two vectors, and see where every byte goes.

Run it from anywhere: `python docs/tutorials/02_vector_add.py`. Tutorial 1 compiled a whole network;
from here on we write the computation ourselves, in the language that the compiler uses inside.
"""

import numpy as np

import vta
from compiler.loop.printer import to_text
from vta import te

# 1. What the machine can add
# ---------------------------
# VTA computes nothing in DRAM. It has four memories on the chip, and a program moves data between
# them and DRAM explicitly:
#
#   inp   int8 activations, read by the matrix unit (GEMM)
#   wgt   int8 weights, read by GEMM
#   acc   int32 accumulators, written by GEMM, read and written by the vector unit (ALU)
#   uop   micro-ops, the indices that GEMM and ALU work on; the compiler looks after them
#
# Nothing is addressed by the byte: the smallest thing in `acc` is one element, BATCH x BLOCK_OUT
# int32 numbers, and the ALU works on a whole element per step. So a vector is stored as elements:

config = vta.config("default")
COUNT, BATCH, BLOCK = 64, config.batch, config.block_out
SHAPE = (COUNT, BATCH, BLOCK)
print(f"a vector of {COUNT * BATCH * BLOCK} numbers is {COUNT} elements of {BATCH} x {BLOCK}")

# 2. What is computed
# -------------------
# A tensor expression says what each element of a tensor is, and nothing about how to get there.
# The result goes back to DRAM through the store unit, which keeps the low 8 bits of each number.

x = te.placeholder(SHAPE, "int32", "x")
y = te.placeholder(SHAPE, "int32", "y")
total = te.compute(SHAPE, lambda i, b, o: x(i, b, o) + y(i, b, o), "total")
out = te.compute(SHAPE, lambda i, b, o: total(i, b, o).astype("int8"), "out")

# 3. How: the default
# -------------------
# A schedule says in which order, and where the data is. The default computes one tensor after the
# other, all of them in DRAM. `lower` shows the loop nest that a schedule stands for; loops that run
# once (here over the batch) are left out.

schedule = te.Schedule(out)
print()
print(to_text(vta.lower(schedule, (x, y, out), "default")))

# VTA cannot run this: the addition happens in DRAM. The compiler says so, and what to do.

try:
    vta.build(schedule, (x, y, out), config)
except vta.VtaKitError as error:
    print(f"refused: {error}")
else:
    raise SystemExit("an addition in DRAM should not have been accepted")

# 4. Caches and scopes
# --------------------
# `cache_read` puts a copy between a tensor and its reader: here x and y get a copy in the memory
# `acc`, which the ALU reads. `set_scope` moves a tensor that is computed: the sum is to be in `acc`
# as well. What crosses between DRAM and the chip becomes a transfer (DMA).

s = te.Schedule(out)
x_acc = s.cache_read(x, "acc", [total])
y_acc = s.cache_read(y, "acc", [total])
s[total].set_scope("acc")
print()
print(to_text(vta.lower(s, (x, y, out), "cached")))

# The ALU overwrites its first operand, so the sum needs no memory of its own: the compiler lets
# `total` and the copy of x share. This whole vector fits the chip, and the program is six
# instructions long: three loads (one of them for the compiler's micro-op), one addition, one store,
# and `finish`.

program = vta.build(s, (x, y, out), config, "whole")
print(vta.disassemble(program))

# `push_next` and `pop_prev` are how the parts of the machine wait for each other. Loading inputs
# and weights, computing, and storing are three stages; each has its own queue of instructions and
# runs ahead as far as it can. An instruction that must wait for another stage pops a token which
# that stage pushes. Here the addition (compute stage; it loads `acc` itself) pushes one, and the
# store waits for it. Nobody has written these tokens: the compiler finds every conflict.

# 5. Tiles
# --------
# Real vectors do not fit. `split` cuts the loop over elements into tiles, and `compute_at` moves
# the copies and the addition into the loop over tiles: only what one tile needs is loaded, and the
# buffers shrink to eight elements.

TILE = 8


def tiled(threads: int) -> te.Schedule:
    """Tiles of eight elements, taken by some number of virtual threads in turn."""
    s = te.Schedule(out)
    x_acc = s.cache_read(x, "acc", [total])
    y_acc = s.cache_read(y, "acc", [total])
    s[total].set_scope("acc")
    i, _, _ = s[out].axes
    tile, _ = s[out].split(i, TILE)
    _, thread = s[out].split(tile, threads)
    if threads > 1:
        s[out].vthread(thread)
    for stage in (x_acc, y_acc, total):
        s[stage].compute_at(s[out], thread)
    return s


print(to_text(vta.lower(tiled(1), (x, y, out), "tiled")))
one = vta.build(tiled(1), (x, y, out), config, "tiled")
print("\n".join(vta.disassemble(one).splitlines()[:20]))

# 6. Two virtual threads
# ----------------------
# There is one set of buffers now, and the machine must wait: the next tile cannot be loaded before
# the store has read the last one. In the listing above each load of x waits (`pop_next`) for the
# store before it.
#
# `vthread` runs iterations of a loop side by side. They are not threads of a processor: the
# compiler gives each its own buffers and interleaves their instructions, so that one thread's tile
# is stored while the other one's is loaded and added.

print()
print(to_text(vta.lower(tiled(2), (x, y, out), "threads")))
two = vta.build(tiled(2), (x, y, out), config, "threads")
print("\n".join(vta.disassemble(two).splitlines()[:28]))

# Look at the addresses: the sums of thread 0 are in `acc` from 0, those of thread 1 from 8
# (`sram=0x8`). And at the tokens: the load of the third tile still waits for a store, but for that
# of the first tile, which has begun one tile earlier.

# 7. The same numbers
# -------------------
# Parameters are numpy arrays, by name. The functional simulator is exact to the bit.

rng = np.random.default_rng(0)
arrays: dict[str, np.ndarray] = {
    "x": rng.integers(-60, 60, SHAPE).astype(np.int32),
    "y": rng.integers(-60, 60, SHAPE).astype(np.int32),
    "out": np.zeros(SHAPE, np.int8),
}
expected = (arrays["x"] + arrays["y"]).astype(np.int8)
print()
print("variant     instructions   bytes loaded   bytes stored")
for name, built in (("whole", program), ("tiled", one), ("threads", two)):
    run = vta.run_program(built, arrays)
    assert run.result.status.value == "ok", run.result
    assert np.array_equal(run.arrays["out"], expected), name
    counters = run.result.counters
    print(
        f"{name:10}{run.result.instructions:14}{counters['load_acc_bytes']:15,}"
        f"{counters['store_out_bytes']:15,}"
    )

# All three move the same bytes. What differs is how long the machine stands still, and how much
# memory on the chip it takes: 128 elements, 16, and 32.
