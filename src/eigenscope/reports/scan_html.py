"""A scan as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from eigenscope.diagnostics.estimate import Estimate
from eigenscope.reports.numbers import number
from eigenscope.reports.page import Cell, Look, Page, TableRow, rendered
from eigenscope.reports.page_data import compact, curves, definitions, placed, places, sparkline_svg
from eigenscope.reports.scan_terminal import kappa, stretch_order
from eigenscope.reports.scan_words import summarized
from eigenscope.scanning.curves import QUANTITIES
from eigenscope.scanning.result import MatrixRow, Scan
from eigenscope.weights.reading import WeightReading
from eigenscope.words import counted, percent

_COLUMNS = (
    "eff. rank", "κ", "spectrum", "σ, log", "shape", "of full", "stable rank", "σ₁", "90 %", "95 %", "99 %", "rank 10",
    "spikes",
)  # fmt: skip
_NUMBERS = (
    "effective_rank", "entropy_rank", "stable_rank", "rank", "condition_number", "spectral_norm", "frobenius_norm",
    "variance_at_10", "rank_at_90", "rank_at_95", "rank_at_99", "rounding_floor", "noise_edge", "spikes",
    "noise_distance", "alpha",
)  # fmt: skip


def write_html(file: TextIO, scan: Scan) -> None:
    """Write the report."""
    file.write(rendered(scan_page(scan)))


def scan_page(scan: Scan) -> Page:
    """What the report of a scan says."""
    return Page(
        title=scan.source,
        sentence=f"{summarized(scan)}.",
        facts=f"{scan.format}; {counted(len(scan.skipped), 'tensor')} not analysed; {scan.seconds:.2g} s",
        problems=[f"{row.title}: {row.problem}" for row in scan.matrices if row.problem],
        notes=scan.notes,
        columns=_COLUMNS,
        rows=[_row(row) for row in scan.matrices],
        skipped=scan.skipped,
        look=_look(scan.matrices),
        data={
            "matrix": "W",
            "quantities": [{"label": q.label, "log": q.logarithmic, "share": q.share} for q in QUANTITIES.values()],
            "definitions": definitions(_NUMBERS),
            "places": places(row.reading for row in scan.matrices),
            "rows": [_data(row) for row in scan.matrices],
            "grid": placed(scan.matrices),
        },
    )


_TELLING = ("rank_deficient", "spiked", "low_rank")  # shapes that say something, the most first


def _look(rows: Sequence[MatrixRow]) -> Look | None:
    """What is broken, else what has an odd spectrum, else what stretches most."""
    if not rows:
        return None
    best = min(range(len(rows)), key=lambda index: _dullness(rows[index]))
    row, found = rows[best], rows[best].reading
    if found is None:
        return Look(best, row.title, f"{row.problem}.")
    shown = "" if found.spectrum_shape in _TELLING or len(rows) == 1 else f"it has the worst κ, {kappa(found)}; "
    return Look(best, row.title, f"{shown}{found.sentence}.")


def _dullness(row: MatrixRow) -> tuple[int, float]:
    if row.reading is None:
        return 0, 0.0
    shape = row.reading.spectrum_shape
    place = _TELLING.index(shape) if shape in _TELLING else len(_TELLING)
    return 1 + place, -stretch_order(row.reading)


def _row(row: MatrixRow) -> TableRow:
    if row.reading is None:
        broken = Cell("not finite", "", "text word broken")
        cells_of_none = [Cell("—"), Cell("—"), broken, Cell("", style="text"), *[Cell("—")] * 9]
        return TableRow(row.title, "not finite", cells_of_none)
    return TableRow(row.title, row.reading.spectrum_shape.replace("_", " "), cells(row.reading))


def cells(reading: WeightReading) -> list[Cell]:
    """The numbers of a matrix in the table's columns."""
    r, full = reading, min(reading.rows, reading.columns)
    counts = (r.rank_at_90, r.rank_at_95, r.rank_at_99)
    word = r.spectrum_shape
    return [
        Cell(f"{r.effective_rank:,.0f}", r.effective_rank),
        Cell(kappa(r), stretch_order(r)),
        Cell(word.replace("_", " "), word, f"text word {word}"),
        Cell("", r.noise.edge, "text", sparkline_svg(r)),
        Cell(f"{r.rows}×{r.columns}", r.rows * r.columns),
        Cell(percent(r.effective_rank / full), r.effective_rank / full),
        Cell(f"{r.stable_rank:,.1f}", r.stable_rank),
        Cell(number(r.spectral_norm.value), r.spectral_norm.value),
        *[Cell(f"{count:,}", count) for count in counts],
        Cell(percent(r.variance_at_10, 1), r.variance_at_10),
        Cell(f"{r.noise.spikes:,}", r.noise.spikes),
    ]


def _data(row: MatrixRow) -> dict[str, object]:
    """A matrix as the scripts take it."""
    known: dict[str, object] = {"title": row.title, "problem": row.problem, "about": row.dtype}
    if row.reading is None:
        return known | {"sentence": "", "values": [None] * len(QUANTITIES), "numbers": [], "curves": None}
    return known | {
        "about": about(row.reading, row.dtype, row.operator_norm),
        "sentence": f"{row.reading.sentence}.",
        "values": [compact(quantity.value(row.reading)) for quantity in QUANTITIES.values()],
        "numbers": [written(row.reading, name) for name in _NUMBERS],
        "curves": curves(row.reading),
    }


def about(reading: WeightReading, dtype: str = "", operator_norm: float | None = None) -> str:
    """Size, storage, and how the spectrum was obtained."""
    how = {"gram": "by its Gram matrix in fp64", "svd": "by a singular value decomposition in fp64"}
    said = [f"{reading.rows:,} × {reading.columns:,}", dtype, how.get(reading.method, reading.method)]
    if operator_norm is not None:
        said.append(f"norm as a convolution {number(operator_norm)}")
    return ", ".join(filter(None, said))


def written(reading: WeightReading, name: str) -> str:
    """A number, and in a second line what belongs to it."""
    if name == "alpha":
        return _tail(reading)
    if name == "noise_distance":
        return number(reading.noise.distance)
    if name in ("noise_edge", "spikes"):
        return number(reading.noise.edge) if name == "noise_edge" else f"{reading.noise.spikes:,}"
    if name == "condition_number" and reading.condition_number.reason:
        return f"{kappa(reading)}\n{reading.condition_number.reason}"
    value = getattr(reading, name)
    if isinstance(value, Estimate):
        return number(value.value, value.error)
    if name == "variance_at_10":
        return percent(value, 1)
    return f"{value:,}" if isinstance(value, int) else number(value)


def _tail(reading: WeightReading) -> str:
    fit = reading.alpha
    if fit is None:
        return "—\nfewer than 20 eigenvalues to fit"
    exponent, _, rest = fit.told.partition(" (")
    return f"{exponent}\n{rest.removesuffix(')')}"
