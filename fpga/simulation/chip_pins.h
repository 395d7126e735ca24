// A chip at the pins of a Verilated component.
#pragma once

#include "sdram.h"

// Names that Verilator makes of the ports of the interface `pins`.
#define PINS(port) pins___05F##port

// The chip's clock edge, within a cycle of `top` and after its outputs are in place.
template <typename Top>
void chip_edge(Top& top, SdramChip& chip, Complaint& complaint) {
    chip.edge({unsigned(top.PINS(command)), unsigned(top.PINS(bank)), unsigned(top.PINS(address)),
               unsigned(top.PINS(mask)), unsigned(top.PINS(dq_out)), bool(top.PINS(drive))});
    top.PINS(dq_in) = chip.drives() ? chip.data() : 0xDEAD;
    if (chip.drives() && top.PINS(drive)) complaint.say("both ends drive the data pins");
}
