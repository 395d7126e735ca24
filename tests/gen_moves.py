"""The random instructions that generated programs consist of, and where their data lies.

Each memory has one window of a few elements, filled by the prologue; all later instructions stay
inside the windows, so that nothing undefined is read and every conflict that can occur does occur.
DRAM holds a pool (micro-ops and REQ parameters made for single instructions, never stored to)
below the data area.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tests import oracle_words as w
from tests.gen_builder import Builder
from tests.gen_values import EDGES, random_image, req_lane
from tests.oracle import FLAGS, Bad, UndefinedRead
from tests.oracle_words import Geometry, Values

_SIZES = {w.UOP: 24, w.INP: 10, w.WGT: 5, w.ACC: 20}
_POOL_BYTES = 16384
_DATA_BYTES = 8192
_COUNTS = ((1, 1, 2, 3), (1, 2, 3), (1, 2, 4))
"""Choices for the outer count, the inner count and the number of micro-ops."""
_NAMES = {w.UOP: "UOP", w.WGT: "WGT", w.INP: "INP", w.ACC: "ACC", w.ACC_8BIT: "ACC_8BIT"}
ALU_NAMES = ("MIN", "MAX", "ADD", "SHR", "MUL", "RDHM", "RSR", "REQ")
MODES = ("double", "single", "float")


class Moves:
    """Random instructions for one program."""

    def __init__(self, geometry: Geometry, rng: Random, long_loops: bool = False) -> None:
        self.geometry, self.rng = geometry, rng
        self.counts = ((1, 5, 20), (1, 4, 12), (1, 4, 8)) if long_loops else _COUNTS
        size = _POOL_BYTES + _DATA_BYTES + rng.randint(0, 300)
        self.builder = Builder(geometry, rng, random_image(rng, size))
        self.pool_at = 0
        self.windows: dict[int, tuple[int, int]] = {}
        for memory, length in _SIZES.items():
            depth = geometry.depth(memory)
            length = min(length, depth)
            base = rng.choice((0, depth - length, rng.randint(0, depth - length)))
            self.windows[memory] = base, length

    # -- sequences ---------------------------------------------------------------------------------

    def prologue(self) -> None:
        """Give every element of every window a value."""
        for memory in self.rng.sample(list(self.windows), len(self.windows)):
            base, length = self.windows[memory]
            at = base
            while at < base + length:
                insn = self._transfer(memory, at, base + length - at)
                self._emit(insn)
                rows, columns = self.builder.core.shape(insn)
                at += rows * columns

    def random_move(self) -> None:
        """Emit one or a few instructions of a random kind."""
        rng = self.rng
        move = rng.choices(
            ("load", "gemm", "alu", "requant", "store", "idle"), (25, 20, 25, 15, 20, 6)
        )[0]
        match move:
            case "load":
                self._emit(self.make_load())
            case "gemm":
                self._emit_loops(self.make_gemm())
            case "alu":
                self._emit_loops(self.make_alu())
            case "requant" if "requant" in self.geometry.extensions:
                self._emit_loops(self.make_alu(w.REQ))
            case "store" | "requant":
                self._emit(self.make_store())
            case _:
                self.builder.noop(rng.randrange(3))

    def store_everything(self) -> None:
        """Store the ACC window, four times over with other bits of each lane shifted down."""
        base, length = self.windows[w.ACC]
        size = self.geometry.elem_bytes[w.OUT]
        first = -(-_POOL_BYTES // size)
        last = len(self.builder.image) // size - length
        for shift in (0, 8, 8, 8):
            if shift:
                self._emit_loops(self._whole_window(w.SHR, shift))
            store = self._transfer_fields(w.STORE, w.OUT, base, self.rng.randint(first, last))
            self._emit({**store, "y_size": 1, "x_size": length})

    def finish(self) -> None:
        """Emit FINISH."""
        insn = {"opcode": w.FINISH}
        self.builder.emit(insn)
        if insn["pop_prev"] or insn["pop_next"]:
            self.builder.tags.add("FINISH pops")

    def _emit(self, insn: Values) -> None:
        tags, memory = self.builder.tags, insn["memory_type"]
        if insn["opcode"] == w.STORE:
            tags.add("store strided" if insn["x_stride"] != insn["x_size"] else "store")
        else:
            name = _NAMES[memory]
            pads = [insn[p] for p in ("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1")]
            tags.add(f"load {name}")
            if insn["y_size"] > 1 and insn["x_stride"] != insn["x_size"]:
                tags.add(f"load {name} strided")
            if any(pads):
                tags.add(f"load {name} pad_min" if insn.get("pad_min") else f"load {name} padded")
            if insn["y_size"] == 0:
                tags.add("load of pads only")
        self.builder.emit(insn)

    def _emit_loops(self, insn: Values) -> None:
        if self.trial(insn) is not None:
            return  # once the pool is used up, old micro-ops come that may not fit
        if insn["opcode"] == w.GEMM:
            self.builder.tags.add("GEMM reset" if insn["reset"] else "GEMM")
        elif insn["alu_opcode"] == w.REQ:
            self.builder.tags.add(f"REQ {MODES[insn['imm'] >> 8 & 3]}")
        else:
            form = "immediate" if insn["use_imm"] else "register"
            self.builder.tags.add(f"{ALU_NAMES[insn['alu_opcode']]} {form}")
        self.builder.emit(insn)

    def trial(self, insn: Values) -> str | None:
        """What executing a GEMM or ALU would run into, as a word; changes nothing."""
        core = self.builder.core
        saved = list(core.memory[w.ACC])
        try:
            core.execute(insn)
        except Bad as bad:
            return str(bad)
        except UndefinedRead:
            return "undefined"
        finally:
            core.memory[w.ACC][:] = saved
        return None

    # -- transfers ---------------------------------------------------------------------------------

    def make_load(self, memory: int | None = None) -> Values:
        """A legal LOAD into part of a window; of `memory`, if that is given."""
        if memory is None:
            memory = self.rng.choice(list(self.windows))
        base, length = self.windows[memory]
        at = self.rng.randint(base, base + length - 1)
        return self._transfer(memory, at, base + length - at)

    def make_store(self) -> Values:
        """A legal STORE of part of the ACC window to the data area."""
        rng = self.rng
        base, length = self.windows[w.ACC]
        while True:
            at = rng.randint(base, base + length - 1)
            rows, columns = rng.choice((1, 1, 2, 3, 4, 0)), rng.randint(1, 5)
            if at + rows * columns <= base + length:
                break
        stride = rng.choice((columns, columns + rng.randint(0, 4), rng.randint(0, 6)))
        shape = {"y_size": rows, "x_size": columns, "x_stride": stride}
        return {**self._transfer_fields(w.STORE, w.OUT, at, self._dram_base(w.OUT, shape)), **shape}

    def _transfer(self, memory: int, at: int, room: int) -> Values:
        """A legal LOAD that writes at most `room` elements from `at` on."""
        rng = self.rng
        if memory == w.ACC and rng.random() < 0.4:
            memory = w.ACC_8BIT
        shape = {"y_size": 1, "x_size": 1}
        for _ in range(20):
            trial = {"y_size": rng.choice((1, 1, 2, 3, 0)), "x_size": rng.choice((1, 1, 2, 3, 6))}
            if rng.random() < 0.6:
                for pad in rng.sample(("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1"), 2):
                    trial[pad] = rng.choice((1, 1, 2, 3, 15))
            rows = trial["y_size"] + trial.get("y_pad_0", 0) + trial.get("y_pad_1", 0)
            columns = trial["x_size"] + trial.get("x_pad_0", 0) + trial.get("x_pad_1", 0)
            if 0 < rows * columns <= room:
                shape = trial
                break
        shape["x_stride"] = rng.choice((shape["x_size"], rng.randint(0, 8)))
        insn = self._transfer_fields(w.LOAD, memory, at, self._dram_base(memory, shape))
        insn.update(shape)
        if memory != w.UOP and "pad_min" in self.geometry.extensions:
            insn["pad_min"] = rng.getrandbits(1)
        if memory in (w.INP, w.WGT):
            insn["overlap"] = rng.getrandbits(1)  # a reserved bit for these types
        return insn

    @staticmethod
    def _transfer_fields(opcode: int, memory: int, at: int, dram_base: int) -> Values:
        zeros = dict.fromkeys(
            ("y_size", "x_size", "x_stride", "y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1", *FLAGS), 0
        )
        return {
            **zeros,
            "opcode": opcode,
            "memory_type": memory,
            "sram_base": at,
            "dram_base": dram_base,
        }

    def _dram_base(self, memory: int, shape: Values) -> int:
        """A random place in the data area; often its very end."""
        size = self.geometry.elem_bytes[memory]
        span = (max(shape["y_size"], 1) - 1) * shape["x_stride"] + shape["x_size"]
        last = len(self.builder.image) // size - span
        if shape["y_size"] == 0 and self.rng.random() < 0.5:
            return 0xFFFFFFFF  # no row is read, so any address is fine
        return self.rng.choice((last, self.rng.randint(-(-_POOL_BYTES // size), last)))

    def _place(self, memory: int, elements: Sequence[bytes], at: int) -> None:
        """Load `elements` to SRAM from a fresh piece of the pool, in one or two rows."""
        rng, size = self.rng, self.geometry.elem_bytes[memory]
        count = len(elements)
        rows = 2 if count % 2 == 0 and rng.random() < 0.5 else 1
        columns = count // rows
        stride = columns + rng.randint(0, 3)
        first = -(-self.pool_at // size)
        end = first + (rows - 1) * stride + columns
        if end * size > _POOL_BYTES:
            first, end = 0, (rows - 1) * stride + columns
        # When the pool is used up it starts again, with what lies there: only values change.
        if end * size > self.pool_at:
            for i, element in enumerate(elements):
                at_byte = (first + i // columns * stride + i % columns) * size
                self.builder.poke(at_byte, element)
            self.pool_at = end * size
        insn = self._transfer_fields(w.LOAD, memory, at, first)
        self._emit({**insn, "y_size": rows, "x_size": columns, "x_stride": stride})

    # -- loops -------------------------------------------------------------------------------------

    def make_gemm(self) -> Values:
        """A legal GEMM, one in four a reset; its micro-ops are loaded if need be."""
        reset = int(self.rng.random() < 0.25)
        insn = self._loops(w.GEMM, (w.ACC, w.INP, w.WGT), (1, 1, 1))
        if reset:  # only dst counts, so the others may run out of their memories
            for name in ("src", "wgt"):
                insn[f"{name}_factor_out"] = self.rng.getrandbits(16)
        return {**insn, "reset": reset}

    def make_alu(self, op: int | None = None) -> Values:
        """A legal ALU instruction, of operation `op` if that is given; REQ loads its parameters."""
        rng = self.rng
        if op is None:
            op = rng.randrange(7 if "requant" in self.geometry.extensions else 5)
        use_imm = int(op != w.REQ and rng.random() < 0.5)
        if op == w.REQ:
            return self._requantise()
        insn = self._loops(w.ALU, (w.ACC, w.ACC), (1, 1))
        imm = rng.choice((rng.randint(-9, 9), rng.choice(EDGES), rng.getrandbits(16)))
        return {
            **insn,
            "reset": rng.getrandbits(1),
            "alu_opcode": op,
            "use_imm": use_imm,
            "imm": imm & 0xFFFF,
        }

    def make_loops_at_uop_end(self) -> Values:
        """A legal GEMM or ALU whose last micro-op is the last one of UOP memory."""
        rng, last = self.rng, self.geometry.depth(w.UOP) - 1
        insn = self.make_gemm() if rng.random() < 0.5 else self.make_alu(w.MAX)
        word = self.builder.core.read(w.UOP, insn["uop_bgn"])[0]
        self._place(w.UOP, [word.to_bytes(4, "little")], last)
        return {**insn, "uop_bgn": last, "uop_end": last + 1}

    def _requantise(self) -> Values:
        rng = self.rng
        mode = rng.randrange(3)
        imm = (
            mode << 8 | rng.choice((0, 1, 0x80, 0x7F, rng.getrandbits(8))) | rng.choice((0, 0xC00))
        )
        base, length = self.windows[w.ACC]
        if rng.random() < 0.1:  # whatever lies in the window serves as parameters
            insn = self._loops(w.ALU, (w.ACC, w.ACC), (1, 3))
            return {**insn, "alu_opcode": w.REQ, "imm": imm}
        at = base + rng.randint(0, length - 3)
        others = [i for i in range(base, base + length) if not at <= i < at + 3]
        if rng.random() < 0.2:  # an instruction may overwrite its own parameters
            others = [at, at + 1, at + 2]
        targets = [rng.choice(others) for _ in range(rng.choice((1, 2, 3)))]
        old = self.builder.core.read(w.ACC, targets[0])
        lanes = [req_lane(rng, mode, lane) for lane in old]
        rows = zip(*lanes, strict=True)
        self._place(
            w.ACC,
            [b"".join((v & 0xFFFFFFFF).to_bytes(4, "little") for v in row) for row in rows],
            at,
        )
        begin = self._place_uops([(target, at, 0) for target in targets])
        insn = self._loop_fields(w.ALU, begin, len(targets), 1, rng.choice((1, 1, 2, 3)))
        return {**insn, "alu_opcode": w.REQ, "imm": imm}

    def make_req_at_acc_end(self) -> Values:
        """A REQ whose bias exists but whose multiplier or shifts lie beyond the ACC memory."""
        base, length = self.windows[w.ACC]
        src = self.geometry.depth(w.ACC) - self.rng.choice((1, 2))
        begin = self._place_uops([(base + self.rng.randrange(length), src, 0)])
        return {**self._loop_fields(w.ALU, begin, 1, 1, 1), "alu_opcode": w.REQ}

    def _whole_window(self, op: int, imm: int) -> Values:
        base, length = self.windows[w.ACC]
        begin = self._place_uops([(base, base, 0)])
        return {
            **self._loop_fields(w.ALU, begin, 1, 1, length),
            "dst_factor_in": 1,
            "src_factor_in": 1,
            "alu_opcode": op,
            "use_imm": 1,
            "imm": imm,
        }

    def _loops(self, opcode: int, memories: Sequence[int], spans: Sequence[int]) -> Values:
        """Loops whose indices stay in the windows; operand i touches spans[i] elements each."""
        rng = self.rng
        outer, inner, count = (rng.choice(choices) for choices in self.counts)
        insn = self._loop_fields(opcode, 0, count, outer, inner)
        columns = []
        for name, memory, span in zip(("dst", "src", "wgt"), memories, spans, strict=False):
            base, length = self.windows[memory]
            far = 1 << self.geometry.bits[memory]
            while True:
                steps = [rng.choice((0, 1, 1, 2, 4)) for _ in range(2)]
                reach = (outer - 1) * steps[0] + (inner - 1) * steps[1] + span
                if reach <= length:
                    break
            columns.append([base + rng.randint(0, length - reach) for _ in range(count)])
            # A factor that is only ever multiplied by 0 may have any value.
            insn[f"{name}_factor_out"] = steps[0] if outer > 1 else rng.randrange(far)
            insn[f"{name}_factor_in"] = steps[1] if inner > 1 else rng.randrange(far)
        if len(columns) == 2:
            columns.append([rng.getrandbits(self.geometry.bits[w.WGT]) for _ in range(count)])
        begin = self._known_uops(insn, count)
        if begin is None:
            begin = self._place_uops(list(zip(*columns, strict=True)))
        return {**insn, "uop_bgn": begin, "uop_end": begin + count}

    def _known_uops(self, insn: Values, count: int) -> int | None:
        """A place where old micro-ops happen to fit these loops."""
        base, length = self.windows[w.UOP]
        for _ in range(2):
            begin = self.rng.randint(base, base + length - count)
            if self.trial({**insn, "uop_bgn": begin, "uop_end": begin + count}) is None:
                self.builder.tags.add("micro-ops reused")
                return begin
        return None

    def _place_uops(self, uops: Sequence[tuple[int, ...]]) -> int:
        """Load micro-ops to a random place in their window; its address."""
        rng, fields = self.rng, self.geometry.uop_fields()
        base, length = self.windows[w.UOP]
        spare = sum(width for _, width in fields)
        words = []
        for uop in uops:
            values: Values = dict(zip(("dst", "src", "wgt"), uop, strict=True))
            words.append(w.pack(values, fields, 32) | rng.getrandbits(32) >> spare << spare)
        begin = base + rng.randint(0, length - len(words))
        self._place(w.UOP, [word.to_bytes(4, "little") for word in words], begin)
        return begin

    @staticmethod
    def _loop_fields(opcode: int, begin: int, count: int, outer: int, inner: int) -> Values:
        names = ("dst", "src", "wgt") if opcode == w.GEMM else ("dst", "src")
        factors = {f"{name}_factor_{loop}": 0 for name in names for loop in ("out", "in")}
        return {
            **factors,
            **dict.fromkeys(FLAGS, 0),
            "opcode": opcode,
            "reset": 0,
            "uop_bgn": begin,
            "uop_end": begin + count,
            "iter_out": outer,
            "iter_in": inner,
            "alu_opcode": 0,
            "use_imm": 0,
            "imm": 0,
        }
