"""The numbers behind the pictures of a matrix: its three curves, and its place among layers and kinds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from eigenscope.weights.reading import WeightReading

Values = NDArray[np.float64]
Item = TypeVar("Item")  # what a quantity is read off
_FINE, _CURVE = 16, 41  # points of the noise's law: in a bin, along its curve
_DEEPEST = 1e-16  # of the largest eigenvalue: what lies below is rounding, and not drawn


class Placed(Protocol):
    """A matrix that knows where in the network it stands."""

    @property
    def name(self) -> str: ...
    @property
    def part(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def layer(self) -> int | None: ...
    @property
    def kind(self) -> str: ...
    @property
    def reading(self) -> WeightReading | None: ...


def cumulative_variance(singular_values: Values) -> Values:
    """The share of Σσ² that the first k directions hold, for each k."""
    held = np.cumsum(singular_values**2)
    return np.asarray(held / held[-1]) if held[-1] > 0 else np.ones_like(held)


@dataclass(frozen=True)
class Histogram:
    """The eigenvalues λ = σ² of the smaller of WWᵀ and WᵀW, in bins of equal width in log λ."""

    edges: Values  # one more than bins
    counts: NDArray[np.int64]
    expected: Values  # in each bin, of a random matrix with the noise's scale: Marchenko & Pastur 1967
    law: tuple[Values, Values]  # the same as a curve: λ, and how many a bin about it would hold
    below: int  # eigenvalues that are zero or rounding: not in the bins


def gram_histogram(reading: WeightReading) -> Histogram | None:
    """None where all entries are zero."""
    squares = reading.singular_values**2
    if not len(squares) or squares[0] == 0:
        return None
    drawn = squares[(squares > reading.rounding_floor**2) & (squares > _DEEPEST * squares[0])]
    drawn = drawn if len(drawn) else squares[:1]
    low, high = math.log10(drawn[-1]), math.log10(max(drawn[0], reading.noise.edge**2))
    bins = min(max(round(math.sqrt(len(drawn)) * 2), 8), 60)
    edges = np.logspace(low - 0.02 * (high - low) - 1e-3, high + 0.02 * (high - low) + 1e-3, bins + 1)
    counts, _ = np.histogram(drawn, edges)
    width = math.log(edges[1] / edges[0])
    fine = np.exp(math.log(edges[0]) + width / _FINE * (np.arange(bins * _FINE) + 0.5))
    expected = (fine * _noise_density(fine, reading)).reshape(bins, _FINE).mean(1) * width
    return Histogram(edges, counts, expected, _law(reading, float(edges[0]), width), len(squares) - len(drawn))


def _law(reading: WeightReading, low: float, width: float) -> tuple[Values, Values]:
    """Over its support, as far as that is drawn."""
    short, long = sorted((reading.rows, reading.columns))
    ends = [reading.noise.scale**2 * (math.sqrt(long) + sign * math.sqrt(short)) ** 2 for sign in (-1, 1)]
    if ends[1] <= low:
        return np.zeros(0), np.zeros(0)
    where = np.geomspace(max(ends[0], low), ends[1], _CURVE)
    return where, where * _noise_density(where, reading) * width


def _noise_density(eigenvalues: Values, reading: WeightReading) -> Values:
    return marchenko_pastur(eigenvalues, reading.rows, reading.columns, reading.noise.scale)


def marchenko_pastur(eigenvalues: Values, rows: int, columns: int, scale: float) -> Values:
    """How many eigenvalues per unit of λ a random matrix with entries of standard deviation `scale` has."""
    short, long = min(rows, columns), max(rows, columns)
    unit, ratio = scale**2 * long, short / long
    if unit == 0:
        return np.zeros_like(eigenvalues)
    x = eigenvalues / unit
    low, high = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    return np.asarray(short * np.sqrt(np.maximum((high - x) * (x - low), 0.0)) / (2 * math.pi * ratio * x) / unit)


def thinned(count: int, points: int) -> NDArray[np.int64]:
    """At most about so many places of `count`: dense at both ends, where spectra bend."""
    if count <= points:
        return np.arange(count)
    ends = points // 4
    middle = np.linspace(ends, count - 1 - ends, points - 2 * ends).round().astype(np.int64)
    return np.unique(np.concatenate([np.arange(ends), middle, np.arange(count - ends, count)]))


@dataclass(frozen=True)
class Quantity(Generic[Item]):
    """A number to compare matrices by in a map: its label, its value, and whether a log axis suits it."""

    label: str
    value: Callable[[Item], float | None]
    logarithmic: bool = False
    share: bool = False


QUANTITIES: Mapping[str, Quantity[WeightReading]] = {
    "effective_rank_share": Quantity(
        "effective rank, share of full", lambda r: r.effective_rank / min(r.rows, r.columns), share=True
    ),
    "condition_number": Quantity("condition number κ", lambda r: r.condition_number.value, logarithmic=True),
    "stable_rank": Quantity("stable rank", lambda r: r.stable_rank, logarithmic=True),
    "variance_at_10": Quantity("variance held by rank 10", lambda r: r.variance_at_10, share=True),
    "alpha": Quantity(
        "tail exponent α, where a power law holds", lambda r: r.alpha.alpha if r.alpha and r.alpha.holds else None
    ),
}


@dataclass(frozen=True)
class Grid:
    """Kinds of matrices (down) × layers (across); a cell is the index of its row, or None."""

    kinds: tuple[str, ...]
    layers: tuple[int | None, ...]  # None: those that stand in no layer
    cells: tuple[tuple[int | None, ...], ...]


def grid(rows: Sequence[Placed]) -> Grid:
    """Kinds in the order in which they are first met; where two matrices claim one place, their full names decide."""
    claims = Counter(_place(row) for row in rows)
    shared = {kind for (kind, _), count in claims.items() if count > 1}
    places: dict[tuple[str, int | None], int] = {}
    for index, row in enumerate(rows):
        kind, layer = _place(row)
        kind = _in_full(row) if kind in shared else kind
        places[(kind if (kind, layer) not in places else row.title, layer)] = index
    kinds = tuple(dict.fromkeys(kind for kind, _ in places))
    layers = sorted({layer for _, layer in places if layer is not None})
    across: tuple[int | None, ...] = (*([None] if any(layer is None for _, layer in places) else []), *layers)
    return Grid(kinds, across, tuple(tuple(places.get((kind, layer)) for layer in across) for kind in kinds))


def _place(row: Placed) -> tuple[str, int | None]:
    """Kind and layer; a stack of matrices without a layer in its name is one over the layers."""
    if row.layer is None and row.part.isdigit():
        return row.name, int(row.part)
    return row.kind, row.layer


def _in_full(row: Placed) -> str:
    """The title with a dot in place of its layer's number."""
    parts = row.title.split(".")
    if str(row.layer) in parts:
        parts[parts.index(str(row.layer))] = "·"
    return ".".join(parts)
