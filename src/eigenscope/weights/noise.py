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

_SINGLE = 2.0**-24  # unit roundoff of single precision
TRACY_WIDOM_99 = 2.0234  # the 99 % quantile of the Tracy–Widom law, β = 1 (Bornemann 2010)
_RIGIDITY = (
    1.0,
    0.46,
)  # sup |F − MP| · p of a random matrix stays below a + b·log p (99 %: tests/weights/test_noise.py)


_FEW = 20  # singular values: of fewer, hardly any can be told from a random matrix's
_BULK = 0.1  # sup |F − MP| of what is left without the spikes: above that, the law does not describe it


@dataclass(frozen=True)
class NoiseFit:
    """A spectrum beside the Marchenko–Pastur law of its shape."""

    scale: float  # s, the standard deviation of the entries: of the bulk where that follows the law, else of all
    edge: float  # σ above which a value is a spike: the law's upper edge and what it fluctuates by (99 %)
    spikes: int  # singular values above the edge
    distance: float  # sup |F − MP| · p
    is_noise: bool  # can't be told from a random matrix


def fit_noise(singular_values: NDArray[np.float64], rows: int, columns: int) -> NoiseFit:
    """Compare with the law of a random `rows` × `columns` matrix; spikes are taken out of the variance step by step,
    unless what is left does not follow the law either."""
    short, long = min(rows, columns), max(rows, columns)
    squares = np.sort(singular_values**2)
    sums = np.cumsum(squares)
    plain = scale = math.sqrt(float(sums[-1]) / (short * long))
    distance, spikes = _distance(squares, plain, short, long), 0
    while (found := _above(squares, noise_edge(scale, short, long))) > spikes and found < short:
        spikes = found
        scale = math.sqrt(float(sums[short - spikes - 1]) / ((short - spikes) * long))
    rest = short - spikes
    if spikes and _distance(squares[:rest], scale, rest, long) > _BULK * rest:
        scale = plain
    edge = noise_edge(scale, short, long)
    inside = bool(squares[-1] <= noise_edge(plain, short, long) ** 2)
    rigid = distance <= _RIGIDITY[0] + _RIGIDITY[1] * math.log(short)
    return NoiseFit(scale, edge, _above(squares, edge), distance, inside and rigid and short >= _FEW)


def _above(squares: NDArray[np.float64], edge: float) -> int:
    return len(squares) - int(np.searchsorted(squares, edge**2, side="right"))


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


def expected_below(value: float, scale: float, rows: int, columns: int) -> float:
    """How many singular values below `value` a random matrix has whose entries are of standard deviation `scale`."""
    short, long = min(rows, columns), max(rows, columns)
    if scale == 0:
        return float(short)
    nodes, law = _marchenko_pastur(short / long)
    return short * float(np.interp(value**2 / (scale**2 * long), nodes, law, left=0.0, right=1.0))


def floor_share(rows: int, columns: int, roundoff: float) -> float:
    """What rounding can add to a singular value of stored weights, over the Frobenius norm.

    Rounding to the stored type adds a random matrix whose entries are about u·rms(w)/√3, and the arithmetic that made
    the weights, in single precision at the least, one of about its own unit (measured: 1.25 u for products of eight
    terms). By Marchenko & Pastur's law it moves singular values by up to its entries' size times √m + √n.
    """
    entries = math.hypot(roundoff / math.sqrt(3), 1.25 * min(roundoff, _SINGLE))
    return entries * (math.sqrt(rows) + math.sqrt(columns)) / math.sqrt(max(rows * columns, 1))


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
