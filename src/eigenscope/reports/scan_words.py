"""A scan in a sentence or two."""

from __future__ import annotations

from collections.abc import Sequence

from eigenscope.reports.numbers import number
from eigenscope.scanning.result import MatrixRow, Scan
from eigenscope.weights.shapes import SHAPES
from eigenscope.words import percent


def matrices(count: int) -> str:
    """ "1 matrix", "24 matrices"."""
    return f"{count:,} {'matrix' if count == 1 else 'matrices'}"


def three(value: float) -> str:
    """A number to three digits."""
    return f"{value:.2e}" if abs(value) >= 1e6 else number(float(f"{value:.3g}"))


def summarized(scan: Scan) -> str:
    """How much there is, how full, how stretched, and of what kinds."""
    summary = scan.summary
    whole = scan.whole
    entries = sum(map(_entries, whole))
    said = [f"{matrices(len(whole))} with {entries:,} {'entry' if entries == 1 else 'entries'}"]
    share = summary["effective_rank_share"]
    if isinstance(share, float):
        said.append(f"the median spreads over {percent(share)} of its directions")
    said += filter(None, [_worst(whole), _kinds(summary["spectrum_shapes"])])
    if summary["problems"]:
        said.append(f"{summary['problems']} with NaN or infinity")
    return "; ".join(said)


def _entries(row: MatrixRow) -> int:
    return row.reading.rows * row.reading.columns if row.reading else 0


def _worst(whole: Sequence[MatrixRow]) -> str:
    """The worst condition number, and whose it is."""
    singular = [row for row in whole if row.reading and row.reading.condition_number.value is None]
    if singular:
        return f"{matrices(len(singular))} singular"
    numbers = [(row.reading.condition_number, row.title) for row in whole if row.reading]
    known = [(number.value or 0.0, bool(number.reason), title) for number, title in numbers]
    if not known:
        return ""
    value, bound, title = max(known)
    return f"worst κ {'≥ ' if bound else ''}{three(value)}" + (f" ({title})" if len(known) > 1 else "")


def _kinds(shapes: object) -> str:
    assert isinstance(shapes, dict)
    known = sorted(shapes, key=SHAPES.index)
    return ", ".join(f"{shapes[shape]:,} {shape.replace('_', ' ')}" for shape in known)
