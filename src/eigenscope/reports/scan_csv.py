"""A scan or a comparison as CSV: a row a matrix, then a row for everything that was not looked at."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import TextIO

from eigenscope.errors import printable
from eigenscope.scanning import comparison, result
from eigenscope.scanning.comparison import Comparison
from eigenscope.scanning.result import Scan, Skipped


def write_csv(file: TextIO, scan: Scan) -> None:
    """Write the header and all rows."""
    _write(file, result.COLUMNS, [row.flat() for row in scan.matrices], scan.skipped)


def write_comparison_csv(file: TextIO, found: Comparison) -> None:
    """The same of what changed; `reason` says why a tensor was not compared."""
    unchanged = [{"name": name, "reason": "bit for bit the same"} for name in found.unchanged]
    rows = [change.flat() for change in found.changes]
    _write(file, (*comparison.COLUMNS, "reason"), [*rows, *unchanged], found.skipped)


def _write(
    file: TextIO, columns: Sequence[str], rows: Sequence[Mapping[str, object]], skipped: Sequence[Skipped]
) -> None:
    writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in (*rows, *map(_left_out, skipped)):
        writer.writerow({**row, "name": _cell(str(row["name"]))})


def _left_out(item: Skipped) -> Mapping[str, object]:
    rows, columns = [*item.shape, None, None][:2] if len(item.shape) <= 2 else [None, None]
    return {"name": item.name, "dtype": item.dtype, "rows": rows, "columns": columns, "reason": item.reason}


def _cell(name: str) -> str:
    """A name on one line that no spreadsheet takes for a formula: it is quoted where it starts like one."""
    name = printable(name)
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name
