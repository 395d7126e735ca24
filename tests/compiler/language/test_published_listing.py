"""The classic virtual-thread listing: a blocked convolution in two rounds of two threads.

Parameters are shared by the two threads of a round; activations, accumulators and output belong to
a thread, in one of two halves of their memory. Parameters have two halves too, used by the rounds
in turn: with one half, round 1 would overwrite what the second thread of round 0 still reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np

from compiler import te
from compiler.build import build
from compiler.topi.gemm_intrin import gemm_intrin
from tests.compiler.language.cases import execute
from tests.conftest import Golden
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import TOKEN_FLAGS, Gemm, Instruction, Load, Stage, Store, TokenQueue, stage_of
from vta_hw.spec.program import Program
from vta_sim.hazards import check_program

TINY = VtaConfig.load("tiny")
ROUNDS, THREADS, ROWS, COLUMNS, DEPTH = 2, 2, 2, 3, 2
LD_EX, EX_LD = TokenQueue.LOAD_TO_COMPUTE, TokenQueue.COMPUTE_TO_LOAD
EX_ST, ST_EX = TokenQueue.COMPUTE_TO_STORE, TokenQueue.STORE_TO_COMPUTE
ARROW = {LD_EX: "LD->EX", EX_LD: "EX->LD", EX_ST: "EX->ST", ST_EX: "ST->EX"}

PUBLISHED = [
    """LOAD param, activ, ldbuf (half 0); PUSH LD->EX
    POP LD->EX; EXE; PUSH EX->LD; PUSH EX->ST
    POP EX->ST; STORE (half 0); PUSH ST->EX""",
    """LOAD activ, ldbuf (half 1); PUSH LD->EX
    POP LD->EX; EXE; PUSH EX->LD; PUSH EX->ST
    POP EX->ST; STORE (half 1); PUSH ST->EX""",
    """POP EX->LD; LOAD param, activ, ldbuf (half 0); PUSH LD->EX
    POP LD->EX; POP ST->EX; EXE; PUSH EX->ST
    POP EX->ST; STORE (half 0)""",
    """POP EX->LD; LOAD activ, ldbuf (half 1); PUSH LD->EX
    POP LD->EX; POP ST->EX; EXE; PUSH EX->ST
    POP EX->ST; STORE (half 1)""",
]
"""Per thread: load stage, compute stage, store stage."""


def convolution() -> tuple[te.Tensor, te.Tensor, te.Tensor, te.Tensor]:
    """(x, param, accumulators, y): 3x3, two blocks of input channels, one output block a round."""
    batch, block = TINY.batch, TINY.block_out
    width = THREADS * COLUMNS
    x = te.placeholder((DEPTH, ROWS + 2, width + 2, batch, block), "int8", "x")
    param = te.placeholder((ROUNDS, DEPTH, 3, 3, block, block), "int8", "param")
    k, c = te.reduce_axis(DEPTH, "k"), te.reduce_axis(block, "c")
    dy, dx = te.reduce_axis(3, "dy"), te.reduce_axis(3, "dx")

    def element(n: te.Var, h: te.Var, w: te.Var, b: te.Var, o: te.Var) -> te.Expr:
        data = x(k.var, h + dy.var, w + dx.var, b, c.var).astype("int32")
        return te.sum(
            data * param(n, k.var, dy.var, dx.var, o, c.var).astype("int32"), [k, dy, dx, c]
        )

    shape = (ROUNDS, ROWS, width, batch, block)
    acc = te.compute(shape, element, "acc")
    y = te.compute(shape, lambda n, h, w, b, o: acc(n, h, w, b, o).astype("int8"), "y")
    return x, param, acc, y


def program(two_halves_of_param: bool) -> Program:
    """Rounds over output channels; in each, two virtual threads over the columns."""
    x, param, acc, y = convolution()
    s = te.Schedule(y)
    tile = s.cache_read(x, "inp", [acc])
    shared = s.cache_read(param, "wgt", [acc])
    s[acc].set_scope("acc")
    rounds, h, w, b, o = s[y].axes
    thread, w_i = s[y].split(w, COLUMNS)
    s[y].reorder(rounds, thread, h, w_i)
    s[y].vthread(thread)
    s[shared].compute_at(s[y], rounds)
    if two_halves_of_param:
        s[shared].double_buffer()
    s[tile].compute_at(s[y], thread)
    s[tile].unroll(s[tile].axes[0])  # one transfer per block of channels: activ, then ldbuf
    s[acc].compute_at(s[y], thread)
    n, h, w, b, o = s[acc].axes
    k, dy, dx, c = s[acc].reduce_axes
    s[acc].reorder(k, dy, dx, n, h, w, b, o, c)
    s[acc].tensorize(b, gemm_intrin(TINY))
    return build(s, (x, param, y), TINY, "conv")


def tokens(insn: Instruction, kind: str) -> list[TokenQueue]:
    """Queues that an instruction pops or pushes."""
    flags = TOKEN_FLAGS[stage_of(insn)].items()
    return [queue for flag, queue in flags if flag.startswith(kind) and getattr(insn, flag)]


def partners(code: Sequence[Instruction]) -> dict[tuple[int, TokenQueue], int]:
    """(pushing instruction, queue) -> popping instruction: the k-th pop gets the k-th push."""
    out = {}
    for queue in TokenQueue:
        pushes = [n for n, insn in enumerate(code) if queue in tokens(insn, "push")]
        pops = [n for n, insn in enumerate(code) if queue in tokens(insn, "pop")]
        out.update({(push, queue): pop for push, pop in zip(pushes, pops, strict=True)})
    return out


def groups(code: Sequence[Instruction]) -> dict[Stage, list[list[int]]]:
    """Instructions of each stage by thread: a thread's part ends where it hands over its result."""
    last = {Stage.LOAD: LD_EX, Stage.COMPUTE: EX_ST}
    out: dict[Stage, list[list[int]]] = {}
    for stage in Stage:
        out[stage] = [[]]
        for n, insn in enumerate(code[:-1]):
            if stage_of(insn) is not stage:
                continue
            out[stage][-1].append(n)
            if stage is Stage.STORE or last[stage] in tokens(insn, "push"):
                out[stage].append([])
        assert out[stage].pop() == [], "nothing stands behind the last thread's part"
    return out


def row(
    code: Sequence[Instruction], members: Sequence[int], finish: set[tuple[int, TokenQueue]]
) -> str:
    """A thread's part in one stage, in the words of the listing; `finish`: pushes for FINISH."""
    pops = [f"POP {ARROW[q]}" for n in members for q in tokens(code[n], "pop")]
    pushes = [
        f"PUSH {ARROW[q]}" for n in members for q in tokens(code[n], "push") if (n, q) not in finish
    ]
    order = list(ARROW.values())
    pops.sort(key=lambda text: order.index(text.split()[1]))
    pushes.sort(key=lambda text: order.index(text.split()[1]))
    return "; ".join([*pops, work([code[n] for n in members]), *pushes])


def work(insns: Sequence[Instruction]) -> str:
    """What a thread's instructions of one stage do; asserts that they do it in one half."""
    match insns:
        case [Store() as store]:
            return f"STORE (half {half(store.sram_base, ROWS * COLUMNS)})"
        case [Load(), *_] if stage_of(insns[0]) is Stage.LOAD:
            loads = [i for i in insns if isinstance(i, Load)]
            names = ["param" for i in loads if i.memory_type == MemType.WGT]
            tiles = [i for i in loads if i.memory_type == MemType.INP]
            size = (ROWS + 2) * (COLUMNS + 2)
            assert [i.sram_base % (2 * size) for i in tiles] == [0, size]
            names += ["activ", "ldbuf"]
            return f"LOAD {', '.join(names)} (half {half(tiles[0].sram_base, 2 * size)})"
    steps = [i for i in insns if is_zeroing(i) or not isinstance(i, Load)]
    assert is_zeroing(steps[0])
    # Long products may come in two parts.
    assert steps[1:] and all(isinstance(i, Gemm) and not i.reset for i in steps[1:])
    return "EXE"


def is_zeroing(insn: Instruction) -> bool:
    """Whether an instruction sets accumulators to zero: by padding or by GEMM's own reset."""
    if isinstance(insn, Load):
        return insn.memory_type == MemType.ACC and not insn.y_size
    return isinstance(insn, Gemm) and insn.reset


def half(base: int, size: int) -> int:
    """Which half of a memory an address is the start of."""
    assert base % size == 0
    return base // size


def listing(code: Sequence[Instruction]) -> list[str]:
    """Per thread: load stage, compute stage, store stage."""
    finish = {push for push, pop in partners(code).items() if pop == len(code) - 1}
    parts = groups(code)
    assert {len(threads) for threads in parts.values()} == {ROUNDS * THREADS}
    return [
        "\n".join(row(code, parts[stage][thread], finish) for stage in Stage)
        for thread in range(ROUNDS * THREADS)
    ]


def check(built: Program, rng: np.random.Generator) -> None:
    """The convolution has no race, and is right however the stages run."""
    assert check_program(built).clean
    arrays = {
        "x": rng.integers(-128, 128, convolution()[0].shape).astype(np.int8),
        "param": rng.integers(-128, 128, convolution()[1].shape).astype(np.int8),
        "y": np.zeros(convolution()[3].shape, np.int8),
    }
    image = np.lib.stride_tricks.sliding_window_view(arrays["x"], (3, 3), axis=(1, 2))
    wide = (image.astype(np.int64), arrays["param"].astype(np.int64))
    expected = np.einsum("khwbcyx,nkyxoc->nhwbo", *wide).astype(np.int8)
    for interleave in (None, *[rng] * 20):
        assert np.array_equal(execute(built, arrays, interleave)["y"], expected)


def test_the_pattern_is_that_of_the_listing(golden: Golden, rng: np.random.Generator) -> None:
    built = program(two_halves_of_param=True)
    code = built.instructions
    ours = listing(code)
    assert ours == ["\n".join(lines(text)) for text in PUBLISHED]
    golden(_text(ours, code))
    check(built, rng)


def test_rounds_use_the_halves_of_the_parameters_in_turn() -> None:
    params = _params(program(two_halves_of_param=True).instructions)
    assert [insn.sram_base for _, insn in params] == [0, DEPTH * 9]


def test_one_half_of_the_parameters_waits_for_both_threads(rng: np.random.Generator) -> None:
    """Without the second half, round 1 loads parameters after both threads have used them."""
    built = program(two_halves_of_param=False)
    code = built.instructions
    (_, first), (index, second) = _params(code)
    assert (first.sram_base, second.sram_base) == (0, 0)
    users = [n for n, insn in enumerate(code) if isinstance(insn, Gemm) and not insn.reset]
    wait = {pop: push for (push, queue), pop in partners(code).items() if queue is EX_LD}
    assert wait[index] == users[1]
    check(built, rng)


def lines(text: str) -> Iterable[str]:
    return (line.strip() for line in text.splitlines())


def _params(code: Sequence[Instruction]) -> list[tuple[int, Load]]:
    return [
        (n, insn)
        for n, insn in enumerate(code)
        if isinstance(insn, Load) and insn.memory_type == MemType.WGT
    ]


def _text(ours: Sequence[str], code: Sequence[Instruction]) -> str:
    """The listing, then the stream of each stage with the memories it touches."""
    out = []
    for thread, text in enumerate(ours):
        out += [f"thread {thread}", *(f"  {line}" for line in text.splitlines())]
    out += ["", "program order"]
    for stage, run in groupby(code, stage_of):
        names = [type(i).__name__.lower() + _memory(i) for i in run]
        out.append(f"  {stage.name.lower()}: {', '.join(names)}")
    return "\n".join(out) + "\n"


def _memory(insn: Instruction) -> str:
    if isinstance(insn, Load):
        return f" {MemType(insn.memory_type).name.lower()}[{insn.sram_base}]"
    if isinstance(insn, Store):
        return f" acc[{insn.sram_base}]"
    return " reset" if isinstance(insn, Gemm) and insn.reset else ""
