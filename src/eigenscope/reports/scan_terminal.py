"""A scan in the terminal: a line a matrix with its spectrum as a sparkline, the ledger, the summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from eigenscope.diagnostics.words import few
from eigenscope.errors import InputError
from eigenscope.reports.fitting import Column, fitted
from eigenscope.reports.numbers import sparkline
from eigenscope.reports.scan_words import summarized, three
from eigenscope.reports.terminal import titled
from eigenscope.scanning.result import MatrixRow, Scan, Skipped
from eigenscope.weights.reading import WeightReading

_SPARK = 10  # columns of a spectrum
_DEEPEST = 1e-9  # of σ₁: what is below is drawn there
_STYLES = {"noise": "yellow", "rank_deficient": "red", "low_rank": "cyan"}
SORTS = ("name", "effective_rank", "condition_number", "spectral_norm", "stable_rank", "rank_at_99", "alpha", "size")


def print_scan(out: Console, scan: Scan, *, sort: str = "name", words: bool = False) -> None:
    """Every matrix, what was not analysed, and the checkpoint as a whole."""
    rows = sorted_rows(scan.matrices, sort)
    if rows:
        out.print(_table(rows, out.width, nested=sort == "name"))
    if words:
        _print_sentences(out, rows)
    if scan.skipped:
        out.print()
        out.print(ledger(scan.skipped))
    out.print()
    for row in rows:
        if row.problem:
            out.print(Text.assemble(("not finite  ", "bold red"), (row.title, "bold"), f"  {row.problem}"))
    for note in scan.notes:
        out.print(titled("note", note, "yellow"))
    out.print(Text(scan.source, "bold"))
    out.print(Text(summarized(scan)))
    out.print(Text(f"{scan.format}; {scan.seconds:.2g} s", "dim"))


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
    if sort == "condition_number" and reading.condition_number.value is None:
        return float("inf")
    value = getattr(reading, sort)
    return float(getattr(value, "value", value))


def _table(rows: Sequence[MatrixRow], width: int, nested: bool) -> Table:
    cells = zip(*[_cells(row.reading) for row in rows], strict=True)
    columns = [Column(title, cell, right, spare) for (title, right, spare), cell in zip(_COLUMNS, cells, strict=True)]
    whole = {row.name for row in rows if nested and not row.part}
    return fitted("matrix", [name(row, row.name in whole) for row in rows], columns, width)


_COLUMNS = (  # title, to the right, how soon it is left out
    ("shape", True, 1), ("eff. rank", True, 0), ("κ", True, 0), ("99 %", True, 3), ("top 10", True, 2), ("α", True, 4),
    ("σ, log", False, 0), ("", False, 0),
)  # fmt: skip


def _cells(reading: WeightReading | None) -> tuple[Text | str, ...]:
    if reading is None:
        return "", "—", "—", "—", "—", "—", "", Text("not finite", "bold red")
    least = min(reading.rows, reading.columns)
    return (
        f"{reading.rows}×{reading.columns}",
        Text.assemble(f"{reading.effective_rank:,.0f}", (f" {reading.effective_rank / least:4.0%}", "dim")),
        kappa(reading),
        f"{reading.rank_at_99:,}",
        f"{reading.variance_at_10:.1%}",
        f"{reading.alpha.alpha:.2f}" if reading.alpha else "—",
        Text(spark(reading.singular_values), "cyan"),
        Text(_word(reading.spectrum_shape), _STYLES.get(reading.spectrum_shape, "")),
    )


def name(row: MatrixRow, nested: bool) -> Text:
    """The title; of a part under its tensor only what it adds."""
    return Text(f"  └ {row.part}", "dim") if nested and row.part else Text(row.title)


def _word(shape: str) -> str:
    return "deficient" if shape == "rank_deficient" else shape.replace("_", " ")


def kappa(reading: WeightReading) -> str:
    """κ to three digits; "≥" where rounding hides the smallest singular value."""
    value = reading.condition_number.value
    if value is None:
        return "∞"
    return f"{'≥ ' if reading.condition_number.error is None else ''}{three(value)}"


def spark(sigma: NDArray[np.float64]) -> str:
    """The singular values on a log axis, from the largest down."""
    if not len(sigma) or sigma[0] == 0:
        return ""
    return sparkline(np.log10(np.maximum(sigma / sigma[0], _DEEPEST)).tolist(), _SPARK)


def ledger(skipped: Sequence[Skipped], what: str = "not analysed") -> Table:
    """What was left out, by reason, with a few of the names."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(style="dim", ratio=1)
    for reason, count in Counter(item.reason for item in skipped).most_common():
        names = few([item.name for item in skipped if item.reason == reason])
        table.add_row(f"{count:,} {what}", Text(f"{reason}: {names}"))
    return table


def _print_sentences(out: Console, rows: Sequence[MatrixRow]) -> None:
    out.print()
    for row in rows:
        if row.reading is not None:
            out.print(Text(row.title, "bold"))
            out.print(Padding(Text(row.reading.sentence), (0, 0, 0, 2)))
