// The ports of vta_core around a small script: read four beats at INSN_BASE, write them to OUT_BASE.
// INSN_COUNT chooses one rule of the bus to break; 0 breaks none.
`ifndef BUS
`define BUS 64
`endif
module vta_core (
    input clk, input rst,
    output m_axi_awid, output [31:0] m_axi_awaddr, output [7:0] m_axi_awlen,
    output [2:0] m_axi_awsize, output [1:0] m_axi_awburst, output m_axi_awlock,
    output [3:0] m_axi_awcache, output [2:0] m_axi_awprot, output [3:0] m_axi_awqos,
    output reg m_axi_awvalid, input m_axi_awready,
    output [`BUS-1:0] m_axi_wdata, output [`BUS/8-1:0] m_axi_wstrb, output m_axi_wlast,
    output reg m_axi_wvalid, input m_axi_wready,
    input m_axi_bid, input [1:0] m_axi_bresp, input m_axi_bvalid, output m_axi_bready,
    output m_axi_arid, output [31:0] m_axi_araddr, output [7:0] m_axi_arlen,
    output [2:0] m_axi_arsize, output [1:0] m_axi_arburst, output m_axi_arlock,
    output [3:0] m_axi_arcache, output [2:0] m_axi_arprot, output [3:0] m_axi_arqos,
    output reg m_axi_arvalid, input m_axi_arready,
    input m_axi_rid, input [`BUS-1:0] m_axi_rdata, input [1:0] m_axi_rresp, input m_axi_rlast,
    input m_axi_rvalid, output m_axi_rready,
    input [11:0] s_axi_awaddr, input [2:0] s_axi_awprot, input s_axi_awvalid,
    output s_axi_awready, input [31:0] s_axi_wdata, input [3:0] s_axi_wstrb, input s_axi_wvalid,
    output s_axi_wready, output [1:0] s_axi_bresp, output s_axi_bvalid, input s_axi_bready,
    input [11:0] s_axi_araddr, input [2:0] s_axi_arprot, input s_axi_arvalid,
    output s_axi_arready, output reg [31:0] s_axi_rdata, output [1:0] s_axi_rresp,
    output reg s_axi_rvalid, input s_axi_rready,
    output irq,
    output tap_running, output tap_dispatch, output [31:0] tap_dispatch_index,
    output tap_load_issue, output [31:0] tap_load_issue_index,
    output tap_load_retire, output [31:0] tap_load_retire_index,
    output tap_compute_issue, output [31:0] tap_compute_issue_index,
    output tap_compute_retire, output [31:0] tap_compute_retire_index,
    output tap_store_issue, output [31:0] tap_store_issue_index,
    output tap_store_retire, output [31:0] tap_store_retire_index
);
    localparam AR_CHANGES = 1, AR_FALLS = 2, CROSSES = 3, OUTSIDE = 4, AR_SIZE = 5, AR_BURST = 6,
        UNALIGNED = 7, AR_LOCK = 8, MANY_READS = 9, W_FIRST = 10, EARLY_LAST = 11, NO_LAST = 12,
        GAP = 13, EMPTY_BEAT = 14, W_CHANGES = 15, W_FALLS = 16, R_IGNORED = 17, W_OWED = 18,
        UNASKED = 19, BAD_INDEX = 20, TWICE = 21, MANY_WRITES = 22, NO_END = 23, AW_CHANGES = 24,
        HALF_STROBES = 25, LITE_FALLS = 26;

    // Control port: any word can be written and read back.
    reg [31:0] words [0:1023];
    reg aw_got, w_got; reg [9:0] aw_word; reg [31:0] w_word;
    assign s_axi_awready = !aw_got;
    assign s_axi_wready = !w_got;
    assign s_axi_bvalid = (aw_got && w_got) || (mode == UNASKED && cycle == 5);
    assign s_axi_bresp = 0;
    assign s_axi_arready = !s_axi_rvalid;
    assign s_axi_rresp = 0;
    wire written = aw_got && w_got && s_axi_bready;
    wire launch = written && aw_word == 0 && !running;
    wire [31:0] mode = words[2], source = words[3], target = words[8];
    integer i;
    initial for (i = 0; i < 1024; i = i + 1) words[i] = 0;
    always @(posedge clk) begin
        if (s_axi_awvalid && s_axi_awready) begin aw_got <= 1; aw_word <= s_axi_awaddr[11:2]; end
        if (s_axi_wvalid && s_axi_wready) begin w_got <= 1; w_word <= s_axi_wdata; end
        if (written) begin aw_got <= 0; w_got <= 0; words[aw_word] <= w_word; end
        if (s_axi_arvalid && s_axi_arready) begin
            s_axi_rvalid <= 1; s_axi_rdata <= words[s_axi_araddr[11:2]];
        end else if (s_axi_rready || mode == LITE_FALLS) s_axi_rvalid <= 0;
        if (rst) begin aw_got <= 0; w_got <= 0; s_axi_rvalid <= 0; end
    end

    // The script.
    reg running; reg [31:0] cycle; reg [2:0] got, sent; reg [3:0] quiet; reg [1:0] asked, offered;
    reg [`BUS-1:0] beats [0:3];
    reg noise, answered;
    wire [1:0] reads = mode == MANY_READS ? 3 : 1, writes = mode == MANY_WRITES ? 3 : 1;
    wire done = running && quiet == 8 && mode != NO_END;
    assign m_axi_araddr = (mode == CROSSES ? 32'h1ff0 : mode == OUTSIDE ? 32'hfffff000 :
        mode == UNALIGNED ? source + 1 : source) + (mode == AR_CHANGES && noise ? 64 : 0);
    assign m_axi_arlen = 3;
    assign m_axi_arsize = mode == AR_SIZE ? 0 : $clog2(`BUS / 8);
    assign m_axi_arburst = mode == AR_BURST ? 0 : 1;
    assign m_axi_arlock = mode == AR_LOCK;
    assign {m_axi_arid, m_axi_arcache, m_axi_arprot, m_axi_arqos} = 0;
    assign m_axi_awaddr = target + (mode == AW_CHANGES && noise ? 64 : 0);
    assign {m_axi_awlen, m_axi_awburst} = {8'd3, 2'd1};
    assign m_axi_awsize = $clog2(`BUS / 8);
    assign {m_axi_awid, m_axi_awlock, m_axi_awcache, m_axi_awprot, m_axi_awqos} = 0;
    assign m_axi_wdata = beats[sent[1:0]] ^ (mode == W_CHANGES && noise ? 1 : 0);
    wire [`BUS/8-1:0] all = ~0;
    assign m_axi_wstrb = mode == GAP ? all & ~2 : mode == EMPTY_BEAT && sent == 1 ? 0 :
        mode == HALF_STROBES && sent == 0 ? all << 1 : mode == HALF_STROBES && sent == 3 ? 1 : all;
    assign m_axi_wlast = mode == EARLY_LAST ? sent == 2 : mode == NO_LAST ? 0 : sent == 3;
    assign m_axi_rready = mode != R_IGNORED;
    assign m_axi_bready = 1;
    assign irq = 0;
    assign tap_running = running;
    assign tap_dispatch = running && cycle == 2;
    assign tap_dispatch_index = mode == BAD_INDEX ? 9 : 0;
    assign tap_load_issue = running && (cycle == 7 || (cycle == 9 && mode == TWICE));
    assign tap_store_retire = m_axi_bvalid && m_axi_bready;
    assign {tap_load_issue_index, tap_store_retire_index} = 0;
    assign {tap_load_retire, tap_compute_issue, tap_compute_retire, tap_store_issue} = 0;
    assign {tap_load_retire_index, tap_compute_issue_index, tap_compute_retire_index} = 0;
    assign tap_store_issue_index = 0;
    always @(posedge clk) begin
        noise <= !noise;
        cycle <= cycle + 1;
        if (launch) begin
            running <= 1; cycle <= 0; got <= 0; sent <= 0; asked <= 0; offered <= 0;
            answered <= 0;
        end
        quiet <= running && answered ? quiet + 1 : 0;
        if (m_axi_bvalid) answered <= 1;
        if (done) running <= 0;
        if (m_axi_arvalid ? m_axi_arready || mode == AR_FALLS : asked == 0 && running && cycle == 1)
        begin
            m_axi_arvalid <= !m_axi_arvalid || (asked + 1 < reads);
            asked <= asked + m_axi_arvalid;
        end
        if (m_axi_rvalid && m_axi_rready) begin beats[got[1:0]] <= m_axi_rdata; got <= got + 1; end
        if (running && (got == 4 || mode == W_FIRST) && offered == 0 && !m_axi_awvalid)
            m_axi_awvalid <= mode != W_FIRST;
        if (m_axi_awvalid && m_axi_awready) begin
            m_axi_awvalid <= offered + 1 < writes; offered <= offered + 1;
        end
        if ((m_axi_awvalid || mode == W_FIRST) && running && sent == 0 && mode != W_OWED)
            m_axi_wvalid <= 1;
        if (m_axi_wvalid && (m_axi_wready || mode == W_FALLS)) begin
            sent <= sent + m_axi_wready; m_axi_wvalid <= m_axi_wready && sent != 3;
        end
        if (rst) begin
            running <= 0; m_axi_arvalid <= 0; m_axi_awvalid <= 0; m_axi_wvalid <= 0; noise <= 0;
            cycle <= 0; quiet <= 0; got <= 4; sent <= 4; asked <= 1; offered <= 1;
            answered <= 1;
        end
    end
endmodule
