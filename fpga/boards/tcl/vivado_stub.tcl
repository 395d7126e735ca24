# Stand-ins for the commands of Vivado that a project uses. Each call becomes a line of words in the
# log; what a script goes on with is answered as Vivado would on the way to a good end. Before this
# are set: log_path, slack_ns, known_ips (VLNVs), known_boards (board parts).

set log_file [open $log_path w]
fconfigure $log_file -encoding utf-8

proc record {args} {
    set words {}
    foreach word $args {
        lappend words [string map [list \\ \\\\ \t \\t \n \\n] $word]
    }
    ::tcl_puts $::log_file [join $words \t]
    flush $::log_file
}

rename puts tcl_puts
proc puts {args} {
    record puts [lindex $args end]
}

proc unknown {args} {
    record unknown {*}$args
    error "unknown command [lindex $args 0]"
}

proc make_file {path} {
    file mkdir [file dirname $path]
    close [open $path w]
    return $path
}

proc option {name words} {
    return [lindex $words [expr {[lsearch -exact $words $name] + 1}]]
}

proc matching {pattern names} {
    return [lsearch -all -inline -glob $names $pattern]
}

proc answer {command words} {
    switch -- $command {
        create_project { set ::build [lindex [lsearch -all -inline -not -glob $words -*] 1] }
        create_bd_cell { return /[lindex $words end] }
        create_bd_design { set ::bd [lindex $words end] }
        get_ipdefs {
            regexp {VLNV =~ (\S+)} [option -filter $words] all pattern
            return [matching $pattern $::known_ips]
        }
        get_board_parts { return [matching [lindex $words end] $::known_boards] }
        get_property {
            switch -- [lindex $words 0] {
                PROGRESS { return 100% }
                STATS.WNS - STATS.WHS { return $::slack_ns }
                DIRECTORY { return [file join $::build vta.runs [lindex $words end]] }
            }
            return {}
        }
        add_files {
            # Constraints are Tcl too.
            foreach path [matching *.xdc $words] {
                if {[file exists $path]} { uplevel #0 [list source $path] }
            }
        }
        make_wrapper { return [make_file [file join $::build ${::bd}_wrapper.v]] }
        launch_runs {
            if {[lindex $words 0] eq "impl_1"} {
                make_file [file join $::build vta.runs impl_1 ${::bd}_wrapper.bit]
                make_file [file join $::build vta.gen sources_1 bd $::bd hw_handoff $::bd.hwh]
            }
        }
        report_utilization - report_timing_summary - write_hw_platform {
            make_file [expr {$command eq "write_hw_platform" ? [lindex $words end]
                : [option -file $words]}]
        }
        default {
            if {[string match get_* $command] || [string match current_* $command]} {
                return [expr {[llength $words] ? [lindex $words end] : $command}]
            }
        }
    }
    return {}
}

foreach command {
    add_files apply_bd_automation assign_bd_address connect_bd_intf_net connect_bd_net
    create_bd_cell create_bd_design create_project current_design current_fileset current_project
    exclude_bd_addr_seg get_bd_addr_segs get_bd_addr_spaces get_bd_cells get_bd_intf_pins
    get_bd_pins get_board_parts get_files get_ipdefs get_property get_runs launch_runs
    make_wrapper open_run report_timing_summary report_utilization save_bd_design set_property
    update_compile_order update_ip_catalog validate_bd_design wait_on_run write_hw_platform
} {
    proc $command {args} "record $command {*}\$args; return \[answer $command \$args\]"
}
