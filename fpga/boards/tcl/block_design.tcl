# The block design: processing system, core, and what lies between them. settings.tcl comes first.

proc newest_ip {name} {
    # Versions of IP cores change with Vivado's.
    set found [get_ipdefs -all -filter "VLNV =~ xilinx.com:ip:$name:* && UPGRADE_VERSIONS == \"\""]
    if {[llength $found] == 0} {
        error "this Vivado has no IP core $name; take one that supports $::part"
    }
    return [lindex [lsort -dictionary $found] end]
}

proc add_ip {name cell {settings {}}} {
    set made [create_bd_cell -type ip -vlnv [newest_ip $name] $cell]
    if {[llength $settings]} {
        set_property -dict $settings $made
    }
    return $made
}

proc connect_pins {source args} {
    foreach sink $args {
        connect_bd_net [get_bd_pins $source] [get_bd_pins $sink]
    }
}

proc connect_buses {master slave} {
    connect_bd_intf_net [get_bd_intf_pins $master] [get_bd_intf_pins $slave]
}

create_bd_design $design

# The preset sets up DRAM and the processors' own pins. Without a board file they keep Vivado's
# defaults: a system that the board has booted by itself does not mind.
set ps [add_ip $system_ip ps]
set rule [list apply_board_preset $has_board]
if {$system_externals ne ""} {
    lappend rule make_external $system_externals Master Disable Slave Disable
}
if {$has_board || $system_externals ne ""} {
    apply_bd_automation -rule xilinx.com:bd_rule:$system_ip -config $rule $ps
}
set_property -dict $system_settings $ps

create_bd_cell -type ip -vlnv $core_vlnv vta
add_ip proc_sys_reset reset
add_ip smartconnect control {CONFIG.NUM_SI 1 CONFIG.NUM_MI 1}
add_ip smartconnect memory {CONFIG.NUM_SI 1 CONFIG.NUM_MI 1}
add_ip xlconcat interrupts {CONFIG.NUM_PORTS 1}

# One clock and one reset for everything.
connect_pins ps/$system_clock reset/slowest_sync_clk vta/$core_clock control/aclk memory/aclk \
    ps/$control_clock ps/$memory_clock
connect_pins ps/$system_reset reset/ext_reset_in
connect_pins reset/peripheral_aresetn vta/$core_reset control/aresetn memory/aresetn

# Processors to registers; core to DRAM. Each SmartConnect converts width and protocol.
connect_buses ps/$control_port control/S00_AXI
connect_buses control/M00_AXI vta/$core_slave
connect_buses vta/$core_master memory/S00_AXI
connect_buses memory/M00_AXI ps/$memory_port

connect_pins vta/$core_interrupt interrupts/In0
connect_pins interrupts/dout ps/$system_interrupt

assign_bd_address -offset $control_address -range $control_bytes \
    -target_address_space [get_bd_addr_spaces ps/$system_space] \
    [get_bd_addr_segs vta/$core_registers] -force
assign_bd_address -offset 0x0 -range $dram_bytes \
    -target_address_space [get_bd_addr_spaces vta/$core_master] \
    [get_bd_addr_segs ps/$memory_segment] -force
foreach segment $other_segments {
    set found [get_bd_addr_segs -quiet ps/$segment]
    if {[llength $found]} {
        exclude_bd_addr_seg $found -target_address_space [get_bd_addr_spaces vta/$core_master]
    }
}

validate_bd_design
save_bd_design
