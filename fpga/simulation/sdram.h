// An SDR SDRAM chip that looks at every command as its data sheet does, and complains.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

// The part, and the clock that it is given. Mirrored by `ChipOptions` of chip.py.
struct ChipOptions {
    uint64_t period_ps, power_up_ps, ras_max_ps, refresh_ps;
    uint32_t rcd_ps, rp_ps, ras_ps, rc_ps;
    uint32_t rrd_clocks, wr_clocks, mode_clocks, cas_clocks;
    uint32_t bank_bits, row_bits, column_bits;
    uint32_t initial_refreshes, postponed_max, seed;
};

// The first complaint; what follows it may be its consequence.
class Complaint {
  public:
    bool any() const { return !m_text.empty(); }
    const char* text() const { return m_text.c_str(); }

    __attribute__((format(printf, 2, 3))) void say(const char* format, ...) {
        if (any()) return;
        char buffer[256];
        va_list arguments;
        va_start(arguments, format);
        std::vsnprintf(buffer, sizeof buffer, format, arguments);
        va_end(arguments);
        m_text = buffer;
    }

  private:
    std::string m_text;
};

// RAS, CAS, WE, active low, RAS in the highest bit.
enum ChipCommand : unsigned {
    CHIP_MODE = 0,
    CHIP_REFRESH = 1,
    CHIP_PRECHARGE = 2,
    CHIP_ACTIVATE = 3,
    CHIP_WRITE = 4,
    CHIP_READ = 5,
    CHIP_STOP = 6,
    CHIP_NOP = 7,
};

// Pins as they stand at a rising edge of the chip's clock.
struct ChipPins {
    unsigned command, bank, address, mask, data;
    bool drive;
};

class SdramChip {
  public:
    SdramChip(const ChipOptions& options, Complaint& complaint)
        : m_options(options), m_complaint(complaint), m_banks(1u << options.bank_bits) {
        m_words.resize(size_t(1) << (options.bank_bits + options.row_bits + options.column_bits));
        uint32_t random = options.seed * 2654435761u + 1;
        for (uint16_t& word : m_words) {
            random ^= random << 13, random ^= random >> 17, random ^= random << 5;
            word = uint16_t(random);
        }
    }

    // Contents in the order of the controller's addresses: columns, then banks, then rows.
    uint16_t* words() { return m_words.data(); }

    uint64_t refreshes() const { return m_refreshes; }
    uint64_t postponed() const { return m_most_postponed; }
    uint64_t column_commands() const { return m_columns; }
    uint64_t edges() const { return m_edges; }

    // What is on the data pins between this edge and the next one.
    bool drives() const { return m_drives; }
    unsigned data() const { return m_data; }

    // A rising edge of the chip's clock.
    void edge(const ChipPins& pins) {
        const int64_t now = int64_t(m_edges) * int64_t(m_options.period_ps);
        if (pins.drive && m_drives) complain(now, "both ends drive the data pins");
        look(pins, now);
        check_refreshes(now);
        // What was asked for CAS - 1 edges ago is driven up to the next edge.
        const Out& out = m_out[(m_edges + 1) % OUT];
        m_drives = out.due == m_edges;
        m_data = out.word;
        ++m_edges;
    }

  private:
    static constexpr int64_t NEVER = -(int64_t(1) << 60);
    static constexpr unsigned OUT = 8;

    struct Bank {
        bool open = false;
        unsigned row = 0;
        int64_t activated = NEVER, closed = NEVER, written = NEVER;
    };

    struct Out {
        uint64_t due = ~uint64_t(0);
        uint16_t word = 0;
    };

    void complain(int64_t now, const char* text) {
        m_complaint.say("SDRAM, at %.1f ns: %s", double(now) / 1000, text);
    }

    void since(int64_t now, int64_t then, int64_t least, const char* name) {
        if (now - then < least)
            m_complaint.say("SDRAM, at %.1f ns: %s is %.1f ns, and must be %.1f at least",
                            double(now) / 1000, name, double(now - then) / 1000,
                            double(least) / 1000);
    }

    int64_t clocks(uint32_t count) const { return int64_t(count) * int64_t(m_options.period_ps); }

    void look(const ChipPins& pins, int64_t now) {
        if (pins.command == CHIP_NOP) return;
        since(now, m_mode_set, clocks(m_options.mode_clocks), "the time after MODE");
        since(now, m_refreshed, m_options.rc_ps, "the time after REFRESH");
        if (!m_up && now < int64_t(m_options.power_up_ps))
            complain(now, "a command comes before the chip is ready after power-up");
        if (!m_up && pins.command > CHIP_PRECHARGE)
            complain(now, "an access comes before the mode register is written");
        Bank& bank = m_banks[pins.bank];
        switch (pins.command) {
            case CHIP_MODE: return mode(pins, now);
            case CHIP_REFRESH: return refresh(now);
            case CHIP_PRECHARGE: return precharge(pins, now);
            case CHIP_ACTIVATE: return activate(bank, pins, now);
            case CHIP_READ: return read(bank, pins, now);
            case CHIP_WRITE: return write(bank, pins, now);
            default: complain(now, "a burst is stopped, and there is none");
        }
    }

    void all_closed(int64_t now, const char* command) {
        for (const Bank& bank : m_banks) {
            if (bank.open) m_complaint.say("SDRAM: %s comes while a row is open", command);
            since(now, bank.closed, m_options.rp_ps, "tRP");
            since(now, bank.activated, m_options.rc_ps, "tRC");
        }
    }

    void mode(const ChipPins& pins, int64_t now) {
        all_closed(now, "MODE");
        if (!m_precharged || m_refreshes < m_options.initial_refreshes)
            complain(now, "the mode register is written before the chip is prepared");
        if (pins.address != m_options.cas_clocks << 4 || pins.bank)
            complain(now, "the mode is not that of single words");
        m_mode_set = now;
        m_up = true;
        m_up_at = now;
        m_refreshes_before = m_refreshes;
    }

    void refresh(int64_t now) {
        all_closed(now, "REFRESH");
        if (!m_precharged) complain(now, "a refresh comes before all banks are precharged");
        m_refreshed = now;
        ++m_refreshes;
    }

    void precharge(const ChipPins& pins, int64_t now) {
        const bool all = pins.address >> 10 & 1;
        for (unsigned i = 0; i < m_banks.size(); ++i) {
            Bank& bank = m_banks[i];
            if (!all && i != pins.bank) continue;
            if (bank.open) {
                since(now, bank.activated, m_options.ras_ps, "tRAS");
                since(now, bank.written, clocks(m_options.wr_clocks), "tWR");
                if (now - bank.activated > int64_t(m_options.ras_max_ps))
                    complain(now, "a row was open for longer than tRAS allows");
                bank.closed = now;
            }
            bank.open = false;
        }
        m_precharged |= all;
    }

    void activate(Bank& bank, const ChipPins& pins, int64_t now) {
        if (bank.open) complain(now, "a row is opened in a bank where one is open");
        since(now, bank.closed, m_options.rp_ps, "tRP");
        since(now, bank.activated, m_options.rc_ps, "tRC");
        for (const Bank& other : m_banks)
            since(now, other.activated, clocks(m_options.rrd_clocks), "tRRD");
        bank.open = true;
        bank.row = pins.address;
        bank.activated = now;
    }

    uint16_t& at(const Bank& bank, const ChipPins& pins, int64_t now) {
        if (!bank.open) complain(now, "a word is accessed in a bank without an open row");
        if (pins.address >> m_options.column_bits) complain(now, "the column has strange bits");
        since(now, bank.activated, m_options.rcd_ps, "tRCD");
        ++m_columns;
        const size_t column = pins.address & ((1u << m_options.column_bits) - 1);
        const size_t place = (size_t(bank.row) << m_options.bank_bits | pins.bank);
        return m_words[place << m_options.column_bits | column];
    }

    void read(Bank& bank, const ChipPins& pins, int64_t now) {
        const uint16_t word = at(bank, pins, now);
        // The mask works two clocks later on words that are read.
        if (m_options.cas_clocks == 2 && pins.mask) complain(now, "what is read is masked");
        const uint64_t due = m_edges + m_options.cas_clocks - 1;
        m_out[(due + 1) % OUT] = {due, word};
    }

    void write(Bank& bank, const ChipPins& pins, int64_t now) {
        if (!pins.drive) complain(now, "a WRITE comes without data");
        uint16_t& word = at(bank, pins, now);
        for (unsigned byte = 0; byte < 2; ++byte)
            if (!(pins.mask >> byte & 1)) {
                const uint16_t lane = uint16_t(0xFF << 8 * byte);
                word = uint16_t((word & ~lane) | (pins.data & lane));
            }
        bank.written = now;
    }

    void check_refreshes(int64_t now) {
        if (!m_up) return;
        const uint64_t due = uint64_t(now - m_up_at) / m_options.refresh_ps;
        const uint64_t done = m_refreshes - m_refreshes_before;
        const uint64_t late = due > done ? due - done : 0;
        if (late > m_most_postponed) m_most_postponed = late;
        if (late > m_options.postponed_max) complain(now, "refreshes are put off for too long");
    }

    ChipOptions m_options;
    Complaint& m_complaint;
    std::vector<uint16_t> m_words;
    std::vector<Bank> m_banks;
    Out m_out[OUT];
    uint64_t m_edges = 0, m_refreshes = 0, m_refreshes_before = 0, m_columns = 0;
    uint64_t m_most_postponed = 0;
    int64_t m_refreshed = NEVER, m_mode_set = NEVER, m_up_at = 0;
    bool m_precharged = false, m_up = false, m_drives = false;
    unsigned m_data = 0;
};
