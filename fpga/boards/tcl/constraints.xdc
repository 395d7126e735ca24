# The core has no pins of its own, and only the clock of the processing system, whose IP core brings
# the constraint for it. So there is nothing to say about pins, clocks or false paths.
set_property BITSTREAM.GENERAL.COMPRESS TRUE [current_design]
