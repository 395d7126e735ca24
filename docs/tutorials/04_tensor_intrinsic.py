"""Tutorial 4: a tensor unit of your own.

Run it from anywhere: `python docs/tutorials/04_tensor_intrinsic.py`. VTA's GEMM is one tensor unit;
the language knows nothing of it but a declaration. Here we declare another unit, give it work, and
see what happens when the work does not fit.
"""

from collections.abc import Mapping

import numpy as np

import vta
from compiler.errors import LoweringError, ScheduleError
from compiler.loop.interp import run
from compiler.loop.nodes import Access, Apply, Stmt
from compiler.loop.printer import to_text
from compiler.passes.tensorize import tensorize
from vta import te

# 1. The unit
# -----------
# Say a machine has an outer-product engine: it takes two vectors of 4 numbers and adds all 16
# products to a 4 x 4 tile. Three things make a declaration. The first is its meaning, a tensor
# expression for one step. One step reduces over nothing, yet it accumulates; a reduction over an
# axis of extent 1 says so.

a = te.placeholder((4,), "int32", "a")
b = te.placeholder((4,), "int32", "b")
one = te.reduce_axis(1, "one")
tile = te.compute((4, 4), lambda i, j: te.sum(a(i) * b(j), [one]), "tile")

# 2. What a step does
# -------------------
# The second is the behaviour: what a step does to numpy blocks. It gets the destination as it was,
# the sources, and numbers that belong to the instruction (none here). The interpreter calls it.

Block = np.ndarray


def accumulate(dst: Block, srcs: tuple[Block, ...], attrs: Mapping[str, int]) -> Block:
    """tile += a b^T"""
    left, right = srcs
    return dst + np.outer(left, right)


def clear(dst: Block, srcs: tuple[Block, ...], attrs: Mapping[str, int]) -> Block:
    """tile = 0"""
    return np.zeros_like(dst)


def multiply(dst: Block, srcs: tuple[Block, ...], attrs: Mapping[str, int]) -> Block:
    """tile = a b^T"""
    left, right = srcs
    return np.outer(left, right)


# 3. Rules
# --------
# The third are the rules, which say what replaces a loop nest: `reset` sets the reduction's start
# value, `update` adds one step to it, `compute` does both at once and is used when one step is all
# there is. A rule gets the elements that the nest works on and gives a statement of the loop IR.
# (The rules of GEMM are like these; it has no `compute`, so VTA always resets first.)


def reset_rule(dst: Access, srcs: tuple[Access, ...]) -> Stmt:
    """outer.clear"""
    return Apply("outer.clear", dst, unit=clear)


def update_rule(dst: Access, srcs: tuple[Access, ...]) -> Stmt:
    """outer.accumulate"""
    return Apply("outer.accumulate", dst, srcs, unit=accumulate)


def compute_rule(dst: Access, srcs: tuple[Access, ...]) -> Stmt:
    """outer.multiply"""
    return Apply("outer.multiply", dst, srcs, unit=multiply)


outer = te.TensorIntrin(
    "outer", (a, b), tile, compute=compute_rule, reset=reset_rule, update=update_rule
)

# Meaning and behaviour say the same twice, which is a chance to find mistakes: `check_intrin` holds
# one against the other on random blocks.

te.check_intrin(outer, np.random.default_rng(0))


def wrong_rule(dst: Access, srcs: tuple[Access, ...]) -> Stmt:
    """Clears and multiplies where it should accumulate."""
    return Apply("outer.multiply", dst, srcs, unit=multiply)


wrong = te.TensorIntrin("outer", (a, b), tile, reset=reset_rule, update=wrong_rule)
try:
    te.check_intrin(wrong, np.random.default_rng(0))
except ScheduleError as error:
    print(f"refused: {error}")
else:
    raise SystemExit("an update that forgets its accumulator should not have been accepted")

# 4. Work for it
# --------------
# A matrix multiplication, in tiles of 4 x 4: `p` and `q` hold vectors of 4 numbers per k.


def multiplication(depth: int) -> tuple[te.Tensor, te.Tensor, te.Tensor]:
    """r[m, n] = p[m]^T q[n], blocks of 4 x 4, summed over `depth`."""
    p = te.placeholder((2, depth, 4), "int32", "p")
    q = te.placeholder((3, depth, 4), "int32", "q")
    k = te.reduce_axis(depth, "k")

    def element(m: te.Var, n: te.Var, i: te.Var, j: te.Var) -> te.Expr:
        return te.sum(p(m, k.var, i) * q(n, k.var, j), [k])

    return p, q, te.compute((2, 3, 4, 4), element, "r")


def tensorized(r: te.Tensor, unit: te.TensorIntrin) -> te.Schedule:
    """One step of the unit per k: its three loops innermost, k outside."""
    s = te.Schedule(r)
    m, n, i, j = s[r].axes
    k_o, k_i = s[r].split(s[r].reduce_axes[0], 1)
    s[r].reorder(m, n, k_o, i, j, k_i)
    s[r].tensorize(i, unit)
    return s


p, q, r = multiplication(6)
func = vta.lower(tensorized(r, outer), (p, q, r), "by_steps")
print()
print(to_text(func))

# `tensorize`, the pass, matches the marked nests against the meaning. Nothing of VTA takes part: no
# scopes, no transfers. (The passes that follow in VTA's pipeline would refuse a unit that VTA does
# not have.)

func = tensorize(func)
print(to_text(func))

rng = np.random.default_rng(1)
arrays = {
    "p": rng.integers(-99, 99, p.shape).astype(np.int32),
    "q": rng.integers(-99, 99, q.shape).astype(np.int32),
    "r": np.zeros(r.shape, np.int32),
}
run(func, arrays)
assert np.array_equal(arrays["r"], np.einsum("mki,nkj->mnij", arrays["p"], arrays["q"]))
print("equal to numpy")

# With a single k, one step is the whole reduction, and the compute rule replaces both nests:

p1, q1, r1 = multiplication(1)
func = tensorize(vta.lower(tensorized(r1, outer), (p1, q1, r1), "one_step"))
print()
print(to_text(func))
arrays = {"p": arrays["p"][:, :1].copy(), "q": arrays["q"][:, :1].copy(), "r": arrays["r"]}
run(func, arrays)
assert np.array_equal(arrays["r"], np.einsum("mki,nkj->mnij", arrays["p"], arrays["q"]))

# 5. When it does not fit
# -----------------------
# The match is exact, term by term, and a refusal names the first term that differs: what the
# meaning has, and what stands in the nest. A sum of absolute differences is no outer product:

k = te.reduce_axis(6, "k")
distance = te.compute(
    (2, 3, 4, 4),
    lambda m, n, i, j: te.sum(
        te.maximum(p(m, k.var, i), q(n, k.var, j)) - te.minimum(p(m, k.var, i), q(n, k.var, j)), [k]
    ),
    "distance",
)
try:
    tensorize(vta.lower(tensorized(distance, outer), (p, q, distance), "differences"))
except LoweringError as error:
    print(f"refused: {error}")
else:
    raise SystemExit("the unit multiplies; it should not have been used for differences")

# Nor do six steps fit into one, which happens when the loop over k is left inside:

s = te.Schedule(r)
s[r].tensorize(r.axes[2], outer)
try:
    tensorize(vta.lower(s, (p, q, r), "too_deep"))
except LoweringError as error:
    print(f"refused: {error}")
else:
    raise SystemExit("the unit takes one k a step; it should not have taken six")

# 6. The short form
# -----------------
# When there is no machine yet and so no behaviour to write down, the meaning is enough:
# `declare_unit` makes all three rules, and the interpreter evaluates the meaning itself.

sketch = te.declare_unit("sketch", (a, b), tile)
func = tensorize(vta.lower(tensorized(r, sketch), (p, q, r), "sketched"))
print()
print(to_text(func))
arrays = {
    "p": rng.integers(-99, 99, p.shape).astype(np.int32),
    "q": rng.integers(-99, 99, q.shape).astype(np.int32),
    "r": np.zeros(r.shape, np.int32),
}
run(func, arrays)
assert np.array_equal(arrays["r"], np.einsum("mki,nkj->mnij", arrays["p"], arrays["q"]))
print("equal to numpy")
