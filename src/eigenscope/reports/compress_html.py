"""A compression, or the prices of a grid of budgets, as one HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import TextIO

from eigenscope.compression.report import CompressionReport, LayerReport, TradeOff
from eigenscope.compression.report import Skipped as LeftOut
from eigenscope.reports.compress_sections import before_and_after, budgets, budgets_data
from eigenscope.reports.compress_words import asked, break_even, headline, priced, share, size
from eigenscope.reports.numbers import number
from eigenscope.reports.page import Cell, Page, TableRow, rendered
from eigenscope.reports.page_data import compact, curves, placed, places
from eigenscope.scanning.result import MatrixRow, Skipped
from eigenscope.weights.reading import WeightReading

_COLUMNS = (
    "result", "shape", "rank", "of full", "no gain from", "parameters", "weight error", "bound", "output error",
    "at least",
)  # fmt: skip
_QUANTITIES: Mapping[str, Callable[[LayerReport], float | None]] = {
    "parameters kept": lambda layer: layer.kept,
    "rank kept of the full rank": lambda layer: None if layer.rank is None else layer.rank / layer.rank_full,
    "output error": lambda layer: layer.output_error,
    "weight error": lambda layer: layer.weight_error,
}
_ORDER = {"activation": "; directions chosen by their effect on the output, not by their σ", "plain": ""}
_NUMBERS = (
    ("rank kept", "Of two thin layers, the width between them; the full rank is the smaller side of the weight."),
    ("no gain from rank", "From m·n/(m + n) on, two layers of m·r and r·n parameters are no smaller than one of m·n."),
    ("parameters", "Weights and biases of the layer, after and before."),
    ("weight error", "‖W − W′‖ ÷ ‖W‖ in Frobenius' norm, and below it Eckart & Young's bound: no matrix of that "
     "rank is nearer to W."),
    ("output error", "√(Σw‖y − y′‖² ÷ Σw‖y − ȳ‖²) over the calibration inputs, w the squared gradient of the model's "
     "output at y, so that padding counts nothing; below it the least that any layer of that rank can have."),
    ("effective rank of W", "(Σσ)² ÷ Σσ²: over how many directions the weight spreads. Near the full rank: a flat "
     "spectrum, of which low rank keeps little."),
    ("rank for 90 / 95 / 99 %", "How many directions hold that share of Σσ² of the weight."),
)  # fmt: skip


def write_compression_html(
    file: TextIO,
    report: CompressionReport,
    source: str,
    *,
    spectra: Mapping[str, WeightReading] | None = None,
    trade_off: TradeOff | None = None,
    metric: str = "metric",
) -> None:
    """Write the report.

    `spectra` are those of the original weights, by layer; `trade_off` adds what other budgets would have cost; `metric`
    is what the user's own number is called.
    """
    rows = [MatrixRow(layer.name, "", "", (spectra or {}).get(layer.name)) for layer in report.layers]
    page = _page(
        f"{source}, compressed",
        f"{headline(report)}.",
        f"{asked(report.target)}; {_samples(report)}{report.seconds:.2g} s",
        report.notes,
        (before_and_after(report, metric), budgets(trade_off, metric, report.kept) if trade_off else ""),
        report.skipped,
        rows=[_row(layer) for layer in report.layers],
        data={
            "matrix": "W",
            "quantities": [{"label": label, "log": False, "share": True} for label in _QUANTITIES],
            "definitions": _NUMBERS,
            "places": places(row.reading for row in rows),
            "rows": [_data(layer, row.reading, report.method) for layer, row in zip(report.layers, rows, strict=True)],
            "grid": placed(rows),
            "budgets": budgets_data(trade_off, metric, report.kept) if trade_off else None,
        },
    )
    file.write(rendered(page))


def write_trade_off_html(file: TextIO, found: TradeOff, source: str, *, metric: str = "metric") -> None:
    """Write what the budgets of a dry run cost."""
    data = {"matrix": "W", "quantities": [], "definitions": [], "places": {}, "rows": [], "grid": placed([])}
    page = _page(
        f"{source}, priced",
        f"{priced(found)}.",
        f"{len(found.points)} budgets; {found.seconds:.2g} s",
        found.notes,
        (budgets(found, metric, None), ""),
        found.skipped,
        rows=[],
        data=data | {"budgets": budgets_data(found, metric, None)},
    )
    file.write(rendered(page))


def _page(
    title: str,
    sentence: str,
    facts: str,
    notes: tuple[str, ...],
    lead: tuple[str, str],
    skipped: tuple[LeftOut, ...],
    *,
    rows: list[TableRow],
    data: Mapping[str, object],
) -> Page:
    return Page(
        title=title,
        sentence=sentence,
        facts=facts,
        problems=[],
        notes=notes,
        columns=_COLUMNS,
        rows=rows,
        skipped=[Skipped(item.name, (item.parameters,), item.kind, item.reason) for item in skipped],
        data=data,
        left_out="Not up for compression",
        left_heads=("layer", "parameters", "kind"),
        lead=lead[0],
        further=lead[1],
        noun=("layer", "layers"),
        word="result",
    )


def _samples(report: CompressionReport) -> str:
    return "" if report.samples is None else f"{report.samples:,} calibration samples; "


def _row(layer: LayerReport) -> TableRow:
    word = "left as it is" if layer.rank is None else "compressed"
    rank = Cell("—") if layer.rank is None else Cell(f"{layer.rank:,}", layer.rank)
    part = (layer.rank or 0) / layer.rank_full
    cells = [
        Cell(word, word, "text word kept" if layer.rank is None else "text word"),
        Cell(size(layer), layer.parameters),
        rank,
        Cell("—") if layer.rank is None else Cell("", part, "", _bar(layer, part)),
        Cell(f"{break_even(layer):,}", break_even(layer)),
        Cell(share(layer.kept), layer.kept),
        *[_error(value) for value in (
            layer.weight_error, layer.weight_error_bound, layer.output_error, layer.output_error_bound
        )],
    ]  # fmt: skip
    return TableRow(layer.name, word, cells)


def _error(value: float | None) -> Cell:
    return Cell("—") if value is None else Cell(share(value), value)


def _bar(layer: LayerReport, part: float) -> str:
    """The rank kept of the full rank, and a line where two factors stop being smaller."""
    limit = 72 * min(break_even(layer) / layer.rank_full, 1)
    return (
        f'<svg class="share" viewBox="0 0 72 10" role="img" aria-label="{html.escape(share(part))} of the full rank">'
        f'<rect class="whole" width="72" height="10"/><rect class="part" width="{72 * part:.1f}" height="10"/>'
        f'<path class="limit" d="M{limit:.1f},0V10"/></svg>'
    )


def _data(layer: LayerReport, reading: WeightReading | None, method: str) -> dict[str, object]:
    """A layer as the scripts take it."""
    drawn = None if reading is None else {
        **curves(reading), "bins": None, "cut": {"rank": layer.rank, "even": break_even(layer)}
    }  # fmt: skip
    return {
        "title": layer.name,
        "about": f"{size(layer)}, {layer.kind.replace('_', ' ')}{_ORDER[method] if layer.rank else ''}",
        "sentence": _sentence(layer),
        "problem": None,
        "values": [compact(value(layer)) for value in _QUANTITIES.values()],
        "numbers": _numbers(layer, reading),
        "curves": drawn,
    }


def _sentence(layer: LayerReport) -> str:
    if layer.rank is None:
        return f"Left as it is: {layer.reason}."
    said = f"Rank {layer.rank:,} of {layer.rank_full:,} takes {share(layer.kept)} of the parameters"
    if layer.output_error is not None:
        return f"{said} and loses {share(layer.output_error**2)} of the variance of the layer's output."
    if layer.weight_error is not None:
        return f"{said} and loses {share(layer.weight_error**2)} of Σσ²."
    return f"{said}."


def _numbers(layer: LayerReport, reading: WeightReading | None) -> list[str]:
    return [
        f"{'—' if layer.rank is None else f'{layer.rank:,}'}\nof {layer.rank_full:,}",
        f"{break_even(layer):,}",
        f"{layer.parameters_after:,}\nof {layer.parameters:,}",
        _with_bound(layer.weight_error, layer.weight_error_bound),
        _with_bound(layer.output_error, layer.output_error_bound),
        "—" if reading is None else number(float(f"{reading.effective_rank:.4g}")),
        "—" if reading is None else f"{reading.rank_at_90:,} / {reading.rank_at_95:,} / {reading.rank_at_99:,}",
    ]


def _with_bound(value: float | None, bound: float | None) -> str:
    if value is None:
        return "—"
    return share(value) + ("" if bound is None else f"\nat least {share(bound)} at this rank")
