"""Placed kernels -> package: device tensors, memory plan, programs, host code and the call plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any

import numpy as np

from compiler.context import CompileContext
from compiler.emit.host import compile_host
from compiler.emit.vta import DeviceTensor, KernelCode, emit_region
from compiler.graph.ir import Graph
from compiler.graph.partition import Placed
from compiler.graph.plan_memory import Lifetime, MemoryPlan, plan_memory
from compiler.loop.nodes import Func, tasks_of
from compiler.loop.printer import to_text
from compiler.passes.allocate_sram import Layout
from compiler.passes.pipeline import lower_to_tasks
from compiler.report import host_row, view_row, vta_rows
from compiler.topi.conv2d import ConvBuild
from compiler.topi.conv2d_tiling import ConvTiling
from compiler.topi.host import HostKernel, lower_host_node, pack, unpack
from compiler.topi.host_kernel import describe_attrs
from compiler.topi.kernel import KernelTemplate
from compiler.topi.kernel_text import template_text
from compiler.topi.pool import PoolBuild
from compiler.topi.pool_beside import PoolTiling
from compiler.topi.select import device_name, select
from runtime.package import HostCall, LayerRow, Package, PlanStep, TensorInfo, VtaCall
from vta_hw.spec.config import PAGE_BYTES
from vta_hw.spec.program import Program


def assemble(
    graph: Graph,
    placed: Sequence[Placed],
    numerics: str,
    context: CompileContext,
    host_triple: str | None = None,
    tilings: Mapping[str, ConvTiling] | None = None,
) -> Package:
    """Everything that a run needs, from kernels in execution order.

    `tilings` are choices for workloads of convolutions (`ConvShape.workload`); others are chosen by
    a model of their time.
    """
    return _Assembler(graph, placed, numerics, context, tilings or {}).package(host_triple)


class _Assembler:
    def __init__(
        self,
        graph: Graph,
        placed: Sequence[Placed],
        numerics: str,
        context: CompileContext,
        tilings: Mapping[str, ConvTiling],
    ) -> None:
        self.graph, self.placed = graph, placed
        self.numerics, self.context = numerics, context
        self.config, self.tilings = context.config, tilings
        self.tensors: dict[str, TensorInfo] = {}
        self.plan: list[PlanStep] = []
        self.programs: list[Program] = []
        self.host_funcs: list[Func] = []
        self.host_constants: dict[str, np.ndarray] = {}
        self.layers: dict[str, LayerRow] = {}
        self.on_host = set(graph.inputs)
        self.inexact: list[str] = []
        self.alias = self._aliases()
        self.memory = self._plan_memory()

    def package(self, host_triple: str | None) -> Package:
        """Walk the kernels, region by region."""
        for name in self.graph.inputs:
            self._declare_host(name)
        for (_, on_device), group in groupby(
            self.placed, key=lambda p: (p.level, p.where != "host")
        ):
            items = list(group)
            if on_device:
                self._region(items)
            else:
                for item in items:
                    self._host_kernel(item)
        for name in self.graph.outputs:
            self._bring_home(name)
        code, triple = self._host_code(host_triple)
        offsets = self.memory.offsets
        placements = [
            {s.name: offsets[s.name] for s in program.symbols.values() if s.contents is None}
            for program in self.programs
        ]
        return Package(
            config=self.config,
            model=self.graph.name,
            numerics=self.numerics,
            tensors=self.tensors,
            inputs=self.graph.inputs,
            outputs=self.graph.outputs,
            plan=tuple(self.plan),
            programs=tuple(self.programs),
            placements=tuple(placements),
            arena_bytes=self.memory.arena_bytes,
            host_object=code,
            host_triple=triple,
            host_constants=self.host_constants,
            layers=tuple(self.layers.values()),
            exact=not self.inexact,
            notes=self._notes(),
        )

    def _host_code(self, host_triple: str | None) -> tuple[bytes, str]:
        """The object code of the host functions, and the triple it is for."""
        shown: list[str] = []
        show = shown.append if self.context.dump_dir is not None else None
        with self.context.step("host_codegen"):
            code, triple = compile_host(self.host_funcs, host_triple, show)
        self.context.dump("host", "host_codegen", lambda: "".join(shown))
        return code, triple

    def _notes(self) -> tuple[str, ...]:
        reasons = Counter(item.reason for item in self.placed if item.where == "host")
        if reasons and not self.programs:
            return (f"nothing runs on VTA: {reasons.most_common(1)[0][0]}",)
        if not self.inexact:
            return ()
        return (
            f"config {self.config.name!r} lacks the extension 'requant': {len(self.inexact)} "
            f"operators are within one unit per requantisation, not exact",
        )

    # -- device memory -----------------------------------------------------------------------------

    def _aliases(self) -> dict[str, str]:
        """Tensor made by a view -> the tensor whose memory it is."""
        alias: dict[str, str] = {}
        for item in self.placed:
            if item.where == "view":
                source = item.kernel.inputs[0]
                alias[item.kernel.outputs[0]] = alias.get(source, source)
        return alias

    def _base(self, name: str) -> str:
        return self.alias.get(name, name)

    def _plan_memory(self) -> MemoryPlan:
        """Lifetimes in kernel order; what crosses a region's border spans the region."""
        steps: dict[str, list[int]] = {}
        for position, item in enumerate(self.placed):
            if item.where != "vta":
                continue
            names = [*item.kernel.inputs, *item.kernel.outputs]
            for name in names:
                steps.setdefault(self._base(name), []).append(position)
        home = self._needed_at_home()
        lifetimes = []
        for name, used in steps.items():
            first, last = min(used), max(used)
            made = self._maker(name)
            if made is None:
                first = min(self._region_start(p) for p in used)
            elif made.kernel.anchor.op == "max_pool2d":
                # It may run beside the kernel before it, whose inputs are needed longer then.
                first = max(first - 1, self._region_start(first))
            if name in home:
                last = len(self.placed)
            size = self._info(name).size_bytes
            lifetimes.append(Lifetime(device_name(name), size, first, last))
        return plan_memory(lifetimes, PAGE_BYTES)

    def _needed_at_home(self) -> set[str]:
        """Device tensors that the host reads after their region, aliases resolved."""
        names = set(self.graph.outputs)
        for item in self.placed:
            if item.where == "host":
                names.update(item.kernel.inputs)
        return {self._base(name) for name in names}

    def _maker(self, name: str) -> Placed | None:
        return next((p for p in self.placed if p.where == "vta" and name in p.kernel.outputs), None)

    def _region_start(self, position: int) -> int:
        level = self.placed[position].level
        return next(i for i, p in enumerate(self.placed) if p.level == level and p.where != "host")

    # -- tensors -----------------------------------------------------------------------------------

    def _info(self, name: str) -> TensorInfo:
        """The packed device form of a model tensor."""
        return self._tensor_info(
            name,
            device_name(name),
            storage="device",
            view_of=name,
            batch=self.config.batch,
            block=self.config.block_out,
        )

    def _tensor_info(self, name: str, as_name: str, **extra: object) -> TensorInfo:
        type_ = self.graph.type_of(name)
        quant = type_.quant
        return TensorInfo(
            name=as_name,
            dtype=type_.dtype,
            shape=type_.shape,
            scale=tuple(map(float, quant.scale)) if quant else (),
            zero_point=tuple(map(int, quant.zero_point)) if quant else (),
            layout=type_.layout,
            source_dtype=type_.source_dtype,
            **extra,  # type: ignore[arg-type]
        )

    def _declare_host(self, name: str) -> None:
        self.tensors.setdefault(name, self._tensor_info(name, name))

    def _declare_device(self, name: str) -> None:
        info = self._info(name)
        if name in self.alias:
            base = device_name(self.alias[name])
            info = TensorInfo(**{**vars(info), "alias_of": base})
        self.tensors.setdefault(info.name, info)

    # -- host --------------------------------------------------------------------------------------

    def _call(
        self,
        kernel: HostKernel,
        inputs: Sequence[str],
        output: str,
        op: str,
        attrs: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        symbol = kernel.func.name
        constants = []
        for param, array in kernel.constants.items():
            name = f"{symbol}.{param}"
            self.host_constants[name] = array
            constants.append(name)
        self.host_funcs.append(kernel.func)
        self.context.dump(symbol, "host_lowering", lambda: to_text(kernel.func))
        described = describe_attrs(attrs)
        self.plan.append(HostCall(symbol, (*inputs, *constants), (output,), op, described))

    def _symbol(self, label: str) -> str:
        return f"host{len(self.host_funcs)}_{label}"

    def _send(self, name: str) -> None:
        """Pack a tensor of the host into device memory."""
        if device_name(name) in self.tensors:
            return
        self._declare_device(name)
        type_ = self.graph.type_of(name)
        kernel = pack(type_, self.config.batch, self.config.block_out, self._symbol("pack"))
        self._call(kernel, [name], device_name(name), "pack")

    def _bring_home(self, name: str) -> None:
        """Unpack a tensor of the device for the host."""
        if name in self.on_host or self.graph.tensors[name].is_constant:
            return
        self.on_host.add(name)
        self._declare_host(name)
        type_ = self.graph.type_of(name)
        kernel = unpack(type_, self.config.batch, self.config.block_out, self._symbol("unpack"))
        self._call(kernel, [device_name(name)], name, "unpack")

    def _host_kernel(self, item: Placed) -> None:
        for node in item.kernel.nodes:
            inputs = [n for n in node.inputs if not self.graph.tensors[n].is_constant]
            for name in inputs:
                self._bring_home(name)
            with self.context.step("host_lowering"):
                kernel = lower_host_node(self.graph, node, self._symbol(node.op))
            output = node.outputs[0]
            self._declare_host(output)
            self.on_host.add(output)
            self._call(kernel, inputs, output, node.op, node.attrs)
            self.layers[node.name] = host_row(node, item.reason, kernel.macs)

    # -- device ------------------------------------------------------------------------------------

    def _region(self, items: Sequence[Placed]) -> None:
        """One program for the kernels of a region."""
        name = f"region{len(self.programs)}"
        local = {self._base(n) for item in items for n in item.kernel.outputs}
        for item in items:
            for tensor in item.kernel.inputs:
                if self._base(tensor) not in local:
                    self._send(self._base(tensor))
        codes: list[KernelCode] = []
        layout: Layout | None = None
        before: Placed | None = None
        macs: list[int] = []
        for item in items:
            for tensor in (*item.kernel.inputs, *item.kernel.outputs):
                self._declare_device(tensor)
            if item.where == "view":
                continue
            beside = self._beside(before, item)
            template = self._template(item, beside)
            before = item
            func, layout = lower_to_tasks(
                template.schedule, template.params, template.name, self.context, layout
            )
            label, tasks = item.kernel.anchor.name, tasks_of(func)
            codes.append(KernelCode(label, tasks, template.constants, beside is not None))
            macs.append(template.macs)
            if not template.is_exact:
                self.inexact.append(item.kernel.anchor.name)
        rows = {item.kernel.anchor.name: view_row(item) for item in items}
        if codes:
            program = emit_region(name, codes, self._device_tensors(codes), self.context)
            self.plan.append(VtaCall(len(self.programs)))
            self.programs.append(program)
            kernels = [item.kernel for item in items if item.where == "vta"]
            rows.update({row.name: row for row in vta_rows(program, kernels, macs)})
        self.layers.update(rows)

    def _beside(self, before: Placed | None, item: Placed) -> PoolTiling | None:
        """How a kernel runs beside the one before it, if it reads that one's result alone."""
        if before is None or before.kernel.outputs != item.kernel.inputs:
            return None
        build = select(before.kernel, self.graph, self.config)
        if not isinstance(build, ConvBuild) or build.windows is None:
            return None
        return build.beside(self.tilings.get(build.shape.workload))

    def _template(self, item: Placed, beside: PoolTiling | None) -> KernelTemplate:
        with self.context.step("template"):
            build = select(item.kernel, self.graph, self.config)
            assert not isinstance(build, str), "partition asked before"
            if isinstance(build, ConvBuild):
                template = build(self.tilings.get(build.shape.workload))
            elif isinstance(build, PoolBuild):
                template = build(beside)
            else:
                template = build()
        self.context.dump(template.name, "template", lambda: template_text(template))
        return template

    def _device_tensors(self, codes: Sequence[KernelCode]) -> dict[str, DeviceTensor]:
        constants = {name for code in codes for name in code.constants}
        tensors: dict[str, DeviceTensor] = {}
        for code in codes:
            for task in code.tasks:
                if task.operand is None or task.operand.name in constants:
                    continue
                info = self.tensors[task.operand.name]
                symbol = info.alias_of or info.name
                tensors[task.operand.name] = DeviceTensor(
                    symbol, info.size_bytes, self.memory.offsets[symbol]
                )
        return tensors
