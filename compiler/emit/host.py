"""Loop IR to object code of the CPU, through LLVM.

Every function becomes an exported C function with one pointer per parameter and no result. Buffers
of different parameters must not overlap. ``unroll`` loops are written out; ``vectorize`` and
``parallel`` ones run in order, LLVM finds the vector lanes by itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from compiler.emit.host_calls import I32, I64
from compiler.emit.host_targets import find_host_target
from compiler.emit.host_values import ValueBuilder, memory_type
from compiler.errors import LoweringError
from compiler.loop.nodes import Alloc, Buffer, For, Func, If, Seq, Stmt, Store

_HOST_SCOPES = ("dram", "host")
_STACK_BYTES_MAX = 1 << 14
_ALIGNMENT_BYTES = 64
_SPEED_LEVEL = 3


def compile_host(
    funcs: Sequence[Func],
    triple: str | None = None,
    show: Callable[[str], None] | None = None,
) -> tuple[bytes, str]:
    """Object code of all functions, and the target triple it is for.

    `show` is called with the optimised LLVM IR.

    The default triple is this machine's. Only instructions of the architecture's baseline are
    used, so that the code runs on every machine of the triple. Triples beyond `HOST_TARGETS` are
    refused.
    """
    full, known = find_host_target(llvm.get_process_triple() if triple is None else triple)
    module = build_module(funcs, full)
    try:
        machine = _target(full).create_target_machine(
            features=known.features,
            opt=_SPEED_LEVEL,
            reloc="pic",
            codemodel="default",
            abiname=known.abi,
        )
        optimised = _optimised(module, machine)
        if show is not None:
            show(str(optimised))
        code: bytes = machine.emit_object(optimised)
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise LoweringError(
            f"LLVM cannot make host code for {full!r} ({text}); use another triple or another "
            f"version of llvmlite"
        ) from error
    return code, full


def host_function(func: Func) -> Callable[..., None]:
    """`func`, compiled for this CPU: call it with one C-contiguous array per parameter."""
    target = _target(None)
    machine = target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), opt=_SPEED_LEVEL, codemodel="jitdefault", jit=True
    )
    module = _optimised(build_module([func], target.triple), machine)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    address = engine.get_function_address(func.name)
    entry = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(func.params))(address)

    def call(*arrays: np.ndarray) -> None:
        if len(arrays) != len(func.params):
            raise LoweringError(
                f"function {func.name!r} takes {len(func.params)} arrays, not {len(arrays)}"
            )
        for param, array in zip(func.params, arrays, strict=True):
            _check_array(func, param, array)
        entry(*(array.ctypes.data for array in arrays))

    # The engine owns the machine code: it must live as long as the function can be called.
    call.__dict__["engine"] = engine
    return call


def build_module(funcs: Sequence[Func], triple: str) -> ir.Module:
    """The functions as unoptimised LLVM IR."""
    module = ir.Module("host")
    module.triple = triple
    for func in funcs:
        if func.name in module.globals:
            raise LoweringError(f"two host functions are called {func.name!r}; rename one")
        _FunctionBuilder(module, func).build()
    return module


def _check_array(func: Func, param: Buffer, array: np.ndarray) -> None:
    right = array.dtype == np.dtype(param.dtype) and tuple(array.shape) == param.shape
    if not (right and array.flags.c_contiguous):
        raise LoweringError(
            f"parameter {param.name!r} of {func.name!r} must be a C-contiguous array of "
            f"{param.dtype}{list(param.shape)}, not {array.dtype}{list(array.shape)}"
        )


# -- target ---------------------------------------------------------------------------------------


def _target(triple: str | None) -> llvm.Target:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    if triple is None:
        return llvm.Target.from_triple(llvm.get_process_triple())
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(triple)


def _optimised(module: ir.Module, machine: llvm.TargetMachine) -> llvm.ModuleRef:
    module.data_layout = str(machine.target_data)
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=_SPEED_LEVEL)
    options.loop_vectorization = True
    options.slp_vectorization = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
    return parsed


# -- statements -----------------------------------------------------------------------------------


class _FunctionBuilder:
    """One function of the module."""

    def __init__(self, module: ir.Module, func: Func) -> None:
        self.module = module
        self.func = func
        pointers = [ir.PointerType()] * len(func.params)
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), pointers), func.name)
        # Otherwise ARM objects would need the unwinder of C++.
        self.function.attributes.add("nounwind")
        self.entry = self.function.append_basic_block("entry")
        self.builder = ir.IRBuilder(self.function.append_basic_block("body"))
        self.values = ValueBuilder(self.builder)
        self.heap: list[ir.Value] = []

    def build(self) -> None:
        body = self.builder.block
        for argument, param in zip(self.function.args, self.func.params, strict=True):
            _check_scope(param)
            argument.add_attribute("noalias")
            argument.name = param.name
            self.values.pointers[param] = argument
        self._stmt(self.func.body)
        for pointer in self.heap:
            self.builder.call(self._runtime("free", ir.VoidType(), ir.PointerType()), [pointer])
        self.builder.ret_void()
        # Last, so that allocations of the whole body could go there.
        ir.IRBuilder(self.entry).branch(body)

    def _stmt(self, stmt: Stmt) -> None:
        match stmt:
            case Seq(stmts):
                for part in stmts:
                    self._stmt(part)
            case For():
                self._for(stmt)
            case If(cond, then):
                with self.builder.if_then(self.values.value(cond)):
                    self._stmt(then)
            case Alloc(buffer, body):
                _check_scope(buffer)
                self.values.pointers[buffer] = self._allocate(buffer)
                self._stmt(body)
            case Store(buffer, indices, value):
                self.values.store(buffer, indices, value)
            case _:
                raise LoweringError(
                    f"host code has no statement {type(stmt).__name__} (in {self.func.name!r}); "
                    f"it belongs to functions that run on VTA"
                )

    def _for(self, loop: For) -> None:
        if loop.kind == "vthread":
            raise LoweringError(
                f"host function {self.func.name!r} has the virtual-thread loop {loop.var.name!r}; "
                f"schedule it without vthread"
            )
        self.values.ranges[loop.var] = loop.extent
        if loop.kind == "unroll" or loop.extent <= 1:
            for index in range(loop.extent):
                self.values.vars[loop.var] = ir.Constant(I32, index)
                self._stmt(loop.body)
        else:
            self._counted(loop)

    def _counted(self, loop: For) -> None:
        builder = self.builder
        before = builder.block
        head = builder.append_basic_block(loop.var.name)
        after = builder.append_basic_block(loop.var.name + ".end")
        builder.branch(head)
        builder.position_at_end(head)
        counter = builder.phi(I32, loop.var.name)
        counter.add_incoming(ir.Constant(I32, 0), before)
        self.values.vars[loop.var] = counter
        self._stmt(loop.body)
        following = builder.add(counter, ir.Constant(I32, 1), flags=("nsw",))
        counter.add_incoming(following, builder.block)
        again = builder.icmp_signed("<", following, ir.Constant(I32, loop.extent))
        builder.cbranch(again, head, after)
        builder.position_at_end(after)

    def _allocate(self, buffer: Buffer) -> ir.Value:
        """Memory for a buffer: taken once per call of the function, however often it is entered."""
        at_entry = ir.IRBuilder(self.entry)
        if buffer.size_bytes <= _STACK_BYTES_MAX:
            count = int(np.prod(buffer.shape, dtype=np.int64))
            element = memory_type(buffer.dtype)
            pointer = at_entry.alloca(element, ir.Constant(I64, max(1, count)), buffer.name)
            pointer.align = _ALIGNMENT_BYTES
            return pointer
        malloc = self._runtime("malloc", ir.PointerType(), I64)
        pointer = at_entry.call(malloc, [ir.Constant(I64, buffer.size_bytes)], buffer.name)
        is_null = at_entry.icmp_unsigned("==", pointer, ir.Constant(ir.PointerType(), None))
        with at_entry.if_then(is_null, likely=False):
            at_entry.call(self._runtime("abort", ir.VoidType()), [])
            at_entry.unreachable()
        self.entry = at_entry.block
        self.heap.append(pointer)
        return pointer

    def _runtime(self, name: str, result: ir.Type, *args: ir.Type) -> ir.Function:
        known = self.module.globals.get(name)
        return known or ir.Function(self.module, ir.FunctionType(result, args), name)


def _check_scope(buffer: Buffer) -> None:
    if buffer.scope not in _HOST_SCOPES:
        raise LoweringError(
            f"host code cannot use buffer {buffer.name!r} in scope {buffer.scope!r}; its scope "
            f"must be one of {', '.join(_HOST_SCOPES)}"
        )
