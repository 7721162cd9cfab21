"""Every number of one weight matrix, from its singular values."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eigenscope.diagnostics.estimate import Estimate
from eigenscope.estimators.gram import Spectrum
from eigenscope.weights.noise import NoiseFit, expected_below, fit_noise, floor_share
from eigenscope.weights.ranks import condition_number, effective_rank, entropy_rank, rank_at, stable_rank, variance_at
from eigenscope.weights.shapes import Hidden, described
from eigenscope.weights.tails import PowerLaw, fit_power_law


@dataclass(frozen=True)
class WeightReading:
    """The spectrum of an m × n matrix and what it says. Each `error` covers the arithmetic and the stored rounding."""

    rows: int
    columns: int
    singular_values: NDArray[np.float64]  # descending
    method: str  # "gram" or "svd"
    effective_rank: float
    entropy_rank: float
    stable_rank: float
    condition_number: Estimate
    spectral_norm: Estimate
    frobenius_norm: float
    variance_at_10: float
    rank_at_90: int
    rank_at_95: int
    rank_at_99: int
    rank: int  # singular values that stand above the floor
    rounding_floor: float  # what the storage's rounding alone adds to a singular value
    alpha: PowerLaw | None
    noise: NoiseFit
    spectrum_shape: str  # one of shapes.SHAPES
    sentence: str

    def to_dict(self) -> dict[str, object]:
        """Plain numbers; of the singular values all."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "condition_number": self.condition_number.to_dict(),
            "spectral_norm": self.spectral_norm.to_dict(),
            "alpha": self.alpha.to_dict() if self.alpha else None,
            "noise_edge": self.noise.edge,
            "spikes": self.noise.spikes,
            "noise_distance": self.noise.distance if math.isfinite(self.noise.distance) else None,
            "spectrum_shape": self.spectrum_shape,
            "sentence": self.sentence,
            "singular_values": self.singular_values.tolist(),
        }


_PLAIN = (
    "effective_rank", "entropy_rank", "stable_rank", "frobenius_norm", "variance_at_10", "rank_at_90", "rank_at_95",
    "rank_at_99", "rank", "rounding_floor", "method",
)  # fmt: skip


def read_weights(spectrum: Spectrum, rows: int, columns: int, roundoff: float = 0.0) -> WeightReading:
    """The numbers of an m × n matrix whose entries were stored to a relative `roundoff`.

    A singular value below `rounding_floor` is rounding, not weight: see `floor_share`.
    """
    sigma = spectrum.singular_values
    frobenius = float(np.linalg.norm(sigma))
    arithmetic = spectrum.error_of(len(sigma) - 1) if len(sigma) else 0.0
    floor = max(floor_share(rows, columns, roundoff) * frobenius, arithmetic)
    noise, alpha = fit_noise(sigma, rows, columns), fit_power_law(sigma[sigma > floor])
    rank = int(np.sum(sigma > floor))
    noise = replace(noise, spikes=min(noise.spikes, rank))
    usual = expected_below(floor, frobenius / math.sqrt(max(rows * columns, 1)), rows, columns)
    hidden = Hidden(int(np.sum(sigma <= arithmetic)), len(sigma) - rank, usual, roundoff)
    shape, sentence = described(sigma, (rows, columns), hidden, noise, alpha)
    return WeightReading(
        rows=rows,
        columns=columns,
        singular_values=sigma,
        method=spectrum.method,
        effective_rank=effective_rank(sigma),
        entropy_rank=entropy_rank(sigma),
        stable_rank=stable_rank(sigma),
        condition_number=_condition(sigma, floor),
        spectral_norm=Estimate(float(sigma[0]), error=spectrum.error_of(0)),
        frobenius_norm=frobenius,
        variance_at_10=variance_at(sigma, 10),
        rank_at_90=rank_at(sigma, 0.9),
        rank_at_95=rank_at(sigma, 0.95),
        rank_at_99=rank_at(sigma, 0.99),
        rank=rank,
        rounding_floor=floor,
        alpha=alpha,
        noise=noise,
        spectrum_shape=shape,
        sentence=sentence,
    )


def _condition(sigma: NDArray[np.float64], floor: float) -> Estimate:
    if sigma[-1] <= floor:
        if floor == 0.0 or sigma[0] == 0.0:
            return Estimate(None, reason="singular: the smallest singular value is 0")
        return Estimate(float(sigma[0]) / floor, reason="at least: the smallest singular value is 0 to rounding")
    value = condition_number(sigma)
    return Estimate(value, error=value * floor / float(sigma[-1]))
