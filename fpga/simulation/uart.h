// The other end of a serial line: bytes become levels of a pin, and the other way round.
#pragma once

#include <cstdint>
#include <deque>

// Counts out bits of `clock_hz / baud` cycles, which need not be whole.
class BitClock {
  public:
    BitClock(uint64_t clock_hz, uint64_t baud) : m_clock(clock_hz), m_baud(baud) {}

    // Whether a bit ends with this cycle.
    bool tick() {
        m_phase += m_baud;
        if (m_phase < m_clock) return false;
        m_phase -= m_clock;
        return true;
    }

    void restart(bool half) { m_phase = half ? m_clock / 2 : 0; }

  private:
    uint64_t m_clock, m_baud, m_phase = 0;
};

class UartSender {
  public:
    UartSender(uint64_t clock_hz, uint64_t baud) : m_bits(clock_hz, baud) {}

    void push(uint8_t byte) { m_bytes.push_back(byte); }
    bool busy() const { return m_left || !m_bytes.empty(); }
    size_t waiting() const { return m_bytes.size(); }

    // The level of the line in this cycle.
    bool level() {
        if (!m_left) {
            if (m_bytes.empty()) return true;
            // Stop bit, eight bits from the lowest up, start bit, which goes first.
            m_frame = 0x200u | m_bytes.front() << 1;
            m_bytes.pop_front();
            m_left = 10;
            m_bits.restart(false);
        }
        const bool now = m_frame & 1;
        if (m_bits.tick()) m_frame >>= 1, --m_left;
        return now;
    }

  private:
    BitClock m_bits;
    std::deque<uint8_t> m_bytes;
    unsigned m_frame = 0, m_left = 0;
};

class UartReceiver {
  public:
    UartReceiver(uint64_t clock_hz, uint64_t baud) : m_bits(clock_hz, baud) {}

    bool busy() const { return m_left; }

    // Look at the line in this cycle; whether a byte is complete.
    bool look(bool level, uint8_t& byte) {
        if (!m_left) {
            if (level) return false;
            m_left = 10;
            m_frame = 0;
            // Bits are looked at in their middle.
            m_bits.restart(true);
            return false;
        }
        if (!m_bits.tick()) return false;
        m_frame |= unsigned(level) << (10 - m_left);
        if (--m_left) return false;
        byte = uint8_t(m_frame >> 1);
        return !(m_frame & 1) && m_frame >> 9;
    }

  private:
    BitClock m_bits;
    unsigned m_frame = 0, m_left = 0;
};
