"""The shape of a spectrum, and the sentence that says what it means."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eigenscope.weights.noise import NoiseFit
from eigenscope.weights.ranks import effective_rank, elbow, rank_at, variance_at
from eigenscope.weights.tails import PowerLaw
from eigenscope.words import percent

SHAPES = ("flat", "spiked", "power_law", "low_rank", "rank_deficient", "noise")
_COARSE, _QUANTIZED = 2.0**-9, 2.0**-8  # unit roundoffs above which rounding hides some, or much, of a healthy spectrum


class Hidden(NamedTuple):
    """Singular values that can't be told from zero."""

    zero: int  # by the arithmetic: they are zero in the stored matrix
    rounded: int  # by what rounding to the stored type adds, those among them
    expected: float  # so many a random matrix of the same size and scale has below there
    roundoff: float  # of the stored type

    def deficient(self, count: int) -> bool:
        """Whether directions are missing, and not just small as the last ones of any square matrix are."""
        many = 1.0 if self.roundoff > _QUANTIZED else 0.5 if self.roundoff > _COARSE else 0.01
        return self.zero > 0 or self.rounded > max(2 * self.expected + 2, math.ceil(many * count))


def described(
    sigma: NDArray[np.float64], shape: tuple[int, int], hidden: Hidden, noise: NoiseFit, alpha: PowerLaw | None
) -> tuple[str, str]:
    """`spectrum_shape` and the sentence, for the singular values of a matrix of this shape."""
    count = len(sigma)
    if not count or sigma[0] == 0:
        return "rank_deficient", "all entries are zero"
    held = f"rank 10 holds {percent(variance_at(sigma, 10), 1)}" if count >= 40 else ""
    if hidden.deficient(count):
        lost = f"rank {count - hidden.rounded:,} of {count:,}: {_directions(hidden.rounded)} zero to rounding"
        return "rank_deficient", _joined(lost, held)
    unseen = f"{_directions(hidden.rounded)} below what rounding to the stored type adds" if hidden.rounded else ""
    if noise.is_noise:
        alike = "indistinguishable from noise by its spectrum: a random matrix of this size has the same"
        return "noise", _joined(alike, held, unseen)
    if (needed := rank_at(sigma, 0.99)) <= count / 4:
        return "low_rank", _joined(
            f"{needed:,} of {count:,} directions hold 99 %", held
        ) + ": truncation compresses it well"
    spread = f"spreads over {effective_rank(sigma):,.0f} of {_directions(count).rpartition(' ')[0]}"
    full = rank_at(sigma, 0.9) * sum(shape) > math.prod(shape) / 2  # a tenth of Σσ² given up, and not halved
    closing = ": not compressible by truncation alone" if full else ""
    if knee := elbow(sigma):
        first = f"the first {knee:,} hold" if knee > 1 else "the first holds"
        bend = f"{spread}; an elbow after {knee:,}, {first} {percent(variance_at(sigma, knee), 1)}"
        return "spiked", _joined(bend, unseen, held) + closing
    spikes = f"{noise.spikes:,} {'value stands' if noise.spikes == 1 else 'values stand'} above the noise"
    if alpha is not None and alpha.holds and alpha.tail_count > count / 4:
        return "power_law", _joined(f"{spread}; the tail falls as λ^−{alpha.alpha:.2g}", spikes, unseen, held)
    return "flat", _joined(f"{spread}; no elbow", unseen, held) + closing


def _directions(count: int) -> str:
    return f"{count:,} {'direction is' if count == 1 else 'directions are'}"


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
