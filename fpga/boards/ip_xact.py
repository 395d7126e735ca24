"""The core as an IP core for Vivado: its IP-XACT description (IEEE 1685-2009)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from fpga.boards.zynq import CONTROL_WINDOW_BYTES
from vta_hw.rtl.core import MASTER, SLAVE, bus_ports
from vta_hw.rtl.verilog import SHELL, describe
from vta_hw.spec import machine, registers
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.register_tables import counter_doc
from vta_hw.spec.registers import COUNTERS, READ_ONLY, REGISTER_DOCS, Register

SPIRIT = "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"
XILINX = "http://www.xilinx.com"
VENDOR, LIBRARY = "vta_kit", "vta"
VERSION = f"{registers.CORE_ID & 0xFF}.0"
"""That of the register map."""

VLNV = f"{VENDOR}:{LIBRARY}:{SHELL}:{VERSION}"
SOURCE = f"hdl/{SHELL}.v"
"""Path of the Verilog, seen from the folder of the description."""

CLOCK, RESET, INTERRUPT = "aclk", "aresetn", "irq"
MASTER_BUS, SLAVE_BUS = MASTER.rstrip("_"), SLAVE.rstrip("_")
REGISTER_BLOCK = "reg0"
REGISTER_SEGMENT = f"{SLAVE_BUS}/{REGISTER_BLOCK}"
"""The registers in Vivado's address editor, seen from the core."""

FAMILIES = ("zynq", "zynquplus")
_WORD_BITS = 32
_VIEWS = {
    "xilinx_anylanguagesynthesis": ":vivado.xilinx.com:synthesis",
    "xilinx_anylanguagebehavioralsimulation": ":vivado.xilinx.com:simulation",
}


def component_xml(config: VtaConfig) -> str:
    """The text of ``component.xml``: equal configs give equal texts."""
    ElementTree.register_namespace("spirit", SPIRIT)
    ElementTree.register_namespace("xilinx", XILINX)
    root = Element(_tag("component"))
    _texts(root, vendor=VENDOR, library=LIBRARY, name=SHELL, version=VERSION)
    _bus_interfaces(SubElement(root, _tag("busInterfaces")), config)
    space = SubElement(SubElement(root, _tag("addressSpaces")), _tag("addressSpace"))
    _texts(space, name=MASTER_BUS, range=str(1 << _port_widths(config)[f"{MASTER}araddr"]))
    _texts(space, width=str(_port_widths(config)[f"{MASTER}rdata"]))
    _memory_map(SubElement(root, _tag("memoryMaps")))
    _model(SubElement(root, _tag("model")), config)
    _file_sets(SubElement(root, _tag("fileSets")))
    _texts(root, description=f"VTA, config {config.name}, hash {config.hash}")
    parameters = SubElement(root, _tag("parameters"))
    _parameter(parameters, "Component_Name", f"{SHELL}_v1", "PARAM_VALUE.Component_Name")
    extensions = SubElement(root, _tag("vendorExtensions"))
    core = SubElement(extensions, f"{{{XILINX}}}coreExtensions")
    families = SubElement(core, f"{{{XILINX}}}supportedFamilies")
    for family in FAMILIES:
        element = SubElement(families, f"{{{XILINX}}}family")
        element.set(f"{{{XILINX}}}lifeCycle", "Production")
        element.text = family
    taxonomies = SubElement(core, f"{{{XILINX}}}taxonomies")
    SubElement(taxonomies, f"{{{XILINX}}}taxonomy").text = "/UserIP"
    SubElement(core, f"{{{XILINX}}}displayName").text = "VTA"
    SubElement(core, f"{{{XILINX}}}coreRevision").text = "1"
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def shell_ports(config: VtaConfig) -> dict[str, tuple[str, int]]:
    """Direction (``in``, ``out``) and width of every port of the shell."""
    return {
        port["name"]: (port["direction"].removesuffix("put"), port["width"])
        for port in describe(config)["modules"][SHELL]["ports"]
    }


def _port_widths(config: VtaConfig) -> dict[str, int]:
    return {name: width for name, (_, width) in shell_ports(config).items()}


def _tag(name: str) -> str:
    return f"{{{SPIRIT}}}{name}"


def _texts(parent: Element, **values: str) -> None:
    for name, value in values.items():
        SubElement(parent, _tag(name)).text = value


def _parameter(parent: Element, name: str, value: str, identifier: str) -> None:
    parameter = SubElement(parent, _tag("parameter"))
    _texts(parameter, name=name)
    element = SubElement(parameter, _tag("value"))
    element.set(_tag("resolve"), "user" if identifier.startswith("PARAM_VALUE") else "immediate")
    element.set(_tag("id"), identifier)
    element.text = value


def _interface(
    parent: Element,
    name: str,
    kind: tuple[str, str],
    ports: Mapping[str, str],
    parameters: Mapping[str, str],
) -> Element:
    """A bus interface of `kind` (library and name); `ports` maps logical to physical names.

    Gives the element that says whose side it is.
    """
    bus = SubElement(parent, _tag("busInterface"))
    _texts(bus, name=name)
    for tag, suffix in (("busType", ""), ("abstractionType", "_rtl")):
        element = SubElement(bus, _tag(tag))
        library, interface = kind
        for key, value in (
            ("vendor", "xilinx.com"), ("library", library),
            ("name", interface + suffix), ("version", "1.0"),
        ):  # fmt: skip
            element.set(_tag(key), value)
    side = SubElement(bus, _tag("side"))
    maps = SubElement(bus, _tag("portMaps"))
    for logical, physical in ports.items():
        port_map = SubElement(maps, _tag("portMap"))
        for tag, port in (("logicalPort", logical), ("physicalPort", physical)):
            _texts(SubElement(port_map, _tag(tag)), name=port)
    if parameters:
        group = SubElement(bus, _tag("parameters"))
        for key, value in parameters.items():
            _parameter(group, key, value, f"BUSIFPARAM_VALUE.{name.upper()}.{key}")
    return side


def _bus_interfaces(parent: Element, config: VtaConfig) -> None:
    def ports(prefix: str) -> dict[str, str]:
        return {
            name.removeprefix(prefix).upper(): name
            for name in bus_ports(config)
            if name.startswith(prefix)
        }

    memory, signal = ("interface", "aximm"), "signal"
    beats = machine.burst_window(config) // machine.bus_bytes(config)
    side = _interface(
        parent,
        MASTER_BUS,
        memory,
        ports(MASTER),
        {
            "PROTOCOL": "AXI4",
            "SUPPORTS_NARROW_BURST": "0",
            "MAX_BURST_LENGTH": str(beats),
            "NUM_READ_OUTSTANDING": str(config.max_reads),
        },
    )
    side.tag = _tag("master")
    SubElement(side, _tag("addressSpaceRef")).set(_tag("addressSpaceRef"), MASTER_BUS)
    side = _interface(parent, SLAVE_BUS, memory, ports(SLAVE), {"PROTOCOL": "AXI4LITE"})
    side.tag = _tag("slave")
    SubElement(side, _tag("memoryMapRef")).set(_tag("memoryMapRef"), SLAVE_BUS)
    buses = f"{MASTER_BUS}:{SLAVE_BUS}"
    for name, kind, logical, tag, parameters in (
        (CLOCK, "clock", "CLK", "slave", {"ASSOCIATED_BUSIF": buses, "ASSOCIATED_RESET": RESET}),
        (RESET, "reset", "RST", "slave", {"POLARITY": "ACTIVE_LOW"}),
        (INTERRUPT, "interrupt", "INTERRUPT", "master", {"SENSITIVITY": "LEVEL_HIGH"}),
    ):
        _interface(parent, name, (signal, kind), {logical: name}, parameters).tag = _tag(tag)


def _memory_map(parent: Element) -> None:
    memory_map = SubElement(parent, _tag("memoryMap"))
    _texts(memory_map, name=SLAVE_BUS)
    block = SubElement(memory_map, _tag("addressBlock"))
    _texts(block, name=REGISTER_BLOCK, baseAddress="0x0", range=str(CONTROL_WINDOW_BYTES))
    _texts(block, width=str(_WORD_BITS), usage="register")
    for name, offset, text, access in register_words():
        register = SubElement(block, _tag("register"))
        _texts(register, name=name, description=text, addressOffset=f"{offset:#x}")
        _texts(register, size=str(_WORD_BITS), volatile="true", access=access)


def register_words() -> Iterable[tuple[str, int, str, str]]:
    """Name, byte offset, meaning and IP-XACT's access of every word of the register map."""
    for register in Register:
        access = "read-only" if register in READ_ONLY else "read-write"
        yield register.name, int(register), REGISTER_DOCS[register], access
    word_bytes = _WORD_BITS // 8
    for counter in COUNTERS:
        address, text = registers.counter_address(counter), counter_doc(counter)
        for place, half in enumerate(("LOW", "HIGH")):
            name = f"{counter.upper()}_{half}"
            yield name, address + place * word_bytes, f"{half.lower()} word: {text}", "read-only"


def _model(parent: Element, config: VtaConfig) -> None:
    views = SubElement(parent, _tag("views"))
    for name, environment in _VIEWS.items():
        view = SubElement(views, _tag("view"))
        _texts(view, name=name, envIdentifier=environment, language="Verilog", modelName=SHELL)
        _texts(SubElement(view, _tag("fileSetRef")), localName=f"{name}_view_fileset")
    ports = SubElement(parent, _tag("ports"))
    for name, (direction, width) in shell_ports(config).items():
        port = SubElement(ports, _tag("port"))
        _texts(port, name=name)
        wire = SubElement(port, _tag("wire"))
        _texts(wire, direction=direction)
        if width > 1:
            _texts(SubElement(wire, _tag("vector")), left=str(width - 1), right="0")
        definitions = SubElement(SubElement(wire, _tag("wireTypeDefs")), _tag("wireTypeDef"))
        _texts(definitions, typeName="wire")
        for view_name in _VIEWS:
            _texts(definitions, viewNameRef=view_name)


def _file_sets(parent: Element) -> None:
    for view in _VIEWS:
        file_set = SubElement(parent, _tag("fileSet"))
        _texts(file_set, name=f"{view}_view_fileset")
        _texts(SubElement(file_set, _tag("file")), name=SOURCE, fileType="verilogSource")
