"""A profile as one HTML file: style and plots are in it, there is no script, nothing is fetched.

The plots are few and simple, so they are written as SVG here: no plotting library draws a page that
follows the reader's dark or light setting without scripts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vta.profiling import plots
from vta.profiling.markup import Element, document, element
from vta.profiling.measure import Profile, Row
from vta.profiling.report import COST_HEADINGS, all_rows, used_reasons
from vta_sim.stalls import REASON_DOCS

_STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea; --card: #f5f7f9;
  --array: #2f74d0; --bus: #d63f3f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181e; --ink: #e4e9ef; --soft: #9aa6b4; --line: #2d3540; --card: #1c222a;
    --array: #6aa5f5; --bus: #f07a7a;
  }
}
body {
  margin: 0 auto; padding: 24px; max-width: 1280px;
  background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif;
}
h1 { margin: 0; font-size: 26px; overflow-wrap: anywhere; }
h2 { margin: 40px 0 8px; font-size: 19px; }
p { margin: 4px 0 12px; color: var(--soft); max-width: 80ch; }
dl.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0 0; }
dl.tiles div { background: var(--card); border-radius: 8px; padding: 10px 18px; }
dl.tiles dt { color: var(--soft); font-size: 13px; }
dl.tiles dd { margin: 0; font-size: 21px; font-variant-numeric: tabular-nums; }
ul.legend { list-style: none; margin: 8px 0; padding: 0; columns: 2; font-size: 13px; }
ul.legend li { break-inside: avoid; }
@media (max-width: 800px) { ul.legend { columns: 1; } }
ul.legend i { display: inline-block; width: 11px; height: 11px; margin-right: 7px; }
ul.legend span { color: var(--soft); }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--ink); }
svg .tick, svg .title { fill: var(--soft); }
svg .tick { font-size: 11px; font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--line); }
svg .bound { stroke: var(--ink); stroke-width: 2; }
svg .roof { stroke: var(--soft); stroke-width: 2; }
svg circle { fill-opacity: 0.75; stroke: var(--paper); }
svg .array { fill: var(--array); } svg .bus { fill: var(--bus); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 8px; text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 500; border-bottom: 1px solid var(--line); }
tbody tr:hover { background: var(--card); }
tbody tr:last-child td { border-top: 1px solid var(--line); font-weight: 600; }
td.text, th.text { text-align: left; max-width: 250px; overflow: hidden; text-overflow: ellipsis; }
td.none { color: var(--line); }
"""


def page(found: Profile) -> bytes:
    """The file's contents."""
    title = f"{found.model} on {found.config.name}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"Profile of {title}"),
        element("style", _STYLE),
    )
    body = element(
        "body",
        *(*_head(found), *_bars(found), *_roofline(found)),
        *(*_costs(found), *_reasons(found), *_elsewhere(found)),
    )
    return document(element("html", head, body, lang="en"))


def _head(found: Profile) -> Iterator[Element]:
    config, machine, total = found.config, found.machine, found.total
    yield element("h1", found.model)
    yield element(
        "p",
        f"Configuration {config.name} ({config.hash}), numerics {found.numerics}: "
        f"{machine.macs_per_cycle} MACs and {machine.bus_bytes} bytes per cycle, memory latency "
        f"{config.dram_latency} cycles.",
    )
    tiles = {
        "cycles": f"{total.cycles:,}",
        "MACs": f"{total.macs:,}",
        "array use": f"{total.array_use:.1%}",
        "ideal": f"{total.ideal_cycles:,.0f}",
        "bound, layer by layer": f"{sum(row.bound_cycles for row in found.rows):,.0f}",
    }
    pairs = [element("div", element("dt", k), element("dd", v)) for k, v in tiles.items()]
    yield element("dl", *pairs, class_="tiles")


def _bars(found: Profile) -> Iterator[Element]:
    yield element("h2", "Where the cycles go")
    yield element(
        "p",
        "Every cycle has one reason. A layer owns the cycles from the end of the layer before it "
        "to the completion of its own last store.",
    )
    marks = [
        element(
            "li",
            element("i", style=f"background: {plots.COLOURS[reason]}"),
            f"{reason} ",
            element("span", REASON_DOCS[reason]),
        )
        for reason in used_reasons(found)
    ]
    yield element("ul", *marks, class_="legend")
    yield plots.bars(found.rows)


def _roofline(found: Profile) -> Iterator[Element]:
    yield element("h2", "Roofline")
    yield element(
        "p",
        "What layers attain, below what the array and the busier channel of the bus allow. Numbers "
        "are those of the layers above; layers without MACs are not shown.",
    )
    yield plots.roofline(found.rows, found.machine)


_TEXT_COLUMNS = 2


def _costs(found: Profile) -> Iterator[Element]:
    yield element("h2", "Costs")
    yield _table(COST_HEADINGS, [_cost_cells(row) for row in all_rows(found)])


def _cost_cells(row: Row) -> list[str]:
    return [
        *(row.name, row.op, f"{row.macs:,}", f"{row.cycles:,}"),
        *(f"{row.ideal_cycles:,.0f}", f"{row.bound_cycles:,.0f}"),
        row.bound_by if row.bound_cycles else "",
        *(f"{row.array_use:.1%}", f"{row.read_use:.1%}", f"{row.write_use:.1%}"),
        *(f"{row.macs_per_byte:.1f}", f"{row.macs_per_cycle:.1f}"),
    ]


def _reasons(found: Profile) -> Iterator[Element]:
    yield element("h2", "Cycles by reason")
    reasons = used_reasons(found)
    yield _table(
        ["layer", "operator", "cycles", *map(str, reasons)],
        [
            [row.name, row.op, f"{row.cycles:,}", *(f"{row.reasons[r]:,}" for r in reasons)]
            for row in all_rows(found)
        ],
    )


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Element:
    """Rows with their numbers; the last one, the sum, has none."""
    head = element("tr", element("th", "#"), *(_cell("th", i, h) for i, h in enumerate(headings)))
    body = []
    for number, row in enumerate(rows, 1):
        mark = element("td", str(number) if number < len(rows) else "")
        body.append(element("tr", mark, *(_cell("td", i, text) for i, text in enumerate(row))))
    table = element("table", element("thead", head), element("tbody", *body))
    return element("div", table, class_="wide")


def _cell(tag: str, column: int, text: str) -> Element:
    if column < _TEXT_COLUMNS:
        return element(tag, text, class_="text", title=text)
    return element(tag, text, class_="none") if text in ("0", "0.0", "0.0%") else element(tag, text)


def _elsewhere(found: Profile) -> Iterator[Element]:
    if not found.elsewhere:
        return
    yield element("h2", "Not on VTA")
    items = [
        element("li", f"{row.name} ({row.op}): {row.reason or row.where}")
        for row in found.elsewhere
    ]
    yield element("ul", *items)
