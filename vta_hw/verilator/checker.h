// The rules that the core keeps on the memory bus: those of AXI4, and rules B1, C1 and T3.
#pragma once

#include <deque>

#include "axi.h"

class Checker {
  public:
    Checker(uint32_t bursts_max, Report& report) : m_bursts_max(bursts_max), m_report(report) {}

    void reset() {
        m_ar.waits = m_aw.waits = m_w.waits = false;
        m_reads.clear();
        m_writes.clear();
        m_writes_open = 0;
    }

    // Bytes of DRAM, and how many of them, from address 0 on, may be written.
    void set_size(uint64_t size, uint64_t writable) {
        m_size = size;
        m_writable = writable;
    }

    // Look at one cycle, before its clock edge.
    void look(const Bus& bus) {
        if (bus.ar_valid || m_ar.waits) read_address(bus);
        if (bus.aw_valid || m_aw.waits) write_address(bus);
        if (bus.w_valid || m_w.waits) write_beat(bus);
        if (bus.r_taken() && --m_reads.front() == 0) m_reads.pop_front();
        if (bus.b_taken()) --m_writes_open;
    }

  private:
    // VALID with its payload stays until READY.
    template <typename Payload>
    struct Held {
        bool waits = false;
        Payload payload;

        // Whether this is the first cycle of a transfer.
        bool step(bool valid, bool ready, const Payload& now, const char* name, Report& report) {
            const bool first = valid && !waits;
            if (waits && !valid)
                report.fail(TROUBLE_PROTOCOL, "%sVALID fell before %sREADY rose", name, name);
            else if (waits && !(now == payload))
                report.fail(TROUBLE_PROTOCOL, "the payload of %s changed before READY rose", name);
            waits = valid && !ready;
            if (waits) payload = now;
            return first;
        }
    };

    struct OpenWrite {
        Address address;
        unsigned seen;
    };

    void burst(const Address& a, const char* name) {
        const uint64_t bytes = uint64_t(a.beats) * BUS_BYTES, end = a.address + bytes;
        const unsigned long long at = a.address;
        if (a.burst != 1)
            m_report.fail(TROUBLE_PROTOCOL, "%sBURST is %u, not 1 (INCR)", name, a.burst);
        else if (a.size != LOG_BUS_BYTES)
            m_report.fail(TROUBLE_PROTOCOL, "%sSIZE is %u, not %u (the width of the bus)", name,
                          a.size, LOG_BUS_BYTES);
        else if (a.lock)
            m_report.fail(TROUBLE_PROTOCOL, "%sLOCK asks for an exclusive access", name);
        else if (a.address % BUS_BYTES)
            m_report.fail(TROUBLE_PROTOCOL, "%sADDR %#llx is not aligned to the bus", name, at);
        else if (a.address / PAGE_BYTES != (end - 1) / PAGE_BYTES)
            m_report.fail(TROUBLE_PROTOCOL, "a burst of %u beats from %sADDR %#llx on crosses 4 KiB",
                          a.beats, name, at);
        else if (end > m_size)
            m_report.fail(TROUBLE_PROTOCOL,
                          "a burst of %u beats from %sADDR %#llx on leaves the %llu bytes of DRAM",
                          a.beats, name, at, (unsigned long long)m_size);
    }

    void read_address(const Bus& bus) {
        if (!m_ar.step(bus.ar_valid, bus.ar_ready, bus.ar, "AR", m_report)) return;
        burst(bus.ar, "AR");
        m_reads.push_back(bus.ar.beats);
        if (m_reads.size() > m_bursts_max)
            m_report.fail(TROUBLE_PROTOCOL, "%zu read bursts are open, more than MAX_READS, %u",
                          m_reads.size(), m_bursts_max);
    }

    void write_address(const Bus& bus) {
        if (!m_aw.step(bus.aw_valid, bus.aw_ready, bus.aw, "AW", m_report)) return;
        burst(bus.aw, "AW");
        m_writes.push_back({bus.aw, 0});
        if (++m_writes_open > m_bursts_max)
            m_report.fail(TROUBLE_PROTOCOL, "%u write bursts are open, more than MAX_READS, %u",
                          m_writes_open, m_bursts_max);
    }

    void write_beat(const Bus& bus) {
        if (m_w.step(bus.w_valid, bus.w_ready, bus.w, "W", m_report)) {
            if (m_writes.empty()) {
                m_report.fail(TROUBLE_PROTOCOL, "write data comes before its address");
                return;
            }
            OpenWrite& open = m_writes.front();
            const bool first = open.seen++ == 0, last = open.seen == open.address.beats;
            if (bus.w.last != last)
                m_report.fail(TROUBLE_PROTOCOL, "WLAST is %d in beat %u of a burst of %u",
                              int(bus.w.last), open.seen, open.address.beats);
            lanes(bus.w.lanes, first, last);
            limit(bus.w.lanes, open.address.address + uint64_t(open.seen - 1) * BUS_BYTES);
            if (last) m_writes.pop_front();
        }
    }

    // Bytes that are not written may only precede the first or follow the last one of a burst.
    void lanes(uint64_t lanes, bool first, bool last) {
        const uint64_t low = lanes & (~lanes + 1);  // 0 or the lowest lane
        const bool contiguous = low && ((lanes + low) & lanes & ALL_LANES) == 0;
        const bool starts = lanes & 1, ends = lanes >> (BUS_BYTES - 1) & 1;
        if (!contiguous || (!starts && !first) || (!ends && !last))
            m_report.fail(TROUBLE_PROTOCOL, "WSTRB %#llx leaves a gap inside a burst",
                          (unsigned long long)lanes);
    }

    // Reads may go further: instructions can lie behind all that a program may touch.
    void limit(uint64_t lanes, uint64_t address) {
        if (!lanes) return;
        const uint64_t byte = address + 63 - __builtin_clzll(lanes);
        if (byte >= m_writable)
            m_report.fail(TROUBLE_PROTOCOL, "byte %#llx is written, beyond the DRAM limit of %#llx",
                          (unsigned long long)byte, (unsigned long long)m_writable);
    }

    uint32_t m_bursts_max;
    Report& m_report;
    uint64_t m_size = 0, m_writable = 0;
    Held<Address> m_ar, m_aw;
    Held<WriteBeat> m_w;
    std::deque<unsigned> m_reads;  // beats to come of each burst
    std::deque<OpenWrite> m_writes;
    unsigned m_writes_open = 0;
};
