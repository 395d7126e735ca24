"""Moves registers into the multipliers that they feed, which synthesis leaves beside them.

A MULT18X18D of an ECP5 has a register at each input. Yosys does not use them, so that a factor goes
from a register in the fabric to a multiplier that may be far away before anything is done with it.
Here factors whose bits all come from registers with the same clock, always enabled, are taken from
before these; registers that then feed nothing are removed. Nothing else changes: what the
multiplier sees in a cycle is what it saw before. Synthesis also makes resets of logic: a bit that
is cleared by what other bits of its factor are not gets that as a LUT. A factor all of whose bits
have a reset is left alone, and its multiplier with it.

Ports and parameters are those of Lattice's primitive (FPGA-TN-02205, ECP5 sysDSP usage guide).
Multipliers that lie in one block share their clocks, enables and resets (YosysHQ/nextpnr, pull
request 1076): all that are changed here have the same ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

MULTIPLIER, REGISTER = "MULT18X18D", "TRELLIS_FF"
FACTOR_BITS = 18
_SIDES = ("A", "B")
_PINS = {"CLK": "CLK0", "CE": "CE0", "RST": "RST0"}
_ZERO, _ONE = "0", "1"
_A_AND_NOT_B = 0x2222  # contents of a LUT

Bit = int | str
"""A net's number, or a constant."""


def absorb_registers(module: Mapping[str, Any]) -> int:
    """Change `module` (of a netlist as Yosys writes it in JSON); gives the multipliers changed."""
    cells = module["cells"]
    registers = {
        cell["connections"]["Q"][0]: cell for cell in cells.values() if _is_simple(cell)
    }  # fmt: skip
    inputs = _Inputs(module, registers)
    moved = 0
    for cell in [cell for cell in cells.values() if cell["type"] == MULTIPLIER]:
        moved += _absorb(cell, registers, inputs)
    _remove_unused(module, registers)
    return moved


def _is_simple(cell: Mapping[str, Any]) -> bool:
    """Whether it takes its input at each rising edge, but for a synchronous reset."""
    if cell["type"] != REGISTER:
        return False
    parameters, connections = cell["parameters"], cell["connections"]
    # In JSON, Yosys marks strings that could be numbers by a space behind them.
    enabled = parameters.get("CEMUX", "1").strip() == "1" or connections.get("CE") == [_ONE]
    synchronous = parameters.get("SRMODE", "LSR_OVER_CE") == "LSR_OVER_CE"
    return bool(
        enabled
        and (synchronous or not _is_reset(cell))
        and parameters.get("LSRMUX", "LSR") == "LSR"
        and parameters.get("CLKMUX", "CLK") == "CLK"
        and parameters.get("REGSET", "RESET") == "RESET"
    )


def _is_reset(register: Mapping[str, Any]) -> bool:
    return bool(register["connections"].get("LSR", [_ZERO]) != [_ZERO])


class _Inputs:
    """What registers take, with their resets in a LUT; made once for each."""

    def __init__(self, module: Mapping[str, Any], registers: Mapping[Bit, Any]) -> None:
        self._cells = module["cells"]
        self._registers = registers
        self._made: dict[Bit, Bit] = {}
        used = [
            bit
            for cell in self._cells.values()
            for bits in cell["connections"].values()
            for bit in bits
            if isinstance(bit, int)
        ]
        ports = [bit for port in module["ports"].values() for bit in port["bits"]]
        self._next = max([0, *used, *(bit for bit in ports if isinstance(bit, int))]) + 1

    def of(self, output: Bit) -> Bit:
        """The net that the register with this output takes in each cycle."""
        register = self._registers[output]
        taken = register["connections"]["DI"][0]
        if not _is_reset(register):
            return taken
        if output not in self._made:
            self._made[output] = self._next
            inputs = {"A": [taken], "B": register["connections"]["LSR"], "C": [_ZERO], "D": [_ZERO]}
            self._cells[f"unless_reset_{self._next}"] = {
                "type": "LUT4",
                "parameters": {"INIT": f"{_A_AND_NOT_B:016b}"},
                "port_directions": {**dict.fromkeys(inputs, "input"), "Z": "output"},
                "connections": {**inputs, "Z": [self._next]},
            }
            self._next += 1
        return self._made[output]


def _absorb(multiplier: Any, registers: Mapping[Bit, Any], inputs: _Inputs) -> bool:
    """Both factors or none.

    A multiplier with one of them registered is one without registers to nextpnr's timing analysis
    (its pull request 435).
    """
    connections, parameters = multiplier["connections"], multiplier["parameters"]
    if "REG_INPUTA_CLK" in parameters:
        return False
    clocks: set[Bit | None] = set()
    for side in _SIDES:
        feeding = [registers.get(bit) for _, bit in _factor(connections, side)]
        if all(cell and _is_reset(cell) for cell in feeding):
            return False
        clocks |= {cell["connections"]["CLK"][0] if cell else None for cell in feeding}
    if len(clocks) != 1 or None in clocks:
        return False
    for side in _SIDES:
        for port, bit in _factor(connections, side):
            connections[port] = [inputs.of(bit)]
        for name, pin in _PINS.items():
            parameters[f"REG_INPUT{side}_{name}"] = pin
    for pin, value in zip(_PINS.values(), (clocks.pop(), _ONE, _ZERO), strict=True):
        connections[pin] = [value]
        multiplier["port_directions"][pin] = "input"
    return True


def _factor(connections: Mapping[str, Any], side: str) -> list[tuple[str, Bit]]:
    """Ports and nets of one side, constant zeros left out."""
    ports = [f"{side}{bit}" for bit in range(FACTOR_BITS)]
    return [(port, connections[port][0]) for port in ports if connections[port][0] != _ZERO]


def _remove_unused(module: Mapping[str, Any], registers: Mapping[Bit, Any]) -> None:
    cells = module["cells"]
    uses = Counter(_read_bits(module))
    unused = [
        name for name, cell in cells.items()
        if cell["type"] == REGISTER
        and (bit := cell["connections"]["Q"][0]) in registers
        and not uses[bit]
    ]  # fmt: skip
    for name in unused:
        del cells[name]


def _read_bits(module: Mapping[str, Any]) -> Iterator[Bit]:
    """The bits that inputs of cells and ports of the module take, as often as they do."""
    for cell in module["cells"].values():
        directions = cell["port_directions"]
        for port, bits in cell["connections"].items():
            if directions[port] != "output":
                yield from bits
    for port in module["ports"].values():
        if port["direction"] != "input":
            yield from port["bits"]
