"""What a truncated decomposition gives: the triplets, what they hold, and how far off they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eigenscope.lowrank.matrix import Array


@dataclass(frozen=True, eq=False)
class TruncatedSVD:
    """The leading `rank` singular triplets of X (m × n), and their errors.

    Arrays are of X's kind and device, in fp32 where X was in single or half precision, else in fp64. The largest entry
    of each row of `Vt` by size is positive, as in scikit-learn's PCA. No matrix of this rank is nearer to X than the
    two Eckart–Young values say (Eckart & Young 1936; Mirsky 1960): `spectral_error` and `frobenius_error` of these very
    factors are measured, rounding included, and should agree with them.
    """

    U: Float[Array, "m k"]  # orthonormal columns
    singular_values: Float[Array, " k"]  # descending
    Vt: Float[Array, "k n"]  # orthonormal rows
    error: Float[Array, " k"]  # of each singular value, at most; proven, see docs/low-rank.md
    rank: int
    shape: tuple[int, int]
    energy: float  # share of Σσ² that these hold: the variance explained
    spectral_error: float  # ‖X − UΣVᵀ‖₂, measured from below by a block power method
    frobenius_error: float  # ‖X − UΣVᵀ‖_F, measured entry by entry
    eckart_young_spectral: float  # σ_{k+1}
    eckart_young_spectral_error: float  # σ_{k+1} exceeds it by no more
    eckart_young_frobenius: float  # √Σ_{i>k} σ_i²
    eckart_young_frobenius_error: float  # it falls short of it by no more
    method: str  # "exact", "gram" or "randomized"
    num_matvecs: int  # products of X or Xᵀ with a vector, those that measure the errors included
    passes: int  # times that X was read for them

    def factors(self) -> tuple[Float[Array, "m k"], Float[Array, "k n"]]:
        """A (m × k) and B (k × n) with X ≈ A·B, the singular values shared as √σ by both."""
        root: Any = self.singular_values**0.5
        left: Any = self.U
        return left * root, root[:, None] * self.Vt

    def reconstruction(self) -> Float[Array, "m n"]:
        """UΣVᵀ."""
        left: Any = self.U
        product: Array = (left * self.singular_values) @ self.Vt
        return product

    def __repr__(self) -> str:
        rows, columns = self.shape
        return (
            f"TruncatedSVD({rows} × {columns} at rank {self.rank}, {self.method}: {100 * self.energy:.4g} % of Σσ², "
            f"spectral error {self.spectral_error:.4g} (Eckart–Young {self.eckart_young_spectral:.4g}))"
        )


def flipped_signs(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """U and V (columns) with signs such that the largest entry of each column of V is positive."""
    top = right.abs().argmax(0)
    signs = torch.where(right[top, torch.arange(right.shape[1], device=right.device)] < 0, -1.0, 1.0).to(right.dtype)
    return left * signs, right * signs


def rank_for(squares: np.ndarray[Any, np.dtype[np.float64]], total: float, energy: float) -> int | None:
    """The least rank whose σ² hold `energy` of `total`, None where all of them do not."""
    missing = total - np.cumsum(squares)
    enough = missing <= (1 - energy) * total + 2.0**-50 * total
    return int(np.argmax(enough)) + 1 if enough.any() else None
