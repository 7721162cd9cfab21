"""A comparison as one HTML file that needs nothing else: the pages of a scan, of ΔW."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TextIO

from eigenscope.diagnostics.words import counted
from eigenscope.reports.compare_terminal import compared, percent, row_of
from eigenscope.reports.page import Cell, Page, TableRow, rendered
from eigenscope.reports.page_data import compact, curves, definitions, placed, places, sparkline_svg
from eigenscope.reports.scan_html import about, written
from eigenscope.scanning.compare import Change, Comparison

_COLUMNS = (
    "shape", "ΔW's σ, log", "spectrum", "ΔW/W", "rank", "90 %", "95 %", "99 %", "overlap", "intruders",
)  # fmt: skip
_OWN = ("relative_size", "overlap", "intruders")
_NUMBERS = (
    "rank", "rank_at_90", "rank_at_95", "rank_at_99", "effective_rank", "stable_rank", "spectral_norm",
    "frobenius_norm", "rounding_floor",
)  # fmt: skip
_QUANTITIES: Mapping[str, tuple[Callable[[Change], float], bool, bool]] = {  # value, log, share
    "relative size of ΔW": (lambda change: change.relative_size, True, True),
    "rank of ΔW at 99 %": (lambda change: change.difference.rank_at_99, True, False),
    "overlap of the leading directions": (lambda change: change.overlap, False, True),
    "intruders": (lambda change: change.intruders, False, False),
}


def write_comparison_html(file: TextIO, found: Comparison) -> None:
    """Write the report."""
    rows = [row_of(change) for change in found.changes]
    page = Page(
        title=f"{found.base} → {found.tuned}",
        sentence=compared(found),
        facts=f"{counted(len(found.skipped), 'tensor')} not compared; {found.seconds:.2g} s",
        problems=[],
        notes=[],
        columns=_COLUMNS,
        rows=[_row(change) for change in found.changes],
        skipped=found.skipped,
        left_out="Not compared",
        data={
            "matrix": "ΔW",
            "quantities": [{"label": k, "log": log, "share": share} for k, (_, log, share) in _QUANTITIES.items()],
            "definitions": definitions((*_OWN, *_NUMBERS)),
            "places": places(row.reading for row in rows),
            "rows": [_data(change) for change in found.changes],
            "grid": placed(rows),
        },
    )
    file.write(rendered(page))


def _row(change: Change) -> TableRow:
    delta = change.difference
    word = delta.spectrum_shape.replace("_", " ")
    ranks = (delta.rank, delta.rank_at_90, delta.rank_at_95, delta.rank_at_99)
    cells = [
        Cell(f"{delta.rows}×{delta.columns}", delta.rows * delta.columns),
        Cell("", delta.noise.edge, "text", sparkline_svg(delta)),
        Cell(word, word, "text word"),
        Cell(percent(change.relative_size), change.relative_size),
        *[Cell(f"{rank:,}", rank) for rank in ranks],
        Cell(f"{change.overlap:.2f}", change.overlap),
        Cell(str(change.intruders), change.intruders),
    ]
    return TableRow(row_of(change).title, word, cells)


def _data(change: Change) -> dict[str, object]:
    own = [percent(change.relative_size), f"{change.overlap:.3f}", str(change.intruders)]
    return {
        "title": row_of(change).title,
        "problem": None,
        "about": f"ΔW of {about(change.difference)}",
        "sentence": f"{change.difference.sentence}.",
        "values": [compact(value(change)) for value, _, _ in _QUANTITIES.values()],
        "numbers": own + [written(change.difference, name) for name in _NUMBERS],
        "curves": curves(change.difference),
    }
