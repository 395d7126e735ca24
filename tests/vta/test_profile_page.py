"""The page of `vta profile`: whole, well formed, true, and nothing in it leads outside."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import vta
from tests.models import DIGITS
from vta.profiling.measure import Profile, profile
from vta.profiling.page import page
from vta.profiling.plots import COLOURS
from vta_sim.stalls import REASONS

_VOID = {"meta", "link", "br", "img", "input", "hr"}
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Without a profile of its own and without what it does in the background.
_QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--log-level=0", "--dump-dom"),
)
NASTY = "<b>&\"'</svg>\x07 \N{SNOWMAN} \ud800"


class _Tree(HTMLParser):
    """Follows the tags; what is opened must be closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> within {self.open}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def _parsed(text: bytes) -> _Tree:
    tree = _Tree()
    tree.feed(text.decode())
    tree.close()
    assert tree.open == []
    return tree


@pytest.fixture(scope="module")
def found() -> Profile:
    return profile(vta.compile(DIGITS, config="mac64").package)


def test_the_page_is_whole(found: Profile):
    text = page(found)
    tree = _parsed(text)
    tags = [tag for tag, _ in tree.elements]
    assert tags.count("svg") == 2 and tags.count("table") == 2
    words = set(tree.texts)
    for row in found.rows:
        assert {row.name, f"{row.cycles:,}"} <= words
    assert f"{found.total.cycles:,}" in words
    assert sum(tag == "circle" for tag in tags) == sum(row.macs > 0 for row in found.layers)


def test_nothing_leads_outside(found: Profile):
    text = page(found)
    tree = _parsed(text)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in tree.elements}
    names = {name for _, attributes in tree.elements for name in attributes}
    assert not {name for name in names if name in ("src", "href") or name.startswith("on")}
    assert not re.search(rb"https?:|//\w|url\(|@import", text)


def test_bars_have_the_lengths_of_their_cycles(found: Profile):
    """Each row is drawn twice, by one scale and as shares: the colours are the reasons'."""
    tree = _parsed(page(found))
    rects = [attributes for tag, attributes in tree.elements if tag == "rect"]
    longest = max(row.cycles for row in found.rows)
    for number, row in enumerate(found.rows):
        tops = sorted({float(rect["y"] or 0) for rect in rects})
        drawn = [rect for rect in rects if float(rect["y"] or 0) == tops[number]]
        for reason in REASONS:
            widths = [float(r["width"] or 0) for r in drawn if r["fill"] == COLOURS[reason]]
            cycles = row.reasons[reason]
            wanted = [492 * cycles / longest, 204 * cycles / row.cycles]
            # What is thinner than a twentieth of a pixel is left out.
            assert widths == pytest.approx([w for w in wanted if w > 0.05], abs=0.01), row.name
    assert len(set(COLOURS.values())) == len(REASONS)


def test_names_may_hold_anything(found: Profile):
    rows = tuple(replace(row, name=NASTY if row.is_layer else row.name) for row in found.rows)
    text = page(replace(found, rows=rows, model=NASTY))
    shown = "<b>&\"'</svg>\\x07 \N{SNOWMAN} \\ud800"
    assert shown in _parsed(text).texts


def test_a_network_without_macs(found: Profile):
    """Pooling alone, say: there is nothing to draw below the roofs."""
    rows = tuple(replace(row, macs=0) for row in found.rows)
    tree = _parsed(page(replace(found, rows=rows)))
    assert not any(tag == "circle" for tag, _ in tree.elements)


def test_a_browser_shows_it_without_errors(found: Profile, tmp_path: Path):
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        pytest.skip(f"there is none of {', '.join(_BROWSERS)} here")
    path = tmp_path / "profile.html"
    path.write_bytes(page(found))
    run = subprocess.run(
        [browser, *_QUIET, f"--user-data-dir={tmp_path / 'browser'}", path.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "CONSOLE" not in run.stderr
    # As the browser has understood it: no element was moved out of a plot.
    assert run.stdout.count("<svg") == run.stdout.count("</svg>") == 2
    assert run.stdout.count("<rect") == page(found).count(b"<rect")
    assert "parsererror" not in run.stdout
