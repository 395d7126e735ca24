// A whole system on chip with its SDRAM and the other end of its line; soc.py is the other side.
#include <memory>

#include "Vmodel.h"
#include "chip_pins.h"
#include "uart.h"
#include "verilated.h"

namespace {

class SocSimulation {
  public:
    SocSimulation(const ChipOptions& options, uint64_t clock_hz, uint64_t baud)
        : m_chip(options, m_complaint), m_sender(clock_hz, baud), m_receiver(clock_hz, baud),
          m_pause(PAUSE_BITS * clock_hz / baud) {
        m_context.randReset(2);
        m_context.randSeed(int(options.seed) + 1);
        m_top = std::make_unique<Vmodel>(&m_context);
        m_top->rx = 1;
        m_top->rst = 1;
        for (int i = 0; i < 4; ++i) step();
        m_top->rst = 0;
    }

    ~SocSimulation() { m_top->final(); }

    SdramChip& chip() { return m_chip; }
    const Complaint& complaint() const { return m_complaint; }
    uint64_t cycles() const { return m_cycles; }
    unsigned lamps() const { return m_top->lamps; }

    // Whether anything is on the line or was a moment ago, or the core runs.
    bool busy() const {
        return m_sender.busy() || (m_top->lamps & RUNNING) || m_cycles - m_last_byte < LINGER;
    }

    // Up to `limit` cycles, less if it is not busy, or when bytes came and then none for a while;
    // `in` goes to the chip, what comes goes to `out`. How many bytes came.
    uint64_t run(uint64_t limit, const uint8_t* in, uint64_t in_count, uint8_t* out,
                 uint64_t out_room) {
        for (uint64_t i = 0; i < in_count; ++i) m_sender.push(in[i]);
        uint64_t came = 0;
        uint64_t came_at = m_cycles;
        while (limit-- && busy() && came < out_room && !m_complaint.any()) {
            uint8_t byte;
            if (step(&byte)) out[came++] = byte, came_at = m_cycles;
            if (came && m_cycles - came_at > m_pause) break;
        }
        return came;
    }

  private:
    static constexpr unsigned RUNNING = 2;
    // Cycles that go on after the last byte: what it asked for may take as long.
    static constexpr uint64_t LINGER = 20000;
    // Bits after which no other byte follows what came.
    static constexpr uint64_t PAUSE_BITS = 15;

    bool step(uint8_t* byte = nullptr) {
        auto& top = *m_top;
        top.rx = m_sender.level();
        top.clk = 0;
        top.eval();
        chip_edge(top, m_chip, m_complaint);
        top.clk = 1;
        top.eval();
        ++m_cycles;
        if (m_sender.busy() || m_receiver.busy()) m_last_byte = m_cycles;
        uint8_t found;
        if (top.rst || !m_receiver.look(top.tx, found)) return false;
        if (byte) *byte = found;
        return byte != nullptr;
    }

    VerilatedContext m_context;
    std::unique_ptr<Vmodel> m_top;
    Complaint m_complaint;
    SdramChip m_chip;
    UartSender m_sender;
    UartReceiver m_receiver;
    uint64_t m_pause;
    uint64_t m_cycles = 0, m_last_byte = 0;
};

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

uint32_t soc_options_bytes() { return sizeof(ChipOptions); }

SocSimulation* soc_create(const ChipOptions* options, uint64_t clock_hz, uint64_t baud) {
    return new SocSimulation(*options, clock_hz, baud);
}

void soc_destroy(SocSimulation* soc) { delete soc; }

uint64_t soc_run(SocSimulation* soc, uint64_t limit, const uint8_t* in, uint64_t in_count,
                 uint8_t* out, uint64_t out_room) {
    return soc->run(limit, in, in_count, out, out_room);
}

int soc_busy(const SocSimulation* soc) { return soc->busy(); }
uint64_t soc_cycles(const SocSimulation* soc) { return soc->cycles(); }
uint32_t soc_lamps(const SocSimulation* soc) { return soc->lamps(); }
uint16_t* soc_words(SocSimulation* soc) { return soc->chip().words(); }
uint64_t soc_refreshes(SocSimulation* soc) { return soc->chip().refreshes(); }
uint64_t soc_postponed(SocSimulation* soc) { return soc->chip().postponed(); }
const char* soc_complaint(const SocSimulation* soc) { return soc->complaint().text(); }

}  // extern "C"
#pragma GCC visibility pop
