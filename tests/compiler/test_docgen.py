"""The operator table is what the registries say."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from compiler import docgen
from compiler.errors import VtaKitError
from compiler.frontend import onnx, tflite
from compiler.topi.host import HOST_OPS
from compiler.topi.select import VTA_OPS
from runtime.host_numpy import FORMS
from tests.models import REPO


def test_page_is_up_to_date() -> None:
    page = (REPO / docgen.DEFAULT_PATH).read_text()
    diff = difflib.unified_diff(page.splitlines(), docgen.generate().splitlines(), lineterm="")
    changes = "\n".join(diff)
    assert not changes, f"run python -m compiler.docgen\n{changes}"


def test_page_covers_the_registries() -> None:
    page = docgen.generate()
    for name in (*tflite.IMPORTERS, *onnx.IMPORTERS):
        assert f"| {name} | " in page
    for name in HOST_OPS:
        assert f"| `{name}` | {'yes' if name in VTA_OPS else 'no'} | yes |" in page
    # What the page says of numpy.
    assert set(HOST_OPS) <= set(FORMS)


def test_an_operator_that_nobody_described_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    importers = {**tflite.IMPORTERS, "TANH": tflite.IMPORTERS["RELU"]}
    monkeypatch.setattr(tflite, "IMPORTERS", importers)
    with pytest.raises(VtaKitError, match="^the operator table and the importers differ in TANH; "):
        docgen.generate()


def test_command_writes_the_page(tmp_path: Path) -> None:
    docgen.main([str(tmp_path / "new" / "operators.md")])
    assert (tmp_path / "new" / "operators.md").read_text() == docgen.generate()
