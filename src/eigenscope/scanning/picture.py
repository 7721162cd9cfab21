"""A scan or a comparison drawn by matplotlib."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eigenscope.errors import InputError
from eigenscope.scanning.curves import Placed, Quantity, cumulative_variance, gram_histogram, grid
from eigenscope.weights.reading import WeightReading
from eigenscope.words import did_you_mean, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = ("map", "spectra", "matrix")
_INK, _BLUE = "#1b2733", "#1b5fc1"


@dataclass(frozen=True)
class Pictured:
    """What is drawn: matrices, and of each what the quantities are read off (None where that is not known)."""

    rows: Sequence[Placed]
    title: str
    quantities: Mapping[str, Quantity[Any]]
    items: Sequence[object]


def plotted(shown: Pictured, kind: str, matrix: str | None, quantity: str) -> Figure:
    """A picture of a scan or a comparison; see `Scan.plot`."""
    if kind not in KINDS:
        raise InputError(f"kind={kind!r} is not one of {', '.join(KINDS)}")
    if quantity not in shown.quantities:
        raise InputError(f"quantity={quantity!r}{did_you_mean(quantity, shown.quantities)}")
    known = {row.title: row.reading for row in shown.rows if row.reading is not None}
    if not known:
        raise InputError("there is no matrix to plot: every tensor was left out or unchanged, or holds NaN")
    if matrix is not None or kind == "matrix":
        return _matrix(*_chosen(known, matrix))
    return _map(shown, quantity) if kind == "map" else _spectra(known, shown.title)


def _chosen(known: dict[str, WeightReading], matrix: str | None) -> tuple[str, WeightReading]:
    if matrix is None and len(known) > 1:
        raise InputError("kind='matrix' needs the name of one, as plot('matrix', 'h.0.attn.c_attn.weight')")
    name = next(iter(known)) if matrix is None else matrix
    if name not in known:
        raise InputError(f"there is no matrix {name!r}{did_you_mean(name, known, most=8)}")
    return name, known[name]


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    """A figure that belongs to nobody: no window, no global state; notebooks show it."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("plots need matplotlib: pip install 'eigenscope[plot]'") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    setattr(figure, "_repr_png_", lambda: _png(figure))  # noqa: B010 (a notebook asks for it)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def _matrix(title: str, reading: WeightReading) -> Figure:
    """Singular values, cumulative variance, eigenvalues of WWᵀ."""
    figure, axes = _figure(13, 3.8, 3)
    figure.suptitle(f"{title}: {reading.sentence}", fontsize=10)
    _draw_spectrum(axes[0], reading)
    _draw_variance(axes[1], reading)
    _draw_eigenvalues(axes[2], reading)
    return figure


def _draw_spectrum(axes: Axes, reading: WeightReading) -> None:
    axes.set(xlabel="k", ylabel="σ", title="Singular values")
    sigma = reading.singular_values[reading.singular_values > 0]
    if not len(sigma):
        return
    axes.semilogy(np.arange(1, len(sigma) + 1), sigma, color=_INK)
    low = max(float(sigma[-1]), reading.rounding_floor / 30)  # what lies far below the floor is only rounding
    marks = ((reading.noise.edge, "noise edge", _BLUE), (reading.rounding_floor, "rounding floor", "gray"))
    for value, name, color in marks:
        if value > low / 1e3:
            axes.axhline(value, color=color, linestyle="--", linewidth=1, label=name)
            axes.legend(fontsize=8)
            low = min(low, value)
    axes.set_ylim(low / 1.5, max(float(sigma[0]), reading.noise.edge) * 1.5)


def _draw_variance(axes: Axes, reading: WeightReading) -> None:
    held = cumulative_variance(reading.singular_values)
    axes.plot(np.arange(len(held) + 1), np.concatenate([[0.0], held]), color=_INK)
    for share, rank in ((0.9, reading.rank_at_90), (0.95, reading.rank_at_95), (0.99, reading.rank_at_99)):
        axes.plot([0, rank, rank], [share, share, 0], color="gray", linestyle=":", linewidth=1)
        axes.plot(rank, share, "o", color=_INK, markersize=4, label=f"{percent(share)} at rank {rank:,}")
    axes.legend(fontsize=8, loc="lower right")
    axes.set(xlabel="rank", ylabel="share of Σσ²", ylim=(0, 1.02), title="Cumulative variance")


def _draw_eigenvalues(axes: Axes, reading: WeightReading) -> None:
    bins = gram_histogram(reading)
    if bins is not None:
        axes.stairs(bins.counts, bins.edges, fill=True, color="#98a3af")
        axes.set_xscale("log")
        if len(bins.law[0]):
            axes.plot(*bins.law, color=_BLUE, label="Marchenko–Pastur")
            axes.axvline(reading.noise.edge**2, color=_BLUE, linestyle="--", linewidth=1, label="noise edge")
            axes.legend(fontsize=8, loc="upper left")
    axes.set(xlabel="λ", ylabel="count", title="Eigenvalues of W Wᵀ")


def _spectra(known: dict[str, WeightReading], title: str) -> Figure:
    """All spectra in one plot, each relative to its first value and its length."""
    figure, (axes,) = _figure(7, 4.5)
    for name, reading in known.items():
        count, top = len(reading.singular_values), reading.singular_values[0]
        if top > 0:
            relative = np.maximum(reading.singular_values / top, 1e-9)
            axes.semilogy((np.arange(count) + 0.5) / count, relative, linewidth=1, alpha=0.7, label=name)
    if len(known) <= 10:
        axes.legend(fontsize=7)
    axes.set(xlabel="k, share of all", ylabel="σₖ/σ₁", title=f"{title}: singular values")
    return figure


def _map(shown: Pictured, quantity: str) -> Figure:
    """Kinds of matrices × layers, coloured by a quantity; what has no value is hatched."""
    found, chosen = grid(shown.rows), shown.quantities[quantity]
    values = np.full((len(found.kinds), len(found.layers)), math.nan)
    known = np.zeros(values.shape, bool)
    for down, cells in enumerate(found.cells):
        for across, index in enumerate(cells):
            item = shown.items[index] if index is not None else None
            value = chosen.value(item) if item is not None else None
            values[down, across] = math.nan if value is None else value
            known[down, across] = index is not None
    figure, (axes,) = _figure(min(4 + 0.35 * len(found.layers), 16), min(1.6 + 0.28 * len(found.kinds), 14))
    norm = "log" if chosen.logarithmic and bool((values > 0).any()) else "linear"
    drawn = axes.imshow(values, aspect="auto", cmap=_colours(), norm=norm, zorder=2)
    _hatch(axes, known & ~np.isfinite(values))
    figure.colorbar(drawn, ax=axes, label=chosen.label)
    axes.set_yticks(range(len(found.kinds)), found.kinds, fontsize=8)
    every = max(1, len(found.layers) // 24)
    ticks = range(0, len(found.layers), every)
    axes.set_xticks(ticks, ["–" if found.layers[i] is None else str(found.layers[i]) for i in ticks], fontsize=8)
    axes.set(xlabel="layer", title=shown.title)
    return figure


def _colours() -> Any:
    """Blues without the palest fifth, which looks like paper: the least value is a colour too."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["Blues"](np.linspace(0.2, 1, 256)))


def _hatch(axes: Axes, missing: NDArray[np.bool_]) -> None:
    """Matrices without a value are there, and tell themselves from places without a matrix."""
    from matplotlib.patches import Rectangle

    for down, across in np.argwhere(missing):
        cell = (float(across) - 0.5, float(down) - 0.5)
        axes.add_patch(
            Rectangle(cell, 1, 1, facecolor="none", edgecolor="#98a3af", hatch="////", linewidth=0, zorder=3)
        )
