"""The spectral density: stochastic Lanczos quadrature, with the eigenvalues that are known put in exactly.

Lin, Saad & Yang (2016); Ghorbani, Krishnan & Xiao (2019). A random start vector of a Lanczos run weighs each
eigenvalue by 1/n on average; converged outliers are given exactly 1/n, and the rest of the weight is spread over the
other nodes. Errors follow from the law of a random point on a sphere, so one probe is enough to know them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eigenscope.estimators.lanczos import Krylov, Quadrature, RitzPairs

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SpectralMeasure:
    """n eigenvalues as `outliers`, one each, and a bulk of n − k that `nodes` and `weights` (sum 1) stand for."""

    size: int
    outliers: Array
    outlier_errors: Array
    nodes: Array
    weights: Array

    @property
    def bulk_size(self) -> int:
        return self.size - len(self.outliers)

    def absolute_sum(self, trace: tuple[float, float]) -> tuple[float, float]:
        """Σᵢ |λᵢ| over the whole spectrum, with its standard error; `trace` is tr A with its own.

        The probe that measures Σ|λ| measures Σλ as well, and errs in both alike (in a definite matrix they are one).
        The trace is known better, from vectors of its own: so it serves as a control variate (Owen, Monte Carlo
        theory, section 8.9). For u uniform on the sphere of dimension d, Cov(d·uᵀFu, d·uᵀGu) for functions F, G of
        one matrix is 2d/(d+2)·(Σfg − Σf·Σg/d). A trace that chance can't explain (a repeated eigenvalue taken for a
        single one) counts as error in full.
        """
        d = self.bulk_size
        known = float(np.abs(self.outliers).sum())
        if d == 0:
            return known, 0.0
        x, y = np.abs(self.nodes), self.nodes
        error = trace[0] - float(self.outliers.sum()) - self._bulk_sum(y)
        shared, alone = self._covariance(x, y), max(self._covariance(y, y), 0.0) + trace[1] ** 2
        slope = shared / alone if alone > 0 else 0.0
        variance = max(self._covariance(x, x) - slope * shared, 0.0)
        unexplained = error if abs(error) > 3 * alone**0.5 else 0.0
        return known + self._bulk_sum(x) + slope * error, float((variance + unexplained**2) ** 0.5)

    def _bulk_sum(self, values: Array) -> float:
        return self.bulk_size * float(self.weights @ values)

    def _covariance(self, f: Array, g: Array) -> float:
        d = self.bulk_size
        return 2 * d / (d + 2) * (self._bulk_sum(f * g) - self._bulk_sum(f) * self._bulk_sum(g) / d)

    def count_below(self, threshold: float) -> tuple[float, float]:
        """How many eigenvalues lie below `threshold`, with a standard error.

        The error joins the probe's chance with the quadrature's width: the true distribution function may be
        anywhere between the sums without and with the node at the threshold (Chebyshev–Markov–Stieltjes).
        """
        d = self.bulk_size
        inside = self.nodes < threshold
        below = float(self.weights[inside].sum())
        neighbours = [self.weights[inside][-1:], self.weights[~inside][:1]]
        left, right = (float(w[0]) if len(w) else 0.0 for w in neighbours)
        share = below + (right - left) / 4 if left and right else below
        chance = 2 * d**2 / (d + 2) * max(share * (1 - share), 0.0) if d > 0 else 0.0
        width = d * (left / 2 if left else 0.0, right / 2 if right else 0.0)[left < right] if left or right else 0.0
        return float((self.outliers < threshold).sum()) + d * share, float((chance + width**2 / 3) ** 0.5)


def spectral_measure(krylov: Krylov, *, half: bool = False) -> SpectralMeasure:
    """The spectrum that a Krylov run with a random start stands for; of its first `half`, to see what is resolved."""
    size = krylov.basis.space.size
    quadrature = krylov.half_quadrature if half else krylov.quadrature
    if krylov.complete and not half:
        values = krylov.ritz().values
        empty = np.zeros(0)
        return SpectralMeasure(size, values, np.zeros(size), empty, empty)
    outliers, errors = _outliers(krylov.ritz(), krylov.quadrature, size)
    free = np.ones(len(quadrature.nodes), dtype=bool)
    for value, error in zip(outliers, errors, strict=True):
        near = np.where(free, np.abs(quadrature.nodes - value), np.inf)
        free[near.argmin()] &= near.min() > _width(value, error)
    weight = float(quadrature.weights[free].sum())
    if weight * size < 1e-3 * (size - len(outliers)):  # nothing is left to say where the others lie
        return SpectralMeasure(size, outliers[:0], errors[:0], quadrature.nodes, quadrature.weights)
    return SpectralMeasure(size, outliers, errors, quadrature.nodes[free], quadrature.weights[free] / (weight or 1.0))


def _outliers(pairs: RitzPairs, quadrature: Quadrature, size: int, tolerance: float = 1e-3) -> tuple[Array, Array]:
    """Ritz values that have converged and stand for as many eigenvalues as there are of them.

    g eigenvalues in one place weigh χ²_g/n. Where g converged values weigh more than 12/n for g = 1 (by chance once in
    2,000), and g + 4 + 5√(2g) in general, there are repeated eigenvalues or a whole cluster, which stay with the bulk.
    """
    radius = pairs.spectral_radius
    converged = pairs.residuals <= tolerance * radius
    converged &= np.abs(pairs.values) > 10 * tolerance * radius
    values, errors = pairs.values[converged], pairs.residuals[converged]
    single = np.ones(len(values), dtype=bool)
    for index, (value, error) in enumerate(zip(values, errors, strict=True)):
        width = _width(value, error)
        copies = int(np.sum(np.abs(values - value) <= width))
        weight = float(quadrature.weights[np.abs(quadrature.nodes - value) <= width].sum())
        single[index] = weight * size <= copies + 4 + 5 * (2 * copies) ** 0.5
    return values[single], errors[single]


def _width(value: float, error: float) -> float:
    """Nodes this near to a converged value stand for it."""
    return max(10 * error, 1e-3 * abs(value))


def smoothed(measure: SpectralMeasure, *, width: float, points: int = 257) -> tuple[Array, Array]:
    """A grid and the density on it (eigenvalues per unit of asinh(λ/width), integral n over the bulk).

    Each node becomes a Gaussian on the signed asinh axis, as wide as the nodes lie apart: the resolution that the
    quadrature really has.
    """
    ends = np.concatenate([measure.nodes, measure.outliers])
    axis = np.arcsinh(ends / width)
    margin = 0.05 * max(float(np.ptp(axis)), 1.0)
    grid = np.linspace(axis.min() - margin, axis.max() + margin, points)
    if len(measure.nodes) == 0:
        return np.sinh(grid) * width, np.zeros(points)
    centres = np.arcsinh(measure.nodes / width)
    floor = 1.5 * (grid[1] - grid[0])
    gaps = np.diff(centres, prepend=centres[:1], append=centres[-1:])
    sigma = np.maximum((gaps[:-1] + gaps[1:]) / 4, floor)
    bumps = np.exp(-0.5 * ((grid[:, None] - centres) / sigma) ** 2)
    bumps /= bumps.sum(0) * (grid[1] - grid[0])  # also where a bump reaches past the grid, its integral is 1
    return np.sinh(grid) * width, measure.bulk_size * (bumps @ measure.weights)
