"""Tutorial 5: a convolution, and how virtual threads hide the time of its transfers.

Run it from anywhere: `python docs/tutorials/05_convolution.py`. The convolution runs with one, two
and four virtual threads; we look at the tokens between the stages, and at what they cost.
"""

import numpy as np

import vta
from compiler.loop.printer import to_text
from compiler.topi.borders import inside_image
from compiler.topi.gemm_intrin import gemm_intrin
from vta import te
from vta_hw.spec.config import MemType
from vta_hw.spec.isa import (
    TOKEN_FLAGS,
    Alu,
    Gemm,
    Instruction,
    Load,
    Stage,
    Store,
    TokenQueue,
    stage_of,
)

# 1. The convolution
# ------------------
# A 3x3 kernel over an image of 8 x 8 with 16 channels, 64 channels out. Channels are stored in
# blocks, as in tutorial 3: 2 blocks in, 8 out. The image is padded with zeros by one on each side;
# a load can do that while it copies, so `padded` costs no memory in DRAM.

config = vta.config("mac64")
BATCH, BLOCK = config.batch, config.block_in
IN, OUT, SIZE, KERNEL = 2, 8, 8, 3
PADS = (1, 1, 1, 1)

image = te.placeholder((IN, SIZE, SIZE, BATCH, BLOCK), "int8", "image")
weights = te.placeholder((OUT, IN, KERNEL, KERNEL, BLOCK, BLOCK), "int8", "weights")


def with_border(k: te.Var, h: te.Var, w: te.Var, b: te.Var, c: te.Var) -> te.Expr:
    """The image, or zero around it."""
    inside = inside_image(h, w, SIZE, SIZE, PADS)
    return te.select(inside, image(k, h - 1, w - 1, b, c), te.Const(0, "int8"))


padded = te.compute((IN, SIZE + 2, SIZE + 2, BATCH, BLOCK), with_border, "padded")
k, c = te.reduce_axis(IN, "k"), te.reduce_axis(BLOCK, "c")
dy, dx = te.reduce_axis(KERNEL, "dy"), te.reduce_axis(KERNEL, "dx")


def window(n: te.Var, h: te.Var, w: te.Var, b: te.Var, o: te.Var) -> te.Expr:
    """Sum over the window and the input channels."""
    data = padded(k.var, h + dy.var, w + dx.var, b, c.var).astype("int32")
    return te.sum(
        data * weights(n, k.var, dy.var, dx.var, o, c.var).astype("int32"), [k, dy, dx, c]
    )


SHAPE = (OUT, SIZE, SIZE, BATCH, BLOCK)
sums = te.compute(SHAPE, window, "sums")
scaled = te.compute(SHAPE, lambda n, h, w, b, o: sums(n, h, w, b, o) >> 6, "scaled")
out = te.compute(SHAPE, lambda n, h, w, b, o: scaled(n, h, w, b, o).astype("int8"), "out")
PARAMS = (image, weights, out)

# 2. The schedule
# ---------------
# A tile is one block of output channels; the weights of a tile and the part of the image that it
# needs are loaded in two steps, one block of input channels each. The loop over tiles is cut in
# two: the inner one runs over the virtual threads.


def schedule(threads: int) -> te.Schedule:
    """One block of output channels per tile, `threads` tiles side by side."""
    s = te.Schedule(out)
    cached = s.cache_read(weights, "wgt", [sums])
    s[padded].set_scope("inp")
    s[sums].set_scope("acc")
    s[scaled].set_scope("acc")
    n, h, w, b, o = s[out].axes
    _, thread = s[out].split(n, threads)
    if threads > 1:
        s[out].vthread(thread)
    s[scaled].compute_at(s[out], thread)
    s[sums].compute_at(s[out], thread)
    n, h, w, b, o = s[sums].axes
    s[sums].reorder(k, dy, dx, n, h, w, b, o, c)
    s[sums].tensorize(b, gemm_intrin(config))
    s[padded].compute_at(s[sums], k)
    s[cached].compute_at(s[sums], k)
    return s


print(to_text(vta.lower(schedule(2), PARAMS, "two_threads")))
programs = {n: vta.build(schedule(n), PARAMS, config, f"threads{n}") for n in (1, 2, 4)}

# 3. The tokens
# -------------
# Load, compute and store each run their own instructions in order, and wait for each other only
# where a token says so. Between each pair there are two counters: one says "the data is there", the
# other "the buffer is free again". We write out who waits for whom (and leave out how micro-ops are
# loaded, which takes no token).

SHORT = {
    TokenQueue.LOAD_TO_COMPUTE: "LD->EX",
    TokenQueue.COMPUTE_TO_LOAD: "EX->LD",
    TokenQueue.COMPUTE_TO_STORE: "EX->ST",
    TokenQueue.STORE_TO_COMPUTE: "ST->EX",
}


def tokens(insn: Instruction, kind: str) -> list[TokenQueue]:
    """The counters that an instruction pops from or pushes to."""
    flags = TOKEN_FLAGS[stage_of(insn)].items()
    return [queue for flag, queue in flags if flag.startswith(kind) and getattr(insn, flag)]


def describe(insn: Instruction) -> str:
    """A line of the table: POP what it waits for, what it is, PUSH whom it wakes."""
    pops = [f"POP {SHORT[q]}" for q in tokens(insn, "pop")]
    pushes = [f"PUSH {SHORT[q]}" for q in tokens(insn, "push")]
    name = type(insn).__name__.upper()
    if isinstance(insn, Load):
        name += f" {MemType(insn.memory_type).name} at {insn.sram_base}"
    if isinstance(insn, Gemm) and insn.reset:
        name = "zero"
    return "; ".join([*pops, name, *pushes])


def table(program: vta.Program, count: int) -> None:
    """The first instructions of the load and of the compute stage, side by side."""
    columns = []
    for stage in (Stage.LOAD, Stage.COMPUTE):
        column = [i for i in program.instructions if stage_of(i) is stage]
        hidden = [i for i in column if isinstance(i, Load) and i.memory_type == MemType.UOP]
        columns.append([describe(i) for i in column if i not in hidden][:count])
    for left, right in zip(*columns, strict=True):
        print(f"  {left:44}{right}")


for threads in (1, 2, 4):
    print(f"\n{threads} virtual thread{'s' * (threads > 1)}: load stage, compute stage")
    table(programs[threads], 9)

# With one thread there is one buffer for the image, at 0. Its second load has to wait (POP EX->LD)
# until GEMM is done with the first, and GEMM then waits for that load: they take turns.
#
# With two threads there are two buffers. The first loads of both need no token. The third load of
# the image, into the buffer at 0 again, waits for the first GEMM only, and runs while the second
# GEMM computes. The pushes and pops are the same as before, they are just further apart. With four
# threads they are further apart still, at the price of four times the buffers.

# 4. What it costs
# ----------------
# A rough model shows the effect: an instruction starts when its stage is free and its tokens are
# there; a transfer takes the latency of the memory and 8 bytes a cycle, GEMM and ALU one step a
# cycle. (Real transfers overlap each other as well; a program's exact cycles are a matter for the
# hardware.)


def cost(insn: Instruction) -> int:
    """Cycles of one instruction in the model."""
    if isinstance(insn, Load | Store):
        moved = insn.x_size * insn.y_size * config.elem_bytes(MemType(insn.memory_type))
        return config.dram_latency + moved // 8
    if isinstance(insn, Gemm | Alu):
        return insn.iter_out * insn.iter_in * (insn.uop_end - insn.uop_bgn)
    return 0


def model(program: vta.Program) -> tuple[int, int]:
    """(cycles until the end, cycles in which GEMM and ALU compute)"""
    free = dict.fromkeys(Stage, 0)
    arrived: dict[TokenQueue, list[int]] = {queue: [] for queue in TokenQueue}
    busy = 0
    for insn in program.instructions:
        stage = stage_of(insn)
        start = max([free[stage], *(arrived[q].pop(0) for q in tokens(insn, "pop"))])
        free[stage] = start + cost(insn)
        for queue in tokens(insn, "push"):
            arrived[queue].append(free[stage])
        if isinstance(insn, Gemm | Alu):
            busy += cost(insn)
    return max(free.values()), busy


# 5. Run
# ------

rng = np.random.default_rng(0)
arrays = {
    "image": rng.integers(-128, 128, image.shape).astype(np.int8),
    "weights": rng.integers(-20, 20, weights.shape).astype(np.int8),
    "out": np.zeros(SHAPE, np.int8),
}
wide = np.pad(arrays["image"].astype(np.int32), ((0, 0), (1, 1), (1, 1), (0, 0), (0, 0)))
windows = np.lib.stride_tricks.sliding_window_view(wide, (KERNEL, KERNEL), axis=(1, 2))
exact = np.einsum("khwbcyx,nkyxoc->nhwbo", windows, arrays["weights"].astype(np.int32))
expected = (exact >> 6).astype(np.int8)

print("\nthreads   instructions   inp elements   modelled cycles   computing")
cycles = {}
for threads, program in programs.items():
    outcome = vta.run_program(program, arrays)
    assert outcome.result.status.value == "ok", outcome.result
    assert np.array_equal(outcome.arrays["out"], expected), threads
    cycles[threads], busy = model(program)
    held = threads * (SIZE + 2) ** 2
    print(
        f"{threads:7}{outcome.result.instructions:15}{held:15}{cycles[threads]:18,}"
        f"{busy / cycles[threads]:12.0%}"
    )
assert cycles[2] < cycles[1]

# The same bytes, the same multiplications, the same result to the bit. The transfers are still
# there, but computation waits for the first of them only. Two threads are enough to hide what takes
# less time than the computation; more of them have nothing left to hide, take memory, and need
# longer to get going and to drain: four tiles are zeroed before the first is summed up, and four
# are stored after the last.
