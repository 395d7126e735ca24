"""What a recorded block design amounts to: cells, nets, buses, addresses, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fpga.boards.vivado_ips import IPS, THROUGH, Bus, Ip, Pin, Segment

_RULE = "xilinx.com:bd_rule:"


@dataclass
class Cell:
    """An IP core in the design, with the parameters that were set."""

    ip: Ip
    parameters: dict[str, str] = field(default_factory=dict)
    automated: bool = False

    def _exists(self, when: str) -> bool:
        return not when or self.parameters.get(when, self.ip.parameters.get(when)) == "1"

    def pin(self, name: str) -> Pin | None:
        """The pin of that name, if the parameters make it exist."""
        pin = self.ip.pins.get(name)
        return pin if pin is not None and self._exists(pin.when) else None

    def bus(self, name: str) -> Bus | None:
        """The bus of that name, likewise."""
        bus = self.ip.buses.get(name)
        return bus if bus is not None and self._exists(bus.when) else None


@dataclass(frozen=True)
class _Range:
    """An assigned segment of an address space, named as in the design."""

    segment: str
    begin: int
    end: int


class BlockModel:
    """A design that is built call by call; `findings` say what Vivado or the board would refuse."""

    def __init__(self, ips: Mapping[str, Ip]) -> None:
        self._ips = {**IPS, **ips}
        self._cells: dict[str, Cell] = {}
        self._nets: list[set[str]] = []
        self._links: dict[str, str] = {}
        self._assigned: dict[str, list[_Range]] = {}
        self._excluded: set[tuple[str, str]] = set()
        self.findings: list[str] = []
        self.validated = False

    # -- what a script does -----------------------------------------------------------------------

    def create_cell(self, vlnv: str, name: str) -> None:
        """``create_bd_cell``."""
        if vlnv not in self._ips:
            self.findings.append(f"cell {name} is of the unknown type {vlnv}")
        elif name in self._cells:
            self.findings.append(f"cell {name} is created twice")
        else:
            self._cells[name] = Cell(self._ips[vlnv])

    def configure(self, name: str, values: Mapping[str, str]) -> bool:
        """``set_property`` on a cell; False if there is no such cell."""
        cell = self._cells.get(name.strip("/"))
        if cell is None:
            return False
        for key, value in values.items():
            parameter = key.removeprefix("CONFIG.")
            if parameter == key or parameter not in cell.ip.parameters:
                self.findings.append(f"cell {name} has no parameter {key}")
            elif value not in cell.ip.choices.get(parameter, (value,)):
                self.findings.append(f"cell {name}: {key} cannot be {value}")
            cell.parameters[parameter] = value
        return True

    def automate(self, rule: str, name: str) -> None:
        """``apply_bd_automation`` with the rule of a processing system."""
        cell = self._cells.get(name.strip("/"))
        if cell is None or rule != _RULE + cell.ip.vlnv.split(":")[2]:
            self.findings.append(f"automation {rule} does not apply to {name}")
        else:
            cell.automated = True

    def look_up(self, kind: str, path: str) -> None:
        """A finding if there is no such ``pin``, ``bus``, ``space`` or ``segment``."""
        cell_name, _, name = path.strip("/").partition("/")
        cell = self._cells.get(cell_name)
        if cell is None:
            self.findings.append(f"there is no cell {cell_name}, wanted for {path}")
            return
        found = {
            "pin": cell.pin(name),
            "bus": cell.bus(name),
            "space": cell.ip.spaces.get(name),
            "segment": cell.ip.segments.get(name),
        }[kind]
        if found is None:
            self.findings.append(f"there is no {kind} {path}")

    def connect_pins(self, pins: list[str]) -> None:
        """``connect_bd_net``."""
        net = {pin.strip("/") for pin in pins}
        touching = [other for other in self._nets if other & net]
        self._nets = [other for other in self._nets if not other & net]
        self._nets.append(net.union(*touching))

    def connect_buses(self, first: str, second: str) -> None:
        """``connect_bd_intf_net``."""
        sides = []
        for path in (first.strip("/"), second.strip("/")):
            if path in self._links:
                self.findings.append(f"interface {path} is connected twice")
            bus = self._bus(path)
            if bus is not None:
                sides.append(bus)
        self._links[first.strip("/")] = second.strip("/")
        self._links[second.strip("/")] = first.strip("/")
        if len(sides) == 2:
            if sides[0].master == sides[1].master:
                side = "masters" if sides[0].master else "slaves"
                self.findings.append(f"interfaces {first} and {second} are both {side}")
            if sides[0].kind != sides[1].kind:
                self.findings.append(f"interfaces {first} and {second} are of different types")

    def assign(self, space: str, segment: str, begin: int, size: int) -> None:
        """``assign_bd_address``."""
        space, segment = space.strip("/"), segment.strip("/")
        self._assigned.setdefault(space, []).append(_Range(segment, begin, begin + size))

    def exclude(self, space: str, segment: str) -> None:
        """``exclude_bd_addr_seg``."""
        self._excluded.add((space.strip("/"), segment.strip("/")))

    # -- what is wrong with it --------------------------------------------------------------------

    def validate(self) -> None:
        """``validate_bd_design``."""
        self.validated = True
        self._check_nets()
        for name, cell in self._cells.items():
            self._check_connected(name, cell)
        for first, second in self._links.items():
            if first < second:
                self._check_clocks(first, second)
        for space, ranges in self._assigned.items():
            self._check_ranges(space, ranges)
        self._check_reachable()

    def _pin(self, path: str) -> Pin | None:
        cell, _, name = path.partition("/")
        return self._cells[cell].pin(name) if cell in self._cells else None

    def _bus(self, path: str) -> Bus | None:
        cell, _, name = path.partition("/")
        return self._cells[cell].bus(name) if cell in self._cells else None

    def _net(self, path: str) -> set[str]:
        return next((net for net in self._nets if path in net), set())

    def _check_nets(self) -> None:
        for net in self._nets:
            pins = {path: pin for path in sorted(net) if (pin := self._pin(path)) is not None}
            drivers = [path for path, pin in pins.items() if pin.output]
            if len(drivers) != 1:
                what = "is driven by nothing" if not drivers else "is driven twice"
                self.findings.append(f"the net of {', '.join(sorted(net))} {what}")
            if len({pin.kind for pin in pins.values()}) > 1:
                kinds = ", ".join(f"{path} ({pin.kind})" for path, pin in pins.items())
                self.findings.append(f"a net joins pins that do not fit together: {kinds}")

    def _check_connected(self, name: str, cell: Cell) -> None:
        for pin in cell.ip.pins:
            found = cell.pin(pin)
            if found is not None and found.required and not self._net(f"{name}/{pin}"):
                self.findings.append(f"pin {name}/{pin} ({found.kind}) is not connected")
        for bus in cell.ip.buses:
            if cell.bus(bus) is None or bus in cell.ip.external:
                continue
            if f"{name}/{bus}" not in self._links:
                self.findings.append(f"interface {name}/{bus} is not connected")
        if cell.ip.external and not cell.automated:
            self.findings.append(
                f"interfaces {', '.join(cell.ip.external)} of {name} are left open"
            )

    def _check_clocks(self, first: str, second: str) -> None:
        nets = []
        for path in (first, second):
            bus = self._bus(path)
            if bus is None:
                return
            if not bus.clock:
                self.findings.append(f"interface {path} is associated with no clock")
                return
            nets.append(self._net(f"{path.partition('/')[0]}/{bus.clock}"))
        if nets[0] != nets[1]:
            self.findings.append(f"interfaces {first} and {second} have different clocks")

    def _segment(self, path: str) -> Segment | None:
        cell, _, name = path.partition("/")
        return self._cells[cell].ip.segments.get(name) if cell in self._cells else None

    def _check_ranges(self, space: str, ranges: list[_Range]) -> None:
        cell, _, name = space.partition("/")
        limits = self._cells[cell].ip.spaces.get(name) if cell in self._cells else None
        ordered = sorted(ranges, key=lambda one: one.begin)
        for one in ordered:
            size = one.end - one.begin
            where = f"segment {one.segment} at {one.begin:#x} of {size:#x} bytes"
            segment = self._segment(one.segment)
            if segment is None or limits is None:
                continue
            if size & (size - 1) or size == 0 or one.begin % size:
                self.findings.append(f"{where} is not aligned to its size")
            if one.begin < limits.base or one.end > limits.base + limits.size_bytes:
                self.findings.append(f"{where} is beyond what {space} reaches")
            if size > segment.size_bytes or (segment.exact and size != segment.size_bytes):
                self.findings.append(f"{where} should have {segment.size_bytes:#x}")
            if not segment.exact and one.begin != segment.base:
                self.findings.append(f"{where} should begin at {segment.base:#x}")
        for one, after in zip(ordered, ordered[1:], strict=False):
            if after.begin < one.end:
                self.findings.append(f"segments {one.segment} and {after.segment} overlap")

    def _check_reachable(self) -> None:
        """Every segment behind a master must be assigned or excluded, and no other one."""
        for cell_name, cell in self._cells.items():
            for name, space in cell.ip.spaces.items():
                behind = self._behind(f"{cell_name}/{space.bus}")
                reached, _, bus = behind.partition("/")
                segments = self._cells[reached].ip.segments if reached in self._cells else {}
                path = f"{cell_name}/{name}"
                assigned = {one.segment for one in self._assigned.get(path, [])}
                for segment_name, segment in segments.items():
                    full = f"{reached}/{segment_name}"
                    if segment.bus != bus or segment.optional:
                        continue
                    if full not in assigned and (path, full) not in self._excluded:
                        self.findings.append(f"segment {full} has no address in {path}")
                    assigned.discard(full)
                for other in sorted(assigned):
                    self.findings.append(f"{path} does not reach the segment {other}")

    def _behind(self, path: str) -> str:
        """The slave at the other end of a master, through what passes accesses on."""
        while path in self._links:
            path = self._links[path]
            cell, _, bus = path.partition("/")
            through = THROUGH.get(self._cells[cell].ip.vlnv) if cell in self._cells else None
            if through is None or bus != through[0]:
                return path
            path = f"{cell}/{through[1]}"
        return ""
