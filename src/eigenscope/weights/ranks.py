"""How many directions a matrix uses, by every usual count.

All take `singular_values`, descending and not negative, never eigenvalues: a forgotten square is the classic error.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

Values = NDArray[np.float64]


def effective_rank(singular_values: Float64[Values, " k"]) -> float:
    """(Σσ)²/Σσ², the participation ratio of the singular values: k where all are equal, 1 where one stands alone."""
    squares = float(np.sum(singular_values**2))
    return float(np.sum(singular_values)) ** 2 / squares if squares > 0 else 0.0


def entropy_rank(singular_values: Float64[Values, " k"]) -> float:
    """exp of the entropy of σ/Σσ (Roy & Vetterli 2007, "The effective rank")."""
    total = float(np.sum(singular_values))
    if total == 0:
        return 0.0
    shares = singular_values[singular_values > 0] / total
    return float(np.exp(-np.sum(shares * np.log(shares))))


def stable_rank(singular_values: Float64[Values, " k"]) -> float:
    """‖W‖_F²/σ₁² (Rudelson & Vershynin 2007): never above the rank, and blind to small noise."""
    top = float(singular_values[0])
    return float(np.sum((singular_values / top) ** 2)) if top > 0 else 0.0


def condition_number(singular_values: Float64[Values, " k"]) -> float:
    """σ₁/σ_min, infinite where σ_min is 0."""
    top, bottom = float(singular_values[0]), float(singular_values[-1])
    return top / bottom if bottom > 0 else float("inf")


def variance_at(singular_values: Float64[Values, " k"], rank: int) -> float:
    """The share of Σσ² that the first `rank` directions hold (Eckart & Young 1936: the most that any `rank` can)."""
    squares = singular_values**2
    total = float(np.sum(squares))
    return float(np.sum(squares[:rank])) / total if total > 0 else 1.0


def rank_at(singular_values: Float64[Values, " k"], share: float) -> int:
    """The least rank whose directions hold at least `share` of Σσ²."""
    held = np.cumsum(singular_values**2)
    if held[-1] == 0:
        return 0
    return int(np.searchsorted(held, share * held[-1] * (1 - 1e-12)) + 1)


def elbow(singular_values: Float64[Values, " k"], ratio: float = 2.0) -> int:
    """After how many values the spectrum falls off: the largest step in the first half, 0 if none is `ratio`-fold."""
    first = singular_values[: len(singular_values) // 2 + 1]
    if len(first) < 2 or first[-1] <= 0:
        return 0
    steps = first[:-1] / first[1:]
    return int(np.argmax(steps)) + 1 if steps.max() >= ratio else 0
