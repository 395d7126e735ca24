"""Which package may import which: read from the source, so that no import has to run."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from tests.models import REPO

PACKAGES = ("vta", "vta_hw", "vta_sim", "compiler", "runtime", "fpga")

# A module obeys the longest prefix of its name. It may import what its entry lists, with all that
# lies below, and what belongs to the same entry as itself.
ARROWS: Mapping[str, tuple[str, ...]] = {
    "vta_hw": (),
    "vta_hw.spec": (),
    "vta_hw.rtl": ("vta_hw.spec",),
    "vta_hw.verilator": ("vta_hw.spec", "vta_hw.rtl"),
    "vta_sim": ("vta_hw.spec",),
    "runtime": (
        "vta_hw.spec",
        "vta_sim",
        "vta_hw.rtl",
        "vta_hw.verilator",
        "runtime.package",
        "runtime.container",
        "runtime.npy",
    ),
    "runtime.package": ("vta_hw.spec", "runtime.container", "runtime.npy"),
    "runtime.container": ("vta_hw.spec",),
    "runtime.npy": (),
    "compiler": ("vta_hw.spec", "runtime.package"),
    "fpga": (
        "vta_hw.spec",
        "vta_hw.rtl",
        "vta_hw.verilator",
        "runtime.device",
        "runtime.devices.allocating",
        "runtime.devices.core_result",
        "runtime.devices.stream_places",
    ),
    "vta": PACKAGES,
}
# Exceptions to a permission above: the hardware stays an independent check on the semantics.
FORBIDDEN = {
    "vta_hw.rtl": (
        "vta_hw.spec.semantics",
        "vta_hw.spec.arith",
        "vta_hw.spec.matmul",
        "vta_hw.spec.dataflow",
    ),
}
# The only imports from outside, for packages that must load on a small board.
OUTSIDE: Mapping[str, set[str]] = {
    "vta_hw.spec": {"numpy"},
    "runtime.package": {"numpy"},
    "runtime.container": set(),
    "runtime.npy": {"numpy"},
    "fpga.driver": {"numpy", "serial"},
}


@dataclass(frozen=True)
class Import:
    """`module` imports `target` (a module, or a name in one) at `line`."""

    module: str
    target: str
    line: int
    at_load: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def _modules() -> dict[str, ast.Module]:
    found = {}
    for package in PACKAGES:
        for path in sorted((REPO / package).rglob("*.py")):
            parts = path.relative_to(REPO).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text(), str(path))
    return found


def _runs_later(node: ast.AST) -> bool:
    """Whether loading the module leaves out what stands in `node`."""
    if isinstance(node, ast.If):
        test = node.test
        return (test.id if isinstance(test, ast.Name) else "") == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _imports(module: str, tree: ast.AST, at_load: bool = True) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        inner = at_load
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno, at_load)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield Import(module, "." * node.level + (node.module or ""), node.lineno, at_load)
                continue
            for alias in node.names:
                yield Import(module, f"{node.module}.{alias.name}", node.lineno, at_load)
        if _runs_later(node):
            inner = False
        yield from _imports(module, node, inner)


MODULES = _modules()
IMPORTS = [item for name, tree in MODULES.items() for item in _imports(name, tree)]


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _rule(module: str) -> str:
    return max((p for p in ARROWS if _under(module, p)), key=len)


def _module_of(target: str) -> str:
    """The module that a target lies in; `package.name` may be a module or a name inside one."""
    while target not in MODULES and "." in target:
        target = target.rpartition(".")[0]
    return target


def _breaks_arrows(item: Import) -> bool:
    if item.target.split(".")[0] not in PACKAGES:
        return False
    target, rule = _module_of(item.target), _rule(item.module)
    if any(_under(target, name) for name in FORBIDDEN.get(rule, ())):
        return True
    return _rule(target) != rule and not any(_under(target, name) for name in ARROWS[rule])


def _cycle(edges: Mapping[str, set[str]]) -> list[str]:
    """Some cycle of the directed graph, or an empty list."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node not in done:
            for successor in sorted(edges.get(node, ())):
                if found := visit(successor, [*path, node]):
                    return found
            done.add(node)
        return []

    for start in sorted(edges):
        if found := visit(start, []):
            return found
    return []


def _unit(module: str) -> str:
    """The sub-package a module lies in; a module directly in a package stands for itself."""
    parts = module.split(".")
    below = any(_under(other, ".".join(parts[:2])) and other.count(".") > 1 for other in MODULES)
    return ".".join(parts[:2]) if below else module


def test_modules_are_found():
    assert {"vta_hw.spec.isa", "compiler.graph.ir", "vta_sim", "runtime", "vta"} <= MODULES.keys()
    targets = {(item.module, item.target) for item in IMPORTS}
    assert ("compiler.errors", "vta_hw.spec.errors.VtaKitError") in targets


def test_import_arrows():
    assert not [str(item) for item in IMPORTS if _breaks_arrows(item)]


def test_no_relative_imports():
    assert not [str(item) for item in IMPORTS if item.target.startswith(".")]


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("compiler.driver", "vta_sim.functional"),
        ("compiler.driver", "runtime.executor"),
        ("runtime.executor", "compiler.graph.ir"),
        ("runtime.package", "runtime"),
        ("vta_sim.functional", "compiler.errors"),
        ("vta_hw.spec.isa", "vta_sim"),
        ("vta_hw.rtl.gemm", "vta_hw.spec.semantics"),
    ],
)
def test_arrows_refuse(module: str, target: str, monkeypatch: pytest.MonkeyPatch):
    for name in (module, target):
        monkeypatch.setitem(MODULES, name, ast.Module([], []))
    assert _breaks_arrows(Import(module, target, 1, True))


@pytest.mark.parametrize("package", sorted(OUTSIDE))
def test_small_packages_need_numpy_only(package: str):
    allowed = set(sys.stdlib_module_names) | set(PACKAGES) | OUTSIDE[package]
    assert not [
        str(item)
        for item in IMPORTS
        if _under(item.module, package) and item.target.split(".")[0] not in allowed
    ]


def test_no_package_cycles():
    edges: dict[str, set[str]] = {}
    for item in IMPORTS:
        if item.target.split(".")[0] in PACKAGES:
            here, there = _unit(item.module), _unit(_module_of(item.target))
            if here != there:
                edges.setdefault(here, set()).add(there)
    assert _cycle(edges) == []


def test_no_import_cycles_at_load():
    edges: dict[str, set[str]] = {}
    for item in IMPORTS:
        if item.at_load and item.target.split(".")[0] in PACKAGES:
            target = _module_of(item.target)
            if target != item.module:
                edges.setdefault(item.module, set()).add(target)
    assert _cycle(edges) == []


def test_cycle_finder():
    assert _cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert _cycle({"a": {"b", "c"}, "b": {"c"}}) == []


def _loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in run.stdout.split()}


def test_isa_loads_without_hardware_packages():
    loaded = _loaded_by("import vta_hw.spec.isa")
    assert "numpy" in loaded
    assert not loaded & {"amaranth", "llvmlite", "onnx", "tflite", "typer", "vta_sim", "compiler"}


def test_package_loads_without_the_compiler():
    loaded = _loaded_by("import runtime.package")
    assert not loaded & {"llvmlite", "onnx", "tflite", "typer", "vta_sim", "compiler"}


def test_vta_loads_quickly():
    assert not _loaded_by("import vta") & {"llvmlite", "onnx", "tflite", "typer", "rich", "scipy"}
