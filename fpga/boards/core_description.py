"""Reads a core's ``component.xml`` and Verilog back, and compares them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from fpga.boards.vivado_ips import AXI, Bus, Ip, Pin, Segment, Space

_SPIRIT = "{http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009}"
_PORT = re.compile(r"^  (input|output) (?:reg |wire )?(?:\[(\d+):0\] )?(\S+);$", re.M)
_SIGNALS = {"clock": "CLK", "reset": "RST", "interrupt": "INTERRUPT"}
_NEVER_MISSING = {"AWADDR", "AWVALID", "WDATA", "WVALID", "BVALID", "ARADDR", "ARVALID", "RDATA"}
"""Signals without which Vivado takes no ports for an AXI bus."""


@dataclass(frozen=True)
class CoreDescription:
    """The core as the block design sees it, and the files that it names, relative to its folder."""

    ip: Ip
    files: tuple[str, ...]
    findings: tuple[str, ...]


def read_core(path: Path) -> CoreDescription:
    """What ``component.xml`` at `path` says; findings where it is wrong or the Verilog differs."""
    root = ElementTree.parse(path).getroot()
    if root.tag != f"{_SPIRIT}component":
        return CoreDescription(Ip("", {}), (), ("component.xml is no IP-XACT 1685-2009 component",))
    vlnv = ":".join(_text(root, tag) for tag in ("vendor", "library", "name", "version"))
    reader = _Reader(root)
    ip = Ip(vlnv, reader.pins(), reader.buses(), reader.segments(), reader.spaces())
    files = tuple(dict.fromkeys(_text(file, "name") for file in root.iter(f"{_SPIRIT}file")))
    findings = [*reader.findings]
    for name in files:
        if not (path.parent / name).is_file():
            findings.append(f"component.xml names the file {name}, which does not exist")
    modules = {_text(view, "modelName") for view in root.iter(f"{_SPIRIT}view")}
    for module in sorted(modules):
        findings += _compare(reader.ports, module, [path.parent / name for name in files])
    return CoreDescription(ip, files, tuple(dict.fromkeys(findings)))


def verilog_ports(text: str, module: str) -> dict[str, tuple[str, int]] | None:
    """Direction (``in``, ``out``) and width of the ports of a module in the text, None if absent.

    It reads what Yosys writes: one declaration per line.
    """
    found = re.search(rf"^module {re.escape(module)}\(.*?^endmodule", text, re.M | re.S)
    if found is None:
        return None
    return {
        name: (direction.removesuffix("put"), int(left or 0) + 1)
        for direction, left, name in _PORT.findall(found.group())
    }


def _compare(described: dict[str, tuple[str, int]], module: str, sources: list[Path]) -> list[str]:
    texts = [path.read_text() for path in sources if path.is_file()]
    found = next(
        (p for p in (verilog_ports(text, module) for text in texts) if p is not None), None
    )
    if found is None:
        return [f"no Verilog of the core has the module {module}"]
    findings = []
    for name in sorted(described.keys() | found.keys()):
        if name not in found:
            findings.append(f"component.xml has the port {name}, the Verilog has not")
        elif name not in described:
            findings.append(f"the Verilog has the port {name}, component.xml has not")
        elif described[name] != found[name]:
            findings.append(
                f"port {name} is {described[name]} in component.xml, {found[name]} in the Verilog"
            )
    return findings


def _text(element: Element, tag: str) -> str:
    found = element.find(_SPIRIT + tag)
    return "" if found is None or found.text is None else found.text


class _Reader:
    """One description; `findings` grow as it is read."""

    def __init__(self, root: Element) -> None:
        self._root = root
        self.findings: list[str] = []
        self._interfaces = {_text(bus, "name"): bus for bus in root.iter(f"{_SPIRIT}busInterface")}
        self._clocks = self._associations()

    @cached_property
    def ports(self) -> dict[str, tuple[str, int]]:
        """Direction and width of every port."""
        found = {}
        for port in self._root.iter(f"{_SPIRIT}port"):
            wire = port.find(f"{_SPIRIT}wire")
            assert wire is not None, "a port without a wire"
            vector = wire.find(f"{_SPIRIT}vector")
            width = 1 if vector is None else int(_text(vector, "left")) + 1
            found[_text(port, "name")] = (_text(wire, "direction"), width)
        return found

    def _kind(self, bus: Element) -> str:
        kind = bus.find(f"{_SPIRIT}busType")
        return "" if kind is None else kind.get(f"{_SPIRIT}name", "")

    def _parameters(self, bus: Element) -> dict[str, str]:
        return {
            _text(p, "name"): _text(p, "value") for p in bus.iter(f"{_SPIRIT}parameter")
        }  # fmt: skip

    def _maps(self, name: str) -> dict[str, str]:
        """Logical to physical names of an interface."""
        found = {}
        for item in self._interfaces[name].iter(f"{_SPIRIT}portMap"):
            logical, physical = (
                item.find(f"{_SPIRIT}{side}Port") for side in ("logical", "physical")
            )
            assert logical is not None and physical is not None
            found[_text(logical, "name")] = _text(physical, "name")
            if found[_text(logical, "name")] not in self.ports:
                self.findings.append(
                    f"interface {name} maps the unknown port {_text(physical, 'name')}"
                )
        return found

    def _associations(self) -> dict[str, str]:
        """The clock port of each bus."""
        found: dict[str, str] = {}
        for name, bus in self._interfaces.items():
            if self._kind(bus) == "clock":
                parameters = self._parameters(bus)
                for other in filter(None, parameters.get("ASSOCIATED_BUSIF", "").split(":")):
                    found[other] = name
                reset = parameters.get("ASSOCIATED_RESET", "")
                if reset not in self._interfaces:
                    self.findings.append(f"clock {name} is associated with no reset")
        return found

    def buses(self) -> dict[str, Bus]:
        """The AXI interfaces, with the pins of their clocks."""
        found = {}
        for name, bus in self._interfaces.items():
            if self._kind(bus) != AXI:
                continue
            missing = sorted(_NEVER_MISSING - self._maps(name).keys())
            if missing:
                self.findings.append(f"interface {name} maps no {', '.join(missing)}")
            if name not in self._clocks:
                self.findings.append(f"interface {name} is associated with no clock")
            master = bus.find(f"{_SPIRIT}master") is not None
            found[name] = Bus(master, self._clocks.get(name, ""))
        return found

    def pins(self) -> dict[str, Pin]:
        """The pins that belong to no AXI interface."""
        ports = self.ports
        found, taken = {}, set()
        for name, bus in self._interfaces.items():
            kind = self._kind(bus)
            if kind not in _SIGNALS:
                taken |= set(self._maps(name).values())
                continue
            physical = self._maps(name).get(_SIGNALS[kind], "")
            if physical not in ports:
                continue
            if kind == "reset" and self._parameters(bus).get("POLARITY") == "ACTIVE_LOW":
                kind = "reset_n"
            output = ports[physical][0] == "out"
            found[physical] = Pin(output, kind, required=kind != "interrupt" and not output)
        for name, (direction, _) in ports.items():
            if name not in taken and name not in found:
                self.findings.append(f"port {name} belongs to no interface")
                found[name] = Pin(direction == "out", "data")
        return found

    def segments(self) -> dict[str, Segment]:
        """The address blocks behind the slave interfaces."""
        found = {}
        for name, bus in self._interfaces.items():
            reference = bus.find(f"{_SPIRIT}slave/{_SPIRIT}memoryMapRef")
            if reference is None:
                continue
            wanted = reference.get(f"{_SPIRIT}memoryMapRef")
            for memory_map in self._root.iter(f"{_SPIRIT}memoryMap"):
                if _text(memory_map, "name") == wanted:
                    for block in memory_map.iter(f"{_SPIRIT}addressBlock"):
                        found[f"{wanted}/{_text(block, 'name')}"] = self._segment(name, block)
        return found

    def _segment(self, bus: str, block: Element) -> Segment:
        size = int(_text(block, "range"), 0)
        for register in block.iter(f"{_SPIRIT}register"):
            end = int(_text(register, "addressOffset"), 0) + int(_text(register, "size"), 0) // 8
            if end > size:
                self.findings.append(
                    f"register {_text(register, 'name')} ends at {end:#x}, beyond its block"
                )
        return Segment(bus, size, exact=True)

    def spaces(self) -> dict[str, Space]:
        """The address spaces of the master interfaces."""
        sizes = {
            _text(space, "name"): int(_text(space, "range"), 0)
            for space in self._root.iter(f"{_SPIRIT}addressSpace")
        }
        found = {}
        for name, bus in self._interfaces.items():
            reference = bus.find(f"{_SPIRIT}master/{_SPIRIT}addressSpaceRef")
            if reference is not None:
                wanted = reference.get(f"{_SPIRIT}addressSpaceRef", "")
                if wanted not in sizes:
                    self.findings.append(f"interface {name} has the unknown address space {wanted}")
                found[wanted] = Space(name, 0, sizes.get(wanted, 0))
        return found
