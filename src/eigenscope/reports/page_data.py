"""The curves of a matrix as the page's scripts take them: few digits, and no more points than a plot can show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from eigenscope.scanning.curves import Placed, cumulative_variance, gram_histogram, grid, thinned
from eigenscope.weights.definitions import WEIGHT_DEFINITIONS
from eigenscope.weights.reading import WeightReading

_POINTS = 160
_SPARK = 24  # points of the spectrum in the table


def compact(value: float | None, digits: int = 4) -> float | None:
    """To so many digits; what is not finite is null."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}")


def curves(reading: WeightReading) -> dict[str, object]:
    """The three plots of a matrix."""
    places = thinned(len(reading.singular_values), _POINTS)
    bins = gram_histogram(reading)
    drawn = bins and {
        "low": compact(float(bins.edges[0]), 6),
        "high": compact(float(bins.edges[-1]), 6),
        "counts": bins.counts.tolist(),
        "expected": _short(bins.expected),
        "law": [_short(values) for values in bins.law],
        "below": bins.below,
    }
    return {
        "count": len(reading.singular_values),
        "sigma": _short(reading.singular_values[places]),
        "held": _short(cumulative_variance(reading.singular_values)[places]),
        "floor": compact(reading.rounding_floor),
        "edge": compact(reading.noise.edge),
        "spikes": reading.noise.spikes,
        "ranks": [reading.rank_at_90, reading.rank_at_95, reading.rank_at_99],
        "bins": drawn,
    }


def places(readings: Iterable[WeightReading | None]) -> dict[str, list[int]]:
    """Which singular values are drawn, counted from 1, for each number of them."""
    counts = {len(reading.singular_values) for reading in readings if reading is not None}
    return {str(count): (thinned(count, _POINTS) + 1).tolist() for count in sorted(counts)}


def placed(rows: Sequence[Placed]) -> dict[str, object]:
    """The map of the model."""
    found = grid(rows)
    return {"kinds": found.kinds, "layers": found.layers, "cells": found.cells}


def definitions(names: Sequence[str]) -> list[tuple[str, str]]:
    """Labels and meanings, in the order of the numbers."""
    known = (WEIGHT_DEFINITIONS[name] for name in names)
    return [(item.label, f"{item.definition}{f' {item.source}.' if item.source else ''}") for item in known]


def sparkline_svg(reading: WeightReading) -> str:
    """The spectrum on a log axis, as small as a word."""
    sigma = reading.singular_values[: max(reading.rank, 1)]
    if not len(sigma) or sigma[0] == 0:
        return ""
    sigma = sigma[np.linspace(0, len(sigma) - 1, min(_SPARK, len(sigma))).round().astype(int)]
    logs = np.log10(np.maximum(sigma / sigma[0], 1e-9))
    across = np.linspace(1, 71, len(logs))
    down = 2 + 14 * logs / min(float(logs[-1]), -1e-3)
    points = " ".join(f"{x:.0f},{y:.1f}" for x, y in zip(across, down, strict=True))
    return f'<svg class="spark" viewBox="0 0 72 18" aria-hidden="true"><polyline points="{points}"/></svg>'


def _short(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[float | None]:
    return [compact(float(value)) for value in values]
