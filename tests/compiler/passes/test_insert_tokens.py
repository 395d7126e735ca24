"""Every conflict between stages is ordered by tokens, and no token is missing or left over."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.context import CompileContext
from compiler.driver import compile_model
from compiler.emit.vta import DeviceTensor, KernelCode, emit_region
from compiler.loop.nodes import Seq, Task
from compiler.passes.insert_tokens import NO_INSTRUCTION, Access, insert_tokens
from tests.compiler.kernels import KERNELS, after, random_kernel
from tests.compiler.passes import happens_before as hb
from tests.compiler.passes.happens_before import NOTHING, Touched
from tests.models import DIGITS, model_path
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.footprint import Touch
from vta_hw.spec.isa import Finish, Gemm, Instruction, Load, Store
from vta_hw.spec.program import Program

SIZES = {"inp": 12, "wgt": 6, "acc": 10, "dram": 16}
_MADE = {
    "load": lambda: Load(memory_type=2, x_size=1),
    "compute": lambda: Gemm(uop_end=1, iter_out=1, iter_in=1),
    "store": lambda: Store(memory_type=4, x_size=1),
}


def touch(memory: str, places: list[int]) -> Touch:
    at = np.array(sorted(set(places)))
    return Touch(memory, int(at[0]), int(at[-1]), at)


def random_access(rng: np.random.Generator, number: int, reach: int) -> Access:
    """An instruction of a random stage; any stage may touch any memory, up to `reach` places."""
    stage = str(rng.choice(list(_MADE)))
    touched: list[tuple[Touch, ...]] = []
    for _ in range(2):
        memories = [m for m in SIZES if rng.random() < 0.4]
        touched.append(
            tuple(
                touch(m, rng.integers(0, SIZES[m], int(rng.integers(1, reach + 1))).tolist())
                for m in memories
            )
        )
    return Access(_MADE[stage](), touched[0], touched[1], number)


def on_places(access: Access) -> Touched:
    def bits(touches: tuple[Touch, ...]) -> dict[str, int]:
        return {t.memory: sum(1 << int(n) for n in t.places) for t in touches}

    return Touched(bits(access.reads), bits(access.writes))


def with_tokens(stream: list[Access]) -> tuple[list[Instruction], list[Touched]]:
    """The stream that the pass gives, with what each instruction touches."""
    instructions, origins = insert_tokens(stream, SIZES)
    touched = [NOTHING if n == NO_INSTRUCTION else on_places(stream[n]) for n in origins]
    kept = [n for n in origins if n != NO_INSTRUCTION]
    assert kept == list(range(len(stream))), "the stream's own instructions stay in order"
    assert isinstance(instructions[-1], Finish)
    return instructions, touched


def check(instructions: list[Instruction], touched: list[Touched]) -> tuple[int, int]:
    """(tokens, redundant ones): all conflicts are ordered; tokens left out are missed or not."""
    pairs = hb.conflicts(instructions, touched)
    assert not hb.unordered(instructions, pairs)
    given = hb.tokens(instructions)
    redundant = 0
    for token in given:
        changed = hb.without(instructions, token)
        redundant += not hb.unordered(changed, pairs)
    return len(given), redundant


@pytest.mark.parametrize("reach", [1, 3])
def test_random_streams(reach: int, rng: np.random.Generator) -> None:
    total = spare = 0
    for _ in range(60):
        length = int(rng.integers(1, 40))
        stream = [random_access(rng, number, reach) for number in range(length)]
        count, redundant = check(*with_tokens(stream))
        total, spare = total + count, spare + redundant
    assert total > 500
    print(f"{spare} of {total} tokens are redundant")
    # An edge may follow from two others through the third stage; the pass does not look for these.
    assert spare < 0.15 * total


def test_order_needs_tokens() -> None:
    """Without any token, the brute force does find the conflicts."""
    stream = [
        Access(_MADE["load"](), (), (touch("inp", [1]),), 0),
        Access(_MADE["compute"](), (touch("inp", [1]),), (touch("acc", [2]),), 1),
        Access(_MADE["store"](), (touch("acc", [2]),), (touch("dram", [3]),), 2),
        Access(_MADE["load"](), (touch("dram", [3]),), (touch("inp", [2]),), 3),
    ]
    instructions, touched = with_tokens(stream)
    bare = [type(i)() if isinstance(i, Finish) else _MADE[hb.stage(i)]() for i in instructions]
    pairs = hb.conflicts(instructions, touched)
    assert {(0, 1), (1, 2)} <= set(pairs)
    assert set(hb.unordered(bare, pairs)) == set(pairs)
    assert check(instructions, touched) == (5, 0)


def test_load_and_store_are_ordered_through_compute() -> None:
    """With no instruction of the compute stage between, a no-op carries the token on."""
    stream = [
        Access(_MADE["store"](), (), (touch("dram", [3]),), 0),
        Access(_MADE["load"](), (touch("dram", [3]),), (), 1),
    ]
    instructions, _ = with_tokens(stream)
    kinds = [hb.stage(insn) for insn in instructions]
    assert kinds == ["store", "compute", "load", "compute"]
    carrier = instructions[1]
    assert (carrier.pop_next, carrier.push_prev) == (True, True)
    assert isinstance(carrier, Load)
    assert carrier.x_size == 0


def test_an_instruction_of_compute_between_carries_the_token() -> None:
    stream = [
        Access(_MADE["store"](), (), (touch("dram", [3]),), 0),
        Access(_MADE["compute"](), (), (), 1),
        Access(_MADE["load"](), (touch("dram", [3]),), (), 2),
    ]
    instructions, _ = with_tokens(stream)
    assert len(instructions) == 4
    assert (instructions[1].pop_next, instructions[1].push_prev) == (True, True)


def test_readers_are_not_ordered_among_each_other() -> None:
    stream = [
        Access(_MADE["load"](), (touch("dram", [3]),), (), 0),
        Access(_MADE["compute"](), (touch("dram", [3]),), (), 1),
    ]
    instructions, touched = with_tokens(stream)
    assert [(t.giver, t.taker) for t in hb.tokens(instructions)] == [(0, 2)]
    assert not [pair for pair in hb.conflicts(instructions, touched) if pair[1] == 1]


def test_one_token_serves_all_older_instructions() -> None:
    loads = [Access(_MADE["load"](), (), (touch("inp", [n]),), n) for n in range(5)]
    last = Access(_MADE["compute"](), (touch("inp", list(range(5))),), (), 5)
    instructions, _ = with_tokens([*loads, last])
    assert [(t.giver, t.taker) for t in hb.tokens(instructions)] == [(4, 5)]


def test_an_empty_stream_finishes() -> None:
    assert insert_tokens([], SIZES) == ([Finish()], [NO_INSTRUCTION])


# -- whole programs --------------------------------------------------------------------------------


def check_program(program: Program, addresses: dict[str, int]) -> tuple[int, int]:
    return check(list(program.instructions), list(hb.program_touches(program, addresses)))


@pytest.mark.parametrize("name", KERNELS)
def test_kernels(name: str, seed: int) -> None:
    """Two kernels in a row on the same memory: the second reads what the first wrote."""
    kernel = random_kernel(name, seed)
    body = after(kernel, "emit_tasks").body
    assert isinstance(body, Seq)
    tasks = [task for task in body.stmts if isinstance(task, Task)]
    *inputs, out = [p for p in kernel.template.params if p.name not in kernel.template.constants]
    names = [p.name for p in (*inputs, out)]
    tensors = {n: DeviceTensor(n, 1 << 14, place << 14) for place, n in enumerate(names)}
    code = KernelCode("kernel", tasks, kernel.template.constants)
    program = emit_region("region", [code, code], tensors, CompileContext(kernel.config))
    total, _ = check_program(program, {n: t.offset for n, t in tensors.items()})
    assert total >= 4


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (None, "default"),
        (None, "mac64"),
        pytest.param("ic_resnet8_int8.tflite", "default", marks=pytest.mark.slow),
        pytest.param("ad_autoencoder_int8.tflite", "mac64", marks=pytest.mark.slow),
    ],
)
def test_networks(model: str | None, config: str) -> None:
    path = DIGITS if model is None else model_path(model)
    package = compile_model(path, VtaConfig.load(config)).package
    for program, places in zip(package.programs, package.placements, strict=True):
        total, redundant = check_program(program, dict(places))
        assert total >= 10
        assert redundant < 0.05 * total, f"{redundant} of {total} tokens are redundant"
        print(f"{path.name} on {config}: {redundant} of {total} tokens are redundant")
