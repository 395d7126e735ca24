"""The ISA page is what the tables say."""

from __future__ import annotations

import difflib
from pathlib import Path

from tests.models import REPO
from vta_hw.spec import docgen
from vta_hw.spec.config import named_configs
from vta_hw.spec.isa import AluOp, FaultClass


def test_page_is_up_to_date() -> None:
    page = (REPO / docgen.DEFAULT_PATH).read_text()
    diff = difflib.unified_diff(page.splitlines(), docgen.generate().splitlines(), lineterm="")
    changes = "\n".join(diff)
    assert not changes, f"run python -m vta_hw.spec.docgen\n{changes}"


def test_page_covers_the_tables() -> None:
    page = docgen.generate()
    assert "$" not in page
    for name in named_configs():
        assert f"| {name} |" in page
    for op in AluOp:
        assert f"| {op.value} | {op.name} |" in page
    for fault in FaultClass:
        assert f"| `{fault.text}` |" in page


def test_command_writes_the_page(tmp_path: Path) -> None:
    docgen.main([str(tmp_path / "new" / "isa.md")])
    assert (tmp_path / "new" / "isa.md").read_text() == docgen.generate()
