// A Verilated core with its memory, behind a C interface; harness.py is the other side of it.
#include <memory>

#include "Vmodel.h"
#include "axi.h"
#include "checker.h"
#include "control.h"
#include "memory.h"
#include "verilated.h"
#if defined(VTA_WAVES_VCD)
#include "verilated_vcd_c.h"
#define VTA_WAVES VerilatedVcdC
#elif defined(VTA_WAVES_FST)
#include "verilated_fst_c.h"
#define VTA_WAVES VerilatedFstC
#endif

namespace {

constexpr uint64_t TICKS_PER_CYCLE = 10;

enum Moment { DISPATCH, ISSUE, RETIRE, MOMENTS };

class Simulation {
  public:
    explicit Simulation(const MemoryOptions& options)
        : m_memory(options, m_report),
          m_checker(options.max_reads, m_report),
          m_control(options, m_report) {
        m_context.randReset(2);
        m_context.randSeed(int(options.seed % 0x7FFFFFFF) + 1);
#ifdef VTA_WAVES
        m_context.traceEverOn(true);
#endif
        m_top = std::make_unique<Vmodel>(&m_context);
    }

    ~Simulation() {
        close_waves();
        m_top->final();
    }

    void attach(uint8_t* bytes, uint64_t size, uint64_t writable) {
        m_memory.attach(bytes, size);
        m_checker.set_size(size, writable);
    }

    void reset() {
        m_top->rst = 1;
        m_running = m_started = m_ended = false;
        m_report.cycle = -1;
        m_report.clear();
        m_control.reset();
        for (int i = 0; i < 4; ++i) {
            m_memory.reset(m_clock);
            m_checker.reset();
            step();
        }
        m_report.clear();
        m_memory.reset(m_clock);
        m_checker.reset();
        m_top->rst = 0;
        // The reset reaches the core a cycle later.
        step();
    }

    // What the next run is to record: arrays of `count` cycles for each moment, or null.
    void record(int64_t* const* moments, uint64_t count) {
        for (int i = 0; i < MOMENTS; ++i) m_moments[i] = moments ? moments[i] : nullptr;
        m_count = count;
        m_started = m_ended = false;
        m_cycles = 0;
        m_read_spans.clear();
        m_write_spans.clear();
    }

    // Step until a run has ended, something is wrong, or `limit` cycles are over.
    void run(uint64_t limit) {
        while (limit-- && !m_ended && !m_report.bad()) step();
    }

    // One access to the control registers; the response, or -1 if something is wrong.
    int access(bool write, uint32_t address, uint32_t* data) {
        m_control.begin(write, address, *data);
        while (m_control.busy() && !m_report.bad()) step();
        *data = m_control.data();
        return m_report.bad() ? -1 : int(m_control.response());
    }

    // Record the signals in cycles `first` to `last` of runs; whether the file could be opened.
    bool open_waves(const char* path, int64_t first, int64_t last) {
#ifdef VTA_WAVES
        close_waves();
        m_waves = std::make_unique<VTA_WAVES>();
        m_top->trace(m_waves.get(), 99);
        m_waves->open(path);
        m_waves_first = first;
        m_waves_last = last;
        return m_waves->isOpen();
#else
        (void)path, (void)first, (void)last;
        return false;
#endif
    }

    void close_waves() {
#ifdef VTA_WAVES
        if (m_waves) m_waves->close();
        m_waves.reset();
#endif
    }

    const Report& report() const { return m_report; }

    // Spans in cycles of the run; `rows` may be null. Gives their number.
    uint64_t spans(bool write, int64_t* rows) const {
        const auto& found = (write ? m_write_spans : m_read_spans).get();
        for (size_t i = 0; rows && i < found.size(); ++i) {
            rows[2 * i] = found[i].first - m_start;
            rows[2 * i + 1] = found[i].last - m_start;
        }
        return found.size();
    }

    int64_t cycles() const { return m_cycles; }
    bool started() const { return m_started; }
    bool ended() const { return m_ended; }
    bool irq() const { return m_top->irq; }

  private:
    void step();
    void drive(Bus& bus);
    void sample(Bus& bus);
    void look_taps();
    void note(Moment moment, uint64_t index);
    void dump(uint64_t half);

    VerilatedContext m_context;
    std::unique_ptr<Vmodel> m_top;
    Report m_report;
    Memory m_memory;
    Checker m_checker;
    ControlMaster m_control;
    Spans m_read_spans, m_write_spans;
    int64_t* m_moments[MOMENTS] = {};
    uint64_t m_count = 0;
    int64_t m_clock = 0, m_start = 0, m_cycles = 0;
    bool m_running = false, m_started = false, m_ended = false;
#ifdef VTA_WAVES
    std::unique_ptr<VTA_WAVES> m_waves;
#endif
    int64_t m_waves_first = 0, m_waves_last = 0;
};

void Simulation::drive(Bus& bus) {
    auto& top = *m_top;
    m_memory.drive(m_clock, bus);
    top.m_axi_arready = bus.ar_ready;
    top.m_axi_awready = bus.aw_ready;
    top.m_axi_wready = bus.w_ready;
    top.m_axi_rvalid = bus.r_valid;
    if (bus.r_valid) {
        static_assert(sizeof top.m_axi_rdata == BUS_BYTES, "the bus is as wide as the build says");
        std::memcpy(&top.m_axi_rdata, m_memory.r_data(), BUS_BYTES);
        top.m_axi_rlast = m_memory.r_last();
        top.m_axi_rid = m_memory.r_id();
        top.m_axi_rresp = m_memory.r_response();
    }
    top.m_axi_bvalid = bus.b_valid;
    if (bus.b_valid) {
        top.m_axi_bid = m_memory.b_id();
        top.m_axi_bresp = m_memory.b_response();
    }
}

void Simulation::sample(Bus& bus) {
    const auto& top = *m_top;
    bus.ar_valid = top.m_axi_arvalid;
    bus.aw_valid = top.m_axi_awvalid;
    bus.w_valid = top.m_axi_wvalid;
    bus.r_ready = top.m_axi_rready;
    bus.b_ready = top.m_axi_bready;
    if (bus.ar_valid)
        bus.ar = {top.m_axi_araddr,  top.m_axi_arlen + 1u, top.m_axi_arsize,
                  top.m_axi_arburst, top.m_axi_arid,       top.m_axi_arlock,
                  top.m_axi_arcache, top.m_axi_arprot,     top.m_axi_arqos};
    if (bus.aw_valid)
        bus.aw = {top.m_axi_awaddr,  top.m_axi_awlen + 1u, top.m_axi_awsize,
                  top.m_axi_awburst, top.m_axi_awid,       top.m_axi_awlock,
                  top.m_axi_awcache, top.m_axi_awprot,     top.m_axi_awqos};
    if (bus.w_valid) {
        static_assert(sizeof top.m_axi_wdata == BUS_BYTES, "the bus is as wide as the build says");
        std::memcpy(bus.w.data, &top.m_axi_wdata, BUS_BYTES);
        bus.w.lanes = top.m_axi_wstrb;
        bus.w.last = top.m_axi_wlast;
    }
}

void Simulation::note(Moment moment, uint64_t index) {
    static const char* const names[] = {"dispatched", "issued", "retired"};
    if (!m_moments[moment]) return;
    if (index >= m_count) {
        m_report.fail(TROUBLE_PROTOCOL, "instruction %llu is %s, of a stream of %llu",
                      (unsigned long long)index, names[moment], (unsigned long long)m_count);
        return;
    }
    if (m_moments[moment][index] >= 0)
        m_report.fail(TROUBLE_PROTOCOL, "instruction %llu is %s a second time",
                      (unsigned long long)index, names[moment]);
    m_moments[moment][index] = m_cycles;
}

void Simulation::look_taps() {
    const auto& top = *m_top;
    if (!top.tap_running) {
        if (m_running) m_ended = true;
        m_running = false;
        return;
    }
    if (!m_running) {
        m_running = m_started = true;
        m_cycles = 0;
        m_start = m_clock;
    }
    if (top.tap_dispatch) note(DISPATCH, top.tap_dispatch_index);
    if (top.tap_load_issue) note(ISSUE, top.tap_load_issue_index);
    if (top.tap_compute_issue) note(ISSUE, top.tap_compute_issue_index);
    if (top.tap_store_issue) note(ISSUE, top.tap_store_issue_index);
    if (top.tap_load_retire) note(RETIRE, top.tap_load_retire_index);
    if (top.tap_compute_retire) note(RETIRE, top.tap_compute_retire_index);
    if (top.tap_store_retire) note(RETIRE, top.tap_store_retire_index);
    ++m_cycles;
}

void Simulation::dump(uint64_t half) {
#ifdef VTA_WAVES
    if (m_waves && m_report.cycle >= m_waves_first && m_report.cycle <= m_waves_last)
        m_waves->dump(m_clock * TICKS_PER_CYCLE + half * TICKS_PER_CYCLE / 2);
#else
    (void)half;
#endif
}

// One clock cycle: from just after an edge, registers in place, through the next one.
void Simulation::step() {
    auto& top = *m_top;
    const bool running = top.tap_running && !top.rst;
    m_report.cycle = !running ? -1 : m_running ? m_cycles : 0;
    Bus bus;
    drive(bus);
    m_control.drive(top);
#ifdef VTA_WAVES
    // The waves show inputs change with the registers, not half a cycle later.
    top.eval();
    dump(0);
#endif
    top.clk = 0;
    top.eval();
    dump(1);
    if (!top.rst) {
        sample(bus);
        m_checker.look(bus);
        m_control.look(top);
        look_taps();
        // After a violation the memory could be led outside of DRAM.
        if (!m_report.bad()) m_memory.clock_edge(m_clock, bus);
        if (bus.r_taken()) m_read_spans.add(m_clock);
        if (bus.w_taken()) m_write_spans.add(m_clock);
    }
    top.clk = 1;
    top.eval();
    ++m_clock;
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

uint32_t vta_bus_bytes() { return BUS_BYTES; }
uint32_t vta_options_bytes() { return sizeof(MemoryOptions); }

Simulation* vta_create(const MemoryOptions* options) {
    return new Simulation(*options);
}

void vta_destroy(Simulation* simulation) { delete simulation; }

void vta_attach(Simulation* simulation, uint8_t* bytes, uint64_t size, uint64_t writable) {
    simulation->attach(bytes, size, writable);
}

void vta_reset(Simulation* simulation) { simulation->reset(); }

void vta_record(Simulation* simulation, int64_t* dispatch, int64_t* issue, int64_t* retire,
                uint64_t count) {
    int64_t* const moments[] = {dispatch, issue, retire};
    simulation->record(moments, count);
}

// The response of the control port, or -1 if something is wrong (see vta_trouble).
int vta_access(Simulation* simulation, int write, uint32_t address, uint32_t* data) {
    return simulation->access(write, address, data);
}

void vta_run(Simulation* simulation, uint64_t limit) { simulation->run(limit); }

int vta_trouble(const Simulation* simulation) { return simulation->report().kind(); }
const char* vta_message(const Simulation* simulation) { return simulation->report().text(); }
int vta_started(const Simulation* simulation) { return simulation->started(); }
int vta_ended(const Simulation* simulation) { return simulation->ended(); }
int vta_irq(const Simulation* simulation) { return simulation->irq(); }
int64_t vta_cycles(const Simulation* simulation) { return simulation->cycles(); }

uint64_t vta_spans(const Simulation* simulation, int write, int64_t* rows) {
    return simulation->spans(write, rows);
}

int vta_open_waves(Simulation* simulation, const char* path, int64_t first, int64_t last) {
    return simulation->open_waves(path, first, last);
}

void vta_close_waves(Simulation* simulation) { simulation->close_waves(); }

}  // extern "C"
#pragma GCC visibility pop
