"""Every number of one weight matrix, from its singular values."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eigenscope.diagnostics.estimate import Estimate
from eigenscope.estimators.gram import Spectrum
from eigenscope.weights.noise import NoiseFit, fit_noise
from eigenscope.weights.ranks import condition_number, effective_rank, entropy_rank, rank_at, stable_rank, variance_at
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
    spectrum_shape: str  # flat, noise, power_law, low_rank or rank_deficient
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
            "noise_distance": self.noise.distance,
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

    Rounding adds a random matrix whose entries are about u·|w|/√3: by Marchenko & Pastur's law it moves singular values
    by up to u·rms(w)·(√m + √n)/√3, and a smallest value below that is rounding, not weight.
    """
    sigma = spectrum.singular_values
    frobenius = float(np.linalg.norm(sigma))
    floor = roundoff * frobenius / math.sqrt(3 * max(rows * columns, 1)) * (math.sqrt(rows) + math.sqrt(columns))
    floor = max(floor, spectrum.error_of(len(sigma) - 1) if len(sigma) else 0.0)
    noise, alpha = fit_noise(sigma, rows, columns), fit_power_law(sigma[sigma > floor])
    rank = int(np.sum(sigma > floor))
    noise = replace(noise, spikes=min(noise.spikes, rank))
    shape, sentence = described(sigma, rank, noise, alpha)
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


def described(sigma: NDArray[np.float64], rank: int, noise: NoiseFit, alpha: PowerLaw | None) -> tuple[str, str]:
    """`spectrum_shape` and the sentence that says what it means."""
    count = len(sigma)
    if not count or sigma[0] == 0:
        return "rank_deficient", "all entries are zero"
    spread = f"spreads over {effective_rank(sigma):,.0f} of {count:,} directions"
    held = f"rank 10 holds {variance_at(sigma, 10):.1%}" if count > 10 else ""
    if rank < count:
        words = [f"rank {rank:,} of {count:,}: {count - rank:,} directions are zero to rounding", held]
        return "rank_deficient", _joined(words)
    if noise.is_noise:
        return "noise", _joined(
            ["indistinguishable from noise: a random matrix of this size has the same spectrum", held]
        )
    if rank_at(sigma, 0.99) <= count / 4:
        words = [f"{rank_at(sigma, 0.99):,} of {count:,} directions hold 99 %", held]
        return "low_rank", _joined([*words]) + ": truncation compresses it well"
    spikes = f"{noise.spikes:,} {'value stands' if noise.spikes == 1 else 'values stand'} above the noise"
    if alpha is not None and alpha.preferred == "power_law" and alpha.distance < 0.1 and alpha.tail_count > count / 4:
        return "power_law", _joined([f"{spread}; the tail falls as λ^−{alpha.alpha:.2g}", spikes, held])
    closing = ": not compressible by truncation alone" if variance_at(sigma, max(count // 4, 1)) < 0.9 else ""
    return "flat", _joined([f"{spread}; no elbow", held]) + closing


def _joined(parts: list[str]) -> str:
    return "; ".join(part for part in parts if part)
