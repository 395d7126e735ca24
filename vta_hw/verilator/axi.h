// What passes over the memory bus, and the record of the first thing that went wrong.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

// Bytes of one beat, and of what no burst crosses; given by the build.
constexpr unsigned BUS_BYTES = VTA_BUS_BYTES;
constexpr unsigned PAGE_BYTES = VTA_PAGE_BYTES;

constexpr unsigned log2_of(unsigned value) { return value > 1 ? 1 + log2_of(value / 2) : 0; }
constexpr unsigned LOG_BUS_BYTES = log2_of(BUS_BYTES);
constexpr uint64_t ALL_LANES = BUS_BYTES == 64 ? ~0ull : (1ull << (BUS_BYTES % 64)) - 1;

struct Address {
    uint64_t address;
    unsigned beats;
    unsigned size, burst, id, lock, cache, prot, qos;

    bool operator==(const Address& other) const {
        return address == other.address && beats == other.beats && size == other.size &&
               burst == other.burst && id == other.id && lock == other.lock &&
               cache == other.cache && prot == other.prot && qos == other.qos;
    }
};

struct WriteBeat {
    uint8_t data[BUS_BYTES];
    uint64_t lanes;
    bool last;

    bool operator==(const WriteBeat& other) const {
        return lanes == other.lanes && last == other.last &&
               std::memcmp(data, other.data, BUS_BYTES) == 0;
    }
};

// Kinds of trouble, as the caller sees them.
enum Trouble { TROUBLE_NONE = 0, TROUBLE_PROTOCOL = 1, TROUBLE_NO_ANSWER = 2 };

// Keeps the first complaint only: what follows it is its consequence.
class Report {
  public:
    int64_t cycle = -1;

    bool bad() const { return m_kind != TROUBLE_NONE; }
    Trouble kind() const { return m_kind; }
    const char* text() const { return m_text.c_str(); }

    void clear() {
        m_kind = TROUBLE_NONE;
        m_text.clear();
    }

    __attribute__((format(printf, 3, 4))) void fail(Trouble kind, const char* format, ...) {
        if (bad()) return;
        char buffer[256];
        va_list arguments;
        va_start(arguments, format);
        std::vsnprintf(buffer, sizeof buffer, format, arguments);
        va_end(arguments);
        m_kind = kind;
        m_text = (cycle < 0 ? "outside a run" : "in cycle " + std::to_string(cycle)) +
                 std::string(": ") + buffer;
    }

  private:
    Trouble m_kind = TROUBLE_NONE;
    std::string m_text;
};

// Deterministic random bits (xorshift).
class Random {
  public:
    explicit Random(uint64_t seed) : m_state(seed * 0x9E3779B97F4A7C15ull + 0x2545F4914F6CDD1Dull) {
        if (!m_state) m_state = 1;
    }

    // True in `share` of 65536 cases.
    bool chance(uint32_t share) {
        m_state ^= m_state << 13;
        m_state ^= m_state >> 7;
        m_state ^= m_state << 17;
        return (m_state >> 32 & 0xFFFF) < share;
    }

  private:
    uint64_t m_state;
};

// One cycle of the memory bus, as it stands before the clock edge. Payloads are valid with `valid`.
struct Bus {
    bool ar_valid, ar_ready, r_valid, r_ready;
    bool aw_valid, aw_ready, w_valid, w_ready, b_valid, b_ready;
    Address ar, aw;
    WriteBeat w;

    bool ar_taken() const { return ar_valid && ar_ready; }
    bool r_taken() const { return r_valid && r_ready; }
    bool aw_taken() const { return aw_valid && aw_ready; }
    bool w_taken() const { return w_valid && w_ready; }
    bool b_taken() const { return b_valid && b_ready; }
};

struct Span {
    int64_t first, last;
};

// Runs of cycles in which beats follow each other without a gap.
class Spans {
  public:
    void clear() { m_spans.clear(); }

    void add(int64_t cycle) {
        if (!m_spans.empty() && m_spans.back().last + 1 == cycle)
            m_spans.back().last = cycle;
        else
            m_spans.push_back({cycle, cycle});
    }

    const std::vector<Span>& get() const { return m_spans; }

  private:
    std::vector<Span> m_spans;
};
