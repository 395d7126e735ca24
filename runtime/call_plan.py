"""The call plan of a package with arrays and addresses found beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from runtime.buffers import Frame, Slots, is_shifted, to_face, unpack
from runtime.device import Device, DeviceError
from runtime.host import Host, Step
from runtime.package import HostCall, Package, TensorInfo, VtaCall
from vta_hw.spec.program import Program


@dataclass(frozen=True)
class ProgramStep:
    """Run a program, the package's `index`-th, with its symbols at these addresses."""

    index: int
    program: Program
    addresses: Mapping[str, int]


@dataclass(frozen=True)
class _Output:
    """An output by the model's name: what is in a slot, or what lies packed in DRAM."""

    name: str
    tensor: TensorInfo
    slot: int
    place: tuple[int, int] | None
    is_borrowed: bool

    def array(self, frame: Frame, device: Device) -> np.ndarray:
        """As the model's user sees it, in memory of its own."""
        if self.place is None:
            array = frame.arrays[self.slot]
            if self.is_borrowed and not is_shifted(self.tensor):
                return array.copy()
        else:
            view = device.view(*self.place)
            array = unpack(device.read(*self.place) if view is None else view, self.tensor)
        return to_face(array, self.tensor)


class CallPlan:
    """The call plan of a package with all operands found, for one choice of outputs.

    Tensors of the host are arrays that all runs share, but for outputs, which the caller keeps.
    Tensors of the device are DRAM itself where the device shows it, copies elsewhere.
    """

    def __init__(
        self,
        package: Package,
        device: Device,
        host: Host | None,
        *,
        constants: Sequence[Mapping[str, int]],
        places: Mapping[str, int],
        with_all: bool,
    ) -> None:
        """`constants` has addresses by program and symbol, `places` those of activations.

        The outputs are the model's, or all tensors that are computed.
        """
        self.slots = Slots(device)
        self.inputs = [self.slots.empty() for _ in package.inputs]
        self.steps: list[Step | ProgramStep] = []
        self._package, self._device, self._host = package, device, host
        self._places = places
        self._constants = {n: self.slots.hold(a) for n, a in package.host_constants.items()}
        # Where each tensor of the host was last written to; every write has a slot of its own.
        self._written = dict(zip(package.inputs, self.inputs, strict=True))
        self._made: dict[int, TensorInfo] = {}
        for step in package.plan:
            match step:
                case HostCall():
                    self._add_call(step)
                case VtaCall(index):
                    program = package.programs[index]
                    symbols = [s.name for s in program.symbols.values() if s.contents is None]
                    addresses = {**constants[index], **{name: places[name] for name in symbols}}
                    self.steps.append(ProgramStep(index, program, addresses))
        self._outputs = list(self._find_outputs(with_all))
        kept = {o.slot for o in self._outputs if o.place is None and not is_shifted(o.tensor)}
        for slot, tensor in self._made.items():
            if slot in kept:
                self.slots.make_fresh(slot, tensor)
            else:
                self.slots.make(slot, tensor)

    def collect(self, frame: Frame) -> dict[str, np.ndarray]:
        """The outputs after a run."""
        return {output.name: output.array(frame, self._device) for output in self._outputs}

    # -- host calls -------------------------------------------------------------------------------

    def _add_call(self, call: HostCall) -> None:
        assert self._host is not None
        in_place = not self._is_overlapping(call)
        before: list[Step] = []
        after: list[Step] = []
        slots = []
        for name in call.inputs:
            tensor = self._package.tensors.get(name)
            if name in self._constants or tensor is None or tensor.storage == "host":
                slots.append(self._slot(name))
                continue
            place = self._place(tensor)
            slot = self.slots.view(*place) if in_place else None
            if slot is None:
                slot = self.slots.empty()
                before.append(self._reading(slot, *place))
            slots.append(slot)
        written = {}
        for name in call.outputs:
            tensor, slot = self._package.tensors[name], None
            if tensor.storage == "device":
                place = self._place(tensor)
                slot = self.slots.view(*place, tensor) if in_place else None
            if slot is None:
                slot = self.slots.empty()
                self._made[slot] = tensor
                if tensor.storage == "device":
                    after.append(self._writing(slot, place[0]))
                else:
                    written[name] = slot
            slots.append(slot)
        self.steps += [*before, self._host.bind(call, slots), *after]
        self._written |= written

    def _is_overlapping(self, call: HostCall) -> bool:
        """Whether a call writes device memory that another operand of it lies in.

        Host code may rely on there being none, so that such a call works on copies.
        """
        tensors = self._package.tensors
        reads, writes = (
            [
                self._place(tensors[name])
                for name in names
                if name in tensors and tensors[name].storage == "device"
            ]
            for names in (call.inputs, call.outputs)
        )
        return any(
            at < other + other_size and other < at + size
            for index, (at, size) in enumerate(writes)
            for other, other_size in (*reads, *writes[:index])
        )

    def _reading(self, slot: int, address: int, size_bytes: int) -> Step:
        device = self._device
        return lambda frame: frame.put(slot, device.read(address, size_bytes))

    def _writing(self, slot: int, address: int) -> Step:
        device = self._device
        return lambda frame: device.write(address, frame.arrays[slot])

    def _slot(self, name: str) -> int:
        """Where a constant or a tensor of the host is."""
        slot = self._constants.get(name, self._written.get(name))
        if slot is None:
            raise DeviceError(
                f"the package's call plan reads tensor {name!r} before anything writes it; "
                f"compile the model again"
            )
        return slot

    def _place(self, tensor: TensorInfo) -> tuple[int, int]:
        """Address and size of a tensor of the device."""
        base = tensor.alias_of or tensor.name
        if base not in self._places:
            raise DeviceError(
                f"device tensor {base!r} belongs to no program of the package; "
                f"compile the model again"
            )
        return self._places[base], tensor.size_bytes

    # -- outputs ----------------------------------------------------------------------------------

    def _find_outputs(self, with_all: bool) -> Iterator[_Output]:
        tensors = self._package.tensors
        names = list(self._package.outputs)
        if with_all:
            # Arrays of the host come first: a packed copy does not displace them.
            names = sorted(tensors, key=lambda name: tensors[name].storage == "device")
            names = [n for n in names if tensors[n].storage == "device" or n in self._written]
        found = set()
        for name in names:
            tensor = tensors[name]
            shown = tensor.view_of or name
            if shown in found:
                continue
            found.add(shown)
            if tensor.storage == "device" and name not in self._constants:
                yield _Output(shown, tensor, -1, self._place(tensor), False)
            else:
                slot = self._slot(name)
                yield _Output(shown, tensor, slot, None, slot not in self._made)
