"""Whether a spectrum can be told from that of a random matrix, and which of its values stand out of the noise.

The eigenvalues of WWᵀ/q for W with p × q independent entries of variance s² follow the Marchenko–Pastur law (1967) on
[s²(1−√γ)², s²(1+√γ)²], γ = p/q ≤ 1, whatever the entries' distribution. The largest of them fluctuates about the upper
edge by the Tracy–Widom law on the scale of Johnstone (2001), and the whole distribution follows the law to within a
multiple of log p/p (rigidity: Bai & Silverstein 2010). Both tests are calibrated on Gaussian matrices:
`tests/weights/test_noise.py` measures their false alarms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

TRACY_WIDOM_99 = 2.0234  # the 99 % quantile of the Tracy–Widom law, β = 1 (Bornemann 2010)
_RIGIDITY = (
    1.0,
    0.46,
)  # sup |F − MP| · p of a random matrix stays below a + b·log p (99 %: tests/weights/test_noise.py)


@dataclass(frozen=True)
class NoiseFit:
    """A spectrum beside the Marchenko–Pastur law of its shape."""

    scale: float  # s, the standard deviation of the entries that explains the bulk
    edge: float  # σ above which a value is a spike: the law's upper edge and what it fluctuates by (99 %)
    spikes: int  # singular values above the edge
    distance: float  # sup |F − MP| · p
    is_noise: bool  # can't be told from a random matrix


def fit_noise(singular_values: NDArray[np.float64], rows: int, columns: int) -> NoiseFit:
    """Compare with the law of a random `rows` × `columns` matrix; spikes are taken out of the variance step by step."""
    short, long = min(rows, columns), max(rows, columns)
    squares = np.sort(singular_values**2)
    sums, spikes = np.cumsum(squares), 0
    total = float(sums[-1])
    for _ in range(50):
        kept = short - spikes
        scale = math.sqrt(float(sums[kept - 1]) / (kept * long))
        found = short - int(np.searchsorted(squares, noise_edge(scale, short, long) ** 2, side="right"))
        if found <= spikes or found >= short:
            break
        spikes = found
    plain = math.sqrt(total / (short * long))
    distance = _distance(squares, plain, short, long)
    edge = noise_edge(scale, short, long)
    inside = bool(squares[-1] <= noise_edge(plain, short, long) ** 2)
    return NoiseFit(
        scale,
        edge,
        int(np.sum(squares > edge**2)),
        distance,
        inside and distance <= _RIGIDITY[0] + _RIGIDITY[1] * math.log(short),
    )


def noise_edge(scale: float, short: int, long: int) -> float:
    """The σ that a random matrix's largest exceeds in 1 % of the cases (Johnstone 2001)."""
    centre = (math.sqrt(long - 0.5) + math.sqrt(short - 0.5)) ** 2
    width = math.sqrt(centre) * (1 / math.sqrt(long - 0.5) + 1 / math.sqrt(short - 0.5)) ** (1 / 3)
    return scale * math.sqrt(max(centre + TRACY_WIDOM_99 * width, 0.0))


def _distance(squares: NDArray[np.float64], scale: float, short: int, long: int) -> float:
    """sup |F − MP| in units of 1/p."""
    if scale == 0:
        return math.inf
    nodes, law = _marchenko_pastur(short / long)
    expected = np.interp(squares / (scale**2 * long), nodes, law, left=0.0, right=1.0) * short
    steps = np.arange(short)
    return float(max(np.max(np.abs(expected - steps)), np.max(np.abs(expected - steps - 1))))


@lru_cache(maxsize=64)
def _marchenko_pastur(ratio: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The law's distribution function on a grid that is fine at both edges (x = centre − half·cos θ)."""
    low, high = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    theta = np.linspace(0, math.pi, 8001)
    nodes = (low + high) / 2 - (high - low) / 2 * np.cos(theta)
    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.sqrt((high - nodes) * (nodes - low)) / (2 * math.pi * ratio * nodes)
        weights = np.nan_to_num(density * np.sin(theta) * (high - low) / 2)
    if ratio == 1.0:
        weights[0] = weights[1]  # the density is infinite at 0, its integral is not
    law = np.concatenate([[0.0], np.cumsum((weights[1:] + weights[:-1]) / 2 * np.diff(theta))])
    return nodes, law / law[-1]
