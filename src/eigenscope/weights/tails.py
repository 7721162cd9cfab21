"""Whether a spectrum ends in a power law: fitted where it begins, with the distance of the fit and a rival.

The eigenvalues of WWᵀ (λ = σ²) above x_min are fitted by p(λ) ∝ λ^−α (Clauset, Shalizi & Newman 2009): α by maximum
likelihood for each possible x_min, x_min where the Kolmogorov–Smirnov distance is least. The same tail is fitted by a
lognormal, and the two compared by Vuong's likelihood ratio. An exponent without all of these means nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST = 20  # eigenvalues that a tail must hold to be fitted: fewer give an exponent anything
_STARTS = 400  # places tried for x_min, evenly over the ranks


@dataclass(frozen=True)
class PowerLaw:
    """p(λ) ∝ λ^−α for λ ≥ x_min."""

    alpha: float
    standard_error: float  # (α − 1)/√tail_count
    x_min: float
    tail_count: int
    distance: float  # Kolmogorov–Smirnov, of the tail from the fit
    lognormal_ratio: float  # Vuong's statistic: above 0 the power law fits better, below 0 a lognormal does
    lognormal_p: float  # two-sided: how often chance alone tells them apart so clearly

    @property
    def preferred(self) -> str:
        """`power_law`, `lognormal`, or `undecided` where the ratio is within chance (p > 0.1)."""
        if self.lognormal_p > 0.1:
            return "undecided"
        return "power_law" if self.lognormal_ratio > 0 else "lognormal"

    def to_dict(self) -> dict[str, object]:
        return {**vars(self), "preferred": self.preferred}


def fit_power_law(singular_values: NDArray[np.float64]) -> PowerLaw | None:
    """The tail of σ²; None where fewer than 20 eigenvalues are left to fit."""
    values = np.sort(singular_values[singular_values > 0]) ** 2
    if len(values) < _LEAST or values[0] == values[-1]:
        return None
    starts = np.unique(np.linspace(0, len(values) - _LEAST, _STARTS).astype(int))
    fits = [_fit(values[start:]) for start in starts]
    best = int(np.argmin([distance for _, distance in fits]))
    tail, (alpha, distance) = values[starts[best] :], fits[best]
    ratio, chance = _against_lognormal(tail, alpha)
    return PowerLaw(alpha, (alpha - 1) / math.sqrt(len(tail)), float(tail[0]), len(tail), distance, ratio, chance)


def _fit(tail: NDArray[np.float64]) -> tuple[float, float]:
    """α by maximum likelihood, and the distance of its distribution from the tail's."""
    logs = np.log(tail / tail[0])
    mean = float(np.mean(logs))
    if mean <= 0:
        return math.inf, 1.0
    alpha = 1 + 1 / mean
    expected = 1 - np.exp((1 - alpha) * logs)
    count = len(tail)
    steps = np.arange(count)
    return alpha, float(max(np.max(np.abs(expected - steps / count)), np.max(np.abs(expected - (steps + 1) / count))))


def _against_lognormal(tail: NDArray[np.float64], alpha: float) -> tuple[float, float]:
    """Vuong's normalized log likelihood ratio of the power law over a lognormal that is cut off below x_min."""
    logs = np.log(tail / tail[0])
    power = math.log(alpha - 1) - alpha * logs
    rival = _lognormal(logs)
    difference = power - rival
    spread = float(np.std(difference))
    if spread == 0:
        return 0.0, 1.0
    ratio = float(np.sum(difference)) / (spread * math.sqrt(len(tail)))
    return ratio, math.erfc(abs(ratio) / math.sqrt(2))


def _lognormal(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log density (in units of x_min) of the likeliest lognormal above x_min.

    With y = log(λ/x_min) ≥ 0 it is a normal distribution cut off below 0: an exponential family in (y, y²) whose log
    likelihood is concave, found by Newton's method with halved steps where a step does not gain.
    """
    moments = np.array([np.mean(logs), np.mean(logs**2)])
    grid = np.linspace(0.0, 4 * float(logs.max()), 1001)
    powers = np.stack([grid**k for k in range(1, 5)])
    spread = max(float(np.var(logs)), 1e-12)
    natural = np.array([moments[0] / spread, -0.5 / spread])
    value, gap, covariance = _likelihood(natural, moments, powers)
    for _ in range(40):
        step = np.linalg.lstsq(covariance, gap, rcond=1e-12)[0]
        size = 1.0
        while size > 1e-8:
            there = natural + size * step
            if there[1] < 0:
                gained, *rest = _likelihood(there, moments, powers)
                if gained > value:
                    break
            size /= 2
        else:
            break
        done = gained - value < 1e-9
        natural, value, (gap, covariance) = there, gained, rest
        if done:
            break
    normalizer = float(natural @ moments) - value
    return np.asarray(natural[0] * logs + natural[1] * logs**2 - normalizer - logs)


def _likelihood(
    natural: NDArray[np.float64], moments: NDArray[np.float64], powers: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Mean log likelihood, its gradient, and minus its Hessian."""
    exponents = natural @ powers[:2]
    top = float(exponents.max())
    mass = np.exp(exponents - top)
    total = float(mass.sum())
    first, second, third, fourth = (powers @ mass / total).tolist()
    normalizer = top + math.log(total * float(powers[0, 1]))
    covariance = np.array([[second - first**2, third - first * second], [third - first * second, fourth - second**2]])
    return float(natural @ moments) - normalizer, moments - np.array([first, second]), covariance
