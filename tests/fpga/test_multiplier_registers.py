"""Registers that move into multipliers: what leaves a netlist is what left it before."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpga.build.multiplier_registers import (
    FACTOR_BITS,
    MULTIPLIER,
    REGISTER,
    absorb_registers,
)

CLOCK, OTHER_CLOCK, ENABLE = 2, 3, 4
PINS = range(10, 10 + 2 * FACTOR_BITS)
"""Inputs of the module: bits of two factors."""
PLAIN = {"CEMUX": "1 ", "CLKMUX": "CLK", "LSRMUX": "LSR", "REGSET": "RESET"}
ODD = {
    "enable": ({"CEMUX": "CE"}, {"CE": [ENABLE]}),
    "reset": ({"SRMODE": "ASYNC"}, {"LSR": [ENABLE]}),
    "set": ({"REGSET": "SET"}, {}),
    "falling": ({"CLKMUX": "INV"}, {}),
    "other clock": ({}, {"CLK": [OTHER_CLOCK]}),
}


CLEARED = "cleared"
ODD_OR_CLEARED = {**ODD, CLEARED: ({"SRMODE": "LSR_OVER_CE"}, {"LSR": [ENABLE]})}


def _cell(kind: str, parameters: dict[str, str], inputs: dict[str, Any], outputs: dict[str, Any]):
    return {
        "type": kind,
        "parameters": dict(parameters),
        "port_directions": dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output"),
        "connections": {**inputs, **outputs},
    }


def _register(source: Any, output: int, odd: str | None = None):
    parameters, inputs = ODD_OR_CLEARED[odd] if odd else ({}, {})
    plain = {"CLK": [CLOCK], "DI": [source], "LSR": ["0"]}
    return _cell(REGISTER, PLAIN | parameters, plain | inputs, {"Q": [output]})


def _multiplier(first: list[Any], second: list[Any], outputs: list[int]):
    inputs = {
        f"{side}{bit}": [net]
        for side, nets in (("A", first), ("B", second))
        for bit, net in enumerate(nets)
    }
    return _cell(MULTIPLIER, {}, inputs, {f"P{bit}": [net] for bit, net in enumerate(outputs)})


def _module(cells: dict[str, Any], outputs: list[Any]):
    inputs = [CLOCK, OTHER_CLOCK, ENABLE, *PINS]
    return {
        "cells": cells,
        "ports": {
            "in": {"direction": "input", "bits": inputs},
            "out": {"direction": "output", "bits": outputs},
        },
    }


def _run(module: dict[str, Any], seed: int) -> list[list[int]]:
    """The outputs in some cycles of random inputs; clocks rise in every cycle, all of them."""
    rng = random.Random(seed)
    state: dict[Any, int] = {}
    trace = []
    for _ in range(6):
        values: dict[Any, int] = {"0": 0, "1": 1, CLOCK: 0, OTHER_CLOCK: 0}
        values |= {net: rng.getrandbits(1) for net in (ENABLE, *PINS)}
        cells = module["cells"].items()
        following = dict(state)
        for name, cell in cells:
            if cell["type"] == REGISTER:
                one = cell["parameters"]["REGSET"] == "SET"
                values[cell["connections"]["Q"][0]] = state.get(name, int(one))
        for _, cell in cells:
            pins = {port: nets[0] for port, nets in cell["connections"].items()}
            if cell["type"] == "LUT4":
                place = sum(values[pins[port]] << bit for bit, port in enumerate("ABCD"))
                values[pins["Z"]] = int(cell["parameters"]["INIT"], 2) >> place & 1
        for name, cell in cells:
            pins = {port: nets[0] for port, nets in cell["connections"].items()}
            if cell["type"] == "LUT4":
                continue
            if cell["type"] == REGISTER:
                enabled = cell["parameters"]["CEMUX"] == "1 " or values[pins["CE"]]
                if enabled:
                    following[name] = values[pins["DI"]]
                if values[pins["LSR"]]:
                    following[name] = 0
                continue
            product = 1
            for side in "AB":
                now = sum(values[pins[f"{side}{bit}"]] << bit for bit in range(FACTOR_BITS))
                if cell["parameters"].get(f"REG_INPUT{side}_CLK") == "CLK0":
                    following[name, side] = now
                    now = state.get((name, side), 0)
                product *= now
            for port, net in pins.items():
                if port.startswith("P"):
                    values[net] = product >> int(port[1:]) & 1
        trace.append([values[net] for net in module["ports"]["out"]["bits"]])
        state = following
    return trace


@st.composite
def modules(draw: st.DrawFn) -> dict[str, Any]:
    """Two multipliers of the same two factors, some bits of which are not from plain registers."""
    cells: dict[str, Any] = {}
    factors: list[list[Any]] = []
    for side in range(2):
        nets: list[Any] = []
        fate = draw(st.sampled_from(["plain", "plain", "mixed"]))
        for bit in range(FACTOR_BITS):
            pin, net = PINS[side * FACTOR_BITS + bit], 100 + side * FACTOR_BITS + bit
            kinds = [None, "0", CLEARED] if fate == "plain" else [None, None, "0", "1", "pin", *ODD]
            kind = draw(st.sampled_from(kinds))
            if kind in ("0", "1", "pin"):
                nets.append(pin if kind == "pin" else kind)
                continue
            cells[f"register_{net}"] = _register(pin, net, kind)
            nets.append(net)
        factors.append(nets)
    for number in range(2):
        outputs = list(range(200 + 100 * number, 236 + 100 * number))
        cells[f"multiplier_{number}"] = _multiplier(factors[0], factors[1], outputs)
    seen = draw(st.lists(st.sampled_from([*factors[0], *factors[1]]), max_size=3))
    return _module(cells, [*range(200, 236), *range(300, 336), *seen])


@settings(deadline=None)
@given(modules(), st.integers(0, 1000))
def test_what_leaves_is_the_same(module: dict[str, Any], seed: int):
    after = copy.deepcopy(module)
    moved = absorb_registers(after)
    assert _run(after, seed) == _run(module, seed)
    registered = json.dumps(after).count('_CLK": "CLK0"')
    assert registered == 2 * moved
    assert moved in (0, 2)  # both multipliers have the same factors


def _simple(odd: str | None = None, outputs: tuple[Any, ...] = ()) -> dict[str, Any]:
    cells: dict[str, Any] = {
        f"register_{pin}": _register(pin, 100 + pin, odd if pin == PINS[3] else None)
        for pin in PINS
    }
    nets = [100 + pin for pin in PINS]
    cells["multiplier"] = _multiplier(nets[:FACTOR_BITS], nets[FACTOR_BITS:], [*range(200, 236)])
    return _module(cells, [*range(200, 236), *outputs])


def test_registers_that_feed_nothing_else_go():
    module = _simple()
    assert absorb_registers(module) == 1
    assert list(module["cells"]) == ["multiplier"]
    assert module["cells"]["multiplier"]["connections"]["A5"] == [PINS[5]]
    assert absorb_registers(module) == 0


def test_a_register_that_is_seen_elsewhere_stays():
    module = _simple(outputs=(100 + PINS[7],))
    assert absorb_registers(module) == 1
    assert list(module["cells"]) == [f"register_{PINS[7]}", "multiplier"]


@pytest.mark.parametrize("odd", ODD)
def test_a_multiplier_of_another_register_stays_as_it_is(odd: str):
    module = _simple(odd)
    before = copy.deepcopy(module)
    assert absorb_registers(module) == 0
    assert module == before


def test_a_bit_that_logic_clears_gets_a_lut():
    module = _simple(CLEARED)
    assert absorb_registers(module) == 1
    (lut,) = (name for name, cell in module["cells"].items() if cell["type"] == "LUT4")
    assert module["cells"][lut]["connections"]["A"] == [PINS[3]]
    assert module["cells"][lut]["connections"]["B"] == [ENABLE]


def test_a_factor_that_is_reset_as_a_whole_stays():
    module = _simple()
    for cell in module["cells"].values():
        if cell["type"] == REGISTER:
            cell["connections"]["LSR"] = [ENABLE]
    assert absorb_registers(module) == 0
