"""Tutorial 3: a matrix multiplication, from five plain loops to full tiles.

Run it from anywhere: `python docs/tutorials/03_matmul.py`. One primitive at a time, with the loop
nest after each; after every step the interpreter executes the nest and gets the same matrix.
"""

import numpy as np

import vta
from compiler.loop.interp import run
from compiler.loop.printer import to_text
from compiler.topi.gemm_intrin import gemm_intrin
from vta import te

# 1. The matrices
# ---------------
# GEMM multiplies blocks: one step takes BATCH x BLOCK_IN activations and BLOCK_OUT x BLOCK_IN
# weights, both int8, and adds their product to BATCH x BLOCK_OUT accumulators. A matrix is stored
# as blocks, so that each of them is contiguous. Here x is 4 x 32, w is 32 x 32 (transposed: rows
# are outputs), in blocks of 1 x 8 and 8 x 8.

config = vta.config("mac64")
BATCH, IN, OUT = config.batch, config.block_in, config.block_out
ROWS, DEPTH, COLUMNS = 4, 4, 4

x = te.placeholder((ROWS, DEPTH, BATCH, IN), "int8", "x")
w = te.placeholder((COLUMNS, DEPTH, OUT, IN), "int8", "w")
k, c = te.reduce_axis(DEPTH, "k"), te.reduce_axis(IN, "c")


def product(m: te.Var, n: te.Var, b: te.Var, o: te.Var) -> te.Expr:
    """Sum over all blocks k and all lanes c within a block."""
    left, right = x(m, k.var, b, c.var), w(n, k.var, o, c.var)
    return te.sum(left.astype("int32") * right.astype("int32"), [k, c])


SHAPE = (ROWS, COLUMNS, BATCH, OUT)
acc = te.compute(SHAPE, product, "acc")
y = te.compute(SHAPE, lambda m, n, b, o: acc(m, n, b, o).astype("int8"), "y")
PARAMS = (x, w, y)

rng = np.random.default_rng(0)
X = rng.integers(-8, 8, x.shape).astype(np.int8)
W = rng.integers(-8, 8, w.shape).astype(np.int8)
EXPECTED = np.einsum("mkbc,nkoc->mnbo", X.astype(np.int32), W.astype(np.int32)).astype(np.int8)


def show(schedule: te.Schedule, title: str) -> None:
    """Print the loop nest, and let the interpreter check it."""
    func = vta.lower(schedule, PARAMS, title)
    print()
    print(to_text(func))
    arrays = {"x": X, "w": W, "y": np.zeros(SHAPE, np.int8)}
    run(func, arrays)
    assert np.array_equal(arrays["y"], EXPECTED), title


# 2. The default
# --------------
# Two stages: `acc`, with the reduction, and `y`, which narrows to 8 bits. The loop over the batch
# runs once and is left out.

s = te.Schedule(y)
show(s, "default")

# 3. tile
# -------
# We compute y in tiles of 2 rows and 2 blocks of columns. `tile` is two splits and a reorder: the
# loops over tiles (`.o`) go outside, those within a tile (`.i`) inside. What is computed stays the
# same, only the order of the last stage has changed.

m, n, b, o = s[y].axes
m_o, n_o, m_i, n_i = s[y].tile(m, n, 2, 2)
show(s, "tiled")

# 4. compute_at
# -------------
# So far all of `acc` is computed before the first tile. `compute_at` moves the computation into the
# loop over tiles. The compiler works out which part of `acc` a tile reads, and computes that:
# the buffer shrinks from [4, 4, 1, 8] to [2, 2, 1, 8].

s[acc].compute_at(s[y], n_o)
show(s, "attached")

# 5. split
# --------
# The reduction gets a tile too: two blocks of k at a time.

k_o, k_i = s[acc].split(k, 2)
show(s, "split")

# 6. reorder
# ----------
# The three loops of one GEMM step (b, o, c) go innermost. A start value is set before the outermost
# loop of a reduction: with k outside, the accumulators of the whole tile are zeroed first, then
# summed up block by block.

m, n, b, o = s[acc].axes
s[acc].reorder(k_o, k_i, m, n, b, o, c)
show(s, "reordered")

# 7. cache_read
# -------------
# GEMM reads activations from the memory `inp` and weights from `wgt`. `cache_read` makes a copy
# there. The copies still hold whole matrices, loaded before everything else.

x_inp = s.cache_read(x, "inp", [acc])
w_wgt = s.cache_read(w, "wgt", [acc])
show(s, "cached")

# 8. set_scope
# ------------
# The accumulators live in `acc`.

s[acc].set_scope("acc")
show(s, "scoped")

# 9. tensorize
# ------------
# The loops from b inwards are what GEMM does in one step. `gemm_intrin` declares the meaning of
# that step, as a tensor expression; `tensorize` marks the loops to be matched against it, and
# refuses with the first term that differs. For the start value it uses the unit's reset.

s[acc].tensorize(b, gemm_intrin(config))
show(s, "tensorized")

# That is the first program that VTA can run: every part of it is a transfer, a GEMM step, or a
# store. We keep it for later.

programs = {"caches hold all": vta.build(s, PARAMS, config, "all")}

# 10. compute_at, for the caches
# -----------------------------
# Real matrices do not fit the chip. With the caches computed inside the loop over k.o, each step of
# that loop loads just what it needs: 4 blocks of x and 4 of w. The price: each block is loaded as
# often as a tile needs it.

s[x_inp].compute_at(s[acc], k_o)
s[w_wgt].compute_at(s[acc], k_o)
show(s, "caches_inside")
programs["caches in k.o"] = vta.build(s, PARAMS, config, "inner")

# 11. vthread
# -----------
# Load and compute take turns now: the next load must wait until GEMM has read the buffers. Two
# virtual threads have two sets of buffers; while GEMM works on one, the other is filled. Tutorial 5
# looks at this more closely.

s[y].vthread(n_o)
show(s, "threads")
programs["two threads"] = vta.build(s, PARAMS, config, "threads")

# Threads cost memory: both sets of buffers must fit. The accumulators are doubled, too.

# 12. Another order
# -----------------
# Which matrix is loaded repeatedly is decided by the order of the loops. With the columns outside
# and the weights held for a whole column of tiles, w is loaded once and only x repeatedly.
# `double_buffer` gives the weights two halves, so that the next column's can come in while
# this one's are used; the nest below writes to half n.o and reads from it. (With more columns of
# tiles it would say `n.o%2`.)


def by_column() -> te.Schedule:
    """Columns outside, weights loaded once for each, two virtual threads over the rows."""
    s = te.Schedule(y)
    x_inp, w_wgt = s.cache_read(x, "inp", [acc]), s.cache_read(w, "wgt", [acc])
    s[acc].set_scope("acc")
    m, n, _, _ = s[y].axes
    m_o, n_o, m_i, n_i = s[y].tile(m, n, 2, 2)
    s[y].reorder(n_o, m_o, m_i, n_i)
    s[y].vthread(m_o)
    s[acc].compute_at(s[y], m_o)
    s[x_inp].compute_at(s[y], m_o)
    s[w_wgt].compute_at(s[y], n_o)
    s[w_wgt].double_buffer()
    m, n, b, o = s[acc].axes
    s[acc].reorder(k, m, n, b, o, c)
    s[acc].tensorize(b, gemm_intrin(config))
    return s


show(by_column(), "columns_outside")
programs["weights held"] = vta.build(by_column(), PARAMS, config, "columns")

# 13. Compare
# -----------
# All variants execute the same multiplications. They differ in what they move and in how many
# instructions it takes.

arrays = {"x": X, "w": W, "y": np.zeros(SHAPE, np.int8)}
print()
print("variant          instructions   GEMM steps   x bytes   w bytes   y bytes")
for name, program in programs.items():
    outcome = vta.run_program(program, arrays)
    assert outcome.result.status.value == "ok", outcome.result
    assert np.array_equal(outcome.arrays["y"], EXPECTED), name
    counted = outcome.result.counters
    print(
        f"{name:16}{outcome.result.instructions:13}{counted['gemm_ops']:13}"
        f"{counted['load_inp_bytes']:10,}{counted['load_wgt_bytes']:10,}"
        f"{counted['store_out_bytes']:10,}"
    )
    assert counted["gemm_ops"] == ROWS * DEPTH * COLUMNS

# One GEMM instruction does many steps: two loops and a list of micro-ops (tutorial 2 showed one in
# a listing). That is why the first variant needs so few instructions.
