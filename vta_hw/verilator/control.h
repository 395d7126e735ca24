// The master of the control port: one AXI4-Lite access at a time, and the port's rules.
#pragma once

#include "Vmodel.h"
#include "axi.h"
#include "memory.h"

class ControlMaster {
  public:
    ControlMaster(const MemoryOptions& options, Report& report)
        : m_report(report), m_random(options.seed + 1), m_rests(options.stalls[0]) {}

    void reset() { m_now = {}; }

    void begin(bool write, uint32_t address, uint32_t data) {
        m_now = {};
        m_now.write = write;
        m_now.address = address;
        m_now.data = data;
        m_now.address_left = true;
        m_now.data_left = write;
        m_now.answer_left = true;
    }

    bool busy() const { return m_now.answer_left; }
    uint32_t data() const { return m_now.data; }
    unsigned response() const { return m_now.response; }

    // Address, data and readiness come in any order where the memory's addresses rest too.
    void drive(Vmodel& top) {
        Access& now = m_now;
        if (!now.answer_left) {
            top.s_axi_awvalid = top.s_axi_arvalid = top.s_axi_wvalid = 0;
            top.s_axi_bready = top.s_axi_rready = 0;
            return;
        }
        now.address_shown = now.address_left && eager(now.address_shown);
        now.data_shown = now.data_left && eager(now.data_shown);
        now.ready = eager(false);
        top.s_axi_awvalid = now.write && now.address_shown;
        top.s_axi_arvalid = !now.write && now.address_shown;
        top.s_axi_wvalid = now.data_shown;
        top.s_axi_awaddr = top.s_axi_araddr = now.address;
        top.s_axi_wdata = now.data;
        top.s_axi_wstrb = 0xF;
        top.s_axi_awprot = top.s_axi_arprot = 0;
        top.s_axi_bready = now.write && now.ready;
        top.s_axi_rready = !now.write && now.ready;
    }

    // Look at one cycle, before its clock edge.
    void look(const Vmodel& top) {
        Access& now = m_now;
        const bool other = now.write ? top.s_axi_rvalid : top.s_axi_bvalid;
        const bool valid = now.write ? top.s_axi_bvalid : top.s_axi_rvalid;
        const bool owed = now.answer_left && !now.address_left && !now.data_left;
        if (other || (valid && !owed))
            m_report.fail(TROUBLE_PROTOCOL, "the control port answers what was not asked");
        if (!now.answer_left) return;
        const unsigned response = now.write ? top.s_axi_bresp : top.s_axi_rresp;
        const uint32_t data = now.write ? now.data : top.s_axi_rdata;
        if (now.waits && !valid)
            m_report.fail(TROUBLE_PROTOCOL, "VALID of the control port fell before READY rose");
        else if (now.waits && (data != now.held_data || response != now.response))
            m_report.fail(TROUBLE_PROTOCOL, "the control port's answer changed before READY rose");
        now.waits = valid && !now.ready;
        now.held_data = data;
        now.response = response;
        if (valid && now.ready) {
            now.answer_left = false;
            now.data = data;
        }
        const bool address_ready = now.write ? top.s_axi_awready : top.s_axi_arready;
        if (now.address_shown && address_ready) now.address_left = now.address_shown = false;
        if (now.data_shown && top.s_axi_wready) now.data_left = now.data_shown = false;
        if (++now.cycles > CYCLES_MAX)
            m_report.fail(TROUBLE_PROTOCOL, "register %#x gave no answer", now.address);
    }

  private:
    static constexpr unsigned CYCLES_MAX = 10000;

    struct Access {
        bool write, address_left, data_left, answer_left;
        bool address_shown, data_shown, ready, waits;
        uint32_t address, data, held_data;
        unsigned response, cycles;
    };

    bool eager(bool shown) { return shown || !m_random.chance(m_rests); }

    Report& m_report;
    Random m_random;
    uint32_t m_rests;
    Access m_now = {};
};
