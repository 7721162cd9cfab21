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

from eigenscope.errors import InputError, printable
from eigenscope.reports.fitting import Column, fitted
from eigenscope.reports.numbers import sparkline
from eigenscope.reports.scan_words import summarized, three
from eigenscope.reports.terminal import titled
from eigenscope.scanning.result import MatrixRow, Scan, Skipped
from eigenscope.weights.reading import WeightReading
from eigenscope.words import few, percent

_SPARK = 10  # columns of a spectrum
_DEEPEST = 1e-9  # of σ₁: what is below is drawn there
_STYLES = {"noise": "yellow", "rank_deficient": "red", "low_rank": "cyan"}
SORTS = ("name", "effective_rank", "condition_number", "spectral_norm", "stable_rank", "rank_at_99", "alpha", "size")


def print_scan(out: Console, scan: Scan, *, sort: str = "name", words: bool = False) -> None:
    """Every matrix, what was not analysed, and the checkpoint as a whole."""
    rows = sorted_rows(scan.matrices, sort)
    if rows:
        table = _table(rows, out.width, nested=sort == "name")
        out.print(table)
        out.print(Text(_legend(table), "dim"))
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
        out.print(titled("note", printable(note), "yellow"))
    out.print(Text(printable(scan.source), "bold"))
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
    if sort == "condition_number":
        return stretch_order(reading)
    value = getattr(reading, sort)
    return float(getattr(value, "value", value))


def _table(rows: Sequence[MatrixRow], width: int, nested: bool) -> Table:
    cells = zip(*[_cells(row.reading) for row in rows], strict=True)
    columns = [Column(title, cell, right, spare) for (title, right, spare), cell in zip(_COLUMNS, cells, strict=True)]
    norms = [row.operator_norm for row in rows]
    if any(norm is not None for norm in norms):
        columns.insert(3, Column("conv. norm", ["" if norm is None else three(norm) for norm in norms]))
    whole = {row.name for row in rows if nested and not row.part}
    return fitted("matrix", [name(row, row.name in whole) for row in rows], columns, width)


_COLUMNS = (  # title, to the right, how soon it is left out
    ("shape", True, 4), ("eff. rank", True, 2), ("κ", True, 0), ("99 %", True, 6), ("top 10", True, 5),
    ("σ, log", False, 3), ("", False, 1),
)  # fmt: skip
_LEGEND = {
    "eff. rank": "eff. rank: directions it spreads over, of all",
    "κ": "κ: σ₁ over the smallest σ",
    "conv. norm": "conv. norm: the most by which it grows an image",
    "99 %": "99 %: rank that holds 99 % of Σσ²",
    "top 10": "top 10: share of Σσ² in the ten strongest",
}


def _legend(table: Table) -> str:
    """What the columns that are there mean."""
    heads = [str(column.header) for column in table.columns]
    return " · ".join(_LEGEND[head] for head in heads if head in _LEGEND)


def _cells(reading: WeightReading | None) -> tuple[Text | str, ...]:
    if reading is None:
        return "", "—", "—", "—", "—", "", Text("not finite", "bold red")
    least = min(reading.rows, reading.columns)
    return (
        f"{reading.rows}×{reading.columns}",
        Text.assemble(f"{reading.effective_rank:,.0f}", (f" {percent(reading.effective_rank / least):>5}", "dim")),
        kappa(reading),
        f"{reading.rank_at_99:,}",
        percent(reading.variance_at_10, 1),
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


def stretch_order(reading: WeightReading) -> float:
    """To sort by κ: what is only bounded from below may be anything, and stands above all that is known."""
    value, reason = reading.condition_number.value, reading.condition_number.reason
    return 1e308 if value is None else value * (1e150 if reason else 1.0)


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
        names = few([item.title for item in skipped if item.reason == reason])
        table.add_row(f"{count:,} {what}", Text(f"{reason}: {names}"))
    return table


def _print_sentences(out: Console, rows: Sequence[MatrixRow]) -> None:
    out.print()
    for row in rows:
        if row.reading is not None:
            out.print(Text(row.title, "bold"))
            out.print(Padding(Text(row.reading.sentence), (0, 0, 0, 2)))
