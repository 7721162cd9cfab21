"""A report that is one file: its styles, scripts and data stand in it, and its policy lets nothing else in.

Every text is escaped where it enters; the policy names the hashes of the two elements that may style and act, so that
even markup that slipped through could not run.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from eigenscope.scanning.result import Skipped

_STYLES = ("assets/report.css", "assets/detail.css", "assets/compress.css")
_SCRIPTS = tuple(f"assets/{name}.js" for name in ("dom", "chart", "figures", "budgets", "map", "main"))


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and by what it is sorted; `markup` is put in as it is."""

    text: str
    value: float | str | None = None
    style: str = ""
    markup: str = ""


@dataclass(frozen=True)
class TableRow:
    """A matrix in the table: its title, its word to filter by, and the cells beside it."""

    title: str
    word: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Look:
    """The row that a reader should see first, and why."""

    row: int
    title: str
    reason: str


@dataclass(frozen=True)
class Page:
    """All that a report says."""

    title: str
    sentence: str
    facts: str
    problems: Sequence[str]
    notes: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[TableRow]
    skipped: Sequence[Skipped]
    data: Mapping[str, object]  # what the scripts draw
    left_out: str = "Not analysed"
    left_heads: Sequence[str] = ("tensor", "shape", "type")
    look: Look | None = None  # which row to look at first
    lead: str = ""  # sections above the notes, put in as they are
    further: str = ""  # and below them
    noun: tuple[str, str] = ("matrix", "matrices")  # what a row is
    word: str = "spectrum"  # what the rows are filtered by


def rendered(page: Page) -> str:
    """The whole file."""
    style, script = _bundle()
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{_text(page.title)} · eigenscope</title>
<style>{style}</style>
</head>
<body>
<header>
<span class="brand">eigenscope</span>
<button type="button" id="theme" class="theme" data-scripted hidden>Light or dark</button>
<h1>{_text(page.title)}</h1>
<p>{_text(page.sentence)}</p>
{_look(page.look)}<p class="facts">{_text(page.facts)}</p>
</header>
<main>
{_listed("problems", "Not finite", page.problems)}{page.lead}{_listed("notes", "Notes", page.notes)}{page.further}
{_map(page)}
{_table(page)}{_ledger(page)}
</main>
<script type="application/json" id="data">{_embedded({**page.data, "first": page.look and page.look.row})}</script>
<script>{script}</script>
</body>
</html>
"""


@cache
def _bundle() -> tuple[str, str]:
    """The styles and the scripts; the colours are the dashboard's."""
    tokens = files("eigenscope") / "dashboard" / "static" / "css" / "tokens.css"
    here = files("eigenscope.reports")
    styles = [tokens, *(here / name for name in _STYLES)]
    scripts = [here / name for name in _SCRIPTS]
    style, script = ("\n".join(file.read_text(encoding="utf-8") for file in kind) for kind in (styles, scripts))
    return f"\n{style}", f"\n{{\n{script}}}\n"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(data: object) -> str:
    """JSON that can't end the element it stands in."""
    return json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _look(look: Look | None) -> str:
    if look is None:
        return ""
    link = f'<a href="#m{look.row}">{_text(look.title)}</a>'
    return f'<p class="look">Look first at {link}: {_powers(_text(look.reason))}</p>\n'


def _text(text: str) -> str:
    return html.escape(text)


def _powers(markup: str) -> str:
    """λ^−3.9 with the exponent raised; the scripts do the same."""
    return re.sub(r"\^(−?[\d.]*\d)", r"<sup>\1</sup>", markup)


def _listed(kind: str, title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return f'<section class="{kind}" aria-label="{title}"><h2>{title}</h2><ul>{items}</ul></section>\n'


def _map(page: Page) -> str:
    if not page.rows:
        return ""
    quantities = page.data["quantities"]
    assert isinstance(quantities, Sequence)
    options = "".join(f'<option value="{i}">{_text(item["label"])}</option>' for i, item in enumerate(quantities))
    return f"""<section aria-label="The model, layer by layer" data-scripted hidden>
<div class="bar"><h2>The model: kinds of {page.noun[1]}, layer by layer</h2>
<label>colour by <select id="quantity">{options}</select></label></div>
<div class="scroll" tabindex="0" role="region" aria-label="Map of the layers"><table class="map" id="map"></table></div>
<p class="legend"><span id="low"></span><i></i><span id="high"></span><span class="readout" id="readout"></span></p>
</section>
{_DETAIL}"""


_DETAIL = """<section class="detail" id="detail" aria-label="One of them" data-scripted hidden>
<div class="bar"><h2 id="title"></h2><a id="before" href="#">← before</a><a id="after" href="#">next →</a></div>
<p class="dim" id="about"></p>
<p class="sentence" id="sentence" aria-live="polite"></p>
<div class="figures" id="figures"></div>
<dl class="numbers" id="numbers"></dl>
</section>"""


def _table(page: Page) -> str:
    """All matrices; a table without scripts, too."""
    if not page.rows:
        return ""
    heads = "".join(_head(name, page.rows[0].cells[i]) for i, name in enumerate(page.columns))
    rows = "".join(_row(index, row) for index, row in enumerate(page.rows))
    words = dict.fromkeys(row.word for row in page.rows if row.word)
    options = "".join(f'<option value="{_text(word)}">{_text(word)}</option>' for word in words)
    one, many = page.noun
    return f"""<section aria-label="All {many}">
<div class="bar"><h2>All {many}</h2><span class="dim sideways" id="sideways" hidden>more columns to the right →</span>
<span data-scripted hidden><output class="dim" id="shown"></output></span>
<label data-scripted hidden>name <input id="filter" type="search" placeholder="*attn*" autocomplete="off"></label>
<label data-scripted hidden>{page.word} <select id="word"><option value="">any</option>{options}</select></label></div>
<div class="scroll tall" tabindex="0" role="region" aria-label="Table of all {many}"><table class="data" id="rows">
<thead><tr><th class="text" scope="col" data-first="ascending"><button type="button">{one}</button></th>{heads}</tr>
</thead><tbody>{rows}</tbody></table></div>
<p class="dim" id="nothing" role="status" hidden></p>
</section>
"""


def _head(name: str, sample: Cell) -> str:
    words = ' class="text" data-first="ascending"' if sample.style else ""
    return f'<th scope="col"{words}><button type="button">{_text(name)}</button></th>'


def _row(index: int, row: TableRow) -> str:
    cells = "".join(_cell(cell) for cell in row.cells)
    title = _text(row.title)
    head = f'<th scope="row" data-v="{title}"><a href="#m{index}">{title}</a></th>'
    return f'<tr data-row="{index}" data-word="{_text(row.word)}">{head}{cells}</tr>\n'


def _cell(cell: Cell) -> str:
    value = "" if cell.value is None else f' data-v="{_text(str(cell.value))}"'
    style = f' class="{_text(cell.style)}"' if cell.style else ""
    return f"<td{style}{value}>{cell.markup or _text(cell.text)}</td>"


def _ledger(page: Page) -> str:
    if not page.skipped:
        return ""
    reasons = Counter(item.reason for item in page.skipped).most_common()
    parts = [_reason(page, reason, [item for item in page.skipped if item.reason == reason]) for reason, _ in reasons]
    title = page.left_out
    return f'<section aria-label="{title}"><h2>{title}: {len(page.skipped):,}</h2>{"".join(parts)}</section>'


def _reason(page: Page, reason: str, skipped: Sequence[Skipped]) -> str:
    heads = "".join(f'<th class="text" scope="col">{name}</th>' for name in page.left_heads)
    rows = "".join(
        f'<tr><th scope="row">{_text(item.name)}</th><td class="text">{"×".join(map(str, item.shape))}</td>'
        f'<td class="text">{_text(item.dtype)}</td></tr>\n'
        for item in skipped
    )
    table = f'<table class="data"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
    title = f"{len(skipped):,} × {_text(reason)}"
    return f'<details><summary>{title}</summary><div class="scroll">{table}</div></details>'
