# From the IP core to bitstream and handoff files:
#
#     vivado -mode batch -source run.tcl [-tclargs JOBS]
#
# Results are in out/; it ends with an error, and without a bitstream there, if timing is not met.

set folder [file dirname [file normalize [info script]]]
set jobs [expr {[llength $argv] ? [lindex $argv 0] : 2}]
source [file join $folder settings.tcl]

file delete -force [file join $folder out]
create_project -force $project [file join $folder build] -part $part
set boards [get_board_parts -quiet -latest_file_version "*:$board_file:*"]
set has_board [expr {[llength $boards] > 0}]
if {$has_board} {
    set_property board_part [lindex $boards end] [current_project]
} else {
    puts "note: no board file $board_file is installed; the processing system keeps its defaults"
}
set_property ip_repo_paths [list [file join $folder ip]] [current_project]
update_ip_catalog

source [file join $folder block_design.tcl]

set wrapper [make_wrapper -files [get_files $design.bd] -top]
add_files -norecurse $wrapper
set_property top ${design}_wrapper [current_fileset]
add_files -fileset constrs_1 -norecurse [file join $folder constraints.xdc]
update_compile_order -fileset sources_1

launch_runs synth_1 -jobs $jobs
wait_on_run synth_1
launch_runs impl_1 -to_step write_bitstream -jobs $jobs
wait_on_run impl_1
foreach run {synth_1 impl_1} {
    if {[get_property PROGRESS [get_runs $run]] ne "100%"} {
        error "$run has failed: [get_property STATUS [get_runs $run]]; see its log below build/"
    }
}

set out [file join $folder out]
file mkdir $out
open_run impl_1
report_utilization -file [file join $out utilization.rpt]
report_timing_summary -file [file join $out timing.rpt]
foreach {kind slack} [list \
    setup [get_property STATS.WNS [get_runs impl_1]] \
    hold [get_property STATS.WHS [get_runs impl_1]]] {
    if {$slack < 0} {
        error "timing is not met at $clock_mhz MHz: $kind slack is $slack ns; export with a lower\
            clock, or look at out/timing.rpt"
    }
}

# The handoff file is below build/*.gen since Vivado 2020.2, below build/*.srcs before.
set handoff [glob -nocomplain -directory [file join $folder build] \
    *.gen/sources_1/bd/$design/hw_handoff/$design.hwh \
    *.srcs/sources_1/bd/$design/hw_handoff/$design.hwh]
if {[llength $handoff] == 0} {
    error "Vivado has written no $design.hwh below build/"
}
set bitstream [file join [get_property DIRECTORY [get_runs impl_1]] ${design}_wrapper.bit]
write_hw_platform -fixed -include_bit -force -file [file join $out $project.xsa]
file copy -force [lindex $handoff 0] [file join $out $project.hwh]
file copy -force $bitstream [file join $out $project.bit]
puts "out/ has $project.bit, $project.hwh and $project.xsa; setup and hold are met at $clock_mhz MHz"
