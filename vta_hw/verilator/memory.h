// DRAM behind the memory bus: rules M1 and M2 of docs/timing.md, and on request a worse one.
#pragma once

#include <algorithm>
#include <deque>

#include "axi.h"

// Mirrored by `_MemoryOptions` of harness.py, which compares the sizes.
struct MemoryOptions {
    uint64_t seed;
    uint64_t error_first, error_end;  // addresses that answer with `error_code`
    int64_t stop_cycle;               // of a run, from which on nothing is answered; -1: never
    uint32_t latency;
    uint32_t max_reads;
    uint32_t patience;  // cycles beyond the latency in which something must move
    uint32_t error_code;
    uint32_t stalls[5];  // chance in 65536 of a cycle in which AR, R, AW, W or B rests
};

class Memory {
  public:
    Memory(const MemoryOptions& options, Report& report)
        : m_options(options), m_report(report), m_random(options.seed) {
        for (uint32_t share : options.stalls) m_stalls |= share != 0;
    }

    void attach(uint8_t* bytes, uint64_t size) {
        m_bytes = bytes;
        m_size = size;
    }

    uint64_t size() const { return m_size; }
    const MemoryOptions& options() const { return m_options; }

    // Forget everything that is open, as after a reset.
    void reset(int64_t clock) {
        m_reads.clear();
        m_writes.clear();
        m_early.clear();
        m_responses.clear();
        m_r_offered = m_b_offered = false;
        m_moved_at = clock;
    }

    // Whether something is open that the memory or the core owes.
    bool busy() const {
        return !m_reads.empty() || !m_writes.empty() || !m_early.empty() || !m_responses.empty();
    }

    // The memory's side of the bus in this cycle.
    void drive(int64_t clock, Bus& bus) {
        const bool stopped = m_options.stop_cycle >= 0 && m_report.cycle >= m_options.stop_cycle;
        bus.ar_ready = !stopped && !rests(0);
        bus.aw_ready = !stopped && !rests(2);
        bus.w_ready = !stopped && !rests(3);
        if (!m_r_offered && !m_reads.empty() && m_reads.front().at <= clock)
            m_r_offered = !stopped && !rests(1);
        if (!m_b_offered && !m_responses.empty() && m_responses.front().at <= clock)
            m_b_offered = !stopped && !rests(4);
        bus.r_valid = m_r_offered;
        bus.b_valid = m_b_offered;
    }

    // What the offered read beat holds.
    const uint8_t* r_data() const { return m_bytes + m_reads.front().address; }
    bool r_last() const { return m_reads.front().beats == 1; }
    unsigned r_id() const { return m_reads.front().id; }
    unsigned r_response() const { return response(m_reads.front().address); }
    unsigned b_id() const { return m_responses.front().id; }
    unsigned b_response() const { return m_responses.front().code; }

    // Take part in the clock edge that ends this cycle.
    void clock_edge(int64_t clock, const Bus& bus) {
        bool moved = false;
        if (bus.r_taken()) {
            Burst& burst = m_reads.front();
            burst.address += BUS_BYTES;
            m_r_offered = false;
            if (--burst.beats == 0) m_reads.pop_front();
            moved = true;
        }
        if (bus.ar_taken()) {
            m_reads.push_back({bus.ar.address, bus.ar.beats, bus.ar.id, clock + m_options.latency});
            moved = true;
        }
        if (bus.b_taken()) {
            m_responses.pop_front();
            m_b_offered = false;
            moved = true;
        }
        if (bus.aw_taken()) {
            m_writes.push_back({bus.aw.address, bus.aw.beats, bus.aw.id, 0});
            moved = true;
        }
        if (bus.w_taken()) {
            m_early.push_back(bus.w);
            moved = true;
        }
        while (!m_early.empty() && !m_writes.empty()) {
            write(m_early.front(), clock);
            m_early.pop_front();
        }
        if (moved || !(busy() || bus.ar_valid || bus.aw_valid || bus.w_valid))
            m_moved_at = clock;
        else if (clock - m_moved_at > int64_t(m_options.latency) + m_options.patience)
            complain(clock, bus);
    }

  private:
    struct Burst {
        uint64_t address;
        unsigned beats, id;
        int64_t at;
    };
    struct Response {
        unsigned id, code;
        int64_t at;
    };

    bool rests(unsigned channel) { return m_stalls && m_random.chance(m_options.stalls[channel]); }

    unsigned response(uint64_t address) const {
        const bool hit =
            address + BUS_BYTES > m_options.error_first && address < m_options.error_end;
        return hit ? m_options.error_code : 0;
    }

    void write(const WriteBeat& beat, int64_t clock) {
        Burst& burst = m_writes.front();
        const unsigned code = response(burst.address);
        m_write_code = std::max(m_write_code, code);
        uint8_t* target = m_bytes + burst.address;
        if (!code && beat.lanes == ALL_LANES)
            std::memcpy(target, beat.data, BUS_BYTES);
        else if (!code)
            for (unsigned lane = 0; lane < BUS_BYTES; ++lane)
                if (beat.lanes >> lane & 1) target[lane] = beat.data[lane];
        burst.address += BUS_BYTES;
        if (--burst.beats) return;
        m_responses.push_back({burst.id, m_write_code, clock + m_options.latency});
        m_write_code = 0;
        m_writes.pop_front();
    }

    void complain(int64_t clock, const Bus& bus) {
        const long long still = clock - m_moved_at;
        if ((bus.r_valid && !bus.r_ready) || (bus.b_valid && !bus.b_ready))
            m_report.fail(TROUBLE_PROTOCOL, "the core has not taken a %s for %lld cycles",
                          bus.r_valid ? "read beat" : "write response", still);
        else if (m_reads.empty() && m_responses.empty() && !bus.ar_valid && !bus.aw_valid &&
                 !bus.w_valid)
            m_report.fail(TROUBLE_PROTOCOL, "the core has owed write data for %lld cycles", still);
        else
            m_report.fail(TROUBLE_NO_ANSWER, "the memory has not answered for %lld cycles", still);
    }

    MemoryOptions m_options;
    Report& m_report;
    Random m_random;
    bool m_stalls = false;
    uint8_t* m_bytes = nullptr;
    uint64_t m_size = 0;
    std::deque<Burst> m_reads, m_writes;
    std::deque<WriteBeat> m_early;  // accepted before their address
    std::deque<Response> m_responses;
    unsigned m_write_code = 0;
    bool m_r_offered = false, m_b_offered = false;
    int64_t m_moved_at = 0;
};
