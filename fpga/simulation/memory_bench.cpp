// The AXI memory of a board with its chip, driven by lists of bursts; memory_bench.py is the other
// side.
#include <cstring>
#include <memory>

#include "Vmodel.h"
#include "chip_pins.h"
#include "verilated.h"

// Names that Verilator makes of ports of an interface.
#define READ(port) read___05F##port
#define WRITE(port) write___05F##port

namespace {

constexpr unsigned BUS_BYTES = VTA_BUS_BYTES;

// A burst, and what became of it. Mirrored by `_Burst` of memory_bench.py. `offset` is where its
// beats lie in the data, `gap` is the cycles between two beats that are written.
struct Burst {
    uint64_t address, offset;
    int64_t not_before, accepted, first, last;
    uint32_t beats, gap;
};

struct Side {
    Burst* bursts = nullptr;
    uint64_t count = 0, addressed = 0, moved = 0, answered = 0;
    uint32_t beat = 0;
    uint8_t* data = nullptr;

    bool addresses_left(int64_t now) const {
        return addressed < count && bursts[addressed].not_before <= now;
    }
};

class MemoryBench {
  public:
    explicit MemoryBench(const ChipOptions& options) : m_chip(options, m_complaint) {
        m_context.randReset(2);
        m_context.randSeed(int(options.seed) + 1);
        m_random = options.seed * 2654435761u + 99;
        m_top = std::make_unique<Vmodel>(&m_context);
        m_top->settle = m_top->clear = 0;
        m_top->READ(arvalid) = m_top->WRITE(awvalid) = m_top->WRITE(wvalid) = 0;
        m_top->rst = 1;
        for (int i = 0; i < 4; ++i) step();
        m_top->rst = 0;
        m_now = 0;
    }

    ~MemoryBench() { m_top->final(); }

    SdramChip& chip() { return m_chip; }
    const Complaint& complaint() const { return m_complaint; }
    int64_t now() const { return m_now; }

    // Steps until the memory is settled: the cycle of `settled`, or -1.
    int64_t settle(uint64_t limit) {
        m_top->settle = 1;
        for (uint64_t i = 0; i < limit && !m_complaint.any(); ++i) {
            const bool settled = m_top->settled;
            if (settled) m_top->settle = 0;
            step();
            if (settled) return m_now - 1;
        }
        return -1;
    }

    // Does all bursts, then some more cycles; whether it could.
    bool run(Side& reads, Side& writes, const uint8_t* strobes, uint32_t rest, uint64_t limit) {
        m_reads = &reads, m_writes = &writes, m_strobes = strobes, m_rest = rest;
        while ((reads.answered < reads.count || writes.answered < writes.count) && limit--) {
            if (m_complaint.any()) break;
            step();
        }
        m_reads = m_writes = nullptr;
        m_top->READ(arvalid) = m_top->WRITE(awvalid) = m_top->WRITE(wvalid) = 0;
        for (int i = 0; i < 100 && !m_complaint.any(); ++i) step();
        return reads.answered == reads.count && writes.answered == writes.count;
    }

  private:
    bool rests() {
        m_random ^= m_random << 13, m_random ^= m_random >> 17, m_random ^= m_random << 5;
        return (m_random >> 8 & 0xFFFF) < m_rest;
    }

    void drive() {
        auto& top = *m_top;
        top.READ(rready) = !rests();
        top.WRITE(bready) = !rests();
        if (!m_reads) return;
        const Side& reads = *m_reads;
        top.READ(arvalid) = reads.addresses_left(m_now);
        if (top.READ(arvalid)) {
            top.READ(araddr) = reads.bursts[reads.addressed].address;
            top.READ(arlen) = reads.bursts[reads.addressed].beats - 1;
        }
        const Side& writes = *m_writes;
        top.WRITE(awvalid) = writes.addresses_left(m_now);
        if (top.WRITE(awvalid)) {
            top.WRITE(awaddr) = writes.bursts[writes.addressed].address;
            top.WRITE(awlen) = writes.bursts[writes.addressed].beats - 1;
        }
        // A beat comes when its address is accepted, and not too soon after the one before.
        top.WRITE(wvalid) = writes.moved < writes.addressed && m_now >= m_next_beat;
        if (top.WRITE(wvalid)) {
            const Burst& burst = writes.bursts[writes.moved];
            const uint64_t beat = burst.offset / BUS_BYTES + writes.beat;
            std::memcpy(&top.WRITE(wdata), writes.data + beat * BUS_BYTES, BUS_BYTES);
            top.WRITE(wstrb) = m_strobes[beat];
            top.WRITE(wlast) = writes.beat + 1 == burst.beats;
        }
    }

    void look() {
        auto& top = *m_top;
        Side& reads = *m_reads;
        Side& writes = *m_writes;
        if (top.READ(rvalid) && top.READ(rready)) read_beat(reads);
        if (top.READ(arvalid) && top.READ(arready)) reads.bursts[reads.addressed++].accepted = m_now;
        if (top.WRITE(bvalid) && top.WRITE(bready)) {
            if (writes.answered >= writes.moved) m_complaint.say("a response comes too early");
            else writes.bursts[writes.answered++].last = m_now;
        }
        if (top.WRITE(wvalid) && top.WRITE(wready)) {
            Burst& burst = writes.bursts[writes.moved];
            m_next_beat = m_now + 1 + burst.gap;
            if (++writes.beat == burst.beats) {
                burst.first = m_now;
                writes.beat = 0, ++writes.moved;
            }
        }
        if (top.WRITE(awvalid) && top.WRITE(awready))
            writes.bursts[writes.addressed++].accepted = m_now;
    }

    void read_beat(Side& reads) {
        auto& top = *m_top;
        if (reads.answered >= reads.addressed) return m_complaint.say("a beat comes too early");
        Burst& burst = reads.bursts[reads.answered];
        std::memcpy(reads.data + burst.offset + uint64_t(reads.beat) * BUS_BYTES, &top.READ(rdata),
                    BUS_BYTES);
        if (reads.beat == 0) burst.first = m_now;
        const bool last = ++reads.beat == burst.beats;
        if (last != bool(top.READ(rlast))) m_complaint.say("RLAST comes at the wrong beat");
        if (last) burst.last = m_now, reads.beat = 0, ++reads.answered;
    }

    void step() {
        auto& top = *m_top;
        drive();
        top.clk = 0;
        top.eval();
        chip_edge(top, m_chip, m_complaint);
        top.eval();
        if (m_reads && !top.rst) look();
        top.clk = 1;
        top.eval();
        ++m_now;
    }

    VerilatedContext m_context;
    std::unique_ptr<Vmodel> m_top;
    Complaint m_complaint;
    SdramChip m_chip;
    Side* m_reads = nullptr;
    Side* m_writes = nullptr;
    const uint8_t* m_strobes = nullptr;
    uint32_t m_random = 1, m_rest = 0;
    int64_t m_now = 0, m_next_beat = 0;
};

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

uint32_t bench_sizes(uint32_t which) { return which ? sizeof(Burst) : sizeof(ChipOptions); }
MemoryBench* bench_create(const ChipOptions* options) { return new MemoryBench(*options); }
void bench_destroy(MemoryBench* bench) { delete bench; }
uint16_t* bench_words(MemoryBench* bench) { return bench->chip().words(); }
int64_t bench_settle(MemoryBench* bench, uint64_t limit) { return bench->settle(limit); }
int64_t bench_now(const MemoryBench* bench) { return bench->now(); }

int bench_run(MemoryBench* bench, Burst* reads, uint64_t read_count, uint8_t* read_data,
              Burst* writes, uint64_t write_count, uint8_t* write_data, const uint8_t* strobes,
              uint32_t rest, uint64_t limit) {
    Side read_side, write_side;
    read_side.bursts = reads, read_side.count = read_count, read_side.data = read_data;
    write_side.bursts = writes, write_side.count = write_count, write_side.data = write_data;
    return bench->run(read_side, write_side, strobes, rest, limit);
}

const char* bench_complaint(const MemoryBench* bench) { return bench->complaint().text(); }
uint64_t bench_refreshes(MemoryBench* bench) { return bench->chip().refreshes(); }
uint64_t bench_postponed(MemoryBench* bench) { return bench->chip().postponed(); }

}  // extern "C"
#pragma GCC visibility pop
