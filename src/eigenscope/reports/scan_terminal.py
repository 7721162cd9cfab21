"""A scan in the terminal: a line a matrix with its spectrum as a sparkline, the ledger, the summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eigenscope.diagnostics.words import counted
from eigenscope.errors import InputError
from eigenscope.reports.numbers import number, sparkline
from eigenscope.reports.terminal import titled
from eigenscope.scanning.result import MatrixRow, Scan, Skipped
from eigenscope.weights.reading import WeightReading

_SPARK = 14  # columns of a spectrum
_STYLES = {"noise": "yellow", "rank_deficient": "red", "low_rank": "cyan", "power_law": "", "flat": ""}
SORTS = ("name", "effective_rank", "condition_number", "spectral_norm", "stable_rank", "rank_at_99", "alpha", "size")


def print_scan(out: Console, scan: Scan, *, sort: str = "name", words: bool = False) -> None:
    """Every matrix, what was not analysed, and the checkpoint as a whole."""
    if scan.matrices:
        out.print(_table(sorted_rows(scan.matrices, sort), out.width))
    if words:
        for row in scan.matrices:
            if row.reading is not None:
                out.print(titled(row.title, row.reading.sentence, ""))
    for row in scan.matrices:
        if row.problem:
            out.print(titled(row.title, row.problem, "bold red"))
    if scan.skipped:
        out.print()
        for text in _ledger(scan.skipped):
            out.print(Text(text, "dim"))
    for note in scan.notes:
        out.print(titled("note", note, "yellow"))
    out.print()
    _print_summary(out, scan)


def sorted_rows(rows: Sequence[MatrixRow], sort: str) -> list[MatrixRow]:
    """By name as stored, or by a number, the largest first."""
    if sort not in SORTS:
        raise InputError(f"sort={sort!r} is not one of {', '.join(SORTS)}")
    if sort == "name":
        return list(rows)
    return sorted(rows, key=lambda row: _key(row.reading, sort), reverse=True)


def _key(reading: WeightReading | None, sort: str) -> float:
    if reading is None:
        return float("inf")
    if sort == "size":
        return float(reading.rows * reading.columns)
    if sort == "alpha":
        return reading.alpha.alpha if reading.alpha else -1.0
    value = getattr(reading, sort)
    return float(getattr(value, "value", value) or 0.0)


def _table(rows: Sequence[MatrixRow], width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("matrix", no_wrap=True, overflow="ellipsis", min_width=16, ratio=1)
    table.add_column("shape", justify="right", no_wrap=True)
    table.add_column("eff. rank", justify="right", no_wrap=True)
    table.add_column("κ", justify="right", no_wrap=True)
    table.add_column("99 %", justify="right", no_wrap=True)
    table.add_column("top 10", justify="right", no_wrap=True)
    if width >= 110:
        table.add_column("α", justify="right", no_wrap=True)
    table.add_column("σ, log", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row, width >= 110))
    return table


def _cells(row: MatrixRow, wide: bool) -> list[str | Text]:
    reading = row.reading
    if reading is None:
        return [row.title, "", Text("not finite", "bold red")]
    least = min(reading.rows, reading.columns)
    alpha = [f"{reading.alpha.alpha:.2f}" if reading.alpha else "—"] if wide else []
    return [
        row.title,
        f"{reading.rows}×{reading.columns}",
        Text.assemble(f"{reading.effective_rank:,.0f}", (f" {reading.effective_rank / least:4.0%}", "dim")),
        _kappa(reading),
        f"{reading.rank_at_99:,}",
        f"{reading.variance_at_10:.1%}",
        *alpha,
        Text(_spark(reading), "cyan"),
        Text(reading.spectrum_shape.replace("_", " "), _STYLES[reading.spectrum_shape]),
    ]


def _kappa(reading: WeightReading) -> str:
    kappa = reading.condition_number
    if kappa.value is None:
        return "∞"
    return f"{'≥ ' if kappa.error is None else ''}{number(float(f'{kappa.value:.3g}'))}"


def _spark(reading: WeightReading) -> str:
    """The singular values on a log axis, from the largest down."""
    sigma = reading.singular_values
    floor = max(float(sigma[0]) * 1e-9, 1e-300)
    return sparkline(np.log10(np.maximum(sigma, floor)).tolist(), _SPARK)


def _ledger(skipped: Sequence[Skipped]) -> list[str]:
    """What was not analysed, by reason, with a few of the names."""
    lines = []
    for reason, count in Counter(item.reason for item in skipped).most_common():
        names = [item.name for item in skipped if item.reason == reason]
        shown = ", ".join(names[:3]) + (f" and {count - 3:,} more" if count > 3 else "")
        lines.append(f"{count:,} not analysed ({reason}): {shown}")
    return lines


def _print_summary(out: Console, scan: Scan) -> None:
    summary = scan.summary
    shapes = summary["spectrum_shapes"]
    assert isinstance(shapes, dict)
    kinds = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(shapes.items()))
    share, worst = summary["effective_rank_share"], summary["worst_condition_number"]
    parts = [f"{counted(len([row for row in scan.matrices if not row.part]), 'matrix').replace('matrixs', 'matrices')}"]
    parts.append(f"{summary['parameters']:,} entries")
    if isinstance(share, float):
        parts.append(f"median effective rank {share:.0%} of full")
    if isinstance(worst, float):
        parts.append(f"worst κ {number(float(f'{worst:.3g}'))}")
    out.print(titled(scan.source, "; ".join([*parts, kinds] if kinds else parts)))
    out.print(Text(f"{scan.format}; {scan.seconds:.2g} s", "dim"))
