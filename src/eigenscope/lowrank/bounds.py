"""How far a singular value may lie from its approximation, proven from residuals and from what is left out.

With orthonormal U and V, X·V = U·diag(θ) and XᵀU = V·diag(θ) + E, X is [diag(θ) Eᵀ; 0 C]: the rest C is coupled by E
alone. So σ_i ≥ θ_i (Cauchy), and from XXᵀ, whose blocks are diag(θ²) + EᵀE and CCᵀ, coupled by CE, with e = ‖E‖ and
‖C‖ ≤ c < θ_i: σ_i² ≤ θ_i² + e² + 2(ec)²/(η + √(η² + 4(ec)²)), η = θ_i² − c² (Weyl; Li & Li 2005, "A note on
eigenvalues of perturbed Hermitian matrices"); where c ≥ θ_i, σ_i² ≤ max(θ_i² + e², c²) + ec (Weyl alone).
A small E alone proves nothing about the *index* of a singular value: c does.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from eigenscope.lowrank.matrix import UNIT

FAILURE = 1e-9  # probability with which a bound on the rest may be wrong
PROBES = 16  # random vectors of a look at the rest


Bound = float | NDArray[np.float64]


def upper_errors(theta: NDArray[np.float64], coupling: Bound, rest: Bound) -> NDArray[np.float64]:
    """By how much σ_i may exceed θ_i, with ‖E‖ ≤ `coupling` and ‖C‖ ≤ `rest` (columns of them: a row for each)."""
    top = float(theta.max()) or 1.0
    theta, coupling, rest = theta / top, coupling / top, rest / top
    square, cross, gap = coupling**2, (coupling * rest) ** 2, theta**2 - rest**2
    inside = np.maximum(gap, 0.0)
    apart = square + 2 * cross / np.maximum(inside + np.sqrt(inside**2 + 4 * cross), 1e-300)
    growth = np.where(gap > 0, apart, np.maximum(square, -gap) + coupling * rest)
    return np.asarray(top * growth / np.maximum(np.sqrt(theta**2 + growth) + theta, 1e-300))


def rounding(top: float, shape: tuple[int, int]) -> float:
    """What fp64 may add to any singular value: a small multiple of 2⁻⁵³·σ₁ (Higham 2002, section 3.5, for products;
    errors taken as independent, hence √)."""
    return UNIT * (2 * math.sqrt(shape[0]) + 2 * math.sqrt(shape[1]) + 8) * top


def inflation(steps: int, dimension: int) -> float:
    """What the norm of a matrix may be, over the estimate from `steps` of Lanczos on PROBES random vectors at once.

    For one vector in `dimension` the estimate of σ² is off by more than ε with a probability of at most
    1.648·√d·exp(−√ε·(2·steps − 1)) (Kuczyński & Woźniakowski 1992, theorem 4.2); all of them have to fail. Infinite
    where that says nothing.
    """
    if steps * PROBES >= dimension:
        return 1.0  # a complete space
    root = math.log(1.648 * math.sqrt(dimension) * FAILURE ** (-1 / PROBES)) / (2 * steps - 1)
    return 1 / math.sqrt(1 - root * root) if root < 1 else math.inf
