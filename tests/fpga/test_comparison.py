"""Reports of several builds side by side, and the places of pages that commands fill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fpga.build import comparison
from fpga.build.stages import BuildError
from fpga.pages import PageError, fill


def report(config: str, luts: int, **reached_mhz: float) -> dict[str, Any]:
    amounts = {"LUT": (luts, 83640), "FF": (100, 83640), "BRAM": (52, 208), "DSP": (39, 156)}
    return {
        "config": {"name": config},
        "clock_mhz": 50.0,
        "resources": {
            name: {"used": used, "available": most, "percent": round(100 * used / most, 1)}
            for name, (used, most) in amounts.items()
        },
        "clocks": {
            name: {"reached_mhz": reached, "slack_ns": 20.0 - 1000 / reached}
            for name, reached in reached_mhz.items()
        },
    }


ROWS = """\
| config | array | LUT | FF | BRAM | DSP | asked MHz | reached MHz |
|---|---|---:|---:|---:|---:|---:|---:|
| `tiny` | 1 x 4 x 4 | 20,910 (25 %) | 100 (0 %) | 52 (25 %) | 39 (25 %) | 50 | 61.2 |
| `rect` | 1 x 16 x 8 | 41,820 (50 %) | 100 (0 %) | 52 (25 %) | 39 (25 %) | 50 | 49.1 |
"""


def write(folder: Path, what: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(what))
    return folder


def test_a_table_of_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    one = write(tmp_path / "one", report("tiny", 20910, core=61.23, other=100.0))
    two = write(tmp_path / "two", report("rect", 41820, other=90.0, core=49.06))
    comparison.main([str(one), str(two)])
    assert capsys.readouterr().out == ROWS
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- placed and routed -->\nold\n<!-- end -->\n\nbelow\n")
    comparison.main([str(one), str(two), "--write", str(page)])
    marks = "<!-- placed and routed -->\n", "<!-- end -->\n"
    assert page.read_text() == f"# Page\n\n{marks[0]}{ROWS}{marks[1]}\nbelow\n"


def test_a_folder_without_a_build(tmp_path: Path):
    with pytest.raises(BuildError, match=r"has no report.json; build there with 'vta bitstream'"):
        comparison.main([str(tmp_path)])


@pytest.mark.parametrize("text", ["", "<!-- here -->\n", "<!-- end -->\n"])
def test_a_page_without_the_place(text: str, tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(PageError, match="has no lines '<!-- here -->' and, below it"):
        fill(page, "here", "new\n")
    assert page.read_text() == text


def test_only_the_first_end_ends_it(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("<!-- end -->\n<!-- here -->\nold\n<!-- end -->\n<!-- end -->\n")
    fill(page, "here", "new\n")
    assert page.read_text() == ("<!-- end -->\n<!-- here -->\nnew\n<!-- end -->\n<!-- end -->\n")
