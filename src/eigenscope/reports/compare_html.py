"""A comparison as one HTML file that needs nothing else: the pages of a scan, of ΔW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from eigenscope.reports.compare_terminal import compared, cosine, percent, strangers
from eigenscope.reports.page import Cell, Look, Page, TableRow, rendered
from eigenscope.reports.page_data import compact, curves, definitions, placed, places, sparkline_svg
from eigenscope.reports.scan_html import about, written
from eigenscope.scanning.comparison import CHANGES, OWN, Change, Comparison
from eigenscope.words import counted

_COLUMNS = (
    "ΔW/W", "rank", "overlap", "intruders", "90 %", "95 %", "99 %", "spectrum", "ΔW's σ, log", "shape",
)  # fmt: skip
_NUMBERS = (
    "rank", "rank_at_90", "rank_at_95", "rank_at_99", "effective_rank", "stable_rank", "spectral_norm",
    "frobenius_norm", "rounding_floor",
)  # fmt: skip


def write_comparison_html(file: TextIO, found: Comparison) -> None:
    """Write the report."""
    rows = [change.row for change in found.changes]
    page = Page(
        title=f"{found.base} → {found.tuned}",
        sentence=compared(found),
        facts=f"{counted(len(found.skipped), 'tensor')} not compared; {found.seconds:.2g} s",
        problems=[],
        notes=[],
        columns=_COLUMNS,
        rows=[_row(change) for change in found.changes],
        skipped=found.skipped,
        look=_look(found.changes),
        left_out="Not compared",
        data={
            "matrix": "ΔW",
            "quantities": [{"label": q.label, "log": q.logarithmic, "share": q.share} for q in CHANGES.values()],
            "definitions": definitions((*OWN, *_NUMBERS)),
            "places": places(row.reading for row in rows),
            "rows": [_data(change) for change in found.changes],
            "grid": placed(rows),
        },
    )
    file.write(rendered(page))


def _look(changes: Sequence[Change]) -> Look | None:
    """What has most that is new, and then what changed most."""
    if not changes:
        return None
    best = max(range(len(changes)), key=lambda i: (changes[i].intruders or 0, changes[i].relative_size))
    change = changes[best]
    new = f"{counted(change.intruders, 'new dominant direction')}; " if change.intruders else ""
    return Look(best, change.title, f"{new}ΔW is {percent(change.relative_size)} of W.")


def _row(change: Change) -> TableRow:
    delta = change.difference
    word = delta.spectrum_shape.replace("_", " ")
    ranks = (delta.rank_at_90, delta.rank_at_95, delta.rank_at_99)
    cells = [
        Cell(percent(change.relative_size), change.relative_size),
        Cell(f"{delta.rank:,}", delta.rank),
        Cell(cosine(change), change.overlap),
        Cell(strangers(change), change.intruders),
        *[Cell(f"{rank:,}", rank) for rank in ranks],
        Cell(word, word, "text word"),
        Cell("", delta.noise.edge, "text", sparkline_svg(delta)),
        Cell(f"{delta.rows}×{delta.columns}", delta.rows * delta.columns),
    ]
    return TableRow(change.title, word, cells)


def _data(change: Change) -> dict[str, object]:
    own = [percent(change.relative_size), cosine(change, 3), strangers(change)]
    return {
        "title": change.title,
        "problem": None,
        "about": f"ΔW of {about(change.difference)}",
        "sentence": f"{change.difference.sentence}.",
        "values": [compact(quantity.value(change)) for quantity in CHANGES.values()],
        "numbers": own + [written(change.difference, name) for name in _NUMBERS],
        "curves": curves(change.difference),
    }
