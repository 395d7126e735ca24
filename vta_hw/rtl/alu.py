"""The ALU: asks for the slots of its micro-ops, and moves what comes of them through its lanes."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from vta_hw.rtl.alu_lane import FORWARDS, STAGES, TAKE, AluLane
from vta_hw.rtl.alu_operation import OPERATION, decode_operation
from vta_hw.rtl.copies import COPIES, register_copies
from vta_hw.rtl.signatures import (
    OPS_BITS,
    REQ_IMMEDIATE,
    AccSlot,
    ElementRead,
    Work,
    acc_index_bits,
    alu_job,
)
from vta_hw.rtl.uop_loop import UopLoop
from vta_hw.spec import machine
from vta_hw.spec.config import ACC_LANE_BITS, UOP_BITS, MemType, VtaConfig
from vta_hw.spec.isa import REQUANT_OPS, AluOp, Rounding

_AGES = machine.ACC_HAZARD - 1
"""Grants of so many cycles back have not been written when a slot granted now is read."""

_AT_LANES = machine.ACC_READ_DELAY
"""Cycles from a grant to what it reads."""

_SLOT = data.StructLayout(
    {"source": machine.REQ_PARAMETERS, "dst": 1, "begins": 1, "forward": FORWARDS + 1}
)
"""A granted slot.

source: bit i: that of acc[src + i]. dst: that of acc[dst]. begins: the first of its job. forward:
bit 0: its element is read, bit i: it is to be that of the grant of acc[dst] i cycles before.
"""

if _AT_LANES + STAGES != machine.ACC_WRITE_DELAY or _AGES != FORWARDS:
    raise ImportError(f"the ALU's {STAGES} stages do not lie between ACC's read and write")


class Alu(wiring.Component):
    """The ALU (rules A1 to A3, G3, G4).

    All numbers of one instruction have left the lanes' stages before the first of the next one gets
    there, and before the operation of the lanes changes: an instruction is retired
    `DONE_TO_RETIRE` cycles after its last grant, the next one issues after that and asks for its
    first slot two cycles later. So nothing of one is forwarded to the other, and the rules need
    not look back beyond an instruction.

    Members
    -------
    work: jobs; start must be at least three cycles after the last grant of the job before.
    uop: the UOP memory.
    acc: its slots.
    moving: a slot is granted.
    port: a micro-op waits for a slot and has none granted.
    """

    def __init__(self, config: VtaConfig) -> None:
        self._config = config
        super().__init__(
            {
                "work": In(Work(alu_job(config), OPS_BITS)),
                "uop": Out(ElementRead(config.depth_bits(MemType.UOP), UOP_BITS)),
                "acc": Out(AccSlot(config)),
                "moving": Out(1),
                "port": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The loop, the slots of the micro-op in hand, the way from grants to the lanes."""
        m = Module()
        depth_bits = dict.fromkeys(("dst", "src"), acc_index_bits(self._config))
        m.submodules.loop = loop = UopLoop(alu_job(self._config), self._config, depth_bits)
        wiring.connect(m, wiring.flipped(self.work), loop.work)
        wiring.connect(m, loop.uop, wiring.flipped(self.uop))
        self._follow(m, loop.job, self._ask(m, loop))
        return m

    def _ask(self, m: Module, loop: UopLoop) -> data.View:
        """Slots of the micro-op in hand, those of its sources first; gives the one granted now."""
        micro_op = loop.micro_op.payload
        job = loop.job
        bits = acc_index_bits(self._config)
        slow, is_req = Signal(), Signal()
        # The first micro-op is there two cycles after the start, one after the job.
        m.d.sync += Cat(slow, is_req).eq(Cat(*self._kinds(job)))
        granted = Signal(_SLOT)
        wanted = Signal(machine.REQ_PARAMETERS, init=1)  # the source to ask for, if there is one
        read = Signal()  # the sources of the micro-op in hand have been read
        stale = Signal()  # the micro-op before has written where its source was
        needed = Signal()
        grant = Signal()
        source, next_source = Signal(bits), Signal(bits)
        src, dst = micro_op.src[:bits], micro_op.dst[:bits]
        beyond = micro_op.beyond_src | micro_op.beyond_dst
        last_sources = src[1:].all()  # src + 2 lies beyond the memory
        source_hits, dst_hits, other = self._hits(m, loop, granted.dst, source, grant & needed)
        m.d.comb += [
            source.eq(Mux(wanted[0], src, next_source)),
            loop.bad.eq(beyond | (is_req & last_sources)),
            needed.eq(~job.use_imm & ~read & (micro_op.first | other | (stale & ~is_req))),
            self.acc.index.eq(Mux(needed, source, dst)),
            self.acc.write.eq(~needed),
            self.acc.valid.eq(
                loop.micro_op.valid
                & ~loop.bad
                & ~Mux(needed, source_hits.any(), slow & dst_hits.any())
            ),
            grant.eq(self.acc.valid & self.acc.grant),
            granted.source.eq(Mux(grant & needed, wanted, 0)),
            granted.dst.eq(grant & ~needed),
            granted.begins.eq(grant & micro_op.first & ~read & wanted[0]),
            granted.forward.eq(_first_of(Mux(slow, 0, dst_hits))),
            loop.micro_op.ready.eq(granted.dst),
            self.moving.eq(grant),
            self.port.eq(loop.micro_op.valid & ~loop.bad & ~grant),
        ]  # fmt: skip
        last = Mux(is_req, wanted[-1], 1)
        with m.If(grant & needed):
            m.d.sync += [
                read.eq(last),
                wanted.eq(Mux(last, 1, wanted << 1)),
                next_source.eq(source + 1),
            ]
        # No write but that of the micro-op before can have made stale what is held: had an earlier
        # one with the same src done so, that micro-op would have read it again.
        with m.If(granted.dst):
            m.d.sync += [read.eq(0), stale.eq(src == dst)]
        return granted

    def _kinds(self, job: data.View) -> tuple[Value, Value]:
        """Whether the job's results are not forwarded; whether it is REQ."""
        forwarded = Cat(job.alu_opcode == operation for operation in machine.FORWARDED_OPS).any()
        is_req = job.alu_opcode == AluOp.REQ if self._config.has("requant") else Value.cast(0)
        return ~forwarded, is_req

    def _hits(
        self, m: Module, loop: UopLoop, write: Value, source: Value, moves: Value
    ) -> tuple[Value, Value, Value]:
        """Which of the last grants of dst were for the element of `source`, which for that of dst;
        and whether src is another than that of the micro-op before.

        Found in the cycle before, for the micro-op that comes and for the source behind `source`:
        whether they do (`moves`: that one) is known late, and only chooses.
        """
        bits = acc_index_bits(self._config)
        micro_op = loop.micro_op.payload
        coming = [index[:bits] for index in (loop.coming.src, loop.coming.dst)]
        valid, other = Signal(_AGES), Signal()
        same_source, same_dst = Signal(_AGES), Signal(_AGES)
        m.d.sync += valid.eq(Cat(write, valid[:-1]))
        # What was asked for in this cycle counts if it was granted and dst.
        index: Value = micro_op.dst[:bits]
        behind = (source + 1)[:bits]
        found_source, found_dst, found_behind = [], [], []
        for age in range(_AGES):
            found_source.append(index == coming[0])
            found_dst.append(index == coming[1])
            found_behind.append(index == behind)
            kept = Signal(bits, name=f"index_{age + 1}")
            m.d.sync += kept.eq(index)
            index = kept
        with m.If(loop.loads):
            m.d.sync += [
                same_source.eq(Cat(found_source)),
                same_dst.eq(Cat(found_dst)),
                other.eq(micro_op.src[:bits] != coming[0]),
            ]
        with m.Else():
            # Nothing has been granted for dst in this cycle.
            stays = Cat(Const(0, 1), same_source[:-1])
            m.d.sync += [
                same_source.eq(Mux(moves, Cat(found_behind), stays)),
                same_dst.eq(Cat(Const(0, 1), same_dst[:-1])),
            ]
        return valid & same_source, valid & same_dst, other

    def _follow(self, m: Module, job: data.View, granted: data.View) -> None:
        """From the grants to the lanes, which work on what they read."""
        immediate = Signal.like(job.imm)
        take = Signal(TAKE)
        line = [granted]
        for age in range(1, _AT_LANES + 1):
            line.append(Signal(_SLOT, name=f"granted_{age}"))
            m.d.sync += line[-1].eq(line[-2])
        # The immediate is taken one cycle before the lanes begin; the operation must not change as
        # long as the last micro-op of the job before may be in them.
        with m.If(line[_AT_LANES - 2].begins):
            m.d.sync += immediate.eq(job.imm)
        operations = [
            OPERATION(copy)
            for copy in register_copies(
                m, "operation", self._decode(job), enable=line[_AT_LANES - 1].begins
            )
        ]
        operation = operations[0]
        stage = Signal(STAGES)
        m.d.sync += stage.eq(Cat(line[_AT_LANES - 1].dst, stage[:-1]))
        taken = Signal(2)
        m.d.sync += taken.eq(Cat(take.operand | take.immediate, taken[:-1]))
        first, second, third = line[_AT_LANES].source
        m.d.comb += [
            take.immediate.eq(line[_AT_LANES - 1].begins),
            take.operand.eq(first),
            take.multiplier.eq(Mux(operation.req, second, first)),
            take.shifts.eq(third),
            take.amount.eq(taken[-1] & operation.rsr),
        ]
        forwards = register_copies(m, "forward", line[_AT_LANES - 1].forward)
        for i in range(self._config.batch * self._config.block_out):
            lane = AluLane(requant=self._config.has("requant"))
            m.submodules[f"lane_{i}"] = lane
            m.d.comb += [
                lane.operation.eq(operations[i % COPIES]),
                lane.read.eq(
                    Mux(
                        self.acc.fresh[i % COPIES],
                        lane.result,
                        self.acc.read_data.word_select(i, ACC_LANE_BITS),
                    )
                ),
                lane.immediate.eq(immediate),
                lane.take.eq(take),
                lane.stage.eq(stage),
                lane.forward.eq(forwards[i % COPIES]),
                self.acc.write_data.word_select(i, ACC_LANE_BITS).eq(lane.result),
            ]

    def _decode(self, job: data.View) -> Value:
        """`OPERATION` of the job; what the config lacks is constant."""
        parameters = REQ_IMMEDIATE(job.imm.as_unsigned())

        def is_opcode(opcode: AluOp) -> Value:
            known = opcode not in REQUANT_OPS or self._config.has("requant")
            return job.alu_opcode == opcode if known else Const(0)

        def is_mode(mode: Rounding) -> Value:
            return is_opcode(AluOp.REQ) & (parameters.mode == mode)

        fields = decode_operation(is_opcode, is_mode) | {"zero_point": parameters.zero_point}
        return Cat(*(fields[name] for name, _ in OPERATION))


def _first_of(hits: Value) -> Value:
    """One bit: that above the lowest one of `hits`, or bit 0 if there is none."""
    return Cat(~hits.any(), hits & (~hits + 1))
