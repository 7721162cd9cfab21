"""A scan as CSV: a row a matrix, then a row for everything that was not analysed."""

from __future__ import annotations

import csv
from typing import TextIO

from eigenscope.scanning.result import MatrixRow, Scan

COLUMNS = (
    "name", "part", "dtype", "rows", "columns", "effective_rank", "entropy_rank", "stable_rank", "condition_number",
    "spectral_norm", "frobenius_norm", "variance_at_10", "rank_at_90", "rank_at_95", "rank_at_99", "rank",
    "rounding_floor", "alpha", "alpha_x_min", "alpha_tail_count", "alpha_distance", "alpha_preferred", "noise_edge",
    "spikes", "spectrum_shape", "operator_norm", "reason",
)  # fmt: skip


def write_csv(file: TextIO, scan: Scan) -> None:
    """Write the header and all rows."""
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in scan.matrices:
        writer.writerow(_row(row))
    for item in scan.skipped:
        sides = [*item.shape, None, None][:2] if len(item.shape) <= 2 else [None, None]
        writer.writerow(
            {"name": item.name, "dtype": item.dtype, "rows": sides[0], "columns": sides[1], "reason": item.reason}
        )


def _row(row: MatrixRow) -> dict[str, object]:
    reading = row.reading
    known: dict[str, object] = {"name": row.name, "part": row.part, "dtype": row.dtype}
    if reading is None:
        return known | {"reason": row.problem}
    plain = {name: getattr(reading, name) for name in COLUMNS if hasattr(reading, name)}
    plain |= {"condition_number": reading.condition_number.value, "spectral_norm": reading.spectral_norm.value}
    fit = reading.alpha
    tail = (
        {"x_min": fit.x_min, "tail_count": fit.tail_count, "distance": fit.distance, "preferred": fit.preferred}
        if fit
        else {}
    )
    plain |= {f"alpha_{name}": value for name, value in tail.items()}
    plain |= {"alpha": fit.alpha if fit else None, "noise_edge": reading.noise.edge, "spikes": reading.noise.spikes}
    return known | plain | {"operator_norm": row.operator_norm}
