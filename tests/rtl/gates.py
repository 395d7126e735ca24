"""A design as it goes into an ECP5: synthesised, its registers moved, as Verilog of gates again."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import pytest

from fpga.build.multiplier_registers import MULTIPLIER, absorb_registers

_BITS = 18
# Ports and parameters as in Lattice's ECP5 sysDSP usage guide (FPGA-TN-02205), of which only what
# is used here. Written without a look at what moves registers into it.
_MULTIPLIER = f"""
module {MULTIPLIER}({", ".join(f"A{i}, B{i}, C{i}" for i in range(_BITS))},
    SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, CLK0, CE0, RST0, {", ".join(f"P{i}" for i in range(36))});
  parameter REG_INPUTA_CLK = "NONE";
  parameter REG_INPUTA_CE = "CE0";
  parameter REG_INPUTA_RST = "RST0";
  parameter REG_INPUTB_CLK = "NONE";
  parameter REG_INPUTB_CE = "CE0";
  parameter REG_INPUTB_RST = "RST0";
  input {", ".join(f"A{i}, B{i}, C{i}" for i in range(_BITS))};
  input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, CLK0, CE0, RST0;
  output {", ".join(f"P{i}" for i in range(36))};
  wire [17:0] a = {{{", ".join(f"A{i}" for i in reversed(range(_BITS)))}}};
  wire [17:0] b = {{{", ".join(f"B{i}" for i in reversed(range(_BITS)))}}};
  reg [17:0] held_a, held_b;
  always @(posedge CLK0) begin
    if (RST0) held_a <= 0; else if (CE0) held_a <= a;
    if (RST0) held_b <= 0; else if (CE0) held_b <= b;
  end
  wire [17:0] first = REG_INPUTA_CLK == "CLK0" ? held_a : a;
  wire [17:0] second = REG_INPUTB_CLK == "CLK0" ? held_b : b;
  wire signed [35:0] wide_first = {{{{18{{SIGNEDA & first[17]}}}}, first}};
  wire signed [35:0] wide_second = {{{{18{{SIGNEDB & second[17]}}}}, second}};
  assign {{{", ".join(f"P{i}" for i in reversed(range(36)))}}} = wide_first * wide_second;
endmodule
"""


def gates(text: str, *, top: str = "dut", least_multipliers: int = 1) -> str:
    """The module `top` of a Verilog text, made of the ECP5's primitives and flat.

    Skips the test where there is no Yosys. At least so many multipliers must have taken in their
    factors' registers, or nothing is tested.
    """
    resources = pytest.importorskip("vta_hw.rtl.resources", reason="needs the extra 'rtl'")
    try:
        yosys = resources.find_yosys()
    except resources.SynthesisError as error:
        pytest.skip(str(error))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def run(*steps: str) -> None:
            subprocess.run(
                [*yosys.command, "-q", "-p", "; ".join(steps)],
                cwd=folder,
                check=True,
                capture_output=True,
            )

        (folder / "design.v").write_text(text)
        (folder / "multiplier.v").write_text(_MULTIPLIER)
        synthesis = resources.ECP5.synthesis.format(top=top)
        run("read_verilog design.v", synthesis, "write_json gates.json")
        netlist = json.loads((folder / "gates.json").read_text())
        assert absorb_registers(netlist["modules"][top]) >= least_multipliers
        # Of the primitives that Yosys knows, only what is used is to be read as a circuit.
        for other in [name for name in netlist["modules"] if name != top]:
            del netlist["modules"][other]
        (folder / "gates.json").write_text(json.dumps(netlist))
        run(
            "read_json gates.json",
            "read_verilog -nooverwrite +/ecp5/cells_sim.v multiplier.v",
            f"hierarchy -check -top {top}",
            "proc",
            "flatten",
            "opt",
            f"hierarchy -top {top}",
            "write_verilog -noattr flat.v",
        )
        return (folder / "flat.v").read_text()
