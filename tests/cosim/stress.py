"""Random programs that load the machine: units side by side, full counters, tokens everywhere."""

from __future__ import annotations

from itertools import combinations
from random import Random

from tests import oracle_words as w
from tests.gen_builder import QUEUES, Queue, push_flag
from tests.gen_moves import Moves
from tests.gen_programs import Generated
from tests.oracle import FLAGS, TOKEN_MAX
from tests.oracle_words import Geometry, Values
from vta_hw.spec.config import VtaConfig

_ACC_WINDOW = 36
_REPLICAS = 12
_DELAY = 300


def stress_program(config: VtaConfig, seed: int, full: int | None = None) -> Generated:
    """A legal program with much overlap and more tokens than needed.

    `full` is the number in `QUEUES` of one whose counter it fills.
    """
    rng = Random(seed)
    moves = _Stress(Geometry.of(config), rng)
    moves.prologue()
    for step in range(rng.randint(6, 12)):
        if step == 3 and full is not None:
            moves.fill_counter(full)
        moves.give_tokens()
        rng.choice((moves.side_by_side, moves.side_by_side, moves.replicate, moves.random_move))()
    moves.store_everything()
    moves.finish()
    return _generated(config, seed, moves)


def token_program(config: VtaConfig, seed: int) -> Generated:
    """A legal program in which compute instructions of all forms have all sets of tokens."""
    moves = _Stress(Geometry.of(config), Random(seed))
    moves.prologue()
    sets = [frozenset(chosen) for n in range(5) for chosen in combinations(FLAGS, n)]
    for flags in sets:
        moves.all_forms(flags)
    moves.store_everything()
    moves.builder.wanted = frozenset(flag for flag in FLAGS[:2] if moves.rng.random() < 0.7)
    moves.finish()
    return _generated(config, seed, moves)


def _generated(config: VtaConfig, seed: int, moves: Moves) -> Generated:
    builder = moves.builder
    words = (w.encode(insn, moves.geometry) for insn in builder.insns)
    stream = b"".join(word.to_bytes(16, "little") for word in words)
    return Generated(config, seed, stream, bytes(builder.image), frozenset(builder.tags))


class _Stress(Moves):
    def __init__(self, geometry: Geometry, rng: Random) -> None:
        super().__init__(geometry, rng)
        self.builder.stray = rng.choice((0.3, 0.5))
        self.operations = (None, None, w.REQ) if "requant" in geometry.extensions else (None,)
        depth = geometry.depth(w.ACC)
        length = min(_ACC_WINDOW, depth)
        # In the middle: half of the window in each half of the memory.
        self.windows[w.ACC] = (depth - length) // 2, length

    def side_by_side(self) -> None:
        """GEMM, ALU and a LOAD of the compute stage on parts of ACC and UOP of their own."""
        rng, windows = self.rng, dict(self.windows)
        acc = self._thirds(w.ACC)
        uop = self._thirds(w.UOP)
        counts, self.counts = self.counts, ((2, 3, 3, 4), (3, 6, 8), (2, 4, 4))
        made: list[Values] = []
        for unit in range(3):
            self.windows[w.ACC], self.windows[w.UOP] = acc[unit], uop[unit]
            if unit == 0:
                made.append(self.make_gemm())
            elif unit == 1:
                made.append(self.make_alu(rng.choice(self.operations)))
            else:
                made.append(self.make_load(rng.choice((w.ACC, w.ACC, w.UOP))))
        self.windows, self.counts = windows, counts
        rng.shuffle(made)
        for insn in made:
            if insn["opcode"] == w.LOAD:
                self._emit(insn)
            else:
                self._emit_loops(insn)

    def _thirds(self, memory: int) -> list[tuple[int, int]]:
        base, length = self.windows[memory]
        third = length // 3
        parts = [(base + i * third, third) for i in range(3)]
        self.rng.shuffle(parts)
        return parts

    def all_forms(self, flags: frozenset[str]) -> None:
        """One instruction of each form of the compute stage, with these flags if possible."""
        reset = self.make_gemm() | {"reset": 1}
        made = [reset, self.make_gemm() | {"reset": 0}]
        made += [self.make_load(w.UOP), self.make_load(w.ACC), self.make_load(w.ACC)]
        for insn in made:
            self._emit_wanted(insn, flags)
        for use_imm in (0, 1):
            alu = self.make_alu(self.rng.choice((w.ADD, w.MAX)))
            self._emit_wanted(alu | {"use_imm": use_imm}, flags)
        if "requant" in self.geometry.extensions:
            self._emit_wanted(self.make_alu(w.REQ), flags)
        self.builder.wanted = flags
        self.builder.idle(w.STAGE_COMPUTE)

    def _emit_wanted(self, insn: Values, flags: frozenset[str]) -> None:
        if insn["opcode"] != w.LOAD and self.trial(insn) is not None:
            return
        self.builder.wanted = flags
        self.builder.emit(insn)

    def replicate(self) -> None:
        """A LOAD that gives many ACC elements the value of one."""
        rng = self.rng
        base, length = self.windows[w.ACC]
        memory = rng.choice((w.ACC, w.ACC_8BIT))
        count = rng.randint(2, min(_REPLICAS, length))
        shape = {"y_size": count, "x_size": 1, "x_stride": 0}
        at = base + rng.randint(0, length - count)
        fields = self._transfer_fields(w.LOAD, memory, at, self._dram_base(memory, shape))
        self._emit({**fields, **shape})

    def give_tokens(self) -> None:
        """Have load and store stage push some, so that compute finds both kinds; pass some on."""
        for queue in ((0, 1), (2, 1)):
            for _ in range(self.rng.randint(0, 3)):
                self.builder.noop(queue[0], **{push_flag(queue): 1})
        for stage in self.rng.choices(range(3), k=2):
            self.builder.idle(stage)

    def fill_counter(self, number: int) -> None:
        """Push a counter full before anything pops it, then pop all of it."""
        queue = QUEUES[number]
        # The popping stage may be far ahead of the pushing one: it waits here.
        self.builder.noop(queue[0], **{push_flag(queue): 1})
        self._pop_all(queue)
        while self.builder.tokens(queue) <= TOKEN_MAX:
            self.builder.noop(queue[0], **{push_flag(queue): 1})
        # The pops come later than the pushes: both stages issue at the same rate.
        for _ in range(_DELAY):
            self.builder.noop(queue[1])
        self._pop_all(queue)

    def _pop_all(self, queue: Queue) -> None:
        while self.builder.tokens(queue):
            self.builder.pop_alone(queue)
