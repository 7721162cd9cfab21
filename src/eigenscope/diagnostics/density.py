"""The spectrum as a whole: its density, its trace, how many directions curve down, how many are flat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eigenscope.diagnostics.estimate import Estimate
from eigenscope.diagnostics.reading import CountEstimate, Density
from eigenscope.estimators import Krylov, SpectralMeasure, TraceEstimate, smoothed, spectral_measure

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Spectrum:
    """What a cold run says of all n eigenvalues; kept, with its step, until the next cold run."""

    trace: Estimate
    mean_absolute: Estimate  # mean |λ|
    measure: SpectralMeasure
    half: SpectralMeasure
    density: Density
    step: int

    def flat_share(self, floor: float) -> float:
        """The share of the directions with |λ| ≤ `floor`."""
        if floor == 0.0:  # ε is 0: all of them
            return 1.0
        above = self.measure.size - self.measure.count_below(floor)[0]
        return 1 - (self.measure.count_below(-floor)[0] + above) / self.measure.size


def spectrum_of(krylov: Krylov, trace: TraceEstimate, step: int) -> Spectrum:
    """Read the spectrum off a Krylov run with a random start, and a trace estimate on its complement."""
    measure, half = spectral_measure(krylov), spectral_measure(krylov, half=True)
    size = measure.size
    total, spread = measure.absolute_sum((trace.value, trace.standard_error))
    other, _ = half.absolute_sum((trace.value, trace.standard_error))
    if not krylov.complete:  # |λ| bends at 0, where the quadrature errs by about what half of the steps would change
        spread = float(np.hypot(spread, total - other))
    radius = krylov.ritz().spectral_radius
    width = max(1e-3 * radius, np.finfo(float).tiny)
    grid, values = _within(*smoothed(measure, width=width), _certified_ends(krylov), width)
    outliers = tuple(
        Estimate(float(v), error=float(e)) for v, e in zip(measure.outliers, measure.outlier_errors, strict=True)
    )
    held = measure.weights > 1e-12 if len(measure.nodes) else np.zeros(0, dtype=bool)
    ends = measure.nodes[held] if held.any() else measure.outliers
    density = Density(grid, values, outliers, (float(ends.min()), float(ends.max())), step)
    return Spectrum(
        trace=Estimate(trace.value, standard_error=trace.standard_error),
        mean_absolute=Estimate(total / size, standard_error=spread / size),
        measure=measure,
        half=half,
        density=density,
        step=step,
    )


def _certified_ends(krylov: Krylov) -> tuple[float, float]:
    """λmin less its error and λmax plus its error."""
    pairs = krylov.ritz()
    errors = pairs.residuals + krylov.noise
    return float(pairs.values[0] - errors[0]), float(pairs.values[-1] + errors[-1])


def _within(grid: Array, values: Array, ends: tuple[float, float], width: float) -> tuple[Array, Array]:
    """The density between two ends alone, its integral what it was: a bump drawn past them claims what can't be."""
    axis = np.arcsinh(grid / width)
    low, high = np.arcsinh(np.array(ends) / width)
    if not low < high:
        return grid, values
    inner = np.linspace(low, high, len(axis))
    clipped = np.interp(inner, axis, values)
    mass, left = values.sum() * (axis[1] - axis[0]), clipped.sum() * (inner[1] - inner[0])
    exact = np.concatenate([[ends[0]], np.sinh(inner[1:-1]) * width, [ends[1]]])
    return exact, clipped * (mass / left if left > 0 else 1.0)


def count_estimate(
    spectrum: Spectrum | None, floor: float, definite: bool = False, certified: int = 0
) -> CountEstimate:
    """How many eigenvalues lie below −`floor`, and whether half the steps say the same.

    Exact where the matrix is proven `definite`, or all of its eigenvalues are known; never less than are `certified`.
    """
    if definite:
        return CountEstimate(0.0, 0.0, resolved=True)
    if spectrum is None:
        return CountEstimate(None, reason="measured in cold checks")
    value, spread = spectrum.measure.count_below(-floor)
    if not len(spectrum.measure.nodes):
        return CountEstimate(value, 0.0, resolved=True)
    other, other_spread = spectrum.half.count_below(-floor)
    agree = abs(value - other) <= 2 * float(np.hypot(spread, other_spread))
    short = max(certified - value, 0.0)
    value, spread = value + short, float(np.hypot(spread, short))
    sharp = spread <= 0.2 * max(value, 5.0)
    return CountEstimate(value, spread, resolved=bool(sharp and agree))
