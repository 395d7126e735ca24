"""Properties of the repository as a whole."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.models import REPO

LONGEST_FILE_LINES = 700
LONGEST_FUNCTION_LINES = 80
LARGEST_FILE_BYTES = 256 * 1024
# Folders of one machine. A path in a message or an example is relative, or made at run time.
ABSOLUTE_PATH = re.compile(r"(?<![\w.~-])/(?:home|root|work|Users|mnt|opt)/\w")
# A clone holds no design document and no list of issues: what they say is to be said in place.
CITATION = re.compile(
    r"\bDESIGN\b|\b[Dd]esign,? section|\b(?:of|from) the design\b|\b[Ii]ssue #?\d"
)
INSTALLED_BY_MAKE = ("demo", "test", "rtl", "formal")


def _tracked() -> list[str]:
    if shutil.which("git") is None:
        pytest.skip("there is no git here, so there is no list of tracked files")
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPO, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("this is no git checkout, so there is no list of tracked files")
    return [name for name in listing.stdout.split("\0") if name and (REPO / name).is_file()]


def test_files_are_small():
    sizes = {name: (REPO / name).stat().st_size for name in _tracked()}
    assert not {name: size for name, size in sizes.items() if size > LARGEST_FILE_BYTES}


def _lines_with(pattern: re.Pattern[str]) -> list[str]:
    """Lines of tracked text files, but of this one, that have the pattern."""
    found = []
    for name in _tracked():
        data = (REPO / name).read_bytes()
        if b"\0" in data or name == "tests/test_repo.py":
            continue
        for number, line in enumerate(data.decode().splitlines(), 1):
            if pattern.search(line):
                found.append(f"{name}:{number}: {line.strip()}")
    return found


def test_no_absolute_paths():
    assert not _lines_with(ABSOLUTE_PATH)


@pytest.mark.parametrize(
    ("text", "cites"),
    [
        ("exact (design, section 3)", True),
        ("DESIGN's words alone", True),
        ("written from the design alone", True),
        ("see issue #12", True),
        ("the co-design of both", False),
        ("an entry is free when its instruction issues", False),
    ],
)
def test_citations_are_recognised(text: str, cites: bool):
    assert bool(CITATION.search(text)) == cites


def test_nothing_cites_what_a_clone_lacks():
    assert not _lines_with(CITATION)


def test_nothing_generated_is_tracked():
    suffixes = (".pyc", ".vta", ".so", ".o", ".egg-info")
    assert not [name for name in _tracked() if name.endswith(suffixes)]


def test_test_folders_are_packages():
    # Without __init__.py, tests/compiler would be imported in place of compiler.
    folders = {path.parent for path in (REPO / "tests").rglob("test_*.py")}
    assert REPO / "tests" in folders
    assert not [str(f.relative_to(REPO)) for f in folders if not (f / "__init__.py").is_file()]


def _project() -> dict:
    return tomllib.loads((REPO / "pyproject.toml").read_text())["project"]


def test_every_dependency_has_a_reason():
    lines = [line.strip() for line in (REPO / "pyproject.toml").read_text().splitlines()]
    project = _project()
    extras = project["optional-dependencies"].values()
    requirements = {*project["dependencies"], *(r for extra in extras for r in extra)}
    for requirement in requirements:
        at = lines.index(f'"{requirement}",')
        # Two that serve one purpose may share the comment above the first.
        above = next(line for line in reversed(lines[:at]) if not line.startswith('"'))
        assert above.startswith("# "), f"{requirement} has no reason beside it"


def test_constraints_pin_what_make_installs():
    pinned = {}
    for line in (REPO / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(r"[a-z0-9-]+==\S+", line)
            name, version = line.split("==")
            pinned[name] = version
    project = _project()
    wanted = [*project["dependencies"]]
    for extra in INSTALLED_BY_MAKE:
        wanted += project["optional-dependencies"][extra]
    for text in wanted:
        requirement = Requirement(text)
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(Version(version)), (
            f"{text} excludes the pinned {version}"
        )


def test_ci_runs_the_command_of_the_readme():
    assert "\nmake test\n" in (REPO / ".ci" / "run").read_text()
    assert "make test" in (REPO / "README.md").read_text()


def test_makefile_has_the_targets_that_the_documents_name():
    targets = set(re.findall(r"^([\w-]+):", (REPO / "Makefile").read_text(), re.MULTILINE))
    for document in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"(?:`|^ +)make ([a-z-]+)", (REPO / document).read_text(), re.M))
        assert named & {"demo", "test"}, document
        assert named <= targets, document


def test_functions_and_files_stay_short():
    long = []
    for name in _tracked():
        if not name.endswith(".py"):
            continue
        text = (REPO / name).read_text()
        lines = text.count("\n")
        if lines > LONGEST_FILE_LINES:
            long.append(f"{name}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > LONGEST_FUNCTION_LINES:
                    long.append(f"{name}:{node.lineno}: {node.name} has {lines} lines")
    assert not long
