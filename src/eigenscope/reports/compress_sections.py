"""The two sections that only the page of a compression has: before and after, and what budgets cost."""

from __future__ import annotations

import html
from collections.abc import Sequence

from eigenscope.compression.report import CompressionReport, TradeOff
from eigenscope.reports.compress_words import Change, budget_table, changes, curves_of
from eigenscope.reports.page_data import compact


def before_and_after(report: CompressionReport, metric: str) -> str:
    """Each number of the whole model, with a bar of what is left of it."""
    said = "".join(_change(row) for row in changes(report, metric))
    missing = ""
    if report.flops is None and report.flops_reason:
        missing = f'<p class="dim">FLOPs: {html.escape(report.flops_reason)}</p>'
    return f'<section aria-label="Before and after"><h2>Before and after</h2><dl class="changes">{said}</dl>{missing}'\
        "</section>\n"  # fmt: skip


def _change(row: Change) -> str:
    style = ' class="worse"' if row.worse else ""
    change = f"<span{style}>{html.escape(row.written)}</span>"
    drawn = "" if row.change is None else _left(row.change, row.worse)
    return (
        f"<div><dt>{html.escape(row.label)}</dt>"
        f'<dd><span class="before">{html.escape(row.before)}</span> <span class="arrow">→</span> '
        f'<span class="after">{html.escape(row.after)}</span> {change}{drawn}</dd>'
        f'<dd class="beside">{html.escape(row.note)}</dd></div>'
    )


def _left(change: float, worse: bool) -> str:
    """After ÷ before as a bar, whole where it grew."""
    width = 100 * min(1 + change, 1)
    return (
        f'<svg class="left-of{" worse" if worse else ""}" viewBox="0 0 100 5" preserveAspectRatio="none" '
        f'aria-hidden="true"><rect class="whole" width="100" height="5"/>'
        f'<rect class="part" width="{width:.1f}" height="5"/></svg>'
    )


def budgets(found: TradeOff, metric: str, at: float | None) -> str:
    """The curves, drawn by the page's scripts, and the table, which needs none."""
    titles, rows = budget_table(found, metric)
    heads = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in titles)
    body = "".join(_budget_row(row) for row in rows)
    why = "" if at is None else (
        '<p class="dim">Other budgets for the same model and the same calibration data, each priced without refit.</p>'
    )  # fmt: skip
    return f"""<section class="budgets" aria-label="What budgets cost"><h2>What budgets cost</h2>{why}
<div class="figures" id="budgets" data-scripted hidden></div>
<div class="scroll" tabindex="0" role="region" aria-label="Table of budgets"><table class="data">
<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>
</section>
"""


def _budget_row(cells: Sequence[str]) -> str:
    first, *rest = map(html.escape, cells)
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'


def budgets_data(found: TradeOff, metric: str, at: float | None) -> dict[str, object]:
    """The curves as the scripts take them, from the least kept to the model as it is."""
    curves = [
        {"title": curve.title, "note": curve.note, "share": curve.relative}
        | {"x": [compact(x) for x in curve.xs], "y": [compact(y) for y in curve.ys]}
        for curve in curves_of(found, metric)
    ]
    return {"at": None if at is None else compact(at), "curves": curves}
