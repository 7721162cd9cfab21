"""Whether a spectrum ends in a power law: fitted where it begins, with the distance of the fit and a rival.

The eigenvalues of WWᵀ (λ = σ²) above x_min are fitted by p(λ) ∝ λ^−α (Clauset, Shalizi & Newman 2009): α by maximum
likelihood for a given x_min, x_min where the Kolmogorov–Smirnov distance is least. The same tail is fitted by a
lognormal, and the two compared by Vuong's likelihood ratio. An exponent without all of these means nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST = 20  # eigenvalues that a tail must hold to be fitted: fewer give an exponent anything
_STARTS = 64  # places tried for x_min, evenly over the ranks; then every one about the best of them


_SIMPSON = np.resize([2.0, 4.0], 1001)  # a rectangle rule is off by as much as the two laws differ
_SIMPSON[[0, -1]] = 1.0


@dataclass(frozen=True)
class PowerLaw:
    """p(λ) ∝ λ^−α for λ ≥ x_min."""

    alpha: float
    standard_error: float  # (α − 1)/√tail_count
    x_min: float
    tail_count: int
    distance: float  # Kolmogorov–Smirnov, of the tail from the fit
    lognormal_ratio: float  # Vuong's statistic: below 0 a lognormal fits better
    lognormal_p: float  # two-sided: how often chance alone tells them apart so clearly

    @property
    def preferred(self) -> str:
        """`lognormal` where that is clearly better (p ≤ 0.1), else `power_law`, the simpler of the two.

        A lognormal has the power law as a limit: it can be better, never clearly worse.
        """
        return "lognormal" if self.lognormal_ratio < 0 and self.lognormal_p <= 0.1 else "power_law"

    @property
    def holds(self) -> bool:
        """Whether the exponent says anything: a close fit, and no rival that fits better."""
        return self.preferred == "power_law" and self.distance < 0.1

    @property
    def told(self) -> str:
        """The exponent with all that it means nothing without."""
        rival = "a lognormal fits better" if self.preferred == "lognormal" else "a lognormal does not fit better"
        tail = f"{self.tail_count:,} eigenvalues above x_min {self.x_min:.3g}, distance {self.distance:.3f}"
        return f"{self.alpha:.2f} ± {self.standard_error:.2f} ({tail}; {rival})"

    def to_dict(self) -> dict[str, object]:
        return {**vars(self), "preferred": self.preferred}


def fit_power_law(singular_values: NDArray[np.float64]) -> PowerLaw | None:
    """The tail of σ²; None where fewer than 20 eigenvalues are left to fit."""
    values = np.sort(singular_values[singular_values > 0]) ** 2
    if len(values) < _LEAST or values[0] == values[-1]:
        return None
    start, alpha, distance = _best_start(np.log(values))
    tail = values[start:]
    ratio, chance = against_lognormal(tail, alpha)
    return PowerLaw(alpha, (alpha - 1) / math.sqrt(len(tail)), float(tail[0]), len(tail), distance, ratio, chance)


def _best_start(logs: NDArray[np.float64]) -> tuple[int, float, float]:
    """Where the tail begins that a power law fits best, its α and its distance."""
    last = len(logs) - _LEAST
    coarse = np.linspace(0, last, min(_STARTS, last + 1)).astype(int)
    best = int(np.argmin(_fits(logs, coarse)[0]))
    low, high = int(coarse[max(best - 1, 0)]), int(coarse[min(best + 1, len(coarse) - 1)])
    near = np.append(coarse[best], np.arange(low, high + 1, max((high - low) // _STARTS, 1)))
    distances, alphas = _fits(logs, near)
    best = int(np.argmin(distances))
    return int(near[best]), float(alphas[best]), float(distances[best])


def _fits(logs: NDArray[np.float64], starts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The Kolmogorov–Smirnov distance and α of the tail from each start."""
    counts = (len(logs) - starts)[:, None]
    sums = np.cumsum(logs[::-1])[::-1][starts][:, None]
    means = sums / counts - logs[starts][:, None]
    safe = np.where(means > 0, means, 1.0)
    expected = -np.expm1(np.minimum(logs[starts][:, None] - logs, 0.0) / safe)  # 0 before the start, and at it
    above = expected - np.maximum(np.arange(len(logs)) - starts[:, None], 0) / counts
    distances = np.maximum(above.max(axis=1), 1 / counts[:, 0] - above.min(axis=1))
    return np.where(means[:, 0] > 0, distances, np.inf), 1 + 1 / safe[:, 0]


def against_lognormal(tail: NDArray[np.float64], alpha: float) -> tuple[float, float]:
    """Vuong's normalized log likelihood ratio of the power law over a lognormal that is cut off below x_min.

    Never above 0: a lognormal of ever larger variance is the power law in the limit.
    """
    logs = np.log(tail / tail[0])
    power = math.log(alpha - 1) - alpha * logs
    rival = _lognormal(logs)
    difference = power - rival if rival is not None else np.zeros(1)
    spread = float(np.std(difference))
    if spread == 0 or np.sum(difference) >= 0:
        return 0.0, 1.0
    ratio = float(np.sum(difference)) / (spread * math.sqrt(len(tail)))
    return ratio, math.erfc(abs(ratio) / math.sqrt(2))


def _lognormal(logs: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Log density (in units of x_min) of the likeliest lognormal above x_min; None where that is the power law.

    With y = log(λ/x_min) ≥ 0 it is a normal distribution cut off below 0: an exponential family in (y, y²) whose log
    likelihood is concave, found by Newton's method with halved steps where a step does not gain. On the grid it exists
    for a factor of y² above 0 too, where no lognormal does: the likeliest of those is their limit.
    """
    moments = np.array([np.mean(logs), np.mean(logs**2)])
    grid = np.linspace(0.0, 4 * float(logs.max()), 1001)
    powers = np.stack([grid**k for k in range(1, 5)])
    spread = max(float(np.var(logs)), 1e-12)
    natural = np.array([moments[0] / spread, -0.5 / spread])
    value, gap, covariance = _likelihood(natural, moments, powers)
    for _ in range(60):
        step, size = _newton_step(covariance, gap), 1.0
        while size > 1e-8:
            gained, *rest = _likelihood(natural + size * step, moments, powers)
            if gained > value:
                break
            size /= 2
        else:
            break
        done = gained - value < 1e-9
        natural, value, (gap, covariance) = natural + size * step, gained, rest
        if done:
            break
    if natural[1] >= 0:
        return None
    normalizer = float(natural @ moments) - value
    return np.asarray(natural[0] * logs + natural[1] * logs**2 - normalizer - logs)


def _newton_step(covariance: NDArray[np.float64], gap: NDArray[np.float64]) -> NDArray[np.float64]:
    """covariance⁻¹·gap; where y and y² can't be told apart, along their common direction alone."""
    (a, b), (_, c) = covariance.tolist()
    if (volume := a * c - b * b) > 1e-12 * a * c:
        return np.array([(c * gap[0] - b * gap[1]) / volume, (a * gap[1] - b * gap[0]) / volume])
    return np.asarray(np.linalg.lstsq(covariance, gap, rcond=1e-12)[0])


def _likelihood(
    natural: NDArray[np.float64], moments: NDArray[np.float64], powers: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Mean log likelihood, its gradient, and minus its Hessian."""
    exponents = natural @ powers[:2]
    top = float(exponents.max())
    mass = np.exp(exponents - top) * _SIMPSON
    total = float(mass.sum())
    first, second, third, fourth = (powers @ mass / total).tolist()
    normalizer = top + math.log(total * float(powers[0, 1]) / 3)
    covariance = np.array([[second - first**2, third - first * second], [third - first * second, fourth - second**2]])
    return float(natural @ moments) - normalizer, moments - np.array([first, second]), covariance
